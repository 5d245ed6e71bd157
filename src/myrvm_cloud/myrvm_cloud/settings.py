"""Settings of the nodes of this package. Free of ROS, so that `rvm check` can read them."""

from __future__ import annotations

from myrvm_core.settings import Settings, setting

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
        "", "Server without /api/v1; empty: never online.", env="RVM_SERVER_URL", pattern=r"^(https?://[^\s/?#]+\S*)?$"
    )
    ws_url: str = setting(
        "", "WebSocket of the server; reserved, not used yet.", env="RVM_WS_URL", pattern=r"^(wss?://\S+)?$"
    )
    heartbeat_interval_s: float = setting(
        30.0, "Time between two heartbeats.", unit="s", minimum=0.5, maximum=3600.0, env="HEARTBEAT_INTERVAL"
    )
    batch_size: int = setting(50, "Deposits sent in one request.", unit="deposits", minimum=1, maximum=500)
    lease_s: float = setting(60.0, "Time for which deposits are leased.", unit="s", minimum=1.0, maximum=600.0)
    connect_timeout_s: float = setting(5.0, "Longest wait for a connection.", unit="s", minimum=0.1, maximum=60.0)
    read_timeout_s: float = setting(10.0, "Longest silence in an answer.", unit="s", minimum=0.1, maximum=120.0)
    total_timeout_s: float = setting(15.0, "Longest time for one request.", unit="s", minimum=0.1, maximum=300.0)
    authorize_timeout_s: float = setting(
        4.0, "Longest time that a customer waits for his name.", unit="s", minimum=0.1, maximum=30.0
    )
    backoff_base_s: float = setting(1.0, "Longest wait after the first failure.", unit="s", minimum=0.01, maximum=60.0)
    backoff_cap_s: float = setting(60.0, "Longest wait after many failures.", unit="s", minimum=0.01, maximum=3600.0)
