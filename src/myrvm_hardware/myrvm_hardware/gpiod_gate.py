"""The gates as lines of a GPIO chip (driver `gpiod`): motors, end switches and interlocks in one request, guarded."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping

from myrvm_core.errors import DeviceError, SettingsError

from myrvm_hardware.drivers import BELT, DIGITAL_BY_NAME, Direction, Edge, EndSwitch, Role
from myrvm_hardware.gpio_lines import Input, Lines, Output, parse_lines
from myrvm_hardware.guard_process import GuardProcess
from myrvm_hardware.settings import ActuatorSettings

SWITCHES = {switch.name.lower(): switch for switch in EndSwitch if switch < EndSwitch.BETWEEN}
MOTOR = {"to_bin": Direction.TO_BIN, "to_customer": Direction.TO_CUSTOMER}
REQUIRED = (Role.DOOR, Role.HAND, Role.EMERGENCY)
WATCHDOG = "watchdog"
TOGGLE_S = 0.02  # half a period of the watchdog line
BOUND_MARGIN_S = 0.25  # the guard's bound is the last one


class GpiodGate:
    """Each motor has a line for each direction, each gate three end switches."""

    def __init__(self, device: str, settings: ActuatorSettings) -> None:
        roles = parse_lines("actuator.interlock_lines", settings.interlock_lines, DIGITAL_BY_NAME, all_of_them=False)
        self.interlocks = tuple(DIGITAL_BY_NAME[name] for name in roles)
        if missing := [role.name.lower() for role in REQUIRED if role not in self.interlocks]:
            raise SettingsError(f"actuator.interlock_lines: {', '.join(missing)} is missing: no motor runs without it")
        inverse = [name for name in settings.normally_closed if name]
        if unknown := [name for name in inverse if name not in roles]:
            raise SettingsError(f"actuator.normally_closed: {unknown[0]!r} is not known; allowed: {', '.join(roles)}")
        self._silence_s = settings.guard_silence_s
        self._bound_s = settings.longest_run_s + BOUND_MARGIN_S
        if settings.duty_s < self._bound_s:
            raise SettingsError(
                f"actuator.duty_s = {settings.duty_s:g} is not allowed: {self._bound_s:g} or more, the longest run"
            )
        bias = "up" if settings.active_low else "down"
        switch = Input(active_low=settings.active_low, bias=bias, edges=False)
        lines: dict[str, int | str] = dict(roles)
        self._settings: dict[str, Input | Output] = {
            name: Input(active_low=settings.active_low != (name in inverse), bias=bias) for name in roles
        }
        self._gates = tuple(gate.name for gate in settings.gates)
        if BELT in self._gates:
            raise SettingsError(f"actuator: {BELT} is no name for a gate")
        if len(set(self._gates)) < len(self._gates):
            raise SettingsError(f"actuator.second_gate.name: {self._gates[1]} is the name of the first gate too")
        for gate, where in zip(settings.gates, ("actuator", "actuator.second_gate"), strict=False):
            for parameter, names, kinds, line in (
                (f"{where}.motor_lines", gate.motor_lines, MOTOR, Output()),
                (f"{where}.switch_lines", gate.switch_lines, SWITCHES, switch),
            ):
                parsed = parse_lines(parameter, names, kinds, all_of_them=True)
                _add(parameter, lines, {f"{gate.name} {name}": identity for name, identity in parsed.items()})
                self._settings |= {f"{gate.name} {name}": line for name in parsed}
        if settings.watchdog_line:
            watchdog = parse_lines("", [f"{WATCHDOG}={settings.watchdog_line}"], [WATCHDOG], all_of_them=True)
            _add("actuator.watchdog_line", lines, watchdog)
            self._settings[WATCHDOG] = Output()
        self._motors = {f"{gate} {name}": (gate, way) for gate in self._gates for name, way in MOTOR.items()}
        if settings.belt_line:
            belt = parse_lines("", [f"{BELT}={settings.belt_line}"], [BELT], all_of_them=True)
            _add("actuator.belt_line", lines, belt)
            self._settings[BELT] = Output()
            self._motors[BELT] = (BELT, Direction.TO_BIN)
        self._lines = Lines(device, lines)
        self._guard: GuardProcess | None = None
        self._lock = threading.Lock()  # nobody switches while the lines are given back
        self._toggled_s, self._kick = 0.0, False

    @property
    def guard(self) -> GuardProcess | None:
        """The guard while the lines are open."""
        return self._guard

    def open(self) -> None:
        """Request the lines with the motors off and start the guard. Raises DeviceError."""
        self._lines.open(self._settings)
        interlocks = self._lines.mask(role.name.lower() for role in self.interlocks)
        motors = self._lines.mask(self._motors)
        self._guard = GuardProcess(self._lines.fd, motors, interlocks, self._silence_s, self._bound_s)

    def drive(self, directions: Mapping[str, Direction]) -> None:
        """Set all motor lines at once, never both of a motor; the guard is told before or after. Raises DeviceError."""
        values = {line: directions[motor] == way for line, (motor, way) in self._motors.items()}
        with self._lock:
            guard = self._open_guard()
            if any(values.values()):
                guard.arm()
                self._lines.set(values)
                self._toggle(time.monotonic())
            else:
                self._lines.set(values)
                guard.rest()

    def keep(self) -> bool:
        """Tell the guard that all is well; False: it has switched off for an interlock. Raises DeviceError."""
        guard = self._open_guard()
        guard.beat()
        now_s = time.monotonic()
        if now_s - self._toggled_s >= TOGGLE_S:
            self._toggle(now_s)
        return not guard.saw_interlock

    def check(self) -> None:
        """Whether the guard lives. Raises DeviceError."""
        self._open_guard().check()

    def off(self) -> None:
        """All motor lines off, past everything that may be stuck. Raises DeviceError."""
        self._lines.set(dict.fromkeys(self._motors, False))

    def positions(self) -> dict[str, EndSwitch]:
        """The end switch of each gate that is closed. Raises DeviceError."""
        levels = self._lines.levels()
        return {gate: _position([name for name in SWITCHES if levels[f"{gate} {name}"]]) for gate in self._gates}

    def levels(self) -> dict[Role, bool]:
        """The interlocks. Raises DeviceError."""
        levels = self._lines.levels()
        return {role: levels[role.name.lower()] for role in self.interlocks}

    def read_edges(self, timeout_s: float) -> tuple[list[Edge], int]:
        """Edges of the interlocks. Raises DeviceError."""
        edges, lost = self._lines.read_edges(timeout_s)
        return [Edge(DIGITAL_BY_NAME[edge.purpose], edge.active, edge.monotonic_ns) for edge in edges], lost

    def close(self) -> None:
        """Motors off, guard ended, lines given back."""
        with self._lock, contextlib.ExitStack() as steps:
            steps.callback(self._lines.close)
            guard, self._guard = self._guard, None
            if guard:
                steps.callback(guard.stop)
            if self._lines.is_open:
                self.off()

    def _toggle(self, now_s: float) -> None:
        if WATCHDOG in self._settings:
            self._kick, self._toggled_s = not self._kick, now_s
            self._lines.set({WATCHDOG: self._kick})

    def _open_guard(self) -> GuardProcess:
        if self._guard is None:
            raise DeviceError(f"GPIO chip {self._lines.chip} is not open")
        return self._guard


def _position(closed: list[str]) -> EndSwitch:
    if len(closed) > 1:
        return EndSwitch.IMPOSSIBLE
    return SWITCHES[closed[0]] if closed else EndSwitch.BETWEEN


def _add(parameter: str, lines: dict[str, int | str], more: Mapping[str, int | str]) -> None:
    for purpose, identity in more.items():
        twice = next((other for other, taken in lines.items() if taken == identity), "")
        if twice:
            raise SettingsError(f"{parameter}: line {identity} is that of {twice} too")
        lines[purpose] = identity
