"""The line to the server as the settings describe it: the words of its profile, and the HTTP that carries them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from myrvm_core.backoff import Backoff
from myrvm_core.errors import SettingsError
from pydantic import SecretStr

from myrvm_cloud import contract, machine_state, tls
from myrvm_cloud.bridge import Bridge, BridgeTimes, Line, Port
from myrvm_cloud.call import Call
from myrvm_cloud.command_desk import CommandDesk
from myrvm_cloud.event_line import EventLine, Leave
from myrvm_cloud.event_protocol import EventProtocol
from myrvm_cloud.evidence_sender import EvidenceSender
from myrvm_cloud.http_line import HttpLimits, HttpLine, Key
from myrvm_cloud.myrvm_server_client import MyrvmServerClient
from myrvm_cloud.pusher import Pusher
from myrvm_cloud.raw_events import RawEvents
from myrvm_cloud.reconnect import Reconnect
from myrvm_cloud.rest_client import MachineState, MyrvmClient, RestClient
from myrvm_cloud.settings import CloudBridgeSettings
from myrvm_cloud.uplink import Machine, Uplink

LEAVE_S = 8.0
FORM = "application/x-www-form-urlencoded"


class Connection:
    """Checked when it is made; nothing is sent before its bridge runs.

    Args:
        settings: of the cloud bridge; `server_url` may be empty, there is no bridge then.
        key: the machine's key.
        hardware_id: this machine's name.
        software_version: of this software.
        voucher_key: public key of this machine's vouchers.

    Raises:
        SettingsError: the server may not be spoken to so, or a file of TLS cannot be used.
    """

    def __init__(
        self, settings: CloudBridgeSettings, key: Key, hardware_id: str, software_version: str, voucher_key: str
    ) -> None:
        self._settings, self._key = settings, key
        self._backoff = Backoff(settings.backoff_base_s, settings.backoff_cap_s)
        if settings.server_url:
            tls.check_url(settings.server_url)
        self._tls = tls.context(settings.tls_ca_file, settings.tls_client_certificate, settings.tls_client_key)
        self.client: RestClient
        if settings.profile == MyrvmServerClient.profile:
            self.client = MyrvmServerClient(settings.server_url, hardware_id, software_version)
        else:
            self.client = MyrvmClient(settings.server_url, hardware_id, software_version, voucher_key)

    def uplink(
        self, machine: Machine, desk: CommandDesk | None, evidence: EvidenceSender | None, line: Line, log: Any
    ) -> Uplink:
        """All that one activation of the node needs; made in the event loop that runs it."""

        def events(access: contract.WebSocketAccess) -> EventLine | None:
            return self._event_line(access, log)

        return Uplink(
            lambda port: self.bridge(port, line, log, machine.observe),
            events,
            machine,
            desk,
            self._settings.telemetry_interval_s,
            log,
            evidence,
        )

    def bridge(
        self, port: Port, line: Line, log: Any, observe: Callable[[], MachineState] = machine_state.observe
    ) -> Bridge:
        """A bridge for one activation of the node; `observe` as `Bridge` has it."""
        settings = self._settings
        http = self._http(self.client.base_url)
        times = BridgeTimes(
            settings.heartbeat_interval_s, settings.authorize_timeout_s, settings.lease_s, self._backoff
        )
        return Bridge(self.client, http, port, times, settings.batch_size, line, log, observe)

    def _event_line(self, access: contract.WebSocketAccess, log: Any) -> EventLine | None:
        """The line to where the server sends events; None, and a line in the log, where it may not be spoken to so."""
        settings = self._settings
        url = settings.ws_url or access.url
        app_key = access.app_key or settings.ws_app_key
        try:
            tls.check_url(url, "url of the WebSocket")
        except SettingsError as error:
            log.error("no event line", error=str(error))
            return None
        if access.protocol == "reverb" and not settings.ws_url:
            if not app_key:
                log.error("no event line: the server names no Reverb application, and RVM_WS_APP_KEY is empty")
                return None

            def protocol() -> EventProtocol:
                return Pusher(url, app_key, [access.channel])
        else:

            def protocol() -> EventProtocol:
                # Read at each connection: a key that was replaced counts from the next one on.
                token = access.auth_token if access.auth_token.get_secret_value() else self._key.current()
                return RawEvents(url, token.get_secret_value(), settings.ws_token_in_url)

        return EventLine(protocol, self._ask_leave, self._tls, Reconnect(self._backoff), log)

    async def _ask_leave(self, channel: str, socket_id: str) -> Leave:
        http = self._http(self._settings.server_url.rstrip("/"))
        return await ask_leave(http, self._settings.ws_auth_path, channel, socket_id)

    def _http(self, base_url: str) -> HttpLine:
        settings = self._settings
        limits = HttpLimits(
            connect_s=settings.connect_timeout_s,
            tls_s=settings.tls_timeout_s,
            read_s=settings.read_timeout_s,
            total_s=settings.total_timeout_s,
            compress_from_bytes=settings.compress_from_bytes,
            retries=settings.retries,
            failures=settings.circuit_failures,
            backoff=self._backoff,
        )
        return HttpLine(base_url, self._key, self.client.hardware_id, limits, self._tls)


async def ask_leave(http: HttpLine, path: str, channel: str, socket_id: str) -> Leave:
    """Laravel's broadcasting authorisation; a call of its own, on a connection of its own.

    Raises:
        CallError: there is no answer that counts.
    """
    body = urlencode({"socket_id": socket_id, "channel_name": channel}).encode()
    call = Call("POST", path, _Leave.model_validate, body, content_type=FORM)
    async with http:
        answer = await http.send(call, LEAVE_S)
    return Leave(answer.auth.get_secret_value(), answer.channel_data)


class _Leave(contract.Body):
    auth: SecretStr
    channel_data: str | None = None
