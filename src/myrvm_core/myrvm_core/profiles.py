"""Hardware profiles: `config/hardware/<name>.yaml`, a ROS parameter file that says what a cabinet is made of.

It is loaded after `rvm.yaml` and before local overrides. A launch argument, `--hardware` or `MYRVM_HARDWARE` (also in
`config/.env`) chooses it.
"""

from __future__ import annotations

from pathlib import Path

from myrvm_core import environment, paths
from myrvm_core.errors import SettingsError

VARIABLE = "MYRVM_HARDWARE"
DEFAULT = "orin-nano"


def names() -> list[str]:
    """The profiles of this installation."""
    return sorted(file.stem for file in (paths.home() / "config" / "hardware").glob("*.yaml"))


def chosen() -> str:
    """The profile that the environment names, the reference machine where it names none."""
    return environment.environment().get(VARIABLE) or DEFAULT


def file(name: str) -> Path:
    """The parameter file of a profile.

    Raises:
        SettingsError: there is none of that name; says which there are.
    """
    known = names()
    if name not in known:
        raise SettingsError(f"hardware profile {name!r} is not known; allowed: {', '.join(known) or 'none'}")
    return paths.home() / "config" / "hardware" / f"{name}.yaml"
