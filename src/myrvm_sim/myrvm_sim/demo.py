"""`make demo`: the machine takes forty items, meets an outage, a jam, a hand, a killed node and a cut.

`python -m myrvm_sim.demo [--items N] [--seed N] [--report FILE] [--stay]`. Cabinet and server are stand-ins, everything
between them is the real graph. Exit 0 only if the customer's screen, the server's ledger and the bin agree.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from myrvm_core.errors import RvmError
from myrvm_core.i18n import text_for
from myrvm_core.verdict import Reason
from myrvm_hardware.kernel_clock import since_epoch_ns
from myrvm_interfaces.msg import CloudStatus, DepositResult, Session, SystemStatus
from rich.console import Console
from rich.progress import Progress

from myrvm_core import paths
from myrvm_sim import demo_tables, stay
from myrvm_sim.afar import Afar
from myrvm_sim.album import PICTURES
from myrvm_sim.customer import READY_STATES, Customer
from myrvm_sim.demo_report import ACCEPTED, DONATIONS, RETURNED, UNRESOLVED, Figures, Report, Row
from myrvm_sim.desk import Desk, Options, desk
from myrvm_sim.incidents import Incidents
from myrvm_sim.memory import PeakMemory
from myrvm_sim.scenario import STRANGER, Step, plan
from myrvm_sim.server_client import TOKENS
from myrvm_sim.vouchers import UNCLAIMED

START_S, ITEM_S, READY_S, LEDGER_S = 60.0, 40.0, 40.0, 40.0
SERVING = (SystemStatus.SERVING, SystemStatus.DEGRADED)
OUTCOMES = {
    DepositResult.ACCEPTED: ACCEPTED,
    DepositResult.RETURNED: RETURNED,
    DepositResult.UNRESOLVED: UNRESOLVED,
}


class Demo:
    """Plays a plan on a desk that has been started."""

    def __init__(self, running: Desk, customer: Customer, language: str, progress: Progress) -> None:
        self._desk, self._customer, self._language, self._progress = running, customer, language, progress
        self._memory = PeakMemory(lambda: [running.machine.pid(name) for name in running.machine.names])
        self._incidents = Incidents(running, customer, self._say)
        self._afar = Afar(running, customer, self._say)
        customer.meanwhile = self._meanwhile
        self._session: Session | None = None
        self._items: list[tuple[Step, int, str, list[str]]] = []  # step, cabinet's number, account, deposits
        self._down_since_s: float | None = None
        self._down_s = 0.0
        self.troubles: list[str] = []

    def play(self, steps: list[Step]) -> Report:
        """All steps, then the accounts; a step that fails ends the play and is reported."""
        begun_s = time.monotonic()
        task = self._progress.add_task("items", total=len(steps))
        try:
            self._await_start()
            for step in steps:
                self._prepare(step)
                self._insert(step, len(steps))
                self._progress.advance(task)
            self._finish()
        except RvmError as error:
            self.troubles.append(str(error))
        self.troubles += self._incidents.missing()
        return self._report(time.monotonic() - begun_s)

    def _await_start(self) -> None:
        customer = self._customer
        customer.wait(
            lambda: customer.status.mode == SystemStatus.SERVING and customer.cloud.state == CloudStatus.ONLINE,
            "a machine that serves, with its server",
            START_S,
        )
        self._say(f"the graph serves {customer.status.start_time_s:.1f} s after its start")

    def _await_server(self) -> None:
        self._customer.wait(lambda: self._customer.cloud.state == CloudStatus.ONLINE, "the server", READY_S)

    def _prepare(self, step: Step) -> None:
        if step.server_down is not None:
            self._switch_server(step.server_down)
        if step.customer is not None:
            self._end_session()
            self._customer.wait(self._ready, "a machine that is ready", READY_S)
            self._session = self._start_session(step.customer)
            self._say(f"session of {step.customer}" if step.customer else "a donation")
        self._customer.wait(self._ready, "a machine that is ready", READY_S)

    def _start_session(self, customer: str) -> Session:
        if customer == STRANGER:
            return self._customer.start_offline_session("token-of-nobody")
        if customer:
            self._await_server()
        return self._customer.start_session(TOKENS[customer] if customer else "")

    def _ready(self) -> bool:
        customer = self._customer
        ready = customer.state.state in READY_STATES and customer.status.mode in SERVING
        return ready and self._desk.cabinet.chamber_is_free()

    def _insert(self, step: Step, count: int) -> None:
        customer = self._customer
        known = set(customer.results)
        self._incidents.before(step.incident)
        account = self._session.account_id if self._session and self._session.account_id else DONATIONS
        if self._session and self._session.kind == Session.KIND_VOUCHER:
            account = UNCLAIMED  # until the voucher is redeemed
        disguise = next(iter(sorted(PICTURES.glob("mineral_*")))) if step.disguised else None
        item = self._desk.cabinet.insert(step.kind, disguise, disguised=step.disguised)
        deposits: list[str] = []
        self._items.append((step, item["number"], account, deposits))
        try:
            customer.wait(lambda: set(customer.results) - known, f"a result for item {step.number}", ITEM_S)
        finally:
            deposits += sorted(set(customer.results) - known)
        self._incidents.after(step.number)
        row = self._row(step, item, account, deposits)
        self._say(demo_tables.line(row, count))

    def _meanwhile(self) -> None:
        self._memory.sample()
        self._incidents.meanwhile()

    def _switch_server(self, down: bool) -> None:
        self._desk.server.set_down(down)
        self._say("the server goes down" if down else "the server is back")
        if down:
            self._down_since_s = time.monotonic()
        elif self._down_since_s is not None:
            self._down_s, self._down_since_s = time.monotonic() - self._down_since_s, None
            self._await_server()
            self._afar.command()

    def _end_session(self) -> None:
        if self._session is None:
            return
        session, self._session = self._session, None
        self._customer.wait(self._ready, "a machine that is ready", READY_S)
        items, points = self._customer.end_session(session)
        self._say(f"session ends: {items} items, {points} points on the screen")
        if session.kind == Session.KIND_VOUCHER:
            self._afar.take_voucher(session, items, points)

    def _finish(self) -> None:
        self._end_session()
        customer = self._customer
        accepted = [message for message in customer.results.values() if message.outcome == DepositResult.ACCEPTED]
        self._say("waiting until the server has all deposits")
        customer.wait(lambda: len(self._desk.server.ledger()) >= len(accepted), "the whole ledger", LEDGER_S)
        customer.wait(
            lambda: customer.buffer.pending + customer.buffer.leased + customer.buffer.held == 0,
            "a buffer without unsent deposits",
            LEDGER_S,
        )
        self._afar.redeem()

    def _row(self, step: Step, item: dict, account: str, deposits: list[str]) -> Row:
        row = Row(step.number, step.kind.value, account, place=item["place"], disguised=step.disguised)
        if not deposits:
            return row
        result = self._customer.results[deposits[0]]
        reason = text_for(Reason(result.verdict.reason), self._language).title
        decided_ns = self._customer.decided_ns.get(result.deposit_id)
        return Row(
            number=step.number,
            kind=step.kind.value,
            account=account,
            deposit_id=result.deposit_id,
            outcome=OUTCOMES[result.outcome],
            reason=reason,
            class_name=result.verdict.class_name,
            score=result.verdict.score,
            place=item["place"],
            latency_s=None if decided_ns is None else (decided_ns - since_epoch_ns(item["inserted_ns"])) / 1e9,
            points=result.points,
            recovered=result.recovered,
            disguised=step.disguised,
        )

    def _report(self, duration_s: float) -> Report:
        truth = {item["number"]: item for item in self._desk.cabinet.truth()["items"]}
        rows = [self._row(step, truth[number], account, deposits) for step, number, account, deposits in self._items]
        told = {deposit for _, _, _, deposits in self._items for deposit in deposits[:1]}
        extra = set(self._customer.results) - told
        troubles = self.troubles + [f"deposit {deposit} belongs to no item" for deposit in sorted(extra)]
        figures = Figures(
            graph_start_s=self._customer.status.start_time_s,
            peak_memory_mb=self._memory.peak_mb,
            told_again=self._customer.told_again,
            server_down_s=self._down_s,
            duration_s=duration_s,
        )
        return Report(rows, self._desk.server.ledger(), self._incidents.happened, self._afar.seen, figures, troubles)

    def _say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


def main(
    items: Annotated[int, typer.Option(min=8, max=1000, help="How many items.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the order, the pictures, weights and reactions.")] = 1,
    report: Annotated[Path | None, typer.Option(help="Write all figures to this file, JSON.")] = None,
    language: Annotated[str, typer.Option(help="Of the reasons: en or id.")] = "en",
    stay_up: Annotated[bool, typer.Option("--stay", help="Play nothing, stay up until Ctrl-C.")] = False,
    pictures: Annotated[Path | None, typer.Option(help="Folder of pictures with index.json.")] = None,
    parameters: Annotated[list[Path] | None, typer.Option("-p", help="ROS parameter files, loaded last.")] = None,
) -> None:
    """Watch the machine take items; exit 0 only if screen, ledger and bin agree."""
    console = Console()
    options = Options(seed, pictures, tuple(parameters or ()))
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a background shell starts programs with it ignored
        signal.signal(number, signal.default_int_handler)
    try:
        if stay_up:
            stay.stay(console, paths.data(), options)
            return
        folder = Path(tempfile.mkdtemp(prefix="myrvm-demo-"))
        found = _play(console, folder, plan(items, seed), language, options)
    except RvmError as error:
        console.print(f"demo: {error}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    demo_tables.show(console, found)
    if report:
        demo_tables.write(report, found)
    if not found.agrees:
        console.print(f"data and logs are in {folder}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    shutil.rmtree(folder)


def _play(console: Console, folder: Path, steps: list[Step], language: str, options: Options) -> Report:
    with (
        desk(folder, options) as running,
        Customer() as customer,
        Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
    ):
        return Demo(running, customer, language, progress).play(steps)


if __name__ == "__main__":
    sys.exit(typer.run(main))
