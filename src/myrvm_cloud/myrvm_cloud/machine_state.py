"""What a heartbeat tells of this computer: addresses, time zone, how busy and how warm it is. No call here waits."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil

from myrvm_cloud.rest_client import MachineState
from myrvm_core import paths

VPN_INTERFACE = "tailscale0"
LOCAL_TIME = Path("/etc/localtime")
ELSEWHERE = ("192.0.2.1", 9)  # TEST-NET-1 (RFC 5737): connecting a UDP socket chooses the address and sends nothing


def observe() -> MachineState:
    """As it is now; what cannot be found out is None."""
    return MachineState(
        ip_local=_local_address(),
        ip_vpn=_vpn_address(),
        timezone=_timezone(),
        cpu_percent=psutil.cpu_percent(None),
        memory_percent=psutil.virtual_memory().percent,
        disk_percent=_disk_percent(),
        temperature_c=_temperature_c(),
    )


def _local_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
        except OSError:
            return None
        return probe.getsockname()[0]


def _vpn_address() -> str | None:
    addresses = psutil.net_if_addrs().get(VPN_INTERFACE, [])
    return next((address.address for address in addresses if address.family == socket.AF_INET), None)


def _timezone() -> str | None:
    """The name of the zone, such as Asia/Jakarta."""
    _, found, zone = str(LOCAL_TIME.resolve()).partition("zoneinfo/")
    return zone if found else None


def _disk_percent() -> float | None:
    try:
        return psutil.disk_usage(str(paths.data())).percent
    except OSError:
        return None


def _temperature_c() -> float | None:
    """Of the hottest sensor; none in a container."""
    groups = getattr(psutil, "sensors_temperatures", dict)().values()
    return max((sensor.current for group in groups for sensor in group), default=None)
