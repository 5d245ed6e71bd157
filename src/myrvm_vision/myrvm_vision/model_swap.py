"""`detector/load_model` (myrvm_interfaces/LoadModel): another model takes over between two frames, or the old stays.

It is loaded and proven on a thread of its own while the old one goes on judging. The exchange is on the node's thread
while no frame is looked at; the old model is closed by the worker that used it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from myrvm_core.errors import RvmError
from myrvm_interfaces.srv import LoadModel
from myrvm_ros.managed_node import ManagedNode
from rclpy.task import Future

from myrvm_ros import conversions
from myrvm_vision.engine import Engine
from myrvm_vision.proven_model import ProvenModel
from myrvm_vision.recognizer import Recognizer


class ModelSwap:
    """Serves `detector/load_model` while the node is active.

    Args:
        node: that asks and whose worker looks at frames.
        recognizer: whose model is exchanged.
        exchange: lets another model serve; gives the engine that served before.
        looking: whether a frame is being looked at.
    """

    def __init__(
        self,
        node: ManagedNode[Any],
        recognizer: Recognizer,
        exchange: Callable[[ProvenModel], Engine],
        looking: Callable[[], bool],
    ) -> None:
        self._node, self._recognizer, self._exchange, self._looking = node, recognizer, exchange, looking
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="load_model")
        self._answer: Future | None = None
        self._loading: ThreadFuture[ProvenModel] | None = None
        self._ready: ProvenModel | None = None
        node.service(LoadModel, "detector/load_model", self._ask)
        node.on_release(self._close)  # before the service goes: who waits gets an answer

    def _ask(self, asked: Any, response: Any) -> Any:
        if self._answer is not None:
            return self._response(False, "another model is being loaded: ask again when it has taken over")
        self._answer = Future()
        self._loading = self._pool.submit(self._recognizer.other, asked.model, asked.version)
        self._loading.add_done_callback(lambda _: self._node.call_soon(self._loaded))
        return self._answer

    def _loaded(self) -> None:
        loading, self._loading = self._loading, None
        if loading is None:  # closed meanwhile
            return
        error = loading.exception()
        if error is None:
            self._ready = loading.result()
            if not self._looking():
                self.between_frames()
        else:
            if not isinstance(error, RvmError):
                self._node.log.error("load_model failed", error=repr(error))
            self._finish(False, f"{error}; {self._recognizer.model.name} stays")

    def between_frames(self) -> None:
        """Let the model that is ready serve, if there is one."""
        model, self._ready = self._ready, None
        if model is not None:
            old = self._exchange(model)
            self._node.run_in_worker(old.close)
            self._node.log.info("model exchanged", model=model.info.name, proof=str(model.proof))
            self._finish(True, f"{model.info.name} {model.info.version} serves; {model.proof or 'not proven'}")

    def _finish(self, success: bool, message: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.set_result(self._response(success, message))

    def _response(self, success: bool, message: str) -> Any:
        serving = conversions.model_to_message(self._recognizer.model)
        return LoadModel.Response(success=success, message=message, serving=serving)

    def _close(self) -> None:
        loading, self._loading = self._loading, None
        self._pool.shutdown()
        if loading is not None and loading.exception() is None:
            loading.result().engine.close()
        if self._ready is not None:
            self._ready.engine.close()
        self._finish(False, f"the detector was deactivated; {self._recognizer.model.name} stays")
