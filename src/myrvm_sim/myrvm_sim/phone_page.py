"""What a customer's phone opens: a page that redeems a voucher, a page that begins a session, and the app's calls.

The QR code's link has the document behind `#`, so it is in no request line, log or referrer; a script puts it into the
form and shows in its place that it was read. Without scripts the customer pastes the link. A stand-in: a real server
knows who is logged in, here a token says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from html import escape
from typing import Annotated, Any
from urllib.parse import parse_qs

from aiohttp import web
from myrvm_cloud.contract import BASE_PATH
from myrvm_core.errors import SignatureError
from myrvm_core.session_start import PAGE as SESSION_PAGE
from myrvm_core.signing import DOCUMENT_BYTES
from myrvm_core.voucher import PAGE as VOUCHER_PAGE
from pydantic import BaseModel, ConfigDict, Field

from myrvm_sim.server_faults import BODY_S, error, read_json
from myrvm_sim.visits import Account, VisitDesk
from myrvm_sim.vouchers import Outcome, VoucherOffice

LANGUAGES = ("en", "id")
STATUS = {
    Outcome.REDEEMED: 200,
    Outcome.ALREADY_YOURS: 200,
    Outcome.ALREADY_REDEEMED: 409,
    Outcome.EXPIRED: 410,
    Outcome.REVOKED: 403,
    Outcome.NOT_VALID: 422,
}
TEXTS = {
    "en": {
        "v": "Redeem your voucher",
        "v.button": "Redeem",
        "v.document": "Voucher (scan the QR code, or paste its link here)",
        "v.read": "Your voucher was read from the QR code.",
        "s": "Start at the machine",
        "s.button": "Start",
        "s.document": "Code of the machine (scan the QR code, or paste its link here)",
        "s.read": "The code of the machine was read.",
        "account": "Your account code",
        "noscript": "Scripts are off: copy the whole link from the QR code and paste it below.",
        "redeemed": "Thank you! {points} points are now in your account.",
        "already_yours": "You have redeemed this voucher already: {points} points are in your account.",
        "already_redeemed": "This voucher was already redeemed by another account.",
        "expired": "This voucher has expired.",
        "revoked": "This voucher was withdrawn. Please ask the operator.",
        "not_valid": "This is not a valid voucher. If the machine is new, try again when it has been online.",
        "unknown_account": "This account code is not known.",
        "begun": "The machine is ready for you. Insert your bottles.",
        "not_begun": "This code is no longer good. Scan the one that the machine shows now.",
        "again": "Back",
    },
    "id": {
        "v": "Tukarkan voucher Anda",
        "v.button": "Tukarkan",
        "v.document": "Voucher (pindai kode QR, atau tempel tautannya di sini)",
        "v.read": "Voucher Anda sudah terbaca dari kode QR.",
        "s": "Mulai di mesin",
        "s.button": "Mulai",
        "s.document": "Kode mesin (pindai kode QR, atau tempel tautannya di sini)",
        "s.read": "Kode mesin sudah terbaca.",
        "account": "Kode akun Anda",
        "noscript": "Skrip tidak aktif: salin seluruh tautan dari kode QR dan tempel di bawah.",
        "redeemed": "Terima kasih! {points} poin sudah masuk ke akun Anda.",
        "already_yours": "Voucher ini sudah Anda tukarkan: {points} poin ada di akun Anda.",
        "already_redeemed": "Voucher ini sudah ditukarkan oleh akun lain.",
        "expired": "Voucher ini sudah kedaluwarsa.",
        "revoked": "Voucher ini telah ditarik. Silakan hubungi operator.",
        "not_valid": "Voucher ini tidak sah. Jika mesinnya baru, coba lagi setelah mesin pernah daring.",
        "unknown_account": "Kode akun ini tidak dikenal.",
        "begun": "Mesin siap untuk Anda. Masukkan botol Anda.",
        "not_begun": "Kode ini tidak berlaku lagi. Pindai kode yang sekarang ditampilkan mesin.",
        "again": "Kembali",
    },
}
SCRIPT = """\
const field = document.getElementById("document");
if (field && location.hash.length > 1) {
  field.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
}
if (field && field.value) {
  document.getElementById("paste").hidden = true;
  document.getElementById("read").hidden = false;
}
let sent = false;  // a second tap is no second try
addEventListener("pageshow", () => { sent = false; });
document.querySelector("form")?.addEventListener("submit", event => {
  if (sent) event.preventDefault();
  sent = true;
});
"""
STYLE = """\
:root { color-scheme: light dark; font: 1.125rem/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 32rem; padding: 1.25rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
label { display: block; font-weight: 600; margin-top: 1.25rem; }
input, textarea, button, .button { box-sizing: border-box; display: block; font: inherit; margin-top: .375rem;
  min-height: 3.5rem; padding: .75rem; width: 100%; border: 2px solid #5b6770; border-radius: .5rem; }
textarea { height: 6rem; overflow-wrap: anywhere; }
button, .button { align-content: center; font-weight: 700; margin-top: 1.5rem; text-align: center;
  text-decoration: none; }
button { background: #0b6b3a; border-color: #0b6b3a; color: #fff; }
.button { color: inherit; }
:focus-visible { outline: 3px solid #1a73e8; outline-offset: 2px; }
[role=status], [role=alert], #read { border-left: .375rem solid #2f9e63; padding: .5rem 1rem; }
[role=status], [role=alert] { font-size: 1.25rem; }
[role=alert] { border-color: #d9483e; }
"""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Token = Annotated[str, Field(min_length=1, max_length=512)]
Document = Annotated[str, Field(min_length=1, max_length=DOCUMENT_BYTES)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: Token


class _Shown(_Body):
    document: Document


class _Revocation(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    key_id: str = Field(default="", max_length=100)
    from_s: float = Field(default=0.0, ge=0.0, lt=2**40)
    voucher_id: str = Field(default="", max_length=100)


class PhonePage:
    """The routes.

    Args:
        office: redeems.
        visits: begins sessions.
        account_of: finds a customer by the token that his app shows.
        publish: sends an event to a machine: its name, the event's, and what it says.
    """

    def __init__(
        self,
        office: VoucherOffice,
        visits: VisitDesk,
        account_of: Callable[[str], Account | None],
        publish: Callable[[str, str, dict[str, Any]], Awaitable[None]],
    ) -> None:
        self._office, self._visits, self._account_of, self._publish = office, visits, account_of, publish

    def routes(self) -> list[web.RouteDef]:
        """Pages, the app's calls, and what an operator does."""
        return [
            web.get(f"/{VOUCHER_PAGE}", self._page),
            web.post(f"/{VOUCHER_PAGE}", self._submit),
            web.get(f"/{SESSION_PAGE}", self._page),
            web.post(f"/{SESSION_PAGE}", self._submit),
            web.get("/phone.js", self._script),
            web.get("/phone.css", self._style),
            web.post(f"{BASE_PATH}/app/redeem", self._app_redeem),
            web.post(f"{BASE_PATH}/app/session", self._app_session),
            web.post(f"{BASE_PATH}/app/code", self._app_code),
            web.post(f"{BASE_PATH}/app/token", self._app_token),
            web.get("/keys", self._keys),
            web.get("/vouchers", self._statement),
            web.post("/vouchers/revoke", self._revoke),
        ]

    # Pages

    async def _page(self, request: web.Request) -> web.Response:
        return self._form(request.path.strip("/"), language_of(request))

    def _form(self, page: str, language: str, document: str = "", problem: str = "", status: int = 200) -> web.Response:
        texts = {name: escape(text) for name, text in TEXTS[language].items()}
        alert = f'<p role="alert">{texts[problem]}</p>' if problem else ""
        button, what, read = texts[f"{page}.button"], texts[f"{page}.document"], texts[f"{page}.read"]
        body = f"""<h1>{texts[page]}</h1>
{alert}<noscript><p>{texts["noscript"]}</p></noscript>
<form method="post" action="{page}" accept-charset="utf-8">
<label for="account">{texts["account"]}</label>
<input id="account" name="token" required maxlength="512" autocomplete="username" autocapitalize="none">
<p id="read" hidden>{read}</p>
<div id="paste"><label for="document">{what}</label>
<textarea id="document" name="document" required maxlength="{DOCUMENT_BYTES}" autocomplete="off" spellcheck="false">
{escape(document)}</textarea></div>
<button>{button}</button>
</form>
<script src="phone.js"></script>"""
        return _html(language, texts[page], body, status)

    async def _submit(self, request: web.Request) -> web.Response:
        page, language = request.path.strip("/"), language_of(request)
        form = await _read_form(request)
        document = form.get("document", "").strip().rpartition("#")[2]
        account = self._account_of(form.get("token", "").strip())
        if account is None:
            return self._form(page, language, document, "unknown_account", 403)
        if page == SESSION_PAGE:
            try:
                await self._begin(document, account)
            except SignatureError:
                return self._form(page, language, problem="not_begun", status=410)
            return self._done(page, language, "begun", 200)
        redemption = self._office.redeem(document, account.account_id)
        return self._done(page, language, redemption.outcome.value, STATUS[redemption.outcome], redemption.points)

    def _done(self, page: str, language: str, text: str, status: int, points: int = 0) -> web.Response:
        texts = TEXTS[language]
        role = "status" if status == 200 else "alert"
        body = f"""<h1>{escape(texts[page])}</h1>
<p role="{role}">{escape(texts[text].format(points=points))}</p>
<a class="button" href="{page}">{escape(texts["again"])}</a>"""
        return _html(language, texts[page], body, status)

    async def _begin(self, document: str, account: Account) -> str:
        machine, event = self._visits.accept(document, account)
        await self._publish(machine, "session.authorized", event)
        return machine

    async def _script(self, _: web.Request) -> web.Response:
        return web.Response(text=SCRIPT, content_type="text/javascript", headers=HEADERS)

    async def _style(self, _: web.Request) -> web.Response:
        return web.Response(text=STYLE, content_type="text/css", headers=HEADERS)

    # The app's calls

    async def _app_redeem(self, request: web.Request) -> web.Response:
        shown = _Shown.model_validate(await read_json(request))
        account = self._account_of(shown.token)
        if account is None:
            return error(403, TEXTS["en"]["unknown_account"])
        redemption = self._office.redeem(shown.document, account.account_id)
        if STATUS[redemption.outcome] != 200:
            reason = f": {redemption.reason}" if redemption.reason else ""
            return error(STATUS[redemption.outcome], f"{TEXTS['en'][redemption.outcome.value]}{reason}"[:500])
        return web.json_response({"outcome": redemption.outcome.value, "points": redemption.points})

    async def _app_session(self, request: web.Request) -> web.Response:
        shown = _Shown.model_validate(await read_json(request))
        account = self._account_of(shown.token)
        if account is None:
            return error(403, TEXTS["en"]["unknown_account"])
        try:
            return web.json_response({"machine": await self._begin(shown.document, account)})
        except SignatureError as problem:
            return error(410, str(problem)[:500])

    async def _app_code(self, request: web.Request) -> web.Response:
        account = self._account_of(_Body.model_validate(await read_json(request)).token)
        if account is None:
            return error(403, TEXTS["en"]["unknown_account"])
        return web.json_response({"code": self._visits.code(account.account_id)})

    async def _app_token(self, request: web.Request) -> web.Response:
        account = self._account_of(_Body.model_validate(await read_json(request)).token)
        if account is None:
            return error(403, TEXTS["en"]["unknown_account"])
        return web.json_response({"token": self._visits.token(account.account_id)})

    # The operator

    async def _keys(self, _: web.Request) -> web.Response:
        """JSON is YAML: this may stand in `config/keys.yaml` as it is."""
        return web.json_response(self._visits.ring.model_dump(mode="json", exclude_none=True))

    async def _statement(self, _: web.Request) -> web.Response:
        return web.json_response({"vouchers": self._office.statement()})

    async def _revoke(self, request: web.Request) -> web.Response:
        revocation = _Revocation.model_validate(await read_json(request))
        if revocation.voucher_id:
            self._office.revoke_voucher(revocation.voucher_id)
        if revocation.key_id and not self._office.revoke_key(revocation.key_id, revocation.from_s):
            return error(404, f"key {revocation.key_id!r} is not known")
        return web.json_response(revocation.model_dump())


def language_of(request: web.Request) -> str:
    """Of `LANGUAGES`, the one that the phone likes best (RFC 9110, 12.5.4); the first where it likes none."""
    best, best_weight = LANGUAGES[0], 0.0
    for part in request.headers.get("Accept-Language", "")[:500].split(","):
        name, _, weight = part.partition(";q=")
        language = name.strip().lower().split("-")[0]
        try:
            liked = float(weight) if weight else 1.0
        except ValueError:
            continue
        if language in LANGUAGES and liked > best_weight:
            best, best_weight = language, liked
    return best


async def _read_form(request: web.Request) -> dict[str, str]:
    """Fields of an HTML form, the first of each name; what is no form has none."""
    try:
        body = await asyncio.wait_for(request.read(), BODY_S)
        fields = parse_qs(body.decode(), max_num_fields=10)
    except asyncio.TimeoutError:
        raise web.HTTPRequestTimeout() from None
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def _html(language: str, title: str, body: str, status: int) -> web.Response:
    page = f"""<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="stylesheet" href="phone.css">
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
    headers = HEADERS | {"Content-Language": language, "Vary": "Accept-Language"}
    return web.Response(text=page, content_type="text/html", status=status, headers=headers)
