"""Switches the guest off as the lifecycle manager does: the command of config/rvm.yaml, run by the same function.

Usage: `guest_power_off.py FILE`; the file is written once the command has done its part.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import yaml
from myrvm_system.power_off import run_command

parameters = yaml.safe_load((Path(os.environ["MYRVM_HOME"]) / "config" / "rvm.yaml").read_text())
words = parameters["lifecycle_manager"]["ros__parameters"]["power_off_command"]
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # systemd ends this service, too, while it switches off
run_command(words, Path("/"))
Path(sys.argv[1]).write_text(f"{' '.join(words)}\n")
