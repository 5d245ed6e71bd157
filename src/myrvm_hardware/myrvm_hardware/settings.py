"""Settings of the camera, sensor and actuator nodes. Free of ROS, so that `rvm check` can read them."""

from __future__ import annotations

from myrvm_core.settings import Settings, setting


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


class SensorSettings(Settings):
    """All sensors of the cabinet."""

    driver: str = setting("gpiod", "Name of the driver, registered in myrvm.sensor_drivers.")
    device: str = setting(
        "/dev/gpiochip0", "Where the sensors are, in the driver's words: a GPIO chip.", env="GPIO_CHIP"
    )
    lines: list[str] = setting(
        ["entry=0", "drop=1", "door=2", "bin_full=3", "hand=4", "emergency=5"],
        "Input lines as role=line, a line by name or offset; roles: entry, drop, door, bin_full, hand, emergency.",
        env="SENSOR_GPIO_LINES",
    )
    active_low: bool = setting(True, "A sensor pulls its line down when it is active; the lines are pulled up.")
    debounce_s: list[float] = setting(
        [0.005],
        "An edge counts once the level has held so long: one value for all, or one for each of entry, drop, door, "
        "bin_full, hand, emergency.",
        unit="s",
    )
    measure_period_s: float = setting(
        0.5, "Time between samples of the weight; the state is sent as often.", unit="s", minimum=0.05, maximum=1.0
    )
    reopen_first_s: float = setting(
        0.2, "Longest wait before the first try to open again.", unit="s", minimum=0.01, maximum=60.0
    )
    reopen_longest_s: float = setting(
        5.0, "Longest wait before any try to open again.", unit="s", minimum=0.01, maximum=300.0
    )


class ActuatorSettings(Settings):
    """The gate."""

    driver: str = setting("gpiod", "Name of the driver, registered in myrvm.gate_drivers.")
    device: str = setting("/dev/gpiochip0", "Where the gate is, in the driver's words: a GPIO chip.", env="GPIO_CHIP")
    motor_lines: list[str] = setting(
        ["to_bin=6", "to_customer=7"], "Output lines of the motor as direction=line.", env="MOTOR_GPIO_LINES"
    )
    switch_lines: list[str] = setting(
        ["closed=8", "bin=9", "customer=10"], "Input lines of the end switches as position=line."
    )
    active_low: bool = setting(True, "A closed end switch pulls its line down; the lines are pulled up.")
    travel_limit_s: float = setting(
        3.0, "Longest time that the motor runs in one movement.", unit="s", minimum=0.1, maximum=30.0
    )
    dead_time_s: float = setting(0.2, "Rest between the two directions.", unit="s", minimum=0.0, maximum=5.0)
    dwell_s: float = setting(0.4, "How long the gate stays open to the bin.", unit="s", minimum=0.0, maximum=30.0)
    return_open_s: float = setting(
        4.0, "How long the gate stays open to the customer.", unit="s", minimum=0.0, maximum=120.0
    )
    back_off_s: float = setting(
        0.3, "How long the motor runs back from a jam before the retry.", unit="s", minimum=0.0, maximum=5.0
    )
    hand_limit_s: float = setting(
        30.0, "How long an open gate waits for a hand to go before it gives up.", unit="s", minimum=0.0, maximum=300.0
    )
    interlock_roles: list[str] = setting(
        ["door", "hand", "emergency"], "Sensors that must be known and inactive for the gate to move."
    )
    interlock_stale_s: float = setting(
        2.0, "The gate stops when the state of the sensors is older than this.", unit="s", minimum=0.2, maximum=30.0
    )
    poll_period_s: float = setting(
        0.005, "Time between looks at the end switches while the gate moves.", unit="s", minimum=0.001, maximum=0.1
    )
    reopen_first_s: float = setting(
        0.2, "Longest wait before the first try to open again.", unit="s", minimum=0.01, maximum=60.0
    )
    reopen_longest_s: float = setting(
        5.0, "Longest wait before any try to open again.", unit="s", minimum=0.01, maximum=300.0
    )
