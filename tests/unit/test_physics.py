"""The cabinet's world: what a right order of commands does, what a wrong one breaks, and laws that always hold."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_hardware.drivers import Direction, EndSwitch
from myrvm_sim.items import TRAITS
from myrvm_sim.physics import Change, ImpossibleError, Jam, Kind, Mechanics, Place, Signal, World

MECHANICS = Mechanics()


def run_to(world: World, direction: Direction, switch: EndSwitch, now_s: float, limit_s: float = 2.0) -> float:
    """Drive until an end switch closes, motor off; the time after."""
    world.drive(direction, now_s)
    for step in range(int(limit_s / 0.005)):
        at_s = now_s + step * 0.005
        if world.position(at_s) is switch:
            world.drive(Direction.OFF, at_s)
            return at_s + 0.1
    raise AssertionError(f"{switch.name} not reached; log: {list(world.log)}")


def accept(world: World, now_s: float) -> float:
    """The right order of commands for taking an item."""
    at_s = run_to(world, Direction.TO_BIN, EndSwitch.BIN, now_s)
    return run_to(world, Direction.TO_CUSTOMER, EndSwitch.CLOSED, at_s)


def give_back(world: World, now_s: float) -> float:
    """The right order of commands for returning an item."""
    at_s = run_to(world, Direction.TO_CUSTOMER, EndSwitch.CUSTOMER, now_s)
    world.advance(at_s + 2.0)
    return run_to(world, Direction.TO_BIN, EndSwitch.CLOSED, at_s + 2.0)


SWITCHES = (Signal.SWITCH_CLOSED, Signal.SWITCH_BIN, Signal.SWITCH_CUSTOMER)


def sensed(world: World) -> list[Change]:
    """What the sensors, not the end switches, have seen."""
    return [change for change in world.take_changes() if change.signal not in SWITCHES]


def signals(world: World) -> list[tuple[Signal, bool]]:
    return [(change.signal, change.active) for change in sensed(world)]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.HAND, Kind.NOTHING)])
def test_an_accepted_item_falls_through_the_drop_sensor_into_the_bin(kind: Kind) -> None:
    world = World(seed=3)
    item = world.insert(kind, 1.0)
    assert signals(world) == [(Signal.ENTRY, True)]
    end_s = accept(world, 1.5)
    world.advance(end_s + 1.0)
    changes = sensed(world)
    pieces = TRAITS[kind].pieces
    assert [(change.signal, change.active) for change in changes] == [
        (Signal.ENTRY, False),
        *[(Signal.DROP, True), (Signal.DROP, False)] * pieces,
    ]
    assert 0.05 < changes[2].at_s - changes[1].at_s < 0.1
    assert 0.1 < changes[1].at_s - changes[0].at_s < 0.3
    assert world.items[item.number].place is Place.BIN
    assert world.pieces_in_bin == pieces
    assert world.jam is None
    assert world.position(end_s + 1.0) is EndSwitch.CLOSED


def test_a_returned_item_is_taken_by_the_customer_after_his_reaction_time() -> None:
    world = World(seed=3)
    item = world.insert(Kind.SODA, 1.0)
    end_s = give_back(world, 1.5)
    assert world.items[item.number].place is Place.CUSTOMER
    assert signals(world) == [(Signal.ENTRY, True), (Signal.HAND, True), (Signal.ENTRY, False), (Signal.HAND, False)]
    assert world.pieces_in_bin == 0
    assert world.insert(Kind.MINERAL, end_s).number == 2


def test_travel_takes_the_time_of_the_data_sheet() -> None:
    world = World(seed=1)
    world.drive(Direction.TO_BIN, 0.0)
    assert world.position(0.30) is EndSwitch.BETWEEN
    assert world.position(0.42) is EndSwitch.BIN
    assert world.place(0.42) == -1.0


def test_reversing_without_a_pause_jams_and_turning_back_frees() -> None:
    world = World()
    world.drive(Direction.TO_BIN, 0.0)
    world.drive(Direction.TO_CUSTOMER, 0.2)
    assert world.jam is Jam.SOFT
    stuck_at = world.place(0.2)
    assert world.place(1.0) == stuck_at
    world.drive(Direction.OFF, 1.0)
    world.drive(Direction.TO_CUSTOMER, 1.2)
    assert world.place(1.6) == stuck_at
    world.drive(Direction.OFF, 1.6)
    world.drive(Direction.TO_BIN, 1.7)
    assert world.jam is None
    assert world.position(2.2) is EndSwitch.BIN


def test_a_pause_before_reversing_does_not_jam() -> None:
    world = World()
    world.drive(Direction.TO_BIN, 0.0)
    world.drive(Direction.OFF, 0.2)
    world.drive(Direction.TO_CUSTOMER, 0.201 + MECHANICS.dead_time_s)
    assert world.jam is None
    assert world.position(2.0) is EndSwitch.CUSTOMER


@pytest.mark.parametrize("direction", [Direction.TO_BIN, Direction.TO_CUSTOMER])
def test_a_motor_left_on_against_an_end_breaks_until_a_technician_comes(direction: Direction) -> None:
    world = World()
    world.drive(direction, 0.0)
    world.advance(4.9)
    assert world.jam is None
    world.advance(6.0)
    assert world.jam is Jam.HARD
    world.drive(Direction.OFF, 6.0)
    other = Direction.TO_CUSTOMER if direction is Direction.TO_BIN else Direction.TO_BIN
    world.drive(other, 7.0)
    assert abs(world.place(8.0)) == 1.0
    world.stick(None, 8.0)
    assert world.place(8.2) != world.place(8.35)


def test_moving_on_with_a_hand_in_the_gate_catches_it() -> None:
    world = World()
    world.insert(Kind.HAND, 0.0)
    world.drive(Direction.TO_CUSTOMER, 0.1)
    world.advance(1.0)
    assert world.jam is Jam.SOFT
    assert any("hand" in entry.detail for entry in world.log if entry.what == "jam")


def test_a_hand_that_reaches_into_the_moving_gate_is_caught_unless_it_stops() -> None:
    for stops in (True, False):
        world = World()
        world.drive(Direction.TO_BIN, 0.0)
        world.set_hand(True, 0.1)
        if stops:
            world.drive(Direction.OFF, 0.15)
        world.advance(1.0)
        assert any("hand" in entry.detail for entry in world.log if entry.what == "jam") is not stops


def test_a_gate_that_stops_at_once_for_a_hand_does_not_catch_it() -> None:
    world = World()
    world.drive(Direction.TO_CUSTOMER, 0.0)
    world.drive(Direction.OFF, 0.05)
    world.insert(Kind.HAND, 0.1)
    world.drive(Direction.TO_CUSTOMER, 0.2)
    world.drive(Direction.OFF, 0.25)
    world.advance(1.0)
    assert world.jam is None


@pytest.mark.parametrize(("kind", "hand"), [(Kind.HAND, True), (Kind.NOTHING, False)])
def test_a_hand_and_a_disturbance_leave_by_themselves(kind: Kind, hand: bool) -> None:
    world = World()
    world.insert(kind, 0.0)
    assert world.levels[Signal.ENTRY]
    assert world.levels[Signal.HAND] is hand
    world.advance(5.0)
    assert not world.levels[Signal.ENTRY]
    assert not world.levels[Signal.HAND]
    assert world.items[1].place is Place.GONE


def test_the_emergency_stop_cuts_the_motor() -> None:
    world = World()
    world.drive(Direction.TO_BIN, 0.0)
    world.set_emergency(True, 0.1)
    stopped_at = world.place(0.2)
    assert world.place(10.0) == stopped_at
    assert world.jam is None
    world.set_emergency(False, 10.0)
    assert world.position(11.0) is EndSwitch.BIN


def test_nobody_puts_an_item_into_a_full_chamber_or_an_open_gate() -> None:
    world = World()
    world.insert(Kind.CAN, 0.0)
    with pytest.raises(ImpossibleError, match=r"item 1 .can. is still in the chamber"):
        world.insert(Kind.MILK, 0.1)
    world.pull_out(0.2)
    assert world.items[1].place is Place.CUSTOMER
    world.drive(Direction.TO_BIN, 0.3)
    with pytest.raises(ImpossibleError, match="not closed"):
        world.insert(Kind.MILK, 0.8)


def test_the_scale_shows_the_item_with_noise() -> None:
    world = World()
    item = world.insert(Kind.NOT_EMPTY, 0.0)
    shown = [world.weigh(0.1) for _ in range(50)]
    assert sum(shown) / 50 == pytest.approx(item.weight_kg, abs=0.002)
    assert len(set(shown)) > 1
    world.pull_out(0.2)
    assert abs(world.weigh(0.3)) < 0.02


def test_the_bin_reports_that_it_is_full_and_empty() -> None:
    world = World(mechanics=Mechanics(bin_capacity=1))
    world.insert(Kind.MINERAL, 0.0)
    end_s = accept(world, 0.1)
    world.advance(end_s + 1.0)
    assert world.levels[Signal.BIN_FULL]
    world.empty_bin(end_s + 1.0)
    assert not world.levels[Signal.BIN_FULL]


ACTIONS = st.one_of(
    st.tuples(st.just("drive"), st.sampled_from(Direction)),
    st.tuples(st.just("insert"), st.sampled_from(Kind)),
    st.tuples(st.just("stick"), st.sampled_from([Jam.SOFT, Jam.HARD, None])),
    st.tuples(st.just("set_emergency"), st.booleans()),
    st.tuples(st.just("set_hand"), st.booleans()),
    st.tuples(st.just("set_door"), st.booleans()),
)
SCRIPTS = st.lists(st.tuples(st.floats(0.0, 4.0), ACTIONS), max_size=25)


def play(script: list, looks_s: list[float]) -> World:
    """Play a script; `looks_s` are times at which somebody looks in between."""
    world, now_s = World(seed=5), 0.0
    looks = sorted(looks_s)
    for pause_s, (name, value) in script:
        now_s += pause_s
        while looks and looks[0] <= now_s:
            world.advance(looks.pop(0))
        try:
            getattr(world, name)(value, now_s)
        except ImpossibleError:
            assert name == "insert"
    world.advance(now_s + 20.0)
    return world


@given(SCRIPTS)
def test_laws_of_the_world(script: list) -> None:
    world = play(script, [])
    changes = world.take_changes()
    assert all(a.at_s <= b.at_s for a, b in pairwise(changes))
    for signal in world.levels:
        own = [change.active for change in changes if change.signal is signal]
        first = signal is not Signal.SWITCH_CLOSED
        assert own == [(index % 2 == 0) is first for index in range(len(own))], "levels alternate, from rest"
    assert -1.0 <= world.place(1e6) <= 1.0
    dropped = {entry.item for entry in world.log if entry.what == "falling"}
    assert {item.number for item in world.items.values() if item.place is Place.BIN} == dropped
    pieces = sum(TRAITS[world.items[number].kind].pieces for number in dropped)
    assert world.pieces_in_bin == pieces
    assert not world.levels[Signal.DROP]
    closed = [signal for signal in SWITCHES if world.levels[signal]]
    place = abs(world.place(1e6))
    assert bool(closed) is (place <= MECHANICS.home_width or place >= 1.0 - MECHANICS.end_width)
    assert len(closed) <= 1


@given(SCRIPTS, st.lists(st.floats(0.0, 60.0), max_size=30))
def test_looking_does_not_change_what_happens(script: list, looks_s: list[float]) -> None:
    assert list(play(script, looks_s).log) == list(play(script, []).log)


def test_the_end_switches_change_when_the_flap_passes_them() -> None:
    world = World(mechanics=Mechanics(travel_s=1.0, speed_spread=0.0, breakaway_s=0.0))
    world.drive(Direction.TO_BIN, 10.0)
    world.advance(20.0)
    changes = {(change.signal, change.active): change.at_s for change in world.take_changes()}
    assert changes == {
        (Signal.SWITCH_CLOSED, False): pytest.approx(10.2),
        (Signal.SWITCH_BIN, True): pytest.approx(10.95),
    }


def test_both_motor_lines_are_a_fault_in_the_log() -> None:
    world = World()
    world.set_motor(True, False, 0.0)
    world.set_motor(True, True, 0.1)
    assert world.direction is Direction.OFF
    world.set_motor(False, False, 0.2)
    assert [entry.detail for entry in world.log if entry.what == "fault"] == ["both motor lines are active"]


def test_the_motor_has_current_only_while_its_watchdog_is_kicked() -> None:
    world = World()
    world.fit_watchdog(True, 0.0)
    world.set_motor(True, False, 1.0)
    assert world.place(2.0) == 0.0
    assert world.current(2.0) == 0.0
    for step in range(4):
        world.kick_watchdog(2.0 + step * 0.05)
    assert world.current(2.2) == MECHANICS.running_a
    stopped_at = world.place(2.3)
    assert -1.0 < stopped_at < 0.0
    assert world.place(3.0) == stopped_at
    world.fit_watchdog(False, 3.0)
    assert world.position(4.0) is EndSwitch.BIN
    assert world.current(4.0) == MECHANICS.stalled_a


def fallen(kind: Kind = Kind.STRING) -> tuple[World, float, int]:
    """An item of that kind has fallen into the bin, and the gate is still open."""
    world = World(seed=3)
    item = world.insert(kind, 1.0)
    at_s = run_to(world, Direction.TO_BIN, EndSwitch.BIN, 1.5) + 0.3
    world.advance(at_s)
    assert world.items[item.number].place is Place.BIN
    sensed(world)
    return world, at_s, item.number


def test_what_hangs_on_a_string_comes_back_through_an_open_gate_past_both_sensors() -> None:
    world, at_s, number = fallen()
    world.pull_back(at_s)
    world.advance(at_s + 1.0)
    assert signals(world) == [
        (Signal.DROP, True), (Signal.DROP, False), (Signal.ENTRY, True), (Signal.ENTRY, False),
    ]  # fmt: skip
    assert (world.items[number].place, world.pieces_in_bin) == (Place.CUSTOMER, 0)
    with pytest.raises(ImpossibleError):
        world.pull_back(at_s + 1.0)


def test_a_gate_that_closes_keeps_what_hangs_on_a_string() -> None:
    world, at_s, number = fallen()
    world.drive(Direction.TO_CUSTOMER, at_s)
    world.pull_back(at_s + 0.25)
    run_to(world, Direction.TO_CUSTOMER, EndSwitch.CLOSED, at_s + 0.25)
    world.advance(at_s + 2.0)
    assert (world.items[number].place, world.pieces_in_bin) == (Place.BIN, 1)
    assert Signal.ENTRY not in {signal for signal, _ in signals(world)}
    with pytest.raises(ImpossibleError, match="nothing on a string"):
        world.pull_back(at_s + 2.0)


def test_nothing_else_can_be_pulled_back() -> None:
    world, at_s, _ = fallen(Kind.MINERAL)
    with pytest.raises(ImpossibleError, match="nothing on a string"):
        world.pull_back(at_s)


def test_what_is_thrown_in_behind_an_open_gate_falls_past_both_sensors() -> None:
    world, at_s, _ = fallen(Kind.MINERAL)
    thrown = world.throw_in(Kind.NON_MINERAL, at_s)
    world.advance(at_s + 1.0)
    assert signals(world) == [
        (Signal.ENTRY, True), (Signal.ENTRY, False), (Signal.DROP, True), (Signal.DROP, False),
    ]  # fmt: skip
    assert (world.items[thrown.number].place, world.pieces_in_bin) == (Place.BIN, 2)


def test_nothing_is_thrown_through_a_closed_gate() -> None:
    with pytest.raises(ImpossibleError, match="not open to the bin"):
        World(seed=1).throw_in(Kind.CAN, 1.0)


@pytest.mark.parametrize(("kind", "lighter_kg", "heavier_kg"), [(Kind.PAPER, 0.006, 1.0), (Kind.PHONE, 1.0, 0.12)])
def test_what_only_looks_like_a_bottle_does_not_weigh_as_much(kind: Kind, lighter_kg: float, heavier_kg: float) -> None:
    weight_kg = World(seed=2).insert(kind, 1.0).weight_kg
    assert weight_kg < lighter_kg or weight_kg > heavier_kg
