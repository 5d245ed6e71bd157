"""Settings of the nodes of this package."""

from __future__ import annotations

from myrvm_core.settings import Settings, setting
from pydantic import field_validator


class ManagerSettings(Settings):
    """The lifecycle manager."""

    autostart: bool = setting(True, "Configure and activate all nodes as soon as the manager runs.")
    heartbeat_timeout_s: float = setting(
        4.0, "Silence after which a node's process is looked at.", unit="s", minimum=1.5, maximum=60.0
    )
    silence_limit_s: float = setting(
        20.0, "Silence after which even a busy process is replaced.", unit="s", minimum=2.0, maximum=600.0
    )
    transition_timeout_s: float = setting(
        60.0, "Longest time that a node may take for one transition.", unit="s", minimum=1.0, maximum=600.0
    )
    appear_timeout_s: float = setting(
        20.0, "Time within which a started process must send its first heartbeat.", unit="s", minimum=1.0, maximum=600.0
    )
    manage_timeout_s: float = setting(
        60.0, "Longest time that a verb of system/manage waits for its end.", unit="s", minimum=1.0, maximum=600.0
    )
    item_limit_s: float = setting(
        30.0,
        "Longest wait for the item in the machine before it is switched off.",
        unit="s",
        minimum=0.0,
        maximum=600.0,
    )
    stop_limit_s: float = setting(
        30.0,
        "Longest wait for the nodes to end before the machine is switched off.",
        unit="s",
        minimum=1.0,
        maximum=600.0,
    )
    power_off_command: list[str] = setting(
        ["true"], "Words of the command that switches the machine off, run in the data folder; true does nothing."
    )

    @field_validator("power_off_command")
    @classmethod
    def _is_words(cls, words: list[str]) -> list[str]:
        if not words or any(word.split() != [word] for word in words):
            raise ValueError("a list of words without blanks, such as [systemctl, poweroff]")
        return words


class HealthSettings(Settings):
    """The health monitor."""

    period_s: float = setting(1.0, "Time between two looks.", unit="s", minimum=0.2, maximum=5.0)
    cpu_percent: float = setting(80.0, "Warn above this load of the whole CPU.", unit="%", minimum=1.0, maximum=100.0)
    memory_percent: float = setting(85.0, "Warn above this share of memory.", unit="%", minimum=1.0, maximum=100.0)
    hysteresis: float = setting(
        3.0, "A warning ends this far below its threshold.", unit="%", minimum=0.0, maximum=50.0
    )
    policy_file: str = setting(
        "config/policy.yaml", "What temperature, power, storage and clock lead to, relative to the installation."
    )
    smoothing_s: float = setting(5.0, "CPU load is the mean over this time.", unit="s", minimum=0.0, maximum=300.0)
    stale_after_s: float = setting(
        4.0, "A node without a heartbeat for this long is stale.", unit="s", minimum=1.5, maximum=60.0
    )
    sysfs_root: str = setting("/sys", "Where thermal zones, throttling and GPU load are read.", env="MYRVM_SYSFS")
