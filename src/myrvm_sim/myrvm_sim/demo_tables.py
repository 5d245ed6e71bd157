"""The demo's report as tables for a person and as JSON for a program."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from myrvm_sim.demo_report import ACCEPTED, Report, Row

WIDTH = 110  # where there is no terminal


def line(row: Row, count: int) -> str:
    """One item while the demo runs."""
    seen = f"{row.class_name} {row.score:.2f}" if row.class_name else ""
    again = ", told after the restart" if row.recovered else ""
    again += ", though it looked like an empty bottle" if row.disguised else ""
    return f"[{row.number:3}/{count}] {row.kind:11} {row.outcome or 'NO RESULT':10} {row.reason}{again} {seen}".rstrip()


def show(console: Console, report: Report) -> None:
    """Print everything."""
    if not console.is_terminal:
        console.width = WIDTH
    console.print(_items(report))
    console.print(_incidents(report))
    console.print(_afar(report))
    console.print(_accounts(report))
    console.print(_figures(report))
    for trouble in report.troubles:
        console.print(f"trouble: {trouble}", markup=False, highlight=False, soft_wrap=True)
    verdict = "AGREE" if report.agrees else "DO NOT AGREE"
    console.print(f"screen, ledger and bin {verdict}", style="bold green" if report.agrees else "bold red")


def write(file: Path, report: Report) -> None:
    """Write all figures as JSON."""
    p50, p95 = report.latencies_s
    content = {
        "agrees": report.agrees,
        "items": [asdict(row) for row in report.rows],
        "ledger": [asdict(credit) for credit in report.ledger],
        "incidents": [asdict(happened) for happened in report.incidents],
        "afar": [asdict(seen) for seen in report.afar],
        "accounts": {name: {"shown": s, "credited": c} for name, (s, c) in report.accounts().items()},
        "lost": report.lost,
        "doubled": report.doubled,
        "wrong_credits": report.wrong_credits,
        "wrong_places": report.wrong_places,
        "untold": report.untold,
        "wrongly_accepted": report.wrongly_accepted,
        "tricks_paid": report.tricks[0],
        "tricks": report.tricks[1],
        "wrongly_refused": report.wrongly_refused,
        "troubles": report.troubles,
        "figures": {**asdict(report.figures), "latency_p50_s": p50, "latency_p95_s": p95},
    }
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _items(report: Report) -> Table:
    table = Table(title="items", box=box.SIMPLE_HEAD)
    for heading, justify in (
        ("item", "right"), ("true kind", "left"), ("verdict", "left"), ("reason", "left"), ("gate", "left"),
        ("latency s", "right"), ("credited", "right"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify)  # pyright: ignore[reportArgumentType]
    credited = {credit.deposit_id: credit for credit in report.ledger}
    for row in report.rows:
        credit = credited.get(row.deposit_id)
        wrong = row.number in report.wrongly_accepted or row.number in report.wrongly_refused
        table.add_row(
            str(row.number),
            f"{row.kind}, disguised" if row.disguised else row.kind,
            row.outcome or "-",
            row.reason if row.outcome != ACCEPTED else "",
            row.place,
            "" if row.latency_s is None else f"{row.latency_s:.2f}",
            f"{credit.points} {credit.account}" if credit else "",
            style="yellow" if wrong else None,
        )
    return table


def _accounts(report: Report) -> Table:
    table = Table(title="accounts", box=box.SIMPLE_HEAD)
    for heading in ("account", "points shown", "points credited"):
        table.add_column(heading, justify="left" if heading == "account" else "right")
    for name, (shown, credited) in report.accounts().items():
        table.add_row(name, str(shown), str(credited), style=None if shown == credited else "bold red")
    return table


def _afar(report: Report) -> Table:
    table = Table(title="server and operator", box=box.SIMPLE_HEAD)
    for heading in ("what", "came of it"):
        table.add_column(heading)
    for seen in report.afar:
        table.add_row(seen.what, seen.seen, style=None if seen.right else "bold red")
    return table


def _incidents(report: Report) -> Table:
    table = Table(title="incidents", box=box.SIMPLE_HEAD)
    for heading in ("what", "item", "seen", "item ended as"):
        table.add_column(heading, justify="right" if heading == "item" else "left")
    outcomes = {row.number: row.outcome for row in report.rows}
    for happened in report.incidents:
        style = None if happened.survived else "bold red"
        table.add_row(
            happened.incident, str(happened.item), happened.seen, outcomes.get(happened.item, "-"), style=style
        )
    return table


def _figures(report: Report) -> Table:
    figures = report.figures
    p50, p95 = report.latencies_s
    in_bin = sum(row.place == "bin" for row in report.rows)
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    for name, value in (
        ("lost", len(report.lost)),
        ("doubled", len(report.doubled)),
        ("credited wrongly", len(report.wrong_credits)),
        ("in the bin / shown as accepted", f"{in_bin} / {len(report.shown)}"),
        ("wrongly accepted / wrongly refused", f"{len(report.wrongly_accepted)} / {len(report.wrongly_refused)}"),
        ("tricks that paid / tried", f"{report.tricks[0]} / {report.tricks[1]}"),
        ("graph start to serving", f"{figures.graph_start_s:.1f} s"),
        ("item in to verdict, p50 / p95", f"{p50:.2f} / {p95:.2f} s"),
        ("peak memory of the graph (PSS)", f"{figures.peak_memory_mb:.0f} MB"),
        ("server down for", f"{figures.server_down_s:.1f} s"),
        ("results told again after a crash", figures.told_again),
        ("duration", f"{figures.duration_s:.0f} s"),
    ):
        table.add_row(name, str(value))
    return table
