"""The line to the server as the settings describe it: the words of its profile, and the HTTP that carries them."""

from __future__ import annotations

from typing import Any

from myrvm_core.backoff import Backoff

from myrvm_cloud import machine_state, tls
from myrvm_cloud.bridge import Bridge, BridgeTimes, Line, Port
from myrvm_cloud.http_line import HttpLimits, HttpLine, Key
from myrvm_cloud.myrvm_server_client import MyrvmServerClient
from myrvm_cloud.rest_client import MyrvmClient, RestClient
from myrvm_cloud.settings import CloudBridgeSettings


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
        if settings.server_url:
            tls.check_url(settings.server_url)
        self._tls = tls.context(settings.tls_ca_file, settings.tls_client_certificate, settings.tls_client_key)
        self.client: RestClient
        if settings.profile == MyrvmServerClient.profile:
            self.client = MyrvmServerClient(settings.server_url, hardware_id, software_version)
        else:
            self.client = MyrvmClient(settings.server_url, hardware_id, software_version, voucher_key)

    def bridge(self, port: Port, line: Line, log: Any) -> Bridge:
        """A bridge for one activation of the node."""
        settings = self._settings
        backoff = Backoff(settings.backoff_base_s, settings.backoff_cap_s)
        limits = HttpLimits(
            connect_s=settings.connect_timeout_s,
            tls_s=settings.tls_timeout_s,
            read_s=settings.read_timeout_s,
            total_s=settings.total_timeout_s,
            compress_from_bytes=settings.compress_from_bytes,
            retries=settings.retries,
            failures=settings.circuit_failures,
            backoff=backoff,
        )
        http = HttpLine(self.client.base_url, self._key, self.client.hardware_id, limits, self._tls)
        times = BridgeTimes(settings.heartbeat_interval_s, settings.authorize_timeout_s, settings.lease_s, backoff)
        return Bridge(self.client, http, port, times, settings.batch_size, line, log, machine_state.observe)
