"""ROS services as asyncio code in another thread asks them."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

from myrvm_ros.managed_node import ManagedNode

from myrvm_cloud.time_limit import within

SLACK_S = 5.0  # the node's thread answers or gives up within the time-out; longer, and it is not there any more

Done = Callable[[Any], None]


async def answer_of(
    node: ManagedNode[Any], call: Callable[[Done], object], timeout_s: float, late: Done = lambda response: None
) -> Any | None:
    """The response, or None where there was none in time.

    Args:
        node: calls, in its own thread, while it is active.
        call: calls with the `done` that it is given, such as a partial `ManagedNode.call`.
        timeout_s: after which `call` gives up, s.
        late: gets, in the node's thread, the response that came when nobody waited for it any more.
    """
    answer: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def done(response: Any) -> None:
        if answer.set_running_or_notify_cancel():
            answer.set_result(response)
        elif response is not None:
            late(response)

    def begin() -> None:
        if node.active and not answer.cancelled():
            call(done)
        else:
            done(None)

    node.call_soon(begin)
    try:
        return await within(timeout_s + SLACK_S, asyncio.wrap_future(answer))
    except asyncio.TimeoutError:
        return None
