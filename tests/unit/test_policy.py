"""The policy table: what is refused, and what holds for every course of temperatures, charges and states."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from myrvm_core.errors import SettingsError
from myrvm_system.policy import Cause, Figures, LimitLevel, Policy, load, parse

from myrvm_core import paths

FILE = paths.home() / "config" / "policy.yaml"
SHIPPED: dict[str, Any] = yaml.safe_load(FILE.read_text())
TABLE = load(FILE)
ORDER = list(LimitLevel)
BOUNDS = {75: LimitLevel.WARN, 82: LimitLevel.SLOW, 87: LimitLevel.DARK, 91: LimitLevel.PAUSED, 97: LimitLevel.SHUTDOWN}


def changed(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    raw = copy.deepcopy(SHIPPED)
    raw[name]["rows"] = rows
    return raw


def row(level: str, lowest: float | None = None, below: float | None = None) -> dict[str, Any]:
    bounds = {"from": lowest, "below": below}
    return {"level": level, **{name: value for name, value in bounds.items() if value is not None}}


def hot(policy: Policy, now_s: float, *values: float | None, **others: Any) -> LimitLevel:
    zones = {f"zone{number}": value for number, value in enumerate(values)}
    return policy.judge(now_s, Figures(zones, **others)).level


# The table

THERMAL = SHIPPED["temperature_c"]["rows"]


WRONG_ROWS: list[tuple[str, list[Any], str]] = [
    ("temperature_c", [*THERMAL[:2], row("SLOW", 83, 87), *THERMAL[3:]], "hole: nothing is said from 82 to 83"),
    ("temperature_c", [*THERMAL[:2], row("SLOW", 80, 87), *THERMAL[3:]], "overlap: rows 2 and 3 both hold from 80"),
    ("temperature_c", [row("NORMAL", 0, 75), *THERMAL[1:]], "hole: nothing is said below 0"),
    ("temperature_c", [*THERMAL[:-1], row("SHUTDOWN", 97, 120)], "hole: nothing is said from 120 upwards"),
    ("temperature_c", [*THERMAL[:2], row("SLOW", 82, 80), row("DARK", 80, 91), *THERMAL[4:]], "3 is out of order"),
    ("temperature_c", [*THERMAL[:2], row("DARK", 82, 87), row("SLOW", 87, 91), *THERMAL[4:]], "SLOW after DARK"),
    ("temperature_c", [*THERMAL[:3], row("PAUSED", 87, 97), THERMAL[-1]], "lacks the level DARK"),
    ("temperature_c", [*THERMAL[:2], row("SLOW", None, 87), *THERMAL[3:]], "row 3 has no 'from'"),
    ("battery_charge", [row("PAUSED", None, 0.3), row("SHUTDOWN", 0.3)], "SHUTDOWN after PAUSED, must go down"),
    ("disk_free_mb", [row("PAUSED", None, 100), row("NORMAL", 200)], "hole: nothing is said from 100 to 200"),
    ("battery_low", [{"level": "SHUTDOWN", "after_s": 2}, {"level": "PAUSED", "after_s": 9}], "2 is out of order"),
    ("battery_unknown", [{"level": "PAUSED", "after_s": 9}, {"level": "SHUTDOWN", "after_s": 9}], "worse and later"),
]


@pytest.mark.parametrize(("name", "rows", "line"), WRONG_ROWS)
def test_a_table_that_does_not_say_what_to_do_is_refused(name: str, rows: list[Any], line: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(changed(name, rows), "policy.yaml")
    assert len(refused.value.problems) == 1
    assert f"policy.yaml: {name}" in str(refused.value)
    assert line in str(refused.value)


def temperature(**values: Any) -> Any:
    return lambda raw: raw["temperature_c"].update(values)


def second_row(**values: Any) -> Any:
    return lambda raw: raw["temperature_c"]["rows"][1].update(values)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda raw: raw.pop("power_fail"), "policy.yaml.power_fail"),
        (lambda raw: raw.update(colour="red"), "policy.yaml.colour is not a known name"),
        (lambda raw: raw.update(slow_frame_rate_hz=0), "policy.yaml.slow_frame_rate_hz = 0"),
        (temperature(hysteresis=0), "policy.yaml.temperature_c.hysteresis = 0"),
        (temperature(hysteresis=math.nan), "policy.yaml.temperature_c.hysteresis = nan"),
        (temperature(rows=[]), "policy.yaml.temperature_c.rows = []"),
        (temperature(worse_after_s=-1), "policy.yaml.temperature_c.worse_after_s = -1"),
        (second_row(level="HOT"), "one of NORMAL, WARN, SLOW"),
        (second_row(below=math.inf), "policy.yaml.temperature_c.rows.1.below"),
    ],
)
def test_garbage_gives_one_line_with_name_and_value(change: Any, line: str) -> None:
    raw = copy.deepcopy(SHIPPED)
    change(raw)
    with pytest.raises(SettingsError) as refused:
        parse(raw, "policy.yaml")
    assert line in str(refused.value)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    for content in ("[]", "{", "", "\x00"):
        file.write_text(content)
        with pytest.raises(SettingsError, match=r"policy\.yaml"):
            load(file)
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "none.yaml")


# The table at work

TEMPERATURE = st.floats(-40.0, 150.0) | st.sampled_from(
    [float(bound + step) for bound in BOUNDS for step in (-3, 0, 1)]
)
COURSE = st.lists(st.tuples(st.floats(0.1, 30.0), TEMPERATURE), min_size=1, max_size=40)


def settled(temperature_c: float) -> LimitLevel:
    policy = Policy(TABLE)
    hot(policy, 0.0, temperature_c)
    return hot(policy, 60.0, temperature_c)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_temperature_comes_to_the_level_of_its_row(temperature_c: float) -> None:
    expected = max((level for bound, level in BOUNDS.items() if temperature_c >= bound), default=LimitLevel.NORMAL)
    assert settled(temperature_c) == expected


@settings(max_examples=200)
@given(COURSE, st.data())
def test_a_hotter_machine_is_never_limited_less(course: list[tuple[float, float]], data: st.DataObject) -> None:
    cooler, hotter, now_s = Policy(TABLE), Policy(TABLE), 0.0
    for step_s, temperature_c in course:
        now_s += step_s
        more = data.draw(st.floats(0.0, 30.0))
        assert hot(hotter, now_s, temperature_c + more) >= hot(cooler, now_s, temperature_c)


@settings(max_examples=200)
@given(
    st.floats(60.0, 110.0),
    st.lists(st.tuples(st.floats(0.1, 60.0), st.floats(0.0, 2.99)), min_size=2, max_size=40),
)
def test_within_the_hysteresis_no_level_comes_back(base: float, course: list[tuple[float, float]]) -> None:
    policy, now_s, levels = Policy(TABLE), 0.0, []
    for step_s, more in course:
        now_s += step_s
        levels.append(hot(policy, now_s, base + more))
    assert levels == sorted(levels)  # it may get worse once; within the band nothing gets better


def test_one_sample_alone_is_no_level() -> None:
    policy = Policy(TABLE)
    assert [hot(policy, now_s, value) for now_s, value in ((0.0, 200.0), (2.9, 200.0), (3.0, 40.0))] == [0, 0, 0]


@settings(max_examples=200)
@given(COURSE)
def test_a_level_lasts(course: list[tuple[float, float]]) -> None:
    policy, now_s, since_s, level = Policy(TABLE), 0.0, 0.0, LimitLevel.NORMAL
    for step_s, temperature_c in course:
        now_s += step_s
        new = hot(policy, now_s, temperature_c)
        if new != level:
            assert new > level or now_s - since_s >= TABLE.temperature_c.better_after_s
            level, since_s = new, now_s


@given(st.lists(st.sampled_from([None, math.nan, math.inf, -math.inf]), min_size=1, max_size=10))
def test_an_absent_sensor_is_no_level(values: list[float | None]) -> None:
    policy = Policy(TABLE)
    for now_s, value in enumerate(values):
        level = hot(policy, float(now_s), value, battery_charge=value, on_battery=None, disk_free_mb=value)
        assert level == LimitLevel.NORMAL
    assert all(judgement.absent_s is None and not judgement.known for judgement in policy.judgements)  # never was there


def test_a_level_outlives_its_sensor_by_a_while_and_the_absence_has_a_name() -> None:
    policy = Policy(TABLE)
    hot(policy, 0.0, 95.0, 40.0)
    assert hot(policy, 10.0, 95.0, 40.0) == LimitLevel.PAUSED
    assert hot(policy, 20.0, math.nan, 40.0) == LimitLevel.PAUSED
    assert policy.judge(79.0, Figures({"zone1": 40.0})).level == LimitLevel.PAUSED
    absent = next(judgement for judgement in policy.judgements if judgement.absent_s is not None)
    assert (absent.name, absent.message, absent.absent_s) == ("temperature zone0", "no reading", 59.0)
    assert hot(policy, 80.0, None, 40.0) == LimitLevel.NORMAL


def test_the_worst_cause_wins_and_is_named() -> None:
    policy = Policy(TABLE)
    figures = Figures({"cpu": 84.0, "gpu": 92.5}, disk_free_mb=50.0, clock_known=False)
    policy.judge(0.0, figures)
    limits = policy.judge(10.0, figures)
    assert (limits.level, limits.causes) == (LimitLevel.PAUSED, (Cause.TEMPERATURE, Cause.STORAGE))
    assert limits.message == "temperature gpu: 92.5 degC; disk free: 50.0 MB"
    assert limits.frame_rate_limit_hz == 5.0
    clock = policy.judge(100.0, Figures({"cpu": 30.0, "gpu": 30.0}, disk_free_mb=5000.0, clock_known=False))
    clock = policy.judge(130.0, Figures({"cpu": 30.0, "gpu": 30.0}, disk_free_mb=5000.0, clock_known=False))
    assert (clock.level, clock.causes, clock.frame_rate_limit_hz) == (LimitLevel.WARN, (Cause.CLOCK,), 0.0)


def levels(course: list[tuple[float, Figures]]) -> list[str]:
    policy = Policy(TABLE)
    return [policy.judge(now_s, figures).level.name for now_s, figures in course]


def test_mains_gone_and_back() -> None:
    full, low = Figures(on_battery=True, battery_charge=0.9), Figures(on_battery=True, battery_charge=0.2)
    mains = Figures(on_battery=False, battery_charge=0.2, battery_low=True)
    course = [
        (0.0, full),
        (0.5, full),
        (1.0, full),
        (50.0, low),
        (51.0, low),
        (60.0, mains),
        (69.0, mains),
        (70.0, mains),
    ]
    assert levels(course) == ["NORMAL", "NORMAL", "PAUSED", "PAUSED", "SHUTDOWN", "SHUTDOWN", "SHUTDOWN", "NORMAL"]


def test_a_battery_that_nobody_measures_ends_in_shutdown_and_the_line_pauses_at_once() -> None:
    gone, line = Figures(on_battery=True), Figures(power_fail=True)
    assert levels([(0.0, gone), (1.0, gone), (119.0, gone), (120.0, gone)]) == [
        "NORMAL",
        "PAUSED",
        "PAUSED",
        "SHUTDOWN",
    ]
    assert levels([(0.0, line), (1.0, Figures(power_fail=False)), (11.0, Figures(power_fail=False))]) == [
        "PAUSED", "PAUSED", "NORMAL",
    ]  # fmt: skip
    assert levels([(0.0, Figures(battery_low=True)), (2.0, Figures(battery_low=True))]) == ["NORMAL", "SHUTDOWN"]


@given(st.lists(st.tuples(st.floats(0.1, 20.0), st.floats(0.0, 1.0)), min_size=1, max_size=30), st.data())
def test_less_charge_is_never_limited_less(course: list[tuple[float, float]], data: st.DataObject) -> None:
    fuller, emptier, now_s = Policy(TABLE), Policy(TABLE), 0.0
    for step_s, charge in course:
        now_s += step_s
        less = data.draw(st.floats(0.0, charge))
        levels = [
            policy.judge(now_s, Figures(on_battery=True, battery_charge=value)).level
            for policy, value in ((emptier, less), (fuller, charge))
        ]
        assert levels[0] >= levels[1]
