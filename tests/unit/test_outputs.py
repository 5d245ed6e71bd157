"""Which output is on: rules, calls, refusals; time is an argument."""

from __future__ import annotations

import math
import queue
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.backoff import Backoff
from myrvm_core.errors import DeviceError, SettingsError
from myrvm_hardware.gpiod_outputs import GpiodOutputs
from myrvm_hardware.output_control import OutputControl
from myrvm_hardware.outputs import LAMP, LONGEST_FROM_AFAR_S, LONGEST_S, Mode, Outputs, Pattern, Refusal
from myrvm_hardware.settings import ActuatorSettings
from myrvm_interfaces.msg import SystemStatus
from myrvm_interfaces.srv import SetOutput

NAMES: tuple[str, ...] = ("light_ring", "door_lock", "buzzer", "status_lamp", "fan")


def outputs(**safe_on: bool) -> Outputs:
    return Outputs(dict.fromkeys(NAMES, False) | safe_on, light_limit_s=20.0, door_stale_s=2.0)


def on(one: Outputs, now_s: float) -> set[str]:
    return {name for name, value in one.values(now_s)[0].items() if value}


def attended(one: Outputs, now_s: float) -> Outputs:
    one.mode(Mode.MAINTENANCE, now_s)
    one.door(True, now_s)
    return one


def test_numbers_are_those_of_the_messages():
    assert {mode.name: mode for mode in Mode if mode} == {
        name: getattr(SystemStatus, name) for name in (mode.name for mode in Mode if mode)
    }
    assert all(getattr(SetOutput.Request, f"REFUSED_{one.name}") == one for one in Refusal)


def test_with_nothing_heard_everything_is_safe():
    one = outputs(fan=True)
    assert one.values(0.0) == (one.safe_on, math.inf)


def test_the_light_ring_is_on_while_an_item_is_looked_at_and_never_for_long():
    one = outputs()
    one.looking(True, 1.0)
    one.dark(True)  # the lamps are off, but a picture needs its light
    assert on(one, 1.0) == {"light_ring"}
    assert one.values(1.0)[1] == 20.0
    one.looking(True, 10.0)
    assert on(one, 21.0) == set()
    one.looking(False, 22.0)
    one.looking(True, 23.0)
    assert on(one, 23.0) == {"light_ring"}


@pytest.mark.parametrize(
    ("mode", "at_once", "lit"),
    [
        (Mode.SERVING, True, 1.0), (Mode.DEGRADED, True, 1.0), (Mode.OUT_OF_ORDER, True, 0.5),
        (Mode.MAINTENANCE, True, 0.5), (Mode.STARTING, True, 0.5), (Mode.PAUSED, False, 0.0),
        (Mode.STOPPED, False, 0.0), (Mode.UNKNOWN, False, 0.0),
    ],
)  # fmt: skip
def test_the_lamp_tells_the_mode(mode: Mode, at_once: bool, lit: float):
    one = outputs()
    one.mode(mode, 5.0)
    assert ("status_lamp" in on(one, 5.0)) == at_once
    samples = [("status_lamp" in on(one, 5.005 + step / 100)) for step in range(200)]
    assert sum(samples) / len(samples) == pytest.approx(lit)
    one.dark(True)
    assert "status_lamp" not in on(one, 5.0)


@given(pattern=st.sampled_from([*LAMP.values(), Pattern(0.1, 0.3, 3)]), elapsed_s=st.floats(0, 1e6))
def test_a_pattern_changes_when_it_says(pattern: Pattern, elapsed_s: float):
    value, changes_in_s = pattern.at(elapsed_s)
    assert changes_in_s > 0
    if math.isfinite(changes_in_s):
        assert pattern.at(elapsed_s + 0.5 * changes_in_s)[0] == value
        assert pattern.at(elapsed_s + changes_in_s + 1e-3)[0] != value or pattern.times


def test_a_refusal_beeps_twice():
    one = outputs()
    one.refused(3.0)
    steps = [("buzzer" in on(one, 3.0 + 0.12 * step + 0.06)) for step in range(6)]
    assert steps == [True, False, True, False, False, False]


def test_the_lock_opens_in_maintenance_until_the_door_is_open():
    one = outputs()
    one.mode(Mode.SERVING, 0.0)
    assert "door_lock" not in on(one, 0.0)
    one.mode(Mode.MAINTENANCE, 1.0)
    one.door(False, 1.0)
    assert "door_lock" in on(one, 1.0)
    one.door(True, 2.0)
    assert "door_lock" not in on(one, 2.0)


@pytest.mark.parametrize(
    ("mode", "door", "heard_s", "why"),
    [
        (Mode.SERVING, True, 10.0, "only in maintenance"),
        (Mode.MAINTENANCE, False, 10.0, "only with the service door open"),
        (Mode.MAINTENANCE, None, 10.0, "its sensor says nothing"),
        (Mode.MAINTENANCE, True, 7.9, "its sensor says nothing"),
    ],
)
def test_a_technician_drives_only_with_the_door_open_and_in_maintenance(
    mode: Mode, door: bool | None, heard_s: float, why: str
):
    one = outputs()
    one.mode(mode, 0.0)
    one.door(door, heard_s)
    refusal, message = one.call("fan", True, 0.0, True, 10.0)
    assert refusal == Refusal.NOT_ALLOWED
    assert why in message


def test_what_a_technician_drives_ends_with_the_time_the_door_or_the_maintenance():
    one = attended(outputs(), 0.0)
    assert one.call("fan", True, 1.0, True, 0.0) == (Refusal.NONE, "")
    assert "fan" in on(one, 0.9)
    assert "fan" not in on(one, 1.0)
    one.call("fan", True, 0.0, True, 1.0)
    one.door(True, 50.0)
    assert "fan" in on(one, 50.0)
    assert "fan" not in on(one, 53.0)  # the door's sensor is silent
    attended(one, 60.0)
    one.call("fan", True, 0.0, True, 60.0)
    one.door(False, 61.0)
    assert "fan" not in on(one, 61.0)
    attended(one, 70.0)
    assert "fan" not in on(one, 70.0)  # it does not come back by itself


def test_the_machine_itself_drives_for_a_short_time_and_never_the_lock():
    one = outputs()
    assert one.call("buzzer", True, 0.5, False, 0.0)[0] == Refusal.NONE
    assert on(one, 0.4) == {"buzzer"}
    for duration_s in (0.0, -1.0, LONGEST_S + 0.1, math.inf, math.nan):
        assert one.call("buzzer", True, duration_s, False, 0.0)[0] == Refusal.NOT_ALLOWED
    assert one.call("door_lock", True, 0.5, False, 0.0)[0] == Refusal.NOT_ALLOWED
    assert one.call("siren", True, 0.5, False, 0.0) == (
        Refusal.UNKNOWN, f"no output 'siren'; there are: {', '.join(NAMES)}",
    )  # fmt: skip


def test_the_operator_opens_the_lock_for_a_time_and_drives_nothing_for_good():
    one = outputs()
    assert one.call("door_lock", True, LONGEST_FROM_AFAR_S, False, 0.0, from_afar=True) == (Refusal.NONE, "")
    assert on(one, LONGEST_FROM_AFAR_S - 0.1) == {"door_lock"}
    assert on(one, LONGEST_FROM_AFAR_S + 0.1) == set()
    assert one.call("door_lock", True, 5.0, False, 1000.0, from_afar=True)[0] == Refusal.NONE
    assert one.call("door_lock", False, 5.0, False, 1001.0, from_afar=True)[0] == Refusal.NONE
    assert on(one, 1001.1) == set()
    for duration_s in (0.0, LONGEST_FROM_AFAR_S + 0.1):
        assert one.call("door_lock", True, duration_s, False, 0.0, from_afar=True)[0] == Refusal.NOT_ALLOWED


def test_lamps_stay_off_while_it_is_dark():
    one = attended(outputs(), 0.0)
    one.dark(True)
    assert one.call("status_lamp", True, 1.0, True, 0.0)[0] == Refusal.LIMITED
    assert one.call("status_lamp", False, 1.0, True, 0.0)[0] == Refusal.NONE
    assert one.call("fan", True, 1.0, True, 0.0)[0] == Refusal.NONE


def settings(**changes: Any) -> ActuatorSettings:
    return ActuatorSettings.model_validate({"outputs": {"lines": ["fan=23", "buzzer=BUZZER"], **changes}})


def test_safe_values_come_from_the_profile():
    assert GpiodOutputs(settings(safe_on=["fan"])).safe_on == {"fan": True, "buzzer": False}
    assert GpiodOutputs(ActuatorSettings()).safe_on == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lines": ["Fan=23"]}, "actuator.outputs.lines: name 'Fan' is not allowed"),
        ({"lines": ["fan"]}, "actuator.outputs.lines: 'fan' is not allowed"),
        ({"lines": ["fan=23", "fan=24"]}, "actuator.outputs.lines: fan is there twice"),
        ({"lines": ["fan=23", "pump=23"]}, "actuator.outputs.lines: line 23 is there twice"),
        ({"lines": ["fan=6"]}, "actuator.outputs.lines: fan=6 is a line of the gate too"),
        ({"safe_on": ["lamp"]}, "actuator.outputs.safe_on: 'lamp' is not in actuator.outputs.lines"),
        ({"active_low": ["lamp"]}, "actuator.outputs.active_low: 'lamp' is not in actuator.outputs.lines"),
    ],
)
def test_garbage_is_one_clear_line(changes: dict[str, Any], said: str):
    with pytest.raises(SettingsError, match=said):
        GpiodOutputs(settings(**changes))


class Lines:
    """Stand-in for the driver. `dead` outputs do not follow, a `broken` chip answers nothing."""

    def __init__(self, dead: str = "", broken: bool = False) -> None:
        self.dead, self.broken = dead, broken
        self.on = dict.fromkeys(NAMES, False)
        self.closed = 0

    def open(self) -> None:
        self.on = dict.fromkeys(NAMES, False)

    def set(self, values: Mapping[str, bool]) -> None:
        if self.broken:
            raise DeviceError("chip has gone")
        self.on = {name: value and name != self.dead for name, value in values.items()}

    def levels(self) -> dict[str, bool]:
        return dict(self.on)

    def close(self) -> None:
        self.on = dict.fromkeys(NAMES, False)
        self.closed += 1


class Log:
    """Says nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class Told:
    """What a control has told, and the answers that it gave."""

    def __init__(self, driver: Lines) -> None:
        self.levels: queue.Queue[dict[str, bool]] = queue.Queue()
        self.answers: queue.Queue[tuple[Refusal, str, bool]] = queue.Queue()
        self.control = OutputControl(driver, outputs(), Backoff(0.01, 0.05), self.levels.put, Log())

    def wait(self, **wanted: bool) -> None:
        while wanted.items() - self.levels.get(timeout=30.0).items():
            pass

    def call(self, name: str, on: bool) -> tuple[Refusal, str, bool]:
        self.control.call(name, on, 5.0, False, lambda *answer: self.answers.put(answer))
        return self.answers.get(timeout=30.0)


def test_a_call_is_answered_with_what_the_line_reads_and_stop_leaves_safe_values():
    driver = Lines()
    told = Told(driver)
    told.control.start()
    told.wait(fan=False)
    assert told.call("fan", True) == (Refusal.NONE, "", True)
    assert driver.on["fan"]
    told.control.mode(Mode.SERVING)
    told.wait(status_lamp=True, fan=True)
    told.control.stop()
    assert not any(driver.on.values())
    assert told.call("buzzer", True)[:2] == (Refusal.FAULT, "the outputs are not driven now")


def test_an_output_that_does_not_follow_is_named():
    told = Told(Lines(dead="buzzer"))
    told.control.start()
    told.wait(buzzer=False)
    assert told.call("buzzer", True) == (Refusal.NONE, "", False)
    told.call("buzzer", True)
    assert told.control.problem == "outputs do not read as driven: buzzer"
    told.control.stop()


def test_a_chip_that_fails_refuses_and_is_opened_again():
    driver = Lines(broken=True)
    told = Told(driver)
    told.control.start()
    assert told.call("fan", True)[0] == Refusal.FAULT
    driver.broken = False
    told.wait(fan=False)
    while told.call("fan", True) != (Refusal.NONE, "", True):
        pass
    assert told.control.problem == ""
    told.control.stop()
    assert driver.closed >= 2
