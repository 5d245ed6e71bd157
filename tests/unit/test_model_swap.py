"""The exchange of models, without ROS: when it happens, what is closed, who gets which answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from myrvm_core.errors import ModelError
from myrvm_core.rules import Decision
from myrvm_core.verdict import ModelInfo, Reason
from myrvm_core.voting import Ballot, Vote
from myrvm_vision.calibration import Calibration
from myrvm_vision.classification import Request
from myrvm_vision.golden import Proof
from myrvm_vision.model_swap import ModelSwap
from myrvm_vision.proven_model import ProvenModel
from rclpy.task import Future

LIMIT_S = 10.0


class Engine:
    """A stand-in for an engine that remembers whether it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Machine:
    """A stand-in for the node and its recognizer. What a thread asks for runs when `run_pending` is called."""

    def __init__(self) -> None:
        self.model, self.engine = ModelInfo("old", "1"), Engine()
        self.looking = False
        self.pending: list[Callable[[], None]] = []
        self.asked = threading.Event()
        self.release: Callable[[], None] = lambda: None
        self.loads: dict[str, Callable[[], ProvenModel]] = {}
        self.log = SimpleNamespace(info=lambda *_, **__: None, error=lambda *_, **__: None)
        node, recognizer = cast(Any, self), cast(Any, self)
        self.swap = ModelSwap(node, recognizer, self.exchange, lambda: self.looking)

    def service(self, kind: Any, name: str, callback: Any) -> None:
        assert name == "detector/load_model"
        self.callback = callback

    def on_release(self, release: Callable[[], None]) -> None:
        self.release = release

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.pending.append(callback)
        self.asked.set()

    def run_in_worker(self, function: Callable[[], None]) -> None:
        function()

    def other(self, name: str, version: str) -> ProvenModel:
        return self.loads[name]()

    def exchange(self, model: ProvenModel) -> Any:
        before, self.engine = self.engine, cast(Any, model.engine)
        self.model = model.info
        return before

    def ask(self, name: str) -> Any:
        self.asked.clear()
        return self.callback(SimpleNamespace(model=name, version=""), None)

    def run_pending(self) -> None:
        assert self.asked.wait(LIMIT_S)
        while self.pending:
            self.pending.pop(0)()


@pytest.fixture
def machine() -> Machine:
    return Machine()


def proven(name: str, engine: Engine) -> ProvenModel:
    return ProvenModel(cast(Any, engine), ModelInfo(name, "2"), Calibration(), Proof(8, 9, 0.1))


def test_a_model_takes_over_and_the_old_one_is_closed(machine: Machine) -> None:
    old, new = machine.engine, Engine()
    machine.loads["new"] = lambda: proven("new", new)
    answer = machine.ask("new")
    machine.run_pending()
    result = answer.result()
    assert (result.success, result.serving.name) == (True, "new")
    assert result.message == "new 2 serves; 9 boxes in 8 golden pictures, 0.10 s"
    assert (machine.engine, old.closed, new.closed) == (new, 1, 0)


def test_a_frame_that_is_looked_at_is_looked_at_by_one_model(machine: Machine) -> None:
    old, new = machine.engine, Engine()
    machine.loads["new"] = lambda: proven("new", new)
    machine.looking = True
    answer = machine.ask("new")
    machine.run_pending()
    assert (machine.engine, old.closed, answer.done()) == (old, 0, False)
    refused = machine.ask("new")
    assert not refused.success
    assert "another model is being loaded" in refused.message
    machine.looking = False
    machine.swap.between_frames()
    machine.swap.between_frames()
    assert (machine.engine, old.closed, answer.result().success) == (new, 1, True)


@pytest.mark.parametrize("error", [ModelError("bad.onnx is no model"), RuntimeError("a defect")])
def test_one_that_cannot_be_loaded_changes_nothing(error: Exception, machine: Machine) -> None:
    def fail() -> ProvenModel:
        raise error

    old = machine.engine
    machine.loads["bad"] = fail
    answer = machine.ask("bad")
    machine.run_pending()
    assert (answer.result().success, answer.result().message) == (False, f"{error}; old stays")
    assert (machine.engine, old.closed) == (old, 0)
    machine.loads["new"] = lambda: proven("new", Engine())
    later = machine.ask("new")
    machine.run_pending()
    assert later.result().success


def test_deactivated_while_a_model_is_loaded(machine: Machine) -> None:
    new, begun, go_on = Engine(), threading.Event(), threading.Event()

    def slowly() -> ProvenModel:
        begun.set()
        assert go_on.wait(LIMIT_S)
        return proven("new", new)

    machine.loads["new"] = slowly
    answer = machine.ask("new")
    assert begun.wait(LIMIT_S)
    go_on.set()
    machine.release()
    machine.run_pending()
    assert answer.result().message == "the detector was deactivated; old stays"
    assert (machine.model.name, new.closed) == ("old", 1)


def test_deactivated_between_loading_and_taking_over(machine: Machine) -> None:
    new = Engine()
    machine.loads["new"] = lambda: proven("new", new)
    machine.looking = True
    answer = machine.ask("new")
    machine.run_pending()
    machine.release()
    assert not answer.result().success
    assert (machine.model.name, new.closed) == ("old", 1)


def test_an_open_vote_begins_anew_and_no_frame_votes_twice() -> None:
    request = Request(arrived_ns=5, vote=Vote(3), answer=Future(), begun_s=0.0)
    look = cast(Any, SimpleNamespace(ballot=Ballot(6, Decision(Reason.NOT_EMPTY), 0.0, 0.0, 0.0)))
    request.last_ns = 6
    request.add("frame", look)
    request.restart(3)
    assert (request.vote.verdict(ModelInfo(), 0.0, 0.0).votes_total, request.voted) == (0, [])
    assert not request.wants(6)
    assert request.wants(7)
    request.add("frame", look)
    request.closed = True  # its verdict is being examined: that stays
    request.restart(3)
    assert len(request.voted) == 1
