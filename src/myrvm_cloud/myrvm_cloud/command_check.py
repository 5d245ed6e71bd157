"""Whether an envelope may be executed: checked from the outside in, nothing is read before it is vouched for.

No I/O. The order: size, signatures, shape, machine, allow list, number of keys, expiry, counter, rate, parameters.
Only what has passed the counter has cost a key something that nobody can forge; all else anybody can send again and
again, and it must therefore not fill a disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from myrvm_core.errors import RvmError, SignatureError
from myrvm_core.settings import validate
from myrvm_core.signing import KeyRing, Signed, thumbprint, verify
from pydantic import ValidationError

from myrvm_cloud.command import (
    ALWAYS_TWO_KEYS,
    CONFIGURATION,
    DOCUMENT_KIND,
    ENVELOPE_CHARACTERS,
    KINDS,
    LONGEST_CONFIGURATION_S,
    LONGEST_LIFE_S,
    PURPOSE,
    Claims,
    Command,
    Parameters,
)

CLOCK_TOLERANCE_S = 300.0  # an operator's clock may be ahead of ours


class Reason(str, Enum):
    """Why an envelope is refused."""

    SIZE = "size"
    SIGNATURE = "signature"
    SHAPE = "shape"
    MACHINE = "machine"
    KIND = "kind"
    KEYS = "keys"
    EXPIRED = "expired"
    TIME = "time"
    REPLAYED = "replayed"
    RATE = "rate"
    PARAMETERS = "parameters"


class RefusedError(RvmError):
    """An envelope is not executed. `claims` is None where no signature holds."""

    def __init__(self, reason: Reason, line: str, claims: Claims | None = None) -> None:
        super().__init__(line)
        self.reason, self.claims = reason, claims


@dataclass(frozen=True)
class Moment:
    """The time of day, s since the epoch. Where it is not `known`, it is at least `epoch_s`."""

    epoch_s: float
    known: bool


@dataclass(frozen=True)
class Checked:
    """An envelope whose signatures, machine, kind, keys, expiry and counter are right; `counters` by thumbprint."""

    claims: Claims
    signed_by: tuple[str, ...]
    counters: dict[str, int]
    digest: str


@dataclass
class TokenBucket:
    """At most `burst` at once and one more each `refill_s`; times are monotonic."""

    burst: int
    refill_s: float
    _tokens: float = -1.0
    _at_s: float = 0.0

    def take(self, now_s: float) -> bool:
        """Whether one more may go."""
        tokens = self.burst if self._tokens < 0 else self._tokens + max(0.0, now_s - self._at_s) / self.refill_s
        self._tokens, self._at_s = min(float(self.burst), tokens), now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def too_large(envelope: str) -> RefusedError:
    """Why an envelope of more than `ENVELOPE_CHARACTERS` is refused."""
    return RefusedError(Reason.SIZE, f"an envelope of {len(envelope)} characters; allowed: {ENVELOPE_CHARACTERS}")


def digest(envelope: str) -> str:
    """The name of an envelope, also of one that cannot be read."""
    return hashlib.sha256(envelope.encode("utf-8", "surrogatepass")).hexdigest()


def check(
    envelope: str,
    machine: str,
    ring: KeyRing,
    two_keys: Collection[str],
    counters: Mapping[str, int],
    moment: Moment,
) -> Checked:
    """Everything but rate and parameters.

    Args:
        envelope: as it came.
        machine: our own name.
        ring: whom we trust.
        two_keys: kinds and variants that need two.
        counters: the highest counter of each key so far, by thumbprint.
        moment: now.

    Raises:
        RefusedError: with the first thing that is wrong.
    """
    signed = _verified(envelope, ring, moment)
    try:
        claims = Claims.model_validate(signed[0].claims)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])[:100]
        raise RefusedError(Reason.SHAPE, f"{where or 'claims'}: {problem['msg'][:200]}") from None
    if claims.machine != machine:
        raise RefusedError(Reason.MACHINE, f"for machine {claims.machine}, this is {machine}", claims)
    if claims.kind not in KINDS:
        raise RefusedError(Reason.KIND, f"kind = {claims.kind!r} is not allowed: {', '.join(KINDS)}", claims)
    dangerous = _needs_two(claims, two_keys)
    if dangerous and len(signed) < 2:
        raise RefusedError(Reason.KEYS, f"{claims.kind} needs the signatures of two keys, got one", claims)
    _check_time(claims, moment, dangerous)
    if claims.kind == CONFIGURATION:  # versions are counted by themselves, whoever signs: commands do not outdate one
        used = {CONFIGURATION: "the configuration"}
    else:
        used = {thumbprint(one.key.public): one.key.key_id for one in signed}
    for print_, key_id in used.items():
        if claims.counter <= counters.get(print_, 0):
            line = f"counter = {claims.counter} of {key_id} is not allowed: above {counters[print_]}"
            raise RefusedError(Reason.REPLAYED, line, claims)
    names = tuple(one.key.key_id for one in signed)
    return Checked(claims, names, dict.fromkeys(used, claims.counter), digest(envelope))


def command_of(checked: Checked) -> Command:
    """The command itself.

    Raises:
        RefusedError: its parameters are not allowed.
    """
    claims = checked.claims
    try:
        parameters = _parameters(claims)
    except RvmError as error:
        raise RefusedError(Reason.PARAMETERS, str(error)[:400], claims) from None
    return Command(
        command_id=claims.command_id, kind=claims.kind, parameters=parameters,
        signed_by=checked.signed_by, digest=checked.digest,
    )  # fmt: skip


def _verified(envelope: str, ring: KeyRing, moment: Moment) -> list[Signed]:
    """The signatures, all of which hold, of different keys, over the same bytes."""
    if len(envelope) > ENVELOPE_CHARACTERS:
        raise too_large(envelope)
    documents = envelope.split(" ")
    if len(documents) > 2:
        raise RefusedError(Reason.SIGNATURE, f"{len(documents)} documents in an envelope; allowed: 1 or 2")
    if not ring.keys:
        raise RefusedError(Reason.SIGNATURE, "this machine knows no key: commands from afar are off")
    try:
        signed = [verify(document, ring, DOCUMENT_KIND, PURPOSE, moment.epoch_s) for document in documents]
    except SignatureError as error:
        raise RefusedError(Reason.SIGNATURE, str(error)[:300]) from None
    if len(signed) == 2 and (signed[0].key == signed[1].key or signed[0].payload != signed[1].payload):
        raise RefusedError(Reason.SIGNATURE, "two documents that are not of two keys over the same payload")
    return signed


def _needs_two(claims: Claims, two_keys: Collection[str]) -> bool:
    if claims.kind in two_keys or claims.kind in ALWAYS_TWO_KEYS:
        return True
    try:
        return _parameters(claims).variant in two_keys
    except RvmError:
        return False  # never executed: `command_of` refuses it


def _parameters(claims: Claims) -> Parameters:
    return validate(KINDS[claims.kind], claims.parameters, claims.kind)


def _check_time(claims: Claims, moment: Moment, dangerous: bool) -> None:
    """Expiry, as far as the time is known: not known, it is at least `moment.epoch_s`."""
    life_s = claims.expires_at - claims.issued_at
    longest_s = LONGEST_CONFIGURATION_S if claims.kind == CONFIGURATION else LONGEST_LIFE_S
    if not 0.0 < life_s <= longest_s:
        line = f"expires_at is {life_s:g} s after issued_at; allowed: 0 .. {longest_s:g}"
        raise RefusedError(Reason.SHAPE, line, claims)
    if moment.epoch_s >= claims.expires_at:
        raise RefusedError(Reason.EXPIRED, f"expired {moment.epoch_s - claims.expires_at:.0f} s ago", claims)
    if moment.known and claims.issued_at > moment.epoch_s + CLOCK_TOLERANCE_S:
        raise RefusedError(Reason.TIME, f"issued {claims.issued_at - moment.epoch_s:.0f} s in the future", claims)
    if not moment.known and dangerous:
        raise RefusedError(Reason.TIME, f"the time is not known here, so {claims.kind} may be too late", claims)
