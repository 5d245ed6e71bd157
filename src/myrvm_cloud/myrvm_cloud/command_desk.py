"""Where commands from afar arrive: checked, written down, executed one at a time, answered. One asyncio task owns it.

Order, each step on disk before the next: the counter is used up and the command is under way (journal); a line
`accepted` (audit log); it is executed; a line `ended`; its outcome waits for the server (journal). A start that finds a
command under way answers `interrupted`. What anybody can send (forged, replayed, expired, for another machine) is
counted in memory, answered from memory, and written as one audit line at once and then one each `refusals_s`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from myrvm_core.errors import RvmError, SettingsError, StorageError

from myrvm_cloud.audit_log import AuditLog, entries
from myrvm_cloud.command import ENVELOPE_CHARACTERS, Anchor, Command, Outcome, RestartNode, Status
from myrvm_cloud.command_check import (
    Checked,
    Moment,
    Reason,
    RefusedError,
    TokenBucket,
    check,
    command_of,
    digest,
    too_large,
)
from myrvm_cloud.command_executor import Executor
from myrvm_cloud.command_graph import NotNowError, Server
from myrvm_cloud.command_journal import JournalFile, Running
from myrvm_cloud.command_settings import CommandSettings
from myrvm_cloud.key_store import KeyStore
from myrvm_cloud.time_limit import within

WAITING = 32  # envelopes that have arrived and are not looked at yet; more are not taken
REFUSED_KEPT = 50  # outcomes of refused envelopes that are kept in memory
TICK_S = 1.0


class CommandDesk:
    """Takes envelopes, gives outcomes.

    Args:
        machine: our own name, as commands must name it.
        folder: of the audit log.
        audit: the log.
        journal: loaded here.
        keys: whom we trust.
        settings: rates.
        executor: carries commands out.
        moment: the time of day.
        boot_id: of the kernel; tells whether a reboot has happened.
        log: the node's.
    """

    def __init__(
        self,
        machine: str,
        folder: Path,
        audit: AuditLog,
        journal: JournalFile,
        keys: KeyStore,
        settings: CommandSettings,
        executor: Executor,
        moment: Callable[[], Moment],
        boot_id: str,
        log: Any,
    ) -> None:
        self._machine, self._audit, self._journal, self._keys = machine, audit, journal, keys
        self._settings, self._executor, self._moment = settings, executor, moment
        self._boot_id, self._log = boot_id, log
        self._waiting: deque[str] = deque()
        self._arrived = asyncio.Event()
        self._bucket = TokenBucket(settings.burst, settings.refill_s)
        self._refused: OrderedDict[str, Outcome] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._samples: dict[str, str] = {}
        self._counted_s = -settings.refusals_s
        self._writing = asyncio.Lock()
        self._trouble = ""
        self._owed: Outcome | None = None
        self._resumed = False
        self.executed = self.refused = 0
        journal.load(entries(folder))

    # The bridge's side, on the loop's thread; `figures` and `problem` on any

    def receive(self, envelope: str) -> bool:
        """Take an envelope; False where too many wait: it will be sent again, for it is not answered."""
        if len(envelope) > ENVELOPE_CHARACTERS:  # answered at once, so that what waits is small
            self._turn_away(digest(envelope), too_large(envelope), self._moment())
            return True
        running = self._journal.journal.running
        if running is not None and running.digest == digest(envelope):
            return True  # the server repeats what it has no outcome of: no attack
        if len(self._waiting) == WAITING:
            self._counts["queue"] += 1
            return False
        self._waiting.append(envelope)
        self._arrived.set()
        return True

    def offer(self, document: str) -> None:
        """The configuration that the server keeps: taken as any command, passed over where it is not a newer one."""
        counters, two_keys = self._journal.journal.counters, self._settings.two_keys
        try:
            check(document, self._machine, self._keys.ring, two_keys, counters, self._moment())
        except RefusedError as error:
            if error.reason is Reason.REPLAYED:
                return
        self.receive(document)

    def turned_away(self, reason: Reason, line: str) -> None:
        """What the line to the server has refused by itself: counted in the audit log as envelopes are."""
        self._count(RefusedError(reason, line))

    def outcomes(self) -> Sequence[Outcome]:
        """What the server is still to be told, oldest first."""
        return (*self._journal.journal.outcomes, *self._refused.values())

    async def confirmed(self, digests: Iterable[str]) -> None:
        """The server has these.

        Raises:
            StorageError: the disk does not take it; they are told again.
        """
        digests = list(digests)
        for name in digests:
            self._refused.pop(name, None)
        async with self._writing:
            await asyncio.to_thread(self._journal.confirm, digests)

    def reach(self, server: Server) -> None:
        """There is a line to this server now."""
        self._executor.server = server

    @property
    def figures(self) -> dict[str, float | int | str]:
        """For the node's health."""
        return {
            "commands_executed": self.executed,
            "commands_refused": self.refused,
            "command_outcomes_waiting": len(self._journal.journal.outcomes) + len(self._refused),
            "command_outcomes_dropped": self._journal.journal.dropped,
            "audit_lines": self._audit.head.sequence,
            "command_keys": len(self._keys.ring.keys),
        }

    @property
    def problem(self) -> str:
        """What is wrong, one line; empty for nothing."""
        return self._keys.problem or self._journal.problem or self._trouble

    async def run(self) -> None:
        """Work until cancelled by the owner, then sign the audit log to its end. May be run again, on another loop."""
        self._arrived, self._writing = asyncio.Event(), asyncio.Lock()  # they belong to one loop
        try:
            while True:
                try:
                    await self._settle()
                    await self._next()
                    await self._count_refusals()
                    await self._executor.tick()
                    self._trouble = ""
                except RvmError as error:
                    self._in_trouble(error)
                    await asyncio.sleep(TICK_S)
        finally:
            try:
                await self._count_refusals(last=True)
                self._audit.close()
            except StorageError as error:
                self._log.error("audit log is not signed to its end", error=str(error))

    async def _next(self) -> None:
        """The next envelope, if one comes soon."""
        if self._waiting:
            self._arrived.set()
        with suppress(asyncio.TimeoutError):
            await within(TICK_S, self._arrived.wait())
        if self._waiting:
            await self.handle(self._waiting.popleft())
        if not self._waiting:
            self._arrived.clear()

    # One envelope

    async def handle(self, envelope: str) -> None:
        """Check one envelope and do what it says.

        Raises:
            StorageError: the disk does not take what must be written first; nothing was executed.
        """
        moment = self._moment()
        journal = self._journal.journal
        try:
            checked = check(envelope, self._machine, self._keys.ring, self._settings.two_keys, journal.counters, moment)
            if checked.digest in journal.ended:  # the counters say so already; this is the second lock
                raise RefusedError(Reason.REPLAYED, "it has ended before", checked.claims)
        except RefusedError as error:
            self._turn_away(digest(envelope), error, moment)
            return
        if not self._bucket.take(time.monotonic()):
            line = f"more than {self._settings.burst} commands, one more each {self._settings.refill_s:g} s"
            self._count(RefusedError(Reason.RATE, line, checked.claims))
            return
        try:
            command = command_of(checked)
        except RefusedError as error:
            await self._refuse(checked, error, moment)
            return
        await self._execute(command, checked)

    async def _execute(self, command: Command, checked: Checked) -> None:
        node = command.parameters.node if isinstance(command.parameters, RestartNode) else ""
        running = Running(command.digest, command.command_id, command.kind, node, self._boot_id)
        facts = {**_facts(checked), "parameters": checked.claims.parameters}
        try:
            await self._spend(checked, running)
            await self._write("accepted", facts)
        except StorageError as error:
            if self._journal.journal.running is None:
                raise
            await self._end(command, Status.FAILED, f"not executed: {error}", {})
            return
        self.executed += 1
        self._log.info("command", command_id=command.command_id, kind=command.kind, signed_by=command.signed_by)
        try:
            detail = await self._executor.execute(command)
        except (NotNowError, SettingsError) as error:  # nothing was done
            await self._end(command, Status.REFUSED, str(error), {})
        except RvmError as error:
            await self._end(command, Status.FAILED, str(error), {})
        except Exception as error:  # a defect of ours: it is answered, and the next command is taken
            self._log.exception("command failed")
            await self._end(command, Status.FAILED, f"defect: {type(error).__name__}", {})
        else:
            await self._end(command, Status.DONE, "", detail)

    async def _end(self, command: Command, status: Status, reason: str, detail: dict[str, str]) -> None:
        outcome = Outcome(
            digest=command.digest, command_id=command.command_id, kind=command.kind, status=status,
            reason=reason[:500], detail=detail, at=self._moment().epoch_s,
        )  # fmt: skip
        await self._tell(outcome)

    async def _tell(self, outcome: Outcome) -> None:
        """A line in the audit log, then the outcome waits for the server; where the log takes none, without it."""
        level = self._log.info if outcome.status is Status.DONE else self._log.warning
        level("command ended", command_id=outcome.command_id, status=outcome.status.value, reason=outcome.reason)
        facts = {name: value for name, value in outcome.model_dump(mode="json").items() if name not in ("audit", "at")}
        try:
            await self._write("ended", {**facts, "command": facts.pop("kind")})
        except StorageError as error:
            self._in_trouble(error)
        head = self._audit.head
        await self._keep(outcome.model_copy(update={"audit": Anchor(sequence=head.sequence, hash=head.hash)}))

    async def _keep(self, outcome: Outcome) -> None:
        """Put the end of a command on disk; owed until it is there."""
        self._owed = outcome
        async with self._writing:
            await asyncio.to_thread(self._journal.end, outcome)
        self._owed = None

    async def _refuse(self, checked: Checked, error: RefusedError, moment: Moment) -> None:
        """A signed command that is not allowed: its counter is used up, it has a line and an outcome of its own."""
        self.refused += 1
        claims = checked.claims
        outcome = Outcome(
            digest=checked.digest, command_id=claims.command_id, kind=claims.kind, status=Status.REFUSED,
            reason=f"{error.reason.value}: {error}"[:500], at=moment.epoch_s,
        )  # fmt: skip
        async with self._writing:
            await asyncio.to_thread(self._journal.spend, checked.counters, None, outcome)
        await self._write("refused", {**_facts(checked), "reason": outcome.reason})
        self._log.warning("command refused", command_id=claims.command_id, reason=outcome.reason)

    def _turn_away(self, name: str, error: RefusedError, moment: Moment) -> None:
        """What anybody can send: counted, answered from memory. One that was executed before keeps its outcome."""
        self._count(error)
        if name in self._journal.journal.ended or error.reason is Reason.TIME:  # later it may be obeyed
            return
        status = Status.EXPIRED if error.reason is Reason.EXPIRED else Status.REFUSED
        claims = error.claims
        self._refused[name] = Outcome(
            digest=name, command_id=claims.command_id if claims else "", kind=claims.kind if claims else "",
            status=status, reason=f"{error.reason.value}: {error}"[:500], at=moment.epoch_s,
        )  # fmt: skip
        while len(self._refused) > REFUSED_KEPT:
            self._refused.popitem(last=False)

    def _count(self, error: RefusedError) -> None:
        """One that is not answered comes again with a heartbeat: its counter is not used up, it may yet be obeyed."""
        self.refused += 1
        self._counts[error.reason.value] += 1
        self._samples.setdefault(error.reason.value, str(error)[:200])

    async def _count_refusals(self, last: bool = False) -> None:
        """One audit line for all that was turned away since the last."""
        now_s = time.monotonic()
        if not self._counts or not (last or now_s - self._counted_s >= self._settings.refusals_s):
            return
        counts, samples = dict(self._counts), dict(self._samples)
        facts = {"counts": counts, "first_of_each": samples}
        if last:  # the owner cancels us: nothing may be awaited any more
            self._audit.append("turned_away", facts)
        else:
            await self._write("turned_away", facts)
        self._counts.subtract(counts)
        self._counts = +self._counts
        self._samples.clear()
        self._counted_s = now_s
        self._log.warning("commands turned away", **counts)

    # After a start

    async def _settle(self) -> None:
        """What must be on disk before the next command: the end of the last one, also of one that a start has found.

        Raises:
            RvmError: the disk does not take it, or a configuration could not be taken back.
        """
        if self._owed is not None:
            await self._keep(self._owed)
        elif (running := self._journal.journal.running) is not None:
            await self._tell(self._interrupted(running))
        if not self._resumed:
            await self._executor.resume()
            self._resumed = True

    def _interrupted(self, running: Running) -> Outcome:
        """How a command ended that we did not see end."""
        rebooted = running.kind == "reboot" and running.boot_id != self._boot_id
        came_up = running.kind == "restart_node" and running.node == "cloud_bridge"
        status = Status.DONE if rebooted or came_up else Status.INTERRUPTED
        reason = "" if status is Status.DONE else "the machine or the bridge was started anew while it was executed"
        return Outcome(
            digest=running.digest, command_id=running.command_id, kind=running.kind, status=status, reason=reason,
            at=self._moment().epoch_s,
        )  # fmt: skip

    # Disk

    async def _spend(self, checked: Checked, running: Running) -> None:
        async with self._writing:
            await asyncio.to_thread(self._journal.spend, checked.counters, running)

    async def _write(self, kind: str, facts: dict[str, Any]) -> None:
        await asyncio.to_thread(self._audit.append, kind, facts)

    def _in_trouble(self, error: RvmError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            self._log.error("commands", error=self._trouble)


def _facts(checked: Checked) -> dict[str, Any]:
    claims = checked.claims
    return {
        "command_id": claims.command_id, "command": claims.kind, "counters": checked.counters,
        "signed_by": list(checked.signed_by), "digest": checked.digest,
    }  # fmt: skip
