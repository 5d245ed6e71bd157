"""Settings of the nodes of this package. Free of ROS, so that `rvm check` can read them."""

from __future__ import annotations

from myrvm_core.errors import SettingsError
from myrvm_core.settings import Settings, setting
from pydantic import field_validator

from myrvm_cloud import tls
from myrvm_cloud.command_settings import CommandSettings


class OfflineBufferSettings(Settings):
    """Settings of the offline buffer."""

    file: str = setting("buffer/deposits.db", "SQLite file, relative to the machine's data folder.", pattern=r".+")
    telemetry_limit: int = setting(
        1000,
        "Measurements kept; the oldest are dropped first.",
        unit="rows",
        minimum=1,
        maximum=1_000_000,
        env="OFFLINE_BUFFER_SIZE",
    )
    keep_acked_days: float = setting(
        30.0, "Credited deposits are deleted after so long; no others ever.", unit="days", minimum=1.0, maximum=3650.0
    )


class CloudBridgeSettings(Settings):
    """Settings of the cloud bridge. The key and the machine's name come from the environment only."""

    commands: CommandSettings = setting(CommandSettings(), "Commands from afar.")
    server_url: str = setting(
        "",
        "Server without /api/v1; empty: never online. http:// only for this machine itself.",
        env="RVM_SERVER_URL",
        pattern=r"^(https?://[^\s/?#]+\S*)?$",
    )
    profile: str = setting(
        "myrvm",
        "What the server speaks: myrvm (docs/openapi.yaml), or myrvm-server, the public one.",
        env="RVM_SERVER_PROFILE",
        pattern=r"^(myrvm|myrvm-server)$",
    )
    tls_ca_file: str = setting(
        "", "PEM file of the only authorities that are believed; empty: those of the system.", env="RVM_TLS_CA_FILE"
    )
    tls_client_certificate: str = setting(
        "", "PEM file of this machine's certificate; empty: none.", env="RVM_TLS_CLIENT_CERTIFICATE"
    )
    tls_client_key: str = setting(
        "", "PEM file of its key; empty: it is in the certificate's file.", env="RVM_TLS_CLIENT_KEY"
    )
    ws_url: str = setting(
        "",
        "WebSocket with raw JSON events, instead of what the server's handshake names.",
        env="RVM_WS_URL",
        pattern=r"^(wss?://\S+)?$",
    )
    ws_token_in_url: bool = setting(
        False, "Send the token as ?token= for a server that takes no header there. URLs end up in logs of proxies."
    )
    ws_app_key: str = setting(
        "", "Reverb's application, where the server's handshake does not name it.", env="RVM_WS_APP_KEY"
    )
    ws_auth_path: str = setting(
        "/broadcasting/auth", "Where leave to join a private channel is asked for.", pattern=r"^/[A-Za-z0-9/_-]+$"
    )
    send_evidence: bool = setting(True, "Pictures of refused and disputed items go to the server.")
    telemetry_interval_s: float = setting(
        60.0, "Time between two looks for measurements to send.", unit="s", minimum=0.5, maximum=86_400.0
    )
    heartbeat_interval_s: float = setting(
        30.0, "Time between two heartbeats.", unit="s", minimum=0.5, maximum=3600.0, env="HEARTBEAT_INTERVAL"
    )
    batch_size: int = setting(50, "Deposits sent in one request.", unit="deposits", minimum=1, maximum=500)
    lease_s: float = setting(60.0, "Time for which deposits are leased.", unit="s", minimum=1.0, maximum=600.0)
    connect_timeout_s: float = setting(5.0, "Longest wait for a connection.", unit="s", minimum=0.1, maximum=60.0)
    tls_timeout_s: float = setting(5.0, "Longest handshake of TLS.", unit="s", minimum=0.1, maximum=60.0)
    read_timeout_s: float = setting(10.0, "Longest silence in an answer.", unit="s", minimum=0.1, maximum=120.0)
    total_timeout_s: float = setting(
        15.0, "Longest time for one request with its retries.", unit="s", minimum=0.1, maximum=300.0
    )
    retries: int = setting(2, "Retries at once of one request, where they do no harm.", minimum=0, maximum=10)
    circuit_failures: int = setting(
        5, "Failures in a row after which a call is left alone for a while.", unit="failures", minimum=1, maximum=100
    )
    compress_from_bytes: int = setting(
        2000, "Smaller requests are not compressed.", unit="B", minimum=0, maximum=10_000_000
    )
    authorize_timeout_s: float = setting(
        4.0, "Longest time that a customer waits for his name.", unit="s", minimum=0.1, maximum=30.0
    )
    backoff_base_s: float = setting(1.0, "Longest wait after the first failure.", unit="s", minimum=0.01, maximum=60.0)
    backoff_cap_s: float = setting(60.0, "Longest wait after many failures.", unit="s", minimum=0.01, maximum=3600.0)

    @field_validator("server_url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        """The same sentence as when the node starts; one with a password is left to it, which does not show it."""
        if url and "@" not in url:
            try:
                tls.check_url(url)
            except SettingsError as error:
                raise ValueError(str(error)) from None
        return url
