"""Between `builtin_interfaces/Time` and nanoseconds since the epoch (ROS time)."""

from builtin_interfaces.msg import Time

NANOSECONDS = 1_000_000_000


def to_message(time_ns: int) -> Time:
    """Nanoseconds to a message."""
    seconds, nanoseconds = divmod(time_ns, NANOSECONDS)
    return Time(sec=seconds, nanosec=nanoseconds)


def to_ns(stamp: Time) -> int:
    """A message to nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec
