"""The QoS profiles of the graph, by the kind of thing that is sent. No node writes its own.

| profile | reliability | durability | depth | for |
|---|---|---|---|---|
| IMAGE | best effort | volatile | 1 | pictures and detections: the newest or nothing |
| STATE | reliable | transient local | 1 | what is so now: a late subscriber gets it at once |
| EVENT | reliable | transient local | 100 | what happened: edges and results, also for a node that was restarted |
| HEARTBEAT | best effort | volatile | 10 | sent again in a second anyway; depth for all nodes at once |
| DIAGNOSTICS | reliable | volatile | 10 | /diagnostics, as rqt and diagnostic_aggregator expect it |
"""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

IMAGE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
STATE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
EVENT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
HEARTBEAT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
DIAGNOSTICS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
