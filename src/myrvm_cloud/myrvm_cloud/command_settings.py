"""Settings of the commands from afar; a group of the cloud bridge's. Free of ROS, so that `rvm check` can read them."""

from __future__ import annotations

from myrvm_core.settings import Settings, setting
from pydantic import field_validator

from myrvm_cloud.command import ALWAYS_TWO_KEYS, CONFIGURATION, KINDS, OPEN_LOCK


class CommandSettings(Settings):
    """Who may command, how often, and how long things may take."""

    keys_file: str = setting(
        "config/keys.yaml", "Key ring of the operators, relative to the installation; none: no command is obeyed."
    )
    two_keys: list[str] = setting(
        ["reboot", OPEN_LOCK, "update_model", "set_price_table", "config_update", CONFIGURATION, "rotate_keys"],
        "Commands that need the signatures of two keys; lock_open is lock with state open; rotate_keys always does.",
    )
    burst: int = setting(10, "Commands executed at once, at most.", unit="commands", minimum=1, maximum=1000)
    refill_s: float = setting(6.0, "One more command each so often.", unit="s", minimum=0.1, maximum=3600.0)
    refusals_s: float = setting(
        600.0, "Forged and replayed commands are counted in one audit line so often.", unit="s", minimum=1.0,
        maximum=86_400.0,
    )  # fmt: skip
    item_limit_s: float = setting(
        60.0, "Longest wait for the item in the machine.", unit="s", minimum=1.0, maximum=600.0
    )
    trial_s: float = setting(
        60.0, "Within this time the graph must be healthy with a new configuration, or it is taken back.", unit="s",
        minimum=1.0, maximum=600.0,
    )  # fmt: skip
    steady_s: float = setting(5.0, "It counts as healthy after so long.", unit="s", minimum=0.0, maximum=60.0)
    reboot_command: list[str] = setting(
        ["true"], "Words of the command that starts the computer anew, run in the data folder; true does nothing."
    )

    @field_validator("two_keys")
    @classmethod
    def _are_kinds(cls, names: list[str]) -> list[str]:
        if unknown := set(names) - {*KINDS, OPEN_LOCK, ""}:
            raise ValueError(f"{', '.join(sorted(unknown))}: one of {', '.join((*KINDS, OPEN_LOCK))}")
        same = {CONFIGURATION} if "config_update" in names else set[str]()
        return sorted({*names, *same, *ALWAYS_TWO_KEYS} - {""})

    @field_validator("reboot_command")
    @classmethod
    def _is_words(cls, words: list[str]) -> list[str]:
        if not words or any(word.split() != [word] for word in words):
            raise ValueError("a list of words without blanks, such as [systemctl, reboot]")
        return words
