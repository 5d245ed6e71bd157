"""Clock, storage and network as findings, from trees of files that stand in for /sys and /proc."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from myrvm_core.clock import LinuxKernel, MachineClock, Stamp, Trust
from myrvm_system.devices import Devices, Line, about_clock, about_network, about_selftest, about_storage
from myrvm_system.health import Level
from myrvm_system.network import NetworkFigures, look
from myrvm_system.storage import Storage, StorageFigures

ROUTE = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
ZERO = "0" * 32


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def disk(sysfs: Path, name: str = "mmcblk0", part: str = "mmcblk0p1", device: str = "179:1") -> Path:
    """A disk with one partition, as /sys names them."""
    folder = sysfs / "devices" / name
    write(folder / part / "partition", "1")
    write(folder / "stat", "100 0 800 10 200 0 4000000 20 0 30 30")
    link = sysfs / "dev/block" / device
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder / part)
    return folder


def mounted(proc: Path, folder: Path, options: str = "rw", of_the_file_system: str = "rw") -> None:
    root = "26 1 179:1 / / rw shared:1 - ext4 /dev/mmcblk0p1 rw"
    line = f"27 26 179:1 /data {folder} {options},noatime shared:2 - ext4 /dev/mmcblk0p1 {of_the_file_system}"
    write(proc / "self/mountinfo", f"{root}\n{line}")


@pytest.mark.parametrize(
    ("life_time", "pre_eol", "wear", "spare"),
    [("0x01 0x02", "0x01", 20.0, ""), ("0x0B 0x01", "0x03", 110.0, "90 % of the spare blocks are used"),
     ("0x00 0x00", "0x00", None, ""), ("nonsense", "", None, "")],
)  # fmt: skip
def test_wear_of_an_emmc(tmp_path: Path, life_time: str, pre_eol: str, wear: float | None, spare: str):
    folder = disk(tmp_path)
    write(folder / "device/life_time", life_time)
    write(folder / "device/pre_eol_info", pre_eol)
    figures = Storage(tmp_path, tmp_path, tmp_path, "179:1").look()
    assert (figures.disk, figures.wear_percent, figures.spare) == ("mmcblk0", wear, spare)
    assert figures.written_bytes == 4_000_000 * 512


@pytest.mark.parametrize(("answer", "wear"), [('{"percent_used": 7}', 7.0), ('{"percentage_used": 101}', 101.0),
                                              ("{", None), ("[]", None), ("exit", None)])  # fmt: skip
def test_wear_of_an_nvme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, wear: float | None):
    disk(tmp_path, "nvme0n1", "nvme0n1p1", "259:1")
    program = tmp_path / "bin" / "nvme"
    write(program, "#!/bin/sh\n" + ("exit 1" if answer == "exit" else f"echo '{answer}'"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
    assert Storage(tmp_path, tmp_path, tmp_path, "259:1").look().wear_percent == wear


def test_a_disk_under_others_is_found_and_no_disk_is_no_error(tmp_path: Path):
    disk(tmp_path)
    (tmp_path / "devices/dm-0/slaves").mkdir(parents=True)
    (tmp_path / "devices/dm-0/slaves/mmcblk0p1").symlink_to(tmp_path / "devices/mmcblk0/mmcblk0p1")
    (tmp_path / "dev/block/254:0").symlink_to(tmp_path / "devices/dm-0")
    assert Storage(tmp_path, tmp_path, tmp_path, "254:0").look().disk == "mmcblk0"
    assert Storage(tmp_path, tmp_path, tmp_path, "0:7").look() == StorageFigures()


@pytest.mark.parametrize(("options", "of_the_file_system"), [("ro", "rw"), ("rw", "ro,errors=remount-ro")])
def test_a_read_only_remount_is_noticed(tmp_path: Path, options: str, of_the_file_system: str):
    data = tmp_path / "data"
    storage = Storage(data / "var", tmp_path, tmp_path, "179:1")
    mounted(tmp_path, data)
    assert not storage.look().read_only
    mounted(tmp_path, data, options, of_the_file_system)
    figures = storage.look()
    assert figures.read_only
    assert about_storage(figures).level is Level.ERROR
    assert not Storage(tmp_path / "elsewhere", tmp_path, tmp_path, "179:1").look().read_only


def test_errors_of_the_file_system_are_told(tmp_path: Path):
    disk(tmp_path)
    write(tmp_path / "fs/ext4/mmcblk0p1/errors_count", "3")
    finding = about_storage(Storage(tmp_path, tmp_path, tmp_path, "179:1").look())
    assert finding.level is Level.WARN
    assert "3 errors" in finding.message


def test_a_worn_disk_warns_and_a_silent_one_says_what_was_written():
    assert about_storage(StorageFigures("mmcblk0", 80.0)).level is Level.WARN
    assert about_storage(StorageFigures("mmcblk0", 70.0)).level is Level.OK
    finding = about_storage(StorageFigures("sda", written_bytes=2_000_000_000))
    assert finding.level is Level.OK
    assert finding.values["written_since_boot_gb"] == "2.00"


def test_links_and_default_routes(tmp_path: Path):
    for name, state, carrier in (
        ("eth0", "up", "1"),
        ("wlan0", "down", "0"),
        ("usb0", "unknown", "1"),
        ("lo", "unknown", "1"),
    ):
        write(tmp_path / "class/net" / name / "operstate", state)
        write(tmp_path / "class/net" / name / "carrier", carrier)
    assert look(tmp_path, tmp_path) == NetworkFigures(("eth0", "usb0"), ("wlan0",), ())
    write(tmp_path / "net/route", ROUTE + "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
          "wlan0\t00000000\t010200C0\t0002\t0\t0\t0\t00000000\t0\t0\t0")  # fmt: skip
    write(tmp_path / "net/ipv6_route", f"{ZERO} 00 {ZERO} 00 fd{'0' * 30} 00000400 0 0 00000003 usb0\n"
          f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 1 0 00200200 lo")  # fmt: skip
    assert look(tmp_path, tmp_path).routed == ("eth0", "usb0")
    write(tmp_path / "net/route", "nonsense\n\x00 a b")
    assert look(tmp_path, tmp_path).routed == ("usb0",)


@pytest.mark.parametrize(
    ("figures", "line", "level", "words"),
    [
        (NetworkFigures((), ("eth0",)), None, Level.WARN, "no interface has a link"),
        (NetworkFigures(("eth0",)), None, Level.WARN, "no default route"),
        (NetworkFigures(("eth0",), (), ("eth0",)), None, Level.OK, "up: eth0"),
        (NetworkFigures(("eth0",), (), ("eth0",)), Line("ONLINE"), Level.OK, "the server answers"),
        (NetworkFigures(("eth0",), (), ("eth0",)), Line("OFFLINE", "NETWORK"), Level.WARN, "name or address"),
        (NetworkFigures(("eth0",), (), ("eth0",)), Line("UNAUTHORIZED", "REFUSED"), Level.WARN, "refuses this machine"),
        (NetworkFigures(), Line("ONLINE"), Level.OK, "the server answers"),
    ],
)
def test_the_nearest_thing_that_is_wrong_with_the_network(
    figures: NetworkFigures, line: Line | None, level: Level, words: str
):
    finding = about_network(figures, line)
    assert finding.level is level
    assert words in finding.message


@pytest.mark.parametrize(("trust", "level"), [(Trust.SYNCHRONISED, Level.OK), (Trust.UNSYNCHRONISED, Level.OK),
                                              (Trust.GUESSED, Level.WARN)])  # fmt: skip
def test_only_a_guessed_time_warns(trust: Trust, level: Level):
    finding = about_clock(Stamp(1_770_000_000_000_000_000, 5_000_000_000, "boot", trust))
    assert (finding.level, finding.message[:19]) == (level, "2026-02-02 02:40:00")
    assert finding.values["since_boot_s"] == "5"


def test_the_last_self_test_is_told(tmp_path: Path):
    latest = tmp_path / "latest.json"
    assert list(about_selftest(latest, "short")) == []
    for text, level, words in (
        (json.dumps({"failed": [], "finished_at": "2026-02-02T02:40:00Z"}), Level.OK, "passed"),
        (json.dumps({"failed": ["gate"], "finished_at": "2026-02-02T02:40:00Z"}), Level.WARN, "failed: gate"),
        ("[]", Level.WARN, "cannot be read"),
        ("{", Level.WARN, "cannot be read"),
    ):
        latest.write_text(text)
        (finding,) = about_selftest(latest, "short")
        assert finding.level is level
        assert words in finding.message


def test_one_look_at_all_of_them(tmp_path: Path):
    devices = Devices(MachineClock(LinuxKernel(), tmp_path / "clock.json"), tmp_path)
    assert [finding.name for finding in devices.look(None)] == ["clock", "storage", "network"]
    assert devices.wear_percent is None or devices.wear_percent >= 0.0
    gone = Devices(MachineClock(LinuxKernel(), tmp_path / "clock.json"), tmp_path / "gone")
    assert next(one for one in gone.look(None) if one.name == "storage").level is Level.ERROR
