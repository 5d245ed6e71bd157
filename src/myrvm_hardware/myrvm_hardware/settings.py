"""Settings of the camera, sensor and actuator nodes. Free of ROS, so that `rvm check` can read them."""

from __future__ import annotations

from myrvm_core.settings import Settings, setting
from pydantic import field_validator, model_validator

from myrvm_hardware.drivers import DIGITAL, Role


class CameraSettings(Settings):
    """One camera."""

    driver: str = setting("v4l2", "Name of the driver, registered in myrvm.camera_drivers.")
    device: str = setting(
        "/dev/video0", "Where the camera is, in the driver's words: a path, sensor number, URL, folder."
    )
    width_px: int = setting(640, "Width asked of a v4l2 or csi camera.", unit="px", minimum=16, maximum=8192)
    height_px: int = setting(480, "Height asked of a v4l2 or csi camera.", unit="px", minimum=16, maximum=8192)
    pixel_format: str = setting(
        "MJPG", "Four-character code asked of a v4l2 camera; empty: as it is.", pattern="^(.{4})?$"
    )
    frame_rate_hz: float = setting(15.0, "Pictures handed on, at most.", unit="Hz", minimum=0.1, maximum=120.0)
    loop: bool = setting(True, "Start a video file again at its end.")
    frame_id: str = setting("camera", "Coordinate frame in the messages' headers.")
    calibration_file: str = setting("", "Calibration in ROS's camera_info YAML; empty: no camera_info is sent.")
    jpeg_quality: int = setting(80, "Quality of the compressed pictures.", minimum=1, maximum=100)
    usb_reset_after: int = setting(
        0,
        "Take a USB camera off its bus and put it back after so many failures in a row; 0: never.",
        minimum=0,
        maximum=1000,
    )
    sysfs_root: str = setting("/sys", "Where a USB camera is looked for.", env="MYRVM_SYSFS")
    identical_frames: int = setting(
        30,
        "Open the camera again after so many identical pictures in a row (a real sensor has noise); 0: never.",
        minimum=0,
        maximum=10_000,
    )
    black_frames: int = setting(
        30, "Open the camera again after so many black pictures in a row; 0: never.", minimum=0, maximum=10_000
    )
    black_level: float = setting(2.0, "A picture whose mean is not above this is black.", minimum=0.0, maximum=255.0)
    lost_after_s: float = setting(
        2.0, "Without a picture for so long, the node reports an error.", unit="s", minimum=0.1, maximum=60.0
    )
    reopen_first_s: float = setting(
        0.2, "Longest wait before the first try to open again.", unit="s", minimum=0.01, maximum=60.0
    )
    reopen_longest_s: float = setting(
        5.0, "Longest wait before any try to open again.", unit="s", minimum=0.01, maximum=300.0
    )


class DebounceSettings(Settings):
    """How long the level of each digital sensor must hold before an edge counts; 0: it counts at once."""

    entry_s: float = setting(0.02, "An item in the chamber.", unit="s", minimum=0.0, maximum=1.0)
    drop_s: float = setting(0.003, "An item falling into the bin.", unit="s", minimum=0.0, maximum=1.0)
    bin_full_s: float = setting(0.2, "The bin is full.", unit="s", minimum=0.0, maximum=1.0)
    door_s: float = setting(0.02, "The service door.", unit="s", minimum=0.0, maximum=1.0)
    hand_s: float = setting(0.0, "A hand in the gate.", unit="s", minimum=0.0, maximum=1.0)
    emergency_s: float = setting(0.0, "The emergency stop.", unit="s", minimum=0.0, maximum=1.0)
    power_fail_s: float = setting(0.0, "The power-fail line.", unit="s", minimum=0.0, maximum=1.0)
    on_battery_s: float = setting(0.05, "A line that says: on battery.", unit="s", minimum=0.0, maximum=1.0)
    battery_low_s: float = setting(0.05, "A line that says: battery low.", unit="s", minimum=0.0, maximum=1.0)


def hold_s(debounce: DebounceSettings) -> dict[Role, float]:
    """The debounce time of each digital role."""
    return {role: float(getattr(debounce, f"{role.name.lower()}_s")) for role in DIGITAL}


class SourceSettings(Settings):
    """What every source of an analogue reading has."""

    driver: str = setting("", "Name of the driver, registered in myrvm.analog_drivers; empty: there is none.")
    device: str = setting("", "Where it is, in the driver's words.")
    period_s: float = setting(0.5, "Time between two samples.", unit="s", minimum=0.02, maximum=3600.0)
    stale_after_s: float = setting(
        5.0, "Without a good sample for so long, the reading is unknown.", unit="s", minimum=0.1, maximum=7200.0
    )


class AnalogSettings(SourceSettings):
    """One analogue sensor: (raw - offset) * scale - tare, then what is not plausible is refused."""

    channel: str = setting("", "Channel of the device: of iio such as in_voltage0, of hx711 A128, B32 or A64.")
    data_line: str = setting("", "Data line of an hx711, by name or offset; the device is its GPIO chip.")
    clock_line: str = setting("", "Clock line of an hx711.")
    clock_high_us: float = setting(
        60.0,
        "A sample of an hx711 whose clock was high for longer does not count.",
        unit="us",
        minimum=1.0,
        maximum=1e6,
    )
    offset: float = setting(0.0, "Raw reading that means zero.")
    scale: float = setting(1.0, "SI units for one raw unit; not 0.")
    tare: float = setting(0.0, "SI units taken off: what is always there.")
    minimum: float = setting(-1e9, "A smaller value is refused.")
    maximum: float = setting(1e9, "A larger value is refused.")
    median: int = setting(3, "The value is the median of so many samples.", minimum=1, maximum=31)
    largest_rate: float = setting(
        0.0, "A faster change of the value, in units a second, is refused until it has stood; 0: any.", minimum=0.0
    )

    @field_validator("scale")
    @classmethod
    def _scale_is_not_zero(cls, scale: float) -> float:
        if scale == 0.0:
            raise ValueError("it must not be zero: calibrate the sensor, see docs/hardware.md")
        return scale

    @model_validator(mode="after")
    def _range_is_one(self) -> AnalogSettings:
        if self.minimum >= self.maximum:
            raise ValueError(f"minimum {self.minimum:g} must be below maximum {self.maximum:g}")
        return self


class WeightSettings(AnalogSettings):
    """The scale under the chamber, kg. A little below zero is noise and shown as 0."""

    minimum: float = setting(-0.05, "A smaller weight is refused.", unit="kg")
    maximum: float = setting(20.0, "A larger weight is refused.", unit="kg")


class BinLevelSettings(AnalogSettings):
    """A distance sensor above the bin, m, shown as how full the bin is, 0 .. 1."""

    period_s: float = setting(2.0, "Time between two samples.", unit="s", minimum=0.02, maximum=3600.0)
    stale_after_s: float = setting(
        30.0, "Without a good sample for so long, the reading is unknown.", unit="s", minimum=0.1, maximum=7200.0
    )
    minimum: float = setting(0.01, "A shorter distance is refused.", unit="m")
    maximum: float = setting(4.0, "A longer distance is refused.", unit="m")
    empty_m: float = setting(0.8, "Distance to the floor of the empty bin.", unit="m", minimum=0.0, maximum=10.0)
    full_m: float = setting(0.1, "Distance to the items in a full bin.", unit="m", minimum=0.0, maximum=10.0)

    @model_validator(mode="after")
    def _empty_is_further(self) -> BinLevelSettings:
        if self.empty_m <= self.full_m:
            raise ValueError(f"empty_m {self.empty_m:g} must be above full_m {self.full_m:g}")
        return self


class MotorCurrentSettings(AnalogSettings):
    """The current through the gate's motor, A."""

    period_s: float = setting(0.1, "Time between two samples.", unit="s", minimum=0.02, maximum=3600.0)
    minimum: float = setting(-0.2, "A smaller current is refused.", unit="A")
    maximum: float = setting(50.0, "A larger current is refused.", unit="A")
    median: int = setting(1, "The value is the median of so many samples.", minimum=1, maximum=31)


class PowerSettings(SourceSettings):
    """Mains and battery: on battery, its charge 0 .. 1, nearly empty."""

    period_s: float = setting(1.0, "Time between two samples.", unit="s", minimum=0.02, maximum=3600.0)
    stale_after_s: float = setting(
        10.0, "Without a good sample for so long, the reading is unknown.", unit="s", minimum=0.1, maximum=7200.0
    )
    low_charge: float = setting(0.15, "The battery is low at or below this charge.", minimum=0.0, maximum=1.0)


class SensorSettings(Settings):
    """All sensors of the cabinet."""

    driver: str = setting("gpiod", "Name of the driver, registered in myrvm.sensor_drivers.")
    device: str = setting(
        "/dev/gpiochip0",
        "Where the digital sensors are, in the driver's words: a GPIO chip by path, name or label.",
        env="GPIO_CHIP",
    )
    lines: list[str] = setting(
        ["entry=0", "drop=1", "bin_full=2"],
        "Input lines as role=line, a line by name or offset; roles: entry, drop, bin_full, door, hand, emergency, "
        "power_fail, on_battery, battery_low.",
        env="SENSOR_GPIO_LINES",
    )
    active_low: bool = setting(True, "A sensor pulls its line down when it is active; the lines are pulled up.")
    bias: str = setting(
        "auto",
        "Pull of the lines: auto (against the active level), up, down, none, as_is.",
        pattern="^(auto|up|down|none|as_is)$",
    )
    debounce: DebounceSettings = setting(DebounceSettings(), "Debounce times.")
    kernel_debounce: bool = setting(
        True, "Let the kernel debounce the lines where it can; a sensor that chatters is then not noticed."
    )
    chatter_hz: float = setting(
        200.0,
        "A sensor with more edges a second is faulty: its level is unknown until it is quiet.",
        unit="Hz",
        minimum=10.0,
        maximum=10_000.0,
    )
    stuck_after_s: float = setting(
        600.0,
        "Entry, drop or hand active for longer is reported as stuck or blocked.",
        unit="s",
        minimum=1.0,
        maximum=86_400.0,
    )
    weight: WeightSettings = setting(WeightSettings(), "The scale.")
    bin_level: BinLevelSettings = setting(BinLevelSettings(), "The bin's fill level.")
    motor_current: MotorCurrentSettings = setting(MotorCurrentSettings(), "The motor's current.")
    power: PowerSettings = setting(PowerSettings(), "The supply and its battery.")
    sysfs_root: str = setting("/sys", "Where the kernel's sysfs is mounted.", env="MYRVM_SYSFS")
    interlock_roles: list[str] = setting(
        ["door", "hand", "emergency", "power_fail"],
        "Sensors that the actuator watches and reports on actuator/interlocks; unknown while it does not.",
    )
    interlock_stale_s: float = setting(
        2.0, "Interlocks that are older are unknown.", unit="s", minimum=0.2, maximum=30.0
    )
    report_period_s: float = setting(
        0.5, "The state is sent at each change and so often at least.", unit="s", minimum=0.05, maximum=1.0
    )
    reopen_first_s: float = setting(
        0.2, "Longest wait before the first try to open again.", unit="s", minimum=0.01, maximum=60.0
    )
    reopen_longest_s: float = setting(
        5.0, "Longest wait before any try to open again.", unit="s", minimum=0.01, maximum=300.0
    )


class OutputSettings(Settings):
    """Lamps, lock and buzzer: named outputs. light_ring, status_lamp, buzzer and door_lock switch by themselves."""

    device: str = setting("", "GPIO chip of the lines; empty: that of the gate.")
    lines: list[str] = setting([], "Output lines as name=line, a line by name or offset.")
    active_low: list[str] = setting([], "Names of the outputs whose line is low while they are on.")
    safe_on: list[str] = setting(
        [], "Names of the outputs that are on while nobody drives them, and after a fault; all others are off."
    )
    light_limit_s: float = setting(
        20.0, "The light ring is on for one item at most so long.", unit="s", minimum=0.1, maximum=600.0
    )


class GateSettings(Settings):
    """One gate: its motor, its end switches and its times."""

    name: str = setting("gate", "Name of the gate in commands and states.", pattern="^[a-z][a-z0-9_]*$")
    motor_lines: list[str] = setting(
        ["to_bin=6", "to_customer=7"], "Output lines of the motor as direction=line.", env="MOTOR_GPIO_LINES"
    )
    switch_lines: list[str] = setting(
        ["closed=8", "bin=9", "customer=10"], "Input lines of the end switches as position=line."
    )
    travel_limit_s: float = setting(
        3.0, "Longest time that the motor runs in one movement.", unit="s", minimum=0.1, maximum=30.0
    )
    dwell_s: float = setting(
        0.4, "How long the gate stays open to the bin, at most.", unit="s", minimum=0.0, maximum=30.0
    )
    emptied_s: float = setting(
        0.0,
        "It closes so long after the entry sensor has seen the item go, while that falls; 0: open for dwell_s.",
        unit="s",
        minimum=0.0,
        maximum=30.0,
    )
    return_open_s: float = setting(
        4.0, "How long the gate stays open to the customer.", unit="s", minimum=0.0, maximum=120.0
    )
    back_off_s: float = setting(
        0.3, "How long the motor runs back from a jam before the retry.", unit="s", minimum=0.0, maximum=5.0
    )
    hand_limit_s: float = setting(
        30.0, "How long an open gate waits for a hand to go before it gives up.", unit="s", minimum=0.0, maximum=300.0
    )
    current_limit_a: float = setting(
        0.0,
        "More current through the motor (sensor motor_current) is a jam; 0: only the end switches tell.",
        unit="A",
        minimum=0.0,
        maximum=100.0,
    )
    current_time_s: float = setting(
        0.3, "For so long; a motor that starts draws more.", unit="s", minimum=0.0, maximum=10.0
    )


class SecondGateSettings(GateSettings):
    """Another gate on the same chip; without a name there is none. Never are both open."""

    name: str = setting("", "Name of the second gate; empty: there is none.", pattern="^([a-z][a-z0-9_]*)?$")
    motor_lines: list[str] = setting([""], "Output lines of the motor as direction=line.")
    switch_lines: list[str] = setting([""], "Input lines of the end switches as position=line.")


class ActuatorSettings(GateSettings):
    """The gates, what keeps them from hurting anybody, and the cabinet's outputs."""

    driver: str = setting("gpiod", "Name of the driver, registered in myrvm.gate_drivers.")
    device: str = setting(
        "/dev/gpiochip0",
        "Where the gates are, in the driver's words: a GPIO chip by path, name or label.",
        env="GPIO_CHIP",
    )
    second_gate: SecondGateSettings = setting(SecondGateSettings(), "Another gate.")
    active_low: bool = setting(True, "A closed switch or an interlock pulls its line down; the lines are pulled up.")
    interlock_lines: list[str] = setting(
        ["door=3", "hand=4", "emergency=5", "power_fail=11"],
        "Inputs that stop the motors, as role=line; door, hand and emergency must be there, others may.",
        env="INTERLOCK_GPIO_LINES",
    )
    normally_closed: list[str] = setting(
        [""], "Interlocks whose switch opens when they are active, so that a broken wire stops the motor too."
    )
    interlock_clear_s: float = setting(
        0.05, "An interlock counts as active until it has been clear for so long.", unit="s", minimum=0.0, maximum=5.0
    )
    interlock_stale_s: float = setting(
        2.0, "The motor stops when nobody has looked at the interlocks for so long.", unit="s", minimum=0.3, maximum=5.0
    )
    dead_time_s: float = setting(0.2, "Rest between the two directions.", unit="s", minimum=0.0, maximum=5.0)
    duty_s: float = setting(
        45.0, "Longest that a motor runs in all within duty_window_s.", unit="s", minimum=0.1, maximum=3600.0
    )
    duty_window_s: float = setting(60.0, "See duty_s.", unit="s", minimum=1.0, maximum=3600.0)
    guard_silence_s: float = setting(
        0.2,
        "The motor guard switches the motor off when its control is silent for so long.",
        unit="s",
        minimum=0.05,
        maximum=5.0,
    )
    belt_line: str = setting(
        "", "Output line of a conveyor that runs while a gate is open to the bin; empty: there is none."
    )
    watchdog_line: str = setting(
        "", "Output line that is toggled while a motor runs, for a monostable in the motor's supply; empty: none."
    )
    poll_period_s: float = setting(
        0.005, "Time between looks at the end switches while a gate moves.", unit="s", minimum=0.001, maximum=0.1
    )
    wear_period_s: float = setting(
        60.0, "Counts of cycles and run time are written to disk so often.", unit="s", minimum=1.0, maximum=86_400.0
    )
    outputs: OutputSettings = setting(OutputSettings(), "Lamps, lock and buzzer.")
    reopen_first_s: float = setting(
        0.2, "Longest wait before the first try to open again.", unit="s", minimum=0.01, maximum=60.0
    )
    reopen_longest_s: float = setting(
        5.0, "Longest wait before any try to open again.", unit="s", minimum=0.01, maximum=300.0
    )

    @property
    def gates(self) -> tuple[GateSettings, ...]:
        """The gates that there are."""
        return (self, self.second_gate) if self.second_gate.name else (self,)

    @property
    def longest_run_s(self) -> float:
        """Longest time that any motor may run at a stretch."""
        belt_s = [gate.dwell_s for gate in self.gates] if self.belt_line else []
        return max([gate.travel_limit_s for gate in self.gates] + belt_s)
