"""What a heartbeat tells of the computer: what is found, and None for what is not."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from myrvm_cloud import machine_state


def test_what_is_known_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYRVM_DATA", str(tmp_path))
    state = machine_state.observe()
    for percent in (state.cpu_percent, state.memory_percent, state.disk_percent):
        assert percent is not None
        assert 0.0 <= percent <= 100.0
    assert state.ip_local is None or ipaddress.ip_address(state.ip_local)
    assert (state.pending, state.bin_percent, state.model) == (0, None, None)


def test_what_is_not_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any) -> None:
        raise OSError("no route")

    monkeypatch.setenv("MYRVM_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(machine_state, "LOCAL_TIME", tmp_path / "localtime")
    monkeypatch.setattr(psutil, "net_if_addrs", dict)
    monkeypatch.setattr(psutil, "sensors_temperatures", dict, raising=False)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    state = machine_state.observe()
    assert (state.ip_local, state.ip_vpn, state.timezone, state.temperature_c) == (None, None, None, None)
    assert state.disk_percent is None


def test_zone_vpn_and_the_hottest_sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone = tmp_path / "usr/share/zoneinfo/Asia/Jakarta"
    zone.parent.mkdir(parents=True)
    zone.touch()
    (tmp_path / "localtime").symlink_to(zone)
    monkeypatch.setattr(machine_state, "LOCAL_TIME", tmp_path / "localtime")
    addresses = [
        SimpleNamespace(family=socket.AF_INET6, address="fd7a::5"),
        SimpleNamespace(family=socket.AF_INET, address="100.64.0.5"),
    ]
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"tailscale0": addresses})
    sensors = {"cpu": [SimpleNamespace(current=41.0)], "gpu": [SimpleNamespace(current=45.5)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    state = machine_state.observe()
    assert (state.timezone, state.ip_vpn, state.temperature_c) == ("Asia/Jakarta", "100.64.0.5", 45.5)
