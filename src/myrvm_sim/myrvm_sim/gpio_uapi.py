"""What passes between a program and a GPIO chip: the kernel's character device, uAPI v2, and v1 for older programs.

Names and layouts as in `include/uapi/linux/gpio.h` (Linux 6.1), without the prefixes GPIO_ and GPIO_V2_.
"""

from __future__ import annotations

from ctypes import Structure, c_char, c_int32, c_uint8, c_uint32, c_uint64, sizeof

MAX_NAME_SIZE = 32
LINES_MAX = 64
LINE_NUM_ATTRS_MAX = 10

# Flags of a line

USED = 1 << 0
ACTIVE_LOW = 1 << 1
INPUT = 1 << 2
OUTPUT = 1 << 3
EDGE_RISING = 1 << 4
EDGE_FALLING = 1 << 5
OPEN_DRAIN = 1 << 6
OPEN_SOURCE = 1 << 7
BIAS_PULL_UP = 1 << 8
BIAS_PULL_DOWN = 1 << 9
BIAS_DISABLED = 1 << 10
EVENT_CLOCK_REALTIME = 1 << 11
EVENT_CLOCK_HTE = 1 << 12

DIRECTIONS = INPUT | OUTPUT
EDGES = EDGE_RISING | EDGE_FALLING
DRIVES = OPEN_DRAIN | OPEN_SOURCE
BIASES = BIAS_PULL_UP | BIAS_PULL_DOWN | BIAS_DISABLED
CLOCKS = EVENT_CLOCK_REALTIME | EVENT_CLOCK_HTE
VALID = ACTIVE_LOW | DIRECTIONS | EDGES | DRIVES | BIASES | CLOCKS

ATTR_FLAGS, ATTR_OUTPUT_VALUES, ATTR_DEBOUNCE = 1, 2, 3
EVENT_RISING_EDGE, EVENT_FALLING_EDGE = 1, 2
CHANGED_REQUESTED, CHANGED_RELEASED, CHANGED_CONFIG = 1, 2, 3


class ChipInfo(Structure):
    """struct gpiochip_info."""

    _fields_ = [("name", c_char * MAX_NAME_SIZE), ("label", c_char * MAX_NAME_SIZE), ("lines", c_uint32)]


class LineValues(Structure):
    """struct gpio_v2_line_values."""

    _fields_ = [("bits", c_uint64), ("mask", c_uint64)]


class LineAttribute(Structure):
    """struct gpio_v2_line_attribute; `value` stands for the union of flags, values and debounce_period_us."""

    _fields_ = [("id", c_uint32), ("padding", c_uint32), ("value", c_uint64)]


class LineConfigAttribute(Structure):
    """struct gpio_v2_line_config_attribute."""

    _fields_ = [("attr", LineAttribute), ("mask", c_uint64)]


class LineConfig(Structure):
    """struct gpio_v2_line_config."""

    _fields_ = [
        ("flags", c_uint64),
        ("num_attrs", c_uint32),
        ("padding", c_uint32 * 5),
        ("attrs", LineConfigAttribute * LINE_NUM_ATTRS_MAX),
    ]


class LineRequest(Structure):
    """struct gpio_v2_line_request."""

    _fields_ = [
        ("offsets", c_uint32 * LINES_MAX),
        ("consumer", c_char * MAX_NAME_SIZE),
        ("config", LineConfig),
        ("num_lines", c_uint32),
        ("event_buffer_size", c_uint32),
        ("padding", c_uint32 * 5),
        ("fd", c_int32),
    ]


class LineInfo(Structure):
    """struct gpio_v2_line_info."""

    _fields_ = [
        ("name", c_char * MAX_NAME_SIZE),
        ("consumer", c_char * MAX_NAME_SIZE),
        ("offset", c_uint32),
        ("num_attrs", c_uint32),
        ("flags", c_uint64),
        ("attrs", LineAttribute * LINE_NUM_ATTRS_MAX),
        ("padding", c_uint32 * 4),
    ]


class LineInfoChanged(Structure):
    """struct gpio_v2_line_info_changed."""

    _fields_ = [
        ("info", LineInfo),
        ("timestamp_ns", c_uint64),
        ("event_type", c_uint32),
        ("padding", c_uint32 * 5),
    ]


class LineEvent(Structure):
    """struct gpio_v2_line_event."""

    _fields_ = [
        ("timestamp_ns", c_uint64),
        ("id", c_uint32),
        ("offset", c_uint32),
        ("seqno", c_uint32),
        ("line_seqno", c_uint32),
        ("padding", c_uint32 * 6),
    ]


# Version 1

V1_HANDLES_MAX = 64
V1_REQUEST = {  # flag of a request in version 1: in version 2
    1 << 0: INPUT,
    1 << 1: OUTPUT,
    1 << 2: ACTIVE_LOW,
    1 << 3: OPEN_DRAIN,
    1 << 4: OPEN_SOURCE,
    1 << 5: BIAS_PULL_UP,
    1 << 6: BIAS_PULL_DOWN,
    1 << 7: BIAS_DISABLED,
}
V1_INFO = {  # flag of a line in version 2: in the line info of version 1
    USED: 1 << 0,
    OUTPUT: 1 << 1,
    ACTIVE_LOW: 1 << 2,
    OPEN_DRAIN: 1 << 3,
    OPEN_SOURCE: 1 << 4,
    BIAS_PULL_UP: 1 << 5,
    BIAS_PULL_DOWN: 1 << 6,
    BIAS_DISABLED: 1 << 7,
}
V1_EDGES = {1 << 0: EDGE_RISING, 1 << 1: EDGE_FALLING}


class V1LineInfo(Structure):
    """struct gpioline_info."""

    _fields_ = [
        ("offset", c_uint32),
        ("flags", c_uint32),
        ("name", c_char * MAX_NAME_SIZE),
        ("consumer", c_char * MAX_NAME_SIZE),
    ]


class V1LineInfoChanged(Structure):
    """struct gpioline_info_changed."""

    _fields_ = [
        ("info", V1LineInfo),
        ("timestamp", c_uint64),
        ("event_type", c_uint32),
        ("padding", c_uint32 * 5),
    ]


class V1HandleRequest(Structure):
    """struct gpiohandle_request."""

    _fields_ = [
        ("lineoffsets", c_uint32 * V1_HANDLES_MAX),
        ("flags", c_uint32),
        ("default_values", c_uint8 * V1_HANDLES_MAX),
        ("consumer_label", c_char * MAX_NAME_SIZE),
        ("lines", c_uint32),
        ("fd", c_int32),
    ]


class V1HandleConfig(Structure):
    """struct gpiohandle_config."""

    _fields_ = [("flags", c_uint32), ("default_values", c_uint8 * V1_HANDLES_MAX), ("padding", c_uint32 * 4)]


class V1HandleData(Structure):
    """struct gpiohandle_data."""

    _fields_ = [("values", c_uint8 * V1_HANDLES_MAX)]


class V1EventRequest(Structure):
    """struct gpioevent_request."""

    _fields_ = [
        ("lineoffset", c_uint32),
        ("handleflags", c_uint32),
        ("eventflags", c_uint32),
        ("consumer_label", c_char * MAX_NAME_SIZE),
        ("fd", c_int32),
    ]


class V1EventData(Structure):
    """struct gpioevent_data."""

    _fields_ = [("timestamp", c_uint64), ("id", c_uint32)]


# Requests: _IOWR(0xB4, number, type), include/uapi/asm-generic/ioctl.h


def _ioctl(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | 0xB4 << 8 | number


def _iowr(number: int, structure: type[Structure]) -> int:
    return _ioctl(3, number, sizeof(structure))


GET_CHIPINFO = _ioctl(2, 0x01, sizeof(ChipInfo))
GET_LINEINFO_UNWATCH = _ioctl(3, 0x0C, 4)
GET_LINEINFO = _iowr(0x05, LineInfo)
GET_LINEINFO_WATCH = _iowr(0x06, LineInfo)
GET_LINE = _iowr(0x07, LineRequest)
LINE_SET_CONFIG = _iowr(0x0D, LineConfig)
LINE_GET_VALUES = _iowr(0x0E, LineValues)
LINE_SET_VALUES = _iowr(0x0F, LineValues)
V1_GET_LINEINFO = _iowr(0x02, V1LineInfo)
V1_GET_LINEHANDLE = _iowr(0x03, V1HandleRequest)
V1_GET_LINEEVENT = _iowr(0x04, V1EventRequest)
V1_GET_LINE_VALUES = _iowr(0x08, V1HandleData)
V1_SET_LINE_VALUES = _iowr(0x09, V1HandleData)
V1_SET_CONFIG = _iowr(0x0A, V1HandleConfig)
V1_GET_LINEINFO_WATCH = _iowr(0x0B, V1LineInfo)
