"""What the lifecycle manager decides, without I/O: facts and the time go in, what to do comes out.

Level-based: each node has a target state; at each `decide(now_s)` the next step towards it is returned for every node
whose turn it is. Facts are heartbeats, answers to transitions, the end of a process, and looks at a silent process.
Times are seconds of one monotonic clock; `*_ns` are ROS time.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from myrvm_core.errors import SettingsError
from myrvm_core.graph import Graph, NodeDescription
from myrvm_core.machine_mode import Mode

from myrvm_system.policy import Cause, LimitLevel
from myrvm_system.settings import ManagerSettings

BEAT_S = 1.0  # between two heartbeats of a node
SUSPECT_S = 1.5 * BEAT_S  # silence after which a process is looked at
PROBE_PERIOD_S = 0.5
STOPPED_LOOKS = 2  # in a row, then a process that is stopped (SIGSTOP) is replaced, however short its silence
IDLE_LOOKS = 3  # in a row, longer than a heartbeat: its main thread does not run although it is due
UNHEARD_BEATS = 3  # heartbeats of an unchanged state after a request before the request counts as lost
UNHEARD_S = 1.5  # at the least: a new process beats five times a second, and a busy one answers later
OWN_GAP_S = 1.0  # a longer time between two decisions means that the manager itself was held up


class State(IntEnum):
    """Primary states of lifecycle_msgs/State; 0 is unknown, higher numbers are transitions under way."""

    UNKNOWN = 0
    UNCONFIGURED = 1
    INACTIVE = 2
    ACTIVE = 3
    FINALIZED = 4


class Transition(IntEnum):
    """Those of lifecycle_msgs/Transition that the manager asks for."""

    CONFIGURE = 1
    CLEANUP = 2
    ACTIVATE = 3
    DEACTIVATE = 4
    UNCONFIGURED_SHUTDOWN = 5
    INACTIVE_SHUTDOWN = 6
    ACTIVE_SHUTDOWN = 7


class Verb(IntEnum):
    """Verbs of ManageSystem."""

    STARTUP = 1
    PAUSE = 2
    RESUME = 3
    RESET = 4
    SHUTDOWN = 5
    RESTART = 6
    MAINTENANCE = 7
    OUT_OF_SERVICE = 8


class Level(IntEnum):
    """Levels of NodeHealth."""

    OK = 0
    WARN = 1
    ERROR = 2


AFTER = {
    Transition.CONFIGURE: State.INACTIVE,
    Transition.ACTIVATE: State.ACTIVE,
    Transition.DEACTIVATE: State.INACTIVE,
    Transition.CLEANUP: State.UNCONFIGURED,
    Transition.UNCONFIGURED_SHUTDOWN: State.FINALIZED,
    Transition.INACTIVE_SHUTDOWN: State.FINALIZED,
    Transition.ACTIVE_SHUTDOWN: State.FINALIZED,
}
WITHOUT_A_PART = {"SENSOR"}  # a warning of theirs means that the machine serves without one of its parts
TARGETS = {
    Verb.STARTUP: State.ACTIVE,
    Verb.RESUME: State.ACTIVE,
    Verb.MAINTENANCE: State.ACTIVE,  # but the nodes that serve customers
    Verb.OUT_OF_SERVICE: State.ACTIVE,  # the same
    Verb.PAUSE: State.INACTIVE,
    Verb.RESET: State.UNCONFIGURED,
    Verb.SHUTDOWN: State.FINALIZED,
}

CLOSED = {Verb.MAINTENANCE: Mode.MAINTENANCE, Verb.OUT_OF_SERVICE: Mode.PAUSED}  # customers are not served


@dataclass(frozen=True)
class Beat:
    """One heartbeat: which process, its lifecycle state, how it feels."""

    node: str
    pid: int
    started_at_ns: int
    stamp_ns: int
    state: int
    level: int = Level.OK
    message: str = ""


@dataclass(frozen=True)
class Sample:
    """A look at a process: its state letter in /proc/<pid>/stat and the time its main thread has run, ns."""

    state: str
    run_ns: int


@dataclass(frozen=True)
class Request:
    """Ask `node` for a transition; give the answer back with `answered`."""

    node: str
    transition: Transition
    ticket: int


@dataclass(frozen=True)
class Probe:
    """Look at the node's process; give what is seen back with `probed`."""

    node: str
    pid: int


@dataclass(frozen=True)
class Kill:
    """Kill the node's frozen process; whatever keeps processes present starts it again."""

    node: str
    pid: int


Action = Request | Probe | Kill


@dataclass(frozen=True)
class Event:
    """A line for the log: level name, message, fields."""

    level: str
    message: str
    fields: dict[str, object]


@dataclass(frozen=True)
class NodeView:
    """What is shown of one node."""

    name: str
    state: int
    alive: bool
    given_up: bool
    restarts: int
    pid: int
    last_error: str


@dataclass(frozen=True)
class SystemView:
    """What is shown of the machine; `reasons` are names without the prefix REASON_."""

    mode: Mode
    reasons: tuple[str, ...]
    nodes: tuple[NodeView, ...]
    start_time_s: float


@dataclass
class _Node:
    description: NodeDescription
    pid: int = 0
    started_at_ns: int = 0
    state: int = State.UNKNOWN
    level: int = Level.OK
    gone: bool = True  # no process that we know of
    last_beat_s: float = 0.0
    gone_since_s: float = 0.0
    missed: bool = False  # its absence has been logged
    flight: Request | None = None
    sent: bool = False
    sent_s: float = 0.0
    sent_ns: int = 0
    settled_ns: int = 0  # beats stamped before this say nothing about the state
    unheard: int = 0
    next_try_s: float = 0.0
    failures: deque[float] = field(default_factory=deque)
    floor: State | None = None  # go down to this state before going up again
    restarted: bool = False  # when it is active again, those that follow it are activated again
    left_alone: bool = False  # an outsider changed its state
    given_up: bool = False
    restarts: int = 0
    last_error: str = ""
    probed_s: float = 0.0
    sample: Sample | None = None
    still_looks: int = 0  # looks in a row without a sign of life

    @property
    def alive(self) -> bool:
        return not self.gone

    @property
    def active(self) -> bool:
        return self.alive and self.state == State.ACTIVE


class Manager:
    """The lifecycle manager's mind.

    Args:
        graph: the nodes.
        settings: of the manager.
        now_s: monotonic.
        order: the verb that stood when the last manager ended; None for a start like any other.
        generator: of the waits before restarts.
    """

    def __init__(
        self,
        graph: Graph,
        settings: ManagerSettings,
        now_s: float,
        order: Verb | None = None,
        generator: random.Random | None = None,
    ) -> None:
        self._graph = graph
        self._settings = settings
        self._random = generator or random.Random()
        self._begun_s = self._decided_s = self._heard_s = now_s
        self._order = [name for layer in graph.layers() for name in layer]
        self._nodes = {name: _Node(graph.node(name), gone_since_s=now_s) for name in self._order}
        self._tickets = 0
        self._standing = Verb.RESET  # the verb that holds until the next one
        self._switching_off = False
        self._limits: tuple[LimitLevel, tuple[Cause, ...]] = (LimitLevel.NORMAL, ())
        self._verb: Verb | None = None
        self._verb_node = ""
        self._coming_up = False
        self._shut_down: set[str] = set()
        self._deaf = False
        self._start_time_s = 0.0
        self._online = False
        self.events: list[Event] = []
        if order is not None or settings.autostart:
            self.command(now_s, order or Verb.STARTUP)

    # Facts

    def heard(self, now_s: float, beat: Beat) -> None:
        """A heartbeat came."""
        node = self._nodes.get(beat.node)
        if node is None:
            return
        self._heard_s = now_s
        if (beat.pid, beat.started_at_ns) != (node.pid, node.started_at_ns):
            if beat.started_at_ns < node.started_at_ns and node.alive:
                return  # the last words of the process that was replaced
            self._new_process(now_s, node, beat)
        elif node.gone:
            return  # heard late; its process has ended
        node.last_beat_s = now_s
        node.sample, node.still_looks = None, 0
        node.level = beat.level
        if beat.level == Level.ERROR:
            node.last_error = beat.message
        self._observe_state(now_s, node, beat)

    def answered(self, now_s: float, request: Request, success: bool | None, now_ns: int) -> None:
        """A transition was answered; None where no answer came in time."""
        node = self._nodes[request.node]
        if node.flight != request:
            return
        node.flight = None
        node.settled_ns = now_ns
        if success:
            self._reached(now_s, node, AFTER[request.transition])
            return
        node.state = State.UNKNOWN  # the next heartbeat tells
        line = "refused" if success is False else f"no answer within {self._settings.transition_timeout_s:g} s"
        if not node.last_error or success is None:
            node.last_error = f"{request.transition.name.lower()}: {line}"
        self._log("warning", "transition failed", node, transition=request.transition.name.lower(), error=line)
        self._failed(now_s, node)

    def ended(self, now_s: float, name: str, pid: int) -> None:
        """The node's process has ended."""
        node = self._nodes[name]
        if node.pid != pid or node.gone:
            return
        node.gone, node.gone_since_s, node.missed = True, now_s, False
        node.state, node.flight = State.UNKNOWN, None
        if self._goal(node) == State.FINALIZED or name in self._shut_down:
            self._shut_down.add(name)
            return
        node.last_error = f"process {pid} ended"
        self._log("warning", "process ended", node, pid=pid)

    def probed(self, now_s: float, name: str, sample: Sample | None) -> Kill | None:
        """What a look at a silent process has shown; None where there is no such process."""
        node = self._nodes[name]
        if node.gone:
            return None
        if sample is None:
            self.ended(now_s, name, node.pid)
            return None
        before, node.sample = node.sample, sample
        stopped = sample.state in "Tt"
        idle = before is not None and sample.state == "S" and sample.run_ns == before.run_ns
        suspicious = stopped or (idle and node.flight is None and not self._deaf)
        node.still_looks = node.still_looks + 1 if suspicious else 0
        silent_s = now_s - node.last_beat_s
        limit_s = self._settings.silence_limit_s
        if node.flight is not None:
            limit_s = max(limit_s, self._settings.transition_timeout_s)
        # Idle takes a heartbeat longer than the time-out: if the manager is deaf, all others are silent by then.
        frozen = (
            node.still_looks >= STOPPED_LOOKS
            if stopped
            else (node.still_looks >= IDLE_LOOKS and silent_s > self._settings.heartbeat_timeout_s + SUSPECT_S)
        )
        if frozen or (silent_s > limit_s and not self._deaf):
            why = "stopped" if stopped else "idle" if idle else "busy beyond the limit"
            self._log(
                "error", "no heartbeat: process is replaced", node, pid=node.pid, silent_s=round(silent_s, 1), why=why
            )
            node.last_error = f"no heartbeat for {silent_s:.0f} s ({why})"
            return Kill(name, node.pid)
        return None

    def cloud(self, online: bool) -> None:
        """Whether the server is reached."""
        self._online = online

    def limits(self, level: LimitLevel, causes: tuple[Cause, ...]) -> None:
        """What the health policy allows."""
        self._limits = (level, causes)

    # Verbs

    def check(self, verb: Verb, name: str = "") -> None:
        """Whether the verb may be given.

        Raises:
            SettingsError: RESTART names no node of the graph, or the machine is being switched off.
        """
        if verb == Verb.RESTART and name not in self._nodes:
            raise SettingsError(f"node = {name!r} is not allowed: one of {', '.join(self._graph.names)}")
        if self._switching_off:
            causes = ", ".join(cause.name for cause in self._limits[1])
            raise SettingsError(f"verb = {verb.name} is not allowed: the machine is being switched off ({causes})")

    def command(self, now_s: float, verb: Verb, name: str = "") -> None:
        """Take a verb that `check` has let through; while the machine is being switched off it only stands."""
        if verb == Verb.RESTART:
            node = self._nodes[name]
            self._forgive(node)
            node.floor, node.restarted = State.UNCONFIGURED, True
        else:
            self._standing = verb
            for node in self._nodes.values():
                node.floor = None
                if verb == Verb.STARTUP:
                    self._forgive(node)
                elif verb != Verb.PAUSE or node.state == State.ACTIVE:
                    node.left_alone = False
            self._coming_up = verb in (Verb.STARTUP, Verb.RESUME)
            if not self._switching_off:
                self._shut_down.clear()
            if verb == Verb.SHUTDOWN:
                self._shut_down = {node.description.name for node in self._nodes.values() if node.gone}
            if verb == Verb.STARTUP and self._start_time_s == 0.0:
                self._begun_s = now_s
        self._verb, self._verb_node = verb, name

    def switch_off(self) -> None:
        """Shut all down but the nodes that watch; the standing verb comes back with `serve_again`."""
        self._switching_off = True
        self._shut_down = {name for name, node in self._nodes.items() if node.gone and not node.description.watches}

    def serve_again(self) -> None:
        """The machine is not to be switched off after all."""
        self._switching_off = False
        self._shut_down.clear()
        self._coming_up = self._standing in (Verb.STARTUP, Verb.RESUME)

    @property
    def switching_off(self) -> bool:
        """Between `switch_off` and `serve_again`."""
        return self._switching_off

    @property
    def customers_served(self) -> bool:
        """Whether a node that serves customers is active, or may be: not heard of yet, or in between."""
        return any(
            node.state in (State.ACTIVE, State.UNKNOWN) if node.alive else node.pid == 0 and not node.missed
            for node in self._nodes.values()
            if node.description.serves_customers
        )

    def outcome(self) -> tuple[bool, str] | None:
        """How the last verb ended; None while it is under way."""
        names = [self._verb_node] if self._verb == Verb.RESTART else self._order
        nodes = [self._nodes[name] for name in names]
        if TARGETS[self._standing] == State.ACTIVE and not self._switching_off:
            if any(not (self._arrived(node) or self._stuck(node)) for node in nodes):
                return None
            bad = [node for node in nodes if not self._arrived(node)]
            lines = [f"{node.description.name}: {node.last_error or 'waits for another'}" for node in bad]
            return not bad, "; ".join(lines)
        return (True, "") if self.at_rest else None

    # Decisions

    def decide(self, now_s: float) -> list[Action]:
        """What to do now. A `Request` is repeated until `sent` tells that it was sent."""
        gap_s = now_s - self._decided_s
        self._decided_s = now_s
        if gap_s > OWN_GAP_S:
            self._heard_s += gap_s
            for node in self._nodes.values():
                node.last_beat_s += gap_s  # time in which the manager did not run says nothing of others
        actions: list[Action] = list(self._watch(now_s))
        for node in self._nodes.values():
            if request := self._step(now_s, node):
                actions.append(request)
        self._note_start(now_s)
        return actions

    def hears_nobody(self, now_s: float) -> bool:
        """No node has been heard for longer than one takes to appear: it is rather the manager that is deaf."""
        expected = any(
            self._goal(node) != State.FINALIZED and name not in self._shut_down for name, node in self._nodes.items()
        )
        return expected and now_s - self._heard_s > self._settings.appear_timeout_s

    def sent(self, now_s: float, request: Request, now_ns: int) -> None:
        """The request has gone out."""
        node = self._nodes[request.node]
        if node.flight == request:
            node.sent, node.sent_s, node.sent_ns, node.unheard = True, now_s, now_ns, 0

    def view(self) -> SystemView:
        """The machine as it is to be shown."""
        mode, reasons = self._mode()
        nodes = tuple(
            NodeView(
                name, int(node.state), node.alive and not self._silent(node), node.given_up, node.restarts,
                node.pid if node.alive else 0, node.last_error,
            )
            for name, node in self._nodes.items()
        )  # fmt: skip
        return SystemView(mode, reasons, nodes, self._start_time_s)

    # Inside

    def _new_process(self, now_s: float, node: _Node, beat: Beat) -> None:
        first = node.pid == 0
        if not first and node.alive:
            self.ended(now_s, node.description.name, node.pid)
        node.pid, node.started_at_ns = beat.pid, beat.started_at_ns
        node.gone = node.missed = False
        node.flight, node.state, node.settled_ns = None, State.UNKNOWN, 0
        node.left_alone = False
        if node.floor == State.UNCONFIGURED:
            node.floor = None  # a new process is there already
        if first or self._goal(node) == State.FINALIZED:
            return
        node.restarts += 1
        node.restarted = True
        self._log("warning", "process is new", node, pid=beat.pid, restarts=node.restarts)
        self._failed(now_s, node)

    def _observe_state(self, now_s: float, node: _Node, beat: Beat) -> None:
        state = beat.state
        if state not in (State.UNCONFIGURED, State.INACTIVE, State.ACTIVE, State.FINALIZED):
            return  # in the midst of a transition
        if node.flight is not None and node.sent:
            if beat.stamp_ns <= node.sent_ns:
                return
            node.unheard += 1
            if node.unheard < UNHEARD_BEATS or now_s - node.sent_s < UNHEARD_S:
                return
            expected = AFTER[node.flight.transition]
            node.flight, node.state = None, State.UNKNOWN  # request or answer was lost; the state tells which
            if state == expected:
                self._reached(now_s, node, expected)
                return
        elif beat.stamp_ns <= node.settled_ns:
            return
        if node.state == state:
            return
        known, node.state = node.state, state
        target = self._target_of(node)
        if known == State.UNKNOWN:
            return
        node.flight = None
        node.left_alone = state != target
        self._log("warning", "state changed by an outsider", node, state=State(state).name.lower())
        if node.left_alone:
            node.last_error = f"made {State(state).name.lower()} by an outsider; left alone until RESUME or STARTUP"

    def _reached(self, now_s: float, node: _Node, state: State) -> None:
        node.state = state
        if node.floor is not None and state <= node.floor:
            node.floor = None
        if state != State.ACTIVE:
            return
        node.level, node.last_error, node.left_alone = Level.OK, "", False
        self._log("info", "active", node, pid=node.pid)
        if node.restarted:
            node.restarted = False
            for name in self._graph.restarted_with(node.description.name):
                if self._nodes[name].active:
                    self._nodes[name].floor = State.INACTIVE

    def _failed(self, now_s: float, node: _Node) -> None:
        policy = node.description.restart
        while node.failures and now_s - node.failures[0] > policy.window_s:
            node.failures.popleft()
        node.next_try_s = now_s + policy.backoff.delay_s(len(node.failures), self._random)
        node.failures.append(now_s)
        if len(node.failures) > policy.limit and not node.given_up:
            node.given_up = True
            self._log(
                "error", "given up: restarted too often", node,
                limit=policy.limit, window_s=policy.window_s, error=node.last_error,
            )  # fmt: skip

    def _forgive(self, node: _Node) -> None:
        node.failures.clear()
        node.given_up = node.left_alone = False
        node.next_try_s, node.last_error = 0.0, ""

    def _watch(self, now_s: float) -> Iterable[Action]:
        running = [node for node in self._nodes.values() if node.alive]
        deaf = len(running) > 1 and all(self._silent(node, now_s) for node in running)
        if deaf and not self._deaf:
            self.events.append(Event("warning", "no heartbeat from any node: none is held dead", {}))
        self._deaf = deaf
        for node in self._nodes.values():
            if node.gone:
                if (
                    not node.missed
                    and self._goal(node) != State.FINALIZED
                    and now_s - node.gone_since_s > self._settings.appear_timeout_s
                ):
                    node.missed = True
                    node.last_error = (
                        f"no heartbeat within {self._settings.appear_timeout_s:g} s: is its process started?"
                    )
                    self._log("error", "missing", node)
            elif now_s - node.last_beat_s > SUSPECT_S and now_s - node.probed_s >= PROBE_PERIOD_S:
                node.probed_s = now_s
                yield Probe(node.description.name, node.pid)

    def _silent(self, node: _Node, now_s: float | None = None) -> bool:
        now_s = self._decided_s if now_s is None else now_s
        return now_s - node.last_beat_s > self._settings.heartbeat_timeout_s

    def _goal(self, node: _Node) -> State:
        """State that the standing verb wants of the node."""
        if self._switching_off:
            return State.ACTIVE if node.description.watches else State.FINALIZED
        if self._standing in CLOSED and node.description.serves_customers:
            return State.INACTIVE
        if self._standing == Verb.PAUSE and node.description.watches:
            return State.ACTIVE
        return TARGETS[self._standing]

    def _target_of(self, node: _Node) -> State:
        """State that the node is to be brought to; its floor first."""
        goal = self._goal(node)
        if goal == State.FINALIZED and node.description.name in self._shut_down:
            return State.UNCONFIGURED  # the process that was started in its place waits
        return goal if node.floor is None else min(goal, node.floor)

    def _arrived(self, node: _Node) -> bool:
        return node.alive and node.state == self._goal(node) and node.floor is None

    def _step(self, now_s: float, node: _Node) -> Request | None:
        if node.flight is not None:
            return None if node.sent else node.flight
        target = self._target_of(node)
        if node.floor is not None and node.state != State.UNKNOWN and node.state <= node.floor:
            node.floor = None
            target = self._target_of(node)
        if node.gone or node.left_alone or node.state in (State.UNKNOWN, State.FINALIZED) or node.state == target:
            return None
        going_up = node.state < target < State.FINALIZED
        if going_up and (node.given_up or now_s < node.next_try_s or not self._stands(node, target)):
            return None
        if not going_up and (now_s < node.next_try_s or self._carries(node)):
            return None
        self._tickets += 1
        node.flight = Request(node.description.name, _towards(State(node.state), target), self._tickets)
        node.sent = False
        return node.flight

    def _stands(self, node: _Node, target: State) -> bool:
        """Whether all that the node starts after have reached the target."""
        below = [self._nodes[name] for name in node.description.start_after]
        return all(other.alive and other.floor is None and State.FINALIZED > other.state >= target for other in below)

    def _stuck(self, node: _Node) -> bool:
        """Whether the node will not come up unless someone helps it or one that it starts after."""
        if node.given_up or node.left_alone or node.missed:
            return True
        return not node.active and any(self._stuck(self._nodes[name]) for name in node.description.start_after)

    def _carries(self, node: _Node) -> bool:
        """Whether a node that starts after this one has yet to go down first."""
        name = node.description.name
        for other in self._nodes.values():
            if name not in other.description.start_after or other.gone or other.given_up or other.left_alone:
                continue
            goal = self._target_of(other)
            if other.state not in (goal, State.FINALIZED) and (other.state > goal or goal == State.FINALIZED):
                return True
        return False

    def _note_start(self, now_s: float) -> None:
        nodes = self._nodes.values()
        if self._start_time_s == 0.0 and all(node.active for node in nodes):
            self._start_time_s = now_s - self._begun_s
            self.events.append(Event("info", "all nodes active", {"start_time_s": round(self._start_time_s, 2)}))
        essential = [node for node in nodes if node.description.essential]
        if self._coming_up and all(node.active or self._stuck(node) for node in essential):
            self._coming_up = False

    @property
    def at_rest(self) -> bool:
        """Whether every node is where it is to be, or on its way up again."""
        return all(
            node.gone or node.left_alone or (node.flight is None and node.state == self._target_of(node))
            or (node.flight is None and State.UNKNOWN < node.state < self._target_of(node) < State.FINALIZED)
            for node in self._nodes.values()
        )  # fmt: skip

    def _mode(self) -> tuple[Mode, tuple[str, ...]]:
        level, _ = self._limits
        if self._switching_off or TARGETS[self._standing] != State.ACTIVE:
            reasons = self._limit_reasons() if self._switching_off else ()
            if not self.at_rest:
                return Mode.STOPPING, reasons
            return (Mode.PAUSED if self._standing == Verb.PAUSE and not self._switching_off else Mode.STOPPED), reasons
        missing = [
            node.description for node in self._nodes.values() if not self._arrived(node) or node.level == Level.ERROR
        ]
        reasons = [description.reason for description in missing]
        if not self._online:
            reasons += [node.description.reason for node in self._nodes.values() if node.description.reason == "CLOUD"]
        warned = {node.description.reason for node in self._nodes.values() if node.level == Level.WARN}
        reasons += sorted(warned & WITHOUT_A_PART)
        named = tuple(dict.fromkeys(reason for reason in (*reasons, *self._limit_reasons()) if reason))
        if self._standing in CLOSED:
            return (Mode.STOPPING if self.customers_served else CLOSED[self._standing]), named
        if self._coming_up:
            return Mode.STARTING, named
        if level >= LimitLevel.PAUSED or any(description.essential for description in missing):
            return Mode.OUT_OF_ORDER, named
        return (Mode.DEGRADED if missing or named else Mode.SERVING), named

    def _limit_reasons(self) -> tuple[str, ...]:
        """Causes of what is limited; WARN limits nothing, but that the time is not known is always said."""
        level, causes = self._limits
        return tuple(cause.name for cause in causes if level > LimitLevel.WARN or cause == Cause.CLOCK)

    def _log(self, level: str, message: str, node: _Node, **fields: object) -> None:
        self.events.append(Event(level, message, {"about": node.description.name, **fields}))


def _towards(state: State, target: State) -> Transition:
    """The next transition from a primary state towards another."""
    if target == State.FINALIZED:
        return {
            State.UNCONFIGURED: Transition.UNCONFIGURED_SHUTDOWN,
            State.INACTIVE: Transition.INACTIVE_SHUTDOWN,
            State.ACTIVE: Transition.ACTIVE_SHUTDOWN,
        }[state]
    if target > state:
        return Transition.CONFIGURE if state == State.UNCONFIGURED else Transition.ACTIVATE
    return Transition.DEACTIVATE if state == State.ACTIVE else Transition.CLEANUP
