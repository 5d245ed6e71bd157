"""The shipped policy table with short waits, for tests that heat the machine up and cool it down again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from myrvm_core import paths


def write_quick_policy(folder: Path, **changes: Any) -> Path:
    """Write `policy.yaml` into `folder`: every `*_after_s` at most 0.3 s, then `changes` on top."""
    table: dict[str, Any] = yaml.safe_load((paths.home() / "config" / "policy.yaml").read_text())
    for part in table.values():
        if isinstance(part, dict):
            part.update({name: min(value, 0.3) for name, value in part.items() if name.endswith("_after_s")})
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump({**table, **changes}))
    return file


class Thermometer:
    """A thermal zone in a simulated sysfs tree."""

    def __init__(self, sysfs: Path, kind: str = "cpu-thermal") -> None:
        self.sysfs = sysfs
        self._folder = sysfs / "class" / "thermal" / "thermal_zone0"
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "type").write_text(kind)
        self.show(40.0)

    def show(self, temperature_c: float) -> None:
        """Let it show another temperature."""
        partial = self._folder / "temp.partial"
        partial.write_text(f"{temperature_c * 1000:.0f}\n")
        partial.replace(self._folder / "temp")
