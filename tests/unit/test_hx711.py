"""The driver of the load cell amplifier: against a simulated one in played time, and behind the simulated GPIO chip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import DeviceError, SettingsError
from myrvm_hardware.drivers import Role
from myrvm_hardware.hx711 import PULSES, Hx711
from myrvm_hardware.plausibility import Plausibility
from myrvm_hardware.settings import AnalogSettings, WeightSettings
from myrvm_sim.cabinet_client import CabinetClient
from myrvm_sim.items import Kind
from myrvm_sim.load_cell import GAINS, LoadCell

from myrvm_hardware import hx711
from myrvm_sim import sysfs

LINES: dict[str, Any] = {"driver": "hx711", "data_line": "HX711_DATA", "clock_line": "HX711_CLOCK"}
POWER_DOWN_NS = 60_000
HIGHEST = (1 << 23) - 1


class Bus:
    """The two lines and the time: a line takes `call_ns` to set or read, some `highs` of the clock take longer."""

    def __init__(self, counts: int, highs: Iterator[int] | None = None) -> None:
        self.now_ns = 5_000_000_000
        self.cell = LoadCell(lambda _: counts, POWER_DOWN_NS, self.now_ns)
        self.connected, self.clock, self.call_ns = True, False, 2_000
        self._highs = highs or iter(())

    def open(self, _settings: Any) -> None:
        self.clock = False

    def close(self) -> None:
        self.clock = False

    def levels(self) -> dict[str, bool]:
        self.now_ns += self.call_ns
        return {"data": self.cell.data(self.now_ns) or not self.connected, "clock": self.clock}

    def set(self, values: Mapping[str, bool]) -> None:
        level = values["clock"]
        if not level and self.clock:
            self.now_ns += next(self._highs, 0)
        self.now_ns += self.call_ns
        if level != self.clock:
            self.clock = level
            self.cell.clock(level, self.now_ns)

    # What the driver takes for the module `time`

    def monotonic(self) -> float:
        return self.now_ns / 1e9

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def driver(bus: Bus, monkeypatch: pytest.MonkeyPatch, channel: str = "A128") -> Hx711:
    monkeypatch.setattr(hx711, "time", bus)
    monkeypatch.setattr(hx711, "Lines", lambda *_: bus)
    built = Hx711("chip", AnalogSettings(channel=channel, **LINES), Role.WEIGHT)
    built.open()
    return built


@pytest.mark.parametrize("channel", PULSES)
@pytest.mark.parametrize("counts", [0, 1, -1, 84_213, -8_388_000, HIGHEST - 1])
def test_each_channel_reads_its_counts(channel: str, counts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    load_cell = driver(Bus(counts), monkeypatch, channel)
    expected = {Role.WEIGHT: float(round(counts * GAINS[PULSES[channel]]))}
    assert [load_cell.read() for _ in range(3)] == [expected] * 3


@given(
    st.sampled_from(sorted(PULSES)),
    st.integers(-8_000_000, 8_000_000),
    st.lists(st.one_of(st.just(0), st.integers(0, 3 * POWER_DOWN_NS)), max_size=300),
)
def test_whatever_holds_the_clock_up_a_sample_is_right_or_refused(channel: str, counts: int, highs: list[int]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        load_cell, refusals = driver(Bus(counts, iter(highs)), monkeypatch, channel), list[str]()
        for _ in range(4):
            try:
                sample = load_cell.read()
            except DeviceError as error:
                refusals.append(str(error))
            else:
                assert sample == {Role.WEIGHT: float(round(counts * GAINS[PULSES[channel]]))}
    assert all("the clock was high for more than 60 us" in refusal for refusal in refusals)


def test_a_clock_that_was_high_for_too_long_is_noticed_and_the_sample_taken_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    highs = iter([0] * 10 + [POWER_DOWN_NS])
    bus = Bus(1234, highs)
    load_cell = driver(bus, monkeypatch, "B32")
    before_ns = bus.now_ns
    assert load_cell.read() == {Role.WEIGHT: round(1234 * GAINS[PULSES["B32"]])}
    assert bus.now_ns - before_ns > 800_000_000  # it settled twice: after `open`, and after the pulse
    assert next(highs, None) is None


def test_a_machine_that_is_too_slow_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = Bus(1234)
    bus.call_ns = POWER_DOWN_NS
    with pytest.raises(DeviceError, match=r"the clock was high for more than 60 us in each of 3 tries: .*\(iio\)"):
        driver(bus, monkeypatch).read()


@pytest.mark.parametrize("counts", [HIGHEST, -HIGHEST - 1, 3 * HIGHEST])
def test_a_bridge_out_of_range_is_refused(counts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="hx711 is out of range"):
        driver(Bus(counts), monkeypatch).read()


def test_nothing_connected_is_said_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = Bus(0)
    bus.connected = False
    load_cell = driver(bus, monkeypatch)
    begun_ns = bus.now_ns
    with pytest.raises(DeviceError, match="hx711 gives no sample within 1 s: not connected, or without power"):
        load_cell.read()
    assert bus.now_ns - begun_ns < 1_100_000_000


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"channel": "C1"}, "channel = 'C1' is not allowed: A128, B32, A64"),
        ({"data_line": ""}, "data_line = '' is not allowed: a line by name or offset"),
        ({"clock_line": "HX711_DATA"}, "clock_line = 'HX711_DATA' is not allowed: it is the data line too"),
    ],
)
def test_settings_that_can_never_work(changed: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Hx711("chip", AnalogSettings(**{**LINES, **changed}), Role.WEIGHT)


def test_it_weighs_an_item_through_the_lines_of_the_cabinet(cabinet: CabinetClient) -> None:
    settings = WeightSettings(
        offset=-sysfs.WEIGHT_OFFSET, scale=sysfs.WEIGHT_STEP_KG, median=1, clock_high_us=50_000.0, **LINES
    )
    scale = Plausibility("weight", settings)
    load_cell = Hx711("myrvm-cabinet", settings, Role.WEIGHT)
    load_cell.open()
    try:
        assert scale.take(load_cell.read()[Role.WEIGHT], 0.0) == pytest.approx(0.0, abs=0.02)
        item = cabinet.insert(Kind.MINERAL)
        assert scale.take(load_cell.read()[Role.WEIGHT], 1.0) == pytest.approx(item["weight_kg"], abs=0.02)
    finally:
        load_cell.close()
