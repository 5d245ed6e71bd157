"""Power cuts in one process: record visits, cut at a point of the log, start the nodes on what is left, audit.

Runs under the recorder (`campaign.py` sees to it), so a start after a cut is recorded too and can be cut again.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit import Evidence, audit, read_rows
from disk import Disk, Kind, Record, Recorder, read_log
from myrvm_core.claims import machine_key_file
from myrvm_core.deposit import State
from myrvm_core.signing import KeyRing, PublicKey, SigningKey, thumbprint
from myrvm_core.voucher import Voucher, digest
from world import DOWN_S, JPEG, Truth, World, after_the_cut, truth_of

KEEP = (0.0, 0.0, 0.2, 0.5, 0.8, 1.0)
AGAIN = 0.25  # cuts that are followed by another one, during the start after the first
CLOCK_BACK = 0.1  # starts with a clock that stands an hour before the cut
HOUR_NS = 3_600_000_000_000

Ignored = Callable[[str], bool]


@dataclass
class Cut:
    """One cut (or several in a row) and what the audit said."""

    point: str
    keep: float
    journal: bool
    starts: int
    problems: list[str]
    clock_back: bool = False

    def __str__(self) -> str:
        disk = "ext4" if self.journal else "strict"
        back = ", clock set back" if self.clock_back else ""
        return f"{self.point} ({disk}, {self.keep:.0%} of the un-synced kept, {self.starts} starts{back})"


@dataclass
class Recording:
    """A run: what the disk looked like before, what happened, in order."""

    start: Callable[[bool], Disk]
    records: list[Record]
    before: Truth

    def truth_at(self, position: int) -> Truth:
        """What was true outside when `position` records had been made."""
        return truth_of(record.data.decode() for record in self.records[:position] if record.kind is Kind.MARK)


def point_of(records: Sequence[Record], position: int) -> str:
    """Where in the protocol a cut is: after which event, message or answer, and whether something is un-synced then."""
    name, loose = "the start", False
    for record in reversed(records[:position]):
        if record.kind is Kind.MARK:
            text = record.data.decode()
            if text.startswith("{"):
                event = json.loads(text)
                name = " ".join(filter(None, [event["event"], event.get("state") or event.get("place", "")]))
            else:
                name = text
            break
        loose = True
    return f"after {name}{', writing' if loose else ''}"


class Rehearsal:
    """Makes recordings and cuts in a folder of its own.

    Args:
        folder: emptied as it goes.
        ignored: syncs that never happened.
    """

    def __init__(self, folder: Path, ignored: Ignored = lambda path: False) -> None:
        self._folder = folder
        self._ignored = ignored
        self._recorder = Recorder()
        self._made = 0

    def _new(self, name: str) -> Path:
        self._made += 1
        return self._folder / f"{name}-{self._made}"

    def record(self, seed: int, visits: int) -> Recording:
        """Let customers come to a new machine."""
        data = self._new("machine")
        data.mkdir(parents=True)

        def customers(world: World) -> None:
            for _ in range(visits):
                world.visit()
            world.settle()

        return self._record(data, lambda mark: World(data, seed, mark), customers, Truth())

    def _record(
        self, data: Path, make: Callable[[Callable[[str], None]], World], play: Callable[[World], None], before: Truth
    ) -> Recording:
        strict, ext4 = Disk(data, ignored=self._ignored), Disk(data, journal=True, ignored=self._ignored)
        log = data.with_suffix(".log")
        self._recorder.start(data, log)
        try:
            world = make(self._recorder.mark)
            play(world)
            world.end()
        finally:
            self._recorder.stop()
        records = read_log(log)
        log.unlink()
        return Recording(lambda journal: ext4 if journal else strict, records, before)

    @staticmethod
    def positions(recording: Recording, count: int, chance: random.Random) -> list[int]:
        """Where to cut: each named point once while there is room, the rest anywhere."""
        named: dict[str, list[int]] = {}
        for position in range(len(recording.records) + 1):
            named.setdefault(point_of(recording.records, position), []).append(position)
        chosen = [chance.choice(positions) for positions in named.values()][:count]
        return chosen + [chance.randint(0, len(recording.records)) for _ in range(count - len(chosen))]

    def cuts(self, recording: Recording, positions: Iterable[int], chance: random.Random) -> Iterable[Cut]:
        """Cut at each position, in rising order, start again and audit."""
        followed = 0
        for position in sorted(positions):
            for record in recording.records[followed:position]:
                recording.start(False).follow(record)
                recording.start(True).follow(record)
            followed = position
            yield self._cut(recording, position, chance)

    def _cut(self, recording: Recording, position: int, chance: random.Random) -> Cut:
        keep, journal = chance.choice(KEEP), chance.random() < 0.5
        data = self._new("cut")
        recording.start(journal).after_cut(data, keep, chance)
        truth = recording.truth_at(position)
        back = chance.random() < CLOCK_BACK
        cut = Cut(point_of(recording.records, position), keep, journal, 1, [], back)
        now_ns = truth.now_ns + (-HOUR_NS if back else int(DOWN_S * 1e9))
        try:
            while chance.random() < AGAIN:
                data, truth = self._cut_again(data, truth, chance, now_ns)
                truth.session_id = ""  # it may have timed out meanwhile
                now_ns = truth.now_ns + int(DOWN_S * 1e9)
                cut.starts += 1
            cut.problems = self._start(data, truth, chance.randrange(1 << 30), now_ns, back)
        except Exception as error:
            cut.problems = [f"{type(error).__name__}: {error}"]
        finally:
            shutil.rmtree(data, ignore_errors=True)
        return cut

    def _cut_again(self, data: Path, truth: Truth, chance: random.Random, now_ns: int) -> tuple[Path, Truth]:
        seed = chance.randrange(1 << 30)

        def make(mark: Callable[[str], None]) -> World:
            return after_the_cut(data, truth, seed, now_ns, mark)

        recording = self._record(data, make, lambda world: world.settle(), copy.deepcopy(truth))
        position = chance.randint(0, len(recording.records))
        journal = chance.random() < 0.5
        disk = recording.start(journal)
        later = recording.before
        for record in recording.records[:position]:
            disk.follow(record)
            if record.kind is Kind.MARK and record.data.startswith(b"{"):
                later.apply(json.loads(record.data))
        left = self._new("cut")
        disk.after_cut(left, chance.choice(KEEP), chance)
        shutil.rmtree(data)
        return left, later

    def _start(self, data: Path, truth: Truth, seed: int, now_ns: int, back: bool) -> list[str]:
        open_session, ended = truth.session_id, truth.ended_sessions
        world = after_the_cut(data, truth, seed, now_ns, lambda text: None)
        problems: list[str] = []
        machine = world.deposit._machine
        world.bus.run(lambda: machine.state is not State.RECOVERING, 30.0)
        found = machine.session.session_id if machine.session else ""
        if open_session and found != open_session and not back:
            problems.append(f"the customer's session {open_session} is lost")
        if found in ended:
            problems.append(f"session {found} had ended and is open again")
        world.settle()
        if machine.session and machine.session_items != len(truth.items_of(machine.session.session_id)):
            shown = len(truth.items_of(machine.session.session_id))
            problems.append(f"the session counts {machine.session_items} items, the customer was shown {shown}")
        world.insert("good")
        world.settle()
        if not truth.shown or truth.shown[-1]["outcome"] != 1:
            problems.append(f"the next good item is not accepted, state {machine.state.name}")
        world.end()
        problems += [f"damage reported: {report}" for report in world.buffer._buffer.reports]
        unjudged = [item for item in truth.items if item.place == "bin" and not item.deposit_id]
        evidence = Evidence(
            credited=[(key, points) for key, points in truth.ledger.items()],
            rows=read_rows(data / "buffer" / "deposits.db"),
            shown=[(shown["deposit_id"], shown["outcome"], shown["points"]) for shown in truth.shown],
            places=[(item.deposit_id, item.place) for item in truth.items if item not in unjudged],
            pictures=pictures(data),
        )
        return [*problems, *audit(evidence), *voucher_problems(data, truth)]


def voucher_problems(data: Path, truth: Truth) -> Iterable[str]:
    """What is wrong with the vouchers: the session that may be open still has none."""
    public = SigningKey.load_or_make(machine_key_file(data)).public
    key = PublicKey(key_id=thumbprint(public), public=public, purposes=frozenset({Voucher.PURPOSE}))
    ring = KeyRing(keys=(key,))
    for session_id, shown in truth.vouchers.items():
        file = data / "vouchers" / f"{session_id}.json"
        signed = json.loads(file.read_text())["document"] if file.exists() else ""
        items = truth.items_of(session_id)
        if len(shown) > 1 or (shown and shown != {signed}):
            yield f"session {session_id}: {len(shown)} vouchers were shown, {'one' if signed else 'none'} is kept"
        if not signed and items and session_id in truth.ended_sessions:
            yield f"session {session_id} has brought {len(items)} items and has no voucher"
        if signed:
            voucher, _ = Voucher.read(signed, ring, 0.0)
            if (voucher.items, voucher.points, voucher.deposits) != (len(items), 10 * len(items), digest(items)):
                yield f"session {session_id}: a voucher of {voucher.items} items, the customer was shown {len(items)}"


def pictures(data: Path) -> set[str]:
    """Deposits of which a whole picture is kept."""
    return {path.stem for path in (data / "unresolved").glob("*.jpg") if path.read_bytes() == JPEG}
