from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from myrvm_core.errors import SettingsError
from myrvm_core.graph import Graph, parse
from myrvm_system.manager import (
    AFTER,
    Beat,
    Kill,
    Level,
    Manager,
    Mode,
    Probe,
    Request,
    Sample,
    State,
    Transition,
    Verb,
)
from myrvm_system.policy import Cause, LimitLevel
from myrvm_system.settings import ManagerSettings

GRAPH = {
    "nodes": {
        "buffer": {"package": "p", "executable": "e", "reason": "BUFFER"},
        "camera": {"package": "p", "executable": "e", "reason": "CAMERA"},
        "detector": {
            "package": "p", "executable": "e", "reason": "DETECTOR",
            "start_after": ["camera"], "restart_with": ["camera"],
        },
        "bridge": {"package": "p", "executable": "e", "reason": "CLOUD", "essential": False, "start_after": ["buffer"]},
        "deposit": {"package": "p", "executable": "e", "reason": "DEPOSIT", "start_after": ["buffer", "detector"]},
    },
    "manager": {"package": "p", "executable": "e"},
    "defaults": {"restart": {"limit": 2, "window_s": 60.0, "backoff_s": [0.2, 1.0]}},
}  # fmt: skip
# The same with a node that watches the power, and one that serves customers.
WATCHED = parse(
    {
        **GRAPH,
        "nodes": {
            **GRAPH["nodes"],
            "health": {"package": "p", "executable": "e", "reason": "HEALTH", "essential": False, "watches": True},
            "deposit": {**GRAPH["nodes"]["deposit"], "serves_customers": True},
        },
    },
    "test",
)
TICK_S = 0.2


@dataclass
class Process:
    """A stand-in for a node's process."""

    pid: int
    started_at_ns: int
    state: State = State.UNCONFIGURED
    frozen: str = ""  # the process state's letter while it does not beat
    run_ns: int = 0


@dataclass
class World:
    """A simulated graph of processes around the manager; a launcher starts a new process one second after an end."""

    graph: Graph = field(default_factory=lambda: parse(GRAPH, "test"))
    options: ManagerSettings = field(default_factory=ManagerSettings)
    seed: int = 1

    def __post_init__(self) -> None:
        self.now_s = 100.0
        self.pids = 1000
        self.processes = {name: self.spawn() for name in self.graph.names}
        self.due: dict[str, float] = {}
        self.beat_s: dict[str, float] = {}
        self.refuse: set[tuple[str, Transition]] = set()
        self.lose_answers = 0
        self.log: list[str] = []
        self.errors: list[str] = []
        self.manager = self.new_manager()

    def new_manager(self) -> Manager:
        return Manager(self.graph, self.options, self.now_s, generator=random.Random(self.seed))

    @property
    def now_ns(self) -> int:
        return int(self.now_s * 1e9)

    def spawn(self) -> Process:
        self.pids += 1
        return Process(self.pids, self.now_ns)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            self.due[name] = self.now_s + 1.0
            self.manager.ended(self.now_s, name, process.pid)

    def run(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.tick()

    def tick(self) -> None:
        self.now_s += TICK_S
        for name, at_s in list(self.due.items()):
            if self.now_s >= at_s:
                del self.due[name]
                self.processes[name] = self.spawn()
        for name, process in list(self.processes.items()):
            if process.state == State.FINALIZED:
                self.kill(name)
            elif not process.frozen and self.now_s >= self.beat_s.get(name, 0.0):
                self.beat_s[name] = self.now_s + 1.0
                self.beat(name)
        self.act()

    def beat(self, name: str, level: Level = Level.OK) -> None:
        process = self.processes[name]
        beat = Beat(name, process.pid, process.started_at_ns, self.now_ns, process.state, level, "as it is")
        self.manager.heard(self.now_s, beat)

    def act(self) -> None:
        for _ in range(20):
            actions = self.manager.decide(self.now_s)
            for action in actions:
                self.do(action)
            self.errors += [event.message for event in self.manager.events if event.level == "error"]
            self.manager.events.clear()
            if not any(isinstance(action, Request) for action in actions):
                return
        raise AssertionError("the manager does not come to rest")

    def do(self, action: Request | Probe | Kill) -> None:
        if isinstance(action, Request):
            self.transition(action)
        elif isinstance(action, Probe):
            process = self.processes.get(action.node)
            sample = Sample(process.frozen or "S", process.run_ns) if process else None
            if process and process.frozen == "R":
                process.run_ns += 1
            kill = self.manager.probed(self.now_s, action.node, sample)
            if kill is not None:
                self.log.append(f"{kill.node} KILL")
                self.kill(kill.node)

    def transition(self, request: Request) -> None:
        name, process = request.node, self.processes[request.node]
        self.manager.sent(self.now_s, request, self.now_ns)
        self.log.append(f"{name} {request.transition.name}")
        node = self.graph.node(name)
        if (
            request.transition in (Transition.CONFIGURE, Transition.ACTIVATE)
            and self.manager.view().mode == Mode.STARTING
        ):
            for other in node.start_after:
                assert self.node(other).state == State.ACTIVE, f"{name} before {other}"  # as far as it can know
        success = (name, request.transition) not in self.refuse
        if success:
            process.state = AFTER[request.transition]
        if self.lose_answers > 0:
            self.lose_answers -= 1
            return
        self.manager.answered(self.now_s, request, success, self.now_ns)

    def command(self, verb: Verb, name: str = "") -> None:
        self.manager.command(self.now_s, verb, name)
        self.act()

    @property
    def mode(self) -> Mode:
        return self.manager.view().mode

    def states(self) -> set[State]:
        return {process.state for process in self.processes.values()}

    def node(self, name: str):
        return next(node for node in self.manager.view().nodes if node.name == name)


@pytest.fixture
def up() -> World:
    world = World()
    world.manager.cloud(online=True)
    world.run(3.0)
    assert world.mode == Mode.SERVING
    world.log.clear()
    return world


def test_starts_in_order_and_serves() -> None:
    world = World()
    assert world.mode == Mode.STARTING
    world.run(3.0)
    assert world.states() == {State.ACTIVE}
    assert (world.mode, world.manager.view().reasons) == (Mode.DEGRADED, ("CLOUD",))  # the server is not reached
    world.manager.cloud(online=True)
    assert (world.mode, world.manager.view().reasons) == (Mode.SERVING, ())
    assert 0 < world.manager.view().start_time_s < 3
    assert world.manager.outcome() == (True, "")


def test_nothing_is_started_without_autostart() -> None:
    world = World(options=ManagerSettings(autostart=False))
    world.run(3.0)
    assert (world.mode, world.log) == (Mode.STOPPED, [])
    world.command(Verb.STARTUP)
    world.run(1.0)
    assert world.states() == {State.ACTIVE}


def test_a_restarted_node_takes_only_its_followers_along(up: World) -> None:
    up.kill("camera")
    assert (up.mode, up.manager.view().reasons) == (Mode.OUT_OF_ORDER, ("CAMERA",))
    up.run(5.0)
    assert up.log == ["camera CONFIGURE", "camera ACTIVATE", "detector DEACTIVATE", "detector ACTIVATE"]
    assert up.mode == Mode.SERVING
    up.log.clear()
    up.kill("bridge")
    assert (up.mode, up.manager.view().reasons) == (Mode.DEGRADED, ("CLOUD",))
    up.run(5.0)
    assert up.log == ["bridge CONFIGURE", "bridge ACTIVATE"]


def test_gives_up_after_the_limit_and_not_before(up: World) -> None:
    for restart in range(3):
        assert not up.node("camera").given_up, restart
        up.kill("camera")
        up.run(4.0)
    assert up.node("camera").given_up
    assert "given up: restarted too often" in up.errors
    assert up.mode == Mode.OUT_OF_ORDER
    up.command(Verb.RESUME)
    up.run(3.0)
    assert up.node("camera").given_up  # only RESTART and STARTUP forgive
    up.command(Verb.RESTART, "camera")
    up.run(3.0)
    assert up.mode == Mode.SERVING


def test_restarts_long_apart_are_forgotten(up: World) -> None:
    for _ in range(5):
        up.kill("camera")
        up.run(40.0)
    assert up.mode == Mode.SERVING
    assert up.node("camera").restarts == 5


def test_a_refused_transition_is_tried_again_with_bounds() -> None:
    world = World()
    world.refuse.add(("camera", Transition.CONFIGURE))
    world.run(30.0)
    assert world.log.count("camera CONFIGURE") == 3
    assert (world.mode, "detector CONFIGURE" in world.log) == (Mode.OUT_OF_ORDER, False)
    outcome = world.manager.outcome()
    assert outcome is not None
    assert not outcome[0]
    assert "camera: configure: refused" in outcome[1]
    world.refuse.clear()
    world.command(Verb.STARTUP)
    world.run(3.0)
    assert world.states() == {State.ACTIVE}


def test_a_stopped_process_is_killed_a_busy_one_gets_more_time(up: World) -> None:
    up.processes["camera"].frozen = "T"
    up.processes["buffer"].frozen = "R"
    up.run(3.0)
    assert "camera KILL" in up.log, "a stopped one needs no long silence"
    up.run(5.0)
    assert "buffer KILL" not in up.log
    assert not up.node("buffer").alive
    up.processes["buffer"].frozen = ""
    up.run(2.0)
    assert "buffer KILL" not in up.log
    assert up.mode == Mode.SERVING
    up.processes["buffer"].frozen = "R"
    up.run(30.0)
    assert "buffer KILL" in up.log


def test_an_idle_process_that_does_not_beat_is_killed_after_several_looks(up: World) -> None:
    up.processes["camera"].frozen = "S"
    up.run(4.0)
    assert "camera KILL" not in up.log
    up.run(3.0)
    assert "camera KILL" in up.log


@settings(max_examples=20, deadline=None)
@given(delays_s=st.lists(st.floats(0.0, 12.0), max_size=8), seed=st.integers(0, 2**16))
def test_nobody_is_killed_for_late_heartbeats_while_it_runs_or_waits_for_the_cpu(
    delays_s: list[float], seed: int
) -> None:
    """Saturated cores: beats come late; a process that is due waits for the CPU, or has slept and run since."""
    world, generator = World(), random.Random(seed)
    world.run(3.0)
    world.log.clear()
    for delay_s in delays_s:
        process = world.processes[generator.choice(list(world.processes))]
        until_s = world.now_s + delay_s
        while world.now_s < until_s:
            process.frozen = generator.choice("RS")
            process.run_ns += process.frozen == "S"
            world.tick()
        process.frozen = ""
    assert world.log == []


def test_a_deaf_manager_kills_nobody(up: World) -> None:
    for process in up.processes.values():
        process.frozen = "S"
    up.run(60.0)
    assert not any("KILL" in line for line in up.log)


def test_a_manager_that_hears_nobody_for_long_knows_it(up: World) -> None:
    for process in up.processes.values():
        process.frozen = "R"
    up.run(15.0)
    assert not up.manager.hears_nobody(up.now_s)
    up.run(6.0)
    assert up.manager.hears_nobody(up.now_s)
    up.processes["camera"].frozen = ""
    up.run(2.0)
    assert not up.manager.hears_nobody(up.now_s)


def test_nobody_is_expected_after_a_shutdown(up: World) -> None:
    up.manager.command(up.now_s, Verb.SHUTDOWN)
    up.run(60.0)
    assert not up.manager.hears_nobody(up.now_s)


def test_time_in_which_the_manager_was_held_up_does_not_count(up: World) -> None:
    up.now_s += 120.0
    up.act()
    assert all(node.alive for node in up.manager.view().nodes)
    up.run(5.0)
    assert up.log == []


def test_a_lost_answer_and_a_lost_request_are_noticed_by_the_heartbeats() -> None:
    world = World()
    world.lose_answers = 3
    world.run(12.0)
    assert world.states() == {State.ACTIVE}
    assert world.log.count("camera CONFIGURE") == 1


def test_a_new_process_that_beats_fast_and_answers_late_is_not_asked_again_at_once() -> None:
    manager = Manager(parse(GRAPH, "test"), ManagerSettings(), 0.0)
    asked_s: list[float] = []
    for step in range(1, 20):
        now_s = 0.2 * step
        manager.heard(now_s, Beat("buffer", 1, 1, int(now_s * 1e9), State.UNCONFIGURED))
        for action in manager.decide(now_s):
            if isinstance(action, Request):
                manager.sent(now_s, action, int(now_s * 1e9))
                asked_s.append(now_s)
    assert len(asked_s) > 1
    assert asked_s[1] - asked_s[0] >= 1.5


def test_a_new_manager_adopts(up: World) -> None:
    up.processes["bridge"].state = State.INACTIVE
    up.manager = up.new_manager()
    up.manager.cloud(online=True)
    up.run(3.0)
    assert up.log == ["bridge ACTIVATE"]
    assert up.mode == Mode.SERVING


def test_an_outsider_is_not_fought(up: World) -> None:
    up.processes["camera"].state = State.INACTIVE
    up.run(10.0)
    assert (up.log, up.mode) == ([], Mode.OUT_OF_ORDER)
    assert "outsider" in up.node("camera").last_error
    up.processes["camera"].state = State.ACTIVE  # puts it back
    up.run(2.0)
    assert up.mode == Mode.SERVING
    up.processes["camera"].state = State.UNCONFIGURED
    up.run(2.0)
    up.command(Verb.RESUME)
    up.run(2.0)
    assert up.mode == Mode.SERVING


def test_an_outsiders_shutdown_ends_in_a_new_process_that_is_brought_up(up: World) -> None:
    up.processes["camera"].state = State.FINALIZED
    up.run(5.0)
    assert up.mode == Mode.SERVING
    assert up.node("camera").restarts == 1


def test_a_node_that_reports_an_error_puts_the_machine_out_of_order(up: World) -> None:
    up.beat("camera", Level.ERROR)
    assert (up.mode, up.manager.view().reasons) == (Mode.OUT_OF_ORDER, ("CAMERA",))
    assert up.node("camera").last_error == "as it is"
    up.beat("camera")
    assert up.mode == Mode.SERVING


def test_a_machine_without_one_of_its_sensors_is_degraded_and_serves() -> None:
    sensor = {"package": "p", "executable": "e", "reason": "SENSOR"}
    world = World(parse({**GRAPH, "nodes": {**GRAPH["nodes"], "sensor": sensor}}, "test"))
    world.manager.cloud(online=True)
    world.run(3.0)
    world.beat("camera", Level.WARN)
    assert world.mode == Mode.SERVING
    world.beat("sensor", Level.WARN)
    assert (world.mode, world.manager.view().reasons) == (Mode.DEGRADED, ("SENSOR",))
    world.beat("sensor")
    assert world.mode == Mode.SERVING


def test_pause_resume_reset_shutdown(up: World) -> None:
    up.command(Verb.PAUSE)
    up.run(1.0)
    assert (up.states(), up.mode, up.manager.outcome()) == ({State.INACTIVE}, Mode.PAUSED, (True, ""))
    assert up.log.index("deposit DEACTIVATE") < up.log.index("detector DEACTIVATE") < up.log.index("camera DEACTIVATE")
    up.command(Verb.RESUME)
    up.run(1.0)
    assert up.mode == Mode.SERVING
    up.command(Verb.RESET)
    up.run(1.0)
    assert (up.states(), up.mode) == ({State.UNCONFIGURED}, Mode.STOPPED)
    up.command(Verb.STARTUP)
    up.run(1.0)
    before = {name: process.pid for name, process in up.processes.items()}
    up.command(Verb.SHUTDOWN)
    up.run(5.0)
    assert (up.states(), up.mode) == ({State.UNCONFIGURED}, Mode.STOPPED)  # new processes wait
    assert all(process.pid != before[name] for name, process in up.processes.items())
    up.log.clear()
    up.run(5.0)
    assert up.log == []
    up.command(Verb.STARTUP)
    up.run(3.0)
    assert up.mode == Mode.SERVING
    assert all(node.restarts == 0 for node in up.manager.view().nodes)


def test_restart_of_one_node_goes_through_all_states(up: World) -> None:
    up.command(Verb.RESTART, "camera")
    up.run(2.0)
    assert up.log == [
        "camera DEACTIVATE", "camera CLEANUP", "camera CONFIGURE", "camera ACTIVATE",
        "detector DEACTIVATE", "detector ACTIVATE",
    ]  # fmt: skip
    with pytest.raises(SettingsError, match="'nobody' is not allowed: one of buffer"):
        up.manager.check(Verb.RESTART, "nobody")


@pytest.fixture
def watched() -> World:
    world = World(WATCHED)
    world.manager.cloud(online=True)
    world.run(3.0)
    assert world.mode == Mode.SERVING
    world.log.clear()
    return world


def test_maintenance_takes_only_the_nodes_that_serve_customers_down(watched: World) -> None:
    watched.command(Verb.MAINTENANCE)
    watched.run(2.0)
    assert watched.log == ["deposit DEACTIVATE"]
    assert (watched.mode, watched.manager.view().reasons, watched.manager.outcome()) == (
        Mode.MAINTENANCE, (), (True, ""),
    )  # fmt: skip
    watched.kill("camera")
    assert (watched.mode, watched.manager.view().reasons) == (Mode.MAINTENANCE, ("CAMERA",))
    watched.kill("deposit")
    watched.run(5.0)
    assert (watched.mode, watched.node("deposit").state) == (Mode.MAINTENANCE, State.INACTIVE)
    watched.command(Verb.RESTART, "camera")
    watched.run(3.0)
    assert watched.mode == Mode.MAINTENANCE
    watched.command(Verb.RESUME)
    watched.run(2.0)
    assert watched.mode == Mode.SERVING


def test_out_of_service_takes_the_same_down_and_shows_paused(watched: World) -> None:
    watched.command(Verb.OUT_OF_SERVICE)
    watched.run(2.0)
    assert watched.log == ["deposit DEACTIVATE"]
    assert (watched.mode, watched.manager.outcome()) == (Mode.PAUSED, (True, ""))
    watched.command(Verb.RESUME)
    watched.run(2.0)
    assert watched.mode == Mode.SERVING


def test_maintenance_is_shown_only_when_nobody_is_served_any_more(watched: World) -> None:
    watched.refuse.add(("deposit", Transition.DEACTIVATE))
    watched.command(Verb.MAINTENANCE)
    watched.run(1.0)
    assert watched.mode == Mode.STOPPING
    watched.refuse.clear()
    watched.run(5.0)
    assert watched.mode == Mode.MAINTENANCE


def test_a_new_manager_keeps_the_standing_order(watched: World) -> None:
    for verb, mode in (
        (Verb.MAINTENANCE, Mode.MAINTENANCE), (Verb.PAUSE, Mode.PAUSED), (Verb.OUT_OF_SERVICE, Mode.PAUSED),
    ):  # fmt: skip
        watched.command(verb)
        watched.run(2.0)
        watched.manager = Manager(WATCHED, watched.options, watched.now_s, verb, random.Random(1))
        watched.run(3.0)
        assert watched.mode == mode
        assert watched.node("deposit").state == State.INACTIVE
        assert watched.node("health").state == State.ACTIVE  # it watches power and heat in PAUSE too


@pytest.mark.parametrize(
    ("level", "causes", "mode", "reasons"),
    [
        (LimitLevel.WARN, (Cause.TEMPERATURE,), Mode.SERVING, ()),
        (LimitLevel.WARN, (Cause.CLOCK,), Mode.DEGRADED, ("CLOCK",)),
        (LimitLevel.SLOW, (Cause.TEMPERATURE,), Mode.DEGRADED, ("TEMPERATURE",)),
        (LimitLevel.PAUSED, (Cause.POWER, Cause.STORAGE), Mode.OUT_OF_ORDER, ("POWER", "STORAGE")),
        (LimitLevel.SHUTDOWN, (Cause.POWER,), Mode.OUT_OF_ORDER, ("POWER",)),
    ],
)
def test_limits_show_in_mode_and_reasons(
    watched: World, level: LimitLevel, causes: tuple[Cause, ...], mode: Mode, reasons: tuple[str, ...]
) -> None:
    watched.manager.limits(level, causes)
    assert (watched.mode, watched.manager.view().reasons) == (mode, reasons)
    watched.run(2.0)
    assert watched.log == []
    watched.manager.limits(LimitLevel.NORMAL, ())
    assert watched.mode == Mode.SERVING


def test_switching_off_shuts_all_down_but_who_watches_and_can_be_called_off(watched: World) -> None:
    watched.manager.limits(LimitLevel.SHUTDOWN, (Cause.POWER,))
    watched.manager.switch_off()
    assert watched.mode == Mode.STOPPING
    with pytest.raises(SettingsError, match=r"RESUME is not allowed: the machine is being switched off \(POWER\)"):
        watched.manager.check(Verb.RESUME)
    watched.run(6.0)
    assert watched.manager.at_rest
    assert (watched.mode, watched.manager.view().reasons) == (Mode.STOPPED, ("POWER",))
    assert watched.log.index("deposit ACTIVE_SHUTDOWN") < watched.log.index("buffer ACTIVE_SHUTDOWN")
    assert {watched.node(name).state for name in GRAPH["nodes"]} == {State.UNCONFIGURED}  # new processes wait
    assert watched.node("health").state == State.ACTIVE
    watched.manager.limits(LimitLevel.NORMAL, ())
    watched.manager.serve_again()
    watched.run(3.0)
    assert watched.mode == Mode.SERVING


def test_what_was_paused_is_paused_again_when_switching_off_is_called_off(watched: World) -> None:
    watched.command(Verb.PAUSE)
    watched.run(2.0)
    watched.manager.switch_off()
    watched.run(6.0)
    watched.manager.serve_again()
    watched.run(5.0)
    assert watched.mode == Mode.PAUSED


def test_a_process_that_never_appears_is_said_loudly() -> None:
    world = World()
    del world.processes["camera"]
    world.run(15.0)
    assert (world.mode, world.errors) == (Mode.STARTING, [])
    world.run(10.0)
    assert (world.mode, world.errors) == (Mode.OUT_OF_ORDER, ["missing"])
    assert "is its process started?" in world.node("camera").last_error
    world.processes["camera"] = world.spawn()
    world.run(3.0)
    assert world.states() == {State.ACTIVE}


TROUBLES = [
    "kill",
    "freeze",
    "busy",
    "outsider",
    "lose",
    "pause",
    "resume",
    "reset",
    "shutdown",
    "restart",
    "maintenance",
    "switch off",
    "serve again",
    "manager",
    "refuse",
    "wait",
]
TROUBLE = st.lists(
    st.tuples(
        st.sampled_from(TROUBLES),
        st.sampled_from(list(GRAPH["nodes"])),
        st.floats(0.0, 6.0),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(trouble=TROUBLE, seed=st.integers(0, 2**16))
def test_whatever_happens_a_startup_in_peace_ends_with_all_active(
    trouble: list[tuple[str, str, float]], seed: int
) -> None:
    """The property that matters: no sequence of troubles leaves a state that STARTUP cannot bring up."""
    world = World(WATCHED, seed=seed)
    world.manager.cloud(online=True)
    for what, name, wait_s in trouble:
        process = world.processes.get(name)
        if what == "kill":
            world.kill(name)
        elif what in ("freeze", "busy") and process:
            process.frozen = "T" if what == "freeze" else "R"
        elif what == "outsider" and process:
            process.state = State(1 + (process.state % 3))
        elif what == "lose":
            world.lose_answers += 1
        elif what == "manager":
            world.manager = world.new_manager()
            world.manager.cloud(online=True)
        elif what == "refuse":
            world.refuse ^= {(name, Transition.ACTIVATE)}
        elif what == "restart":
            world.command(Verb.RESTART, name)
        elif what == "switch off":
            world.manager.limits(LimitLevel.SHUTDOWN, (Cause.POWER,))
            world.manager.switch_off()
        elif what == "serve again":
            world.manager.limits(LimitLevel.NORMAL, ())
            world.manager.serve_again()
        elif what in ("pause", "resume", "reset", "shutdown", "maintenance"):
            world.command(Verb[what.upper()])
        world.run(wait_s)
        view = world.manager.view()
        assert view.mode != Mode.SERVING or all(node.state == State.ACTIVE for node in view.nodes)
    world.refuse.clear()
    world.lose_answers = 0
    for process in world.processes.values():
        process.frozen = ""
    world.manager.limits(LimitLevel.NORMAL, ())
    world.manager.serve_again()
    world.run(5.0)
    world.command(Verb.STARTUP)
    world.run(15.0)
    assert world.mode == Mode.SERVING, world.manager.view()
    assert world.states() == {State.ACTIVE}
    world.log.clear()
    world.run(5.0)
    assert world.log == []  # at rest: nothing is done twice
