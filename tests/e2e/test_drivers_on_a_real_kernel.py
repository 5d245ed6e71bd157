"""The driver conformance tests on a real kernel: minutes of an emulated machine, so only where somebody asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "device-vm" / "device_vm.py"


@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.environ.get("MYRVM_DEVICE_VM") != "1", reason="takes minutes and root: MYRVM_DEVICE_VM=1 asks")
def test_the_drivers_on_a_real_kernel() -> None:
    assert subprocess.run([sys.executable, str(SCRIPT), "conformance"], check=False, timeout=3500).returncode == 0
