"""One HTML file with the tables and plots of an evaluation and every failure pictured; it opens without a server."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import figures
import matplotlib
import numpy as np
import picture_sets
from figures import Judged
from matplotlib.figure import Figure
from numpy.typing import NDArray

PICTURE_PX = 320  # width of a pictured failure
TRUTH, FOUND, GHOST = (90, 200, 90), (60, 160, 255), (60, 60, 230)  # BGR: is there, was found, is not there
STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #8884; text-align: right; }
th:first-child, td:first-child { text-align: left; }
td.right { background: #2a92; } td.wrong { background: #d333; }
.plots, .failures { display: flex; flex-wrap: wrap; gap: 1rem; }
.plots svg { width: 32rem; max-width: 100%; height: auto; background: white; }
figure { margin: 0; width: 20rem; } figure img { width: 100%; } figcaption { font-size: .85rem; }
"""


def write_page(file: Path, judged: Sequence[Judged], found: dict[str, Any], model: str) -> None:
    """Write the page over one that is there."""
    rendered = [one for one in judged if one.picture.kind != picture_sets.PHOTOGRAPH]
    failures = [(one, text) for one in judged if (text := failure(one))]
    parts = [
        f"<h1>Evaluation of {escape(model)}</h1>",
        f"<p>{found['pictures']} rendered pictures and {found['photographs']['pictures']} photographs that were not "
        f"trained on; a bottle is accepted from {found['threshold']}, an item counts from {found['item_score']}. "
        "In brackets: 95 % confidence (Wilson).</p>",
        "<h2>What the machine decides</h2>", _decisions(found["decisions"]), _reasons(found["decisions"]["reasons"]),
        "<h2>Boxes</h2>", _boxes(found["boxes"]),
        "<h2>Confusion: rows what it is, columns what it was taken for</h2>", _confusion(found["confusion"]),
        _slices(found["slices"]) if found["slices"] else "",
        _photographs(found["photographs"]) if found["photographs"]["pictures"] else "",
        "<h2>Plots</h2><div class=plots>", *_plots(rendered, found), "</div>",
        f"<h2>{len(failures)} failures of {len(judged)} pictures</h2>",
        "<p>Green: what is there. Orange: what was found. Red: found where nothing is.</p><div class=failures>",
        *(_pictured(one, text) for one, text in failures), "</div>",
    ]  # fmt: skip
    file.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Evaluation of {escape(model)}</title>"
        f"<style>{STYLE}</style>{''.join(parts)}</html>\n",
        encoding="utf-8",
    )


def failure(one: Judged) -> str:
    """What went wrong with a picture in one line, empty if nothing."""
    picture = one.picture
    if picture.kind != picture_sets.PHOTOGRAPH and one.accepted != picture.acceptable:
        seen = f"{one.decision.reason.name}" if not one.accepted else "accepted"
        return f"{seen}, should be {'accepted' if picture.acceptable else 'refused'}"
    faults: list[str] = []
    for item, detection in figures.pairs(picture.items, one.items):
        if item is None and detection is not None:
            faults.append(f"{detection.class_name} where nothing is")
        elif item is not None and detection is None and item.model_class is not None:
            faults.append(f"{item.model_class} not found")
        elif item and detection and item.model_class and item.model_class != detection.class_name:
            faults.append(f"{item.model_class} taken for {detection.class_name}")
    return "; ".join(faults)


def _pictured(one: Judged, text: str) -> str:
    image = picture_sets.load(one.picture.file)
    scale = PICTURE_PX / image.shape[1]
    image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    for item, detection in figures.pairs(one.picture.items, one.items):
        if item is not None:
            _draw(image, [side * scale for side in item.box], item.model_class or "cannot be told", TRUTH, below=True)
        if detection is not None:
            box = detection.box
            sides = [side * scale for side in (box.x_min, box.y_min, box.x_max, box.y_max)]
            _draw(image, sides, f"{detection.class_name} {detection.score:.2f}", FOUND if item else GHOST)
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])
    data = base64.b64encode(jpeg.tobytes()).decode()
    slices = f" [{', '.join(one.picture.slices)}]" if one.picture.slices else ""
    return (
        f"<figure><img alt='{escape(text)}' src='data:image/jpeg;base64,{data}'>"
        f"<figcaption>{escape(one.picture.file.name)}, {escape(one.picture.kind + slices)}: {escape(text)}"
        "</figcaption></figure>"
    )


def _draw(
    image: NDArray[Any], sides: Sequence[float], text: str, colour: tuple[int, int, int], below: bool = False
) -> None:
    x_min, y_min, x_max, y_max = (round(side) for side in sides)
    cv2.rectangle(image, (x_min, y_min), (x_max, y_max), colour, 1)
    place = (max(x_min, 0) + 2, min(y_max, image.shape[0]) - 4 if below else max(y_min, 0) + 11)
    for thickness, shade in ((2, (0, 0, 0)), (1, colour)):
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.36, shade, thickness, cv2.LINE_AA)


# Tables


def _table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    def cells(tag: str, row: Iterable[Any]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(_text(cell))}</{tag}>" for cell in row) + "</tr>"

    return f"<table>{cells('th', head)}{''.join(cells('td', row) for row in rows)}</table>"


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, dict):
        if cell["share"] is None:
            return "-"
        return f"{cell['share']:.3f} ({cell['hits']}/{cell['count']}) [{cell['low']:.3f}, {cell['high']:.3f}]"
    return str(cell)


def _decisions(outcome: dict[str, Any]) -> str:
    return _table(("figure", "share"), [(text, outcome[name]) for name, text in figures.DECIDED.items()])


def _reasons(reasons: dict[str, dict[str, int]]) -> str:
    columns = sorted({name for counts in reasons.values() for name in counts})
    rows = [(kind, *(row.get(name, "") for name in columns)) for kind, row in reasons.items()]
    return _table(("kind", *columns), rows)


def _boxes(rows: dict[str, dict[str, Any]]) -> str:
    return _table(
        ("class", "items", "precision", "recall", "mAP50", "mAP50-95"),
        [(name, *row.values()) for name, row in rows.items()],
    )


def _confusion(table: dict[str, dict[str, int]]) -> str:
    names = list(table)
    head = "<tr><th></th>" + "".join(f"<th>{escape(name)}</th>" for name in names) + "</tr>"
    body = ""
    for row in names:
        body += f"<tr><th>{escape(row)}</th>"
        for column in names:
            count = table[row][column]
            mark = "" if not count else " class=right" if row == column else " class=wrong"
            body += f"<td{mark}>{count or ''}</td>"
        body += "</tr>"
    return f"<table>{head}{body}</table>"


def _slices(rows: dict[str, dict[str, Any]]) -> str:
    head = ("slice", "pictures", "items right", "accept precision", "accept recall", "wrongly accepted")
    return "<h2>Slices</h2>" + _table(head, [(name, *row.values()) for name, row in rows.items()])


def _photographs(shown: dict[str, Any]) -> str:
    rows = [(f"{name}: something of it found", figure) for name, figure in shown["found"].items()]
    rows += [
        ("objects found, whatever their class", shown["objects_found"]),
        ("boxes where nothing is", shown["false_boxes"]),
        ("photographs with such a box", shown["pictures_with_false_box"]),
        ("class right, of what was found", shown["class_right"]),
    ]
    return "<h2>Photographs</h2>" + _table(("figure", "share"), rows)


# Plots


def _plots(judged: Sequence[Judged], found: dict[str, Any]) -> list[str]:
    scores, right = figures.scored(judged)
    if not len(scores):
        return []
    return [
        _svg(_reliability_plot(figures.reliability(scores, right))),
        _svg(_risk_plot(*figures.risk_coverage(scores, right))),
        _svg(_threshold_plot(found["thresholds"], float(found["threshold"]))),
    ]


def _reliability_plot(found: figures.Reliability) -> Figure:
    figure, axes = _axes(f"Reliability, expected calibration error {found.error:.3f}", "score", "share that is right")
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    axes.plot(found.mean_score, found.share_right, marker="o")
    for x, y, count in zip(found.mean_score, found.share_right, found.counts, strict=True):
        axes.annotate(str(count), (x, y), textcoords="offset points", xytext=(4, -11), fontsize=8)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    return figure


def _risk_plot(coverage: NDArray[np.float64], risk: NDArray[np.float64]) -> Figure:
    figure, axes = _axes("Risk and coverage, most certain items first", "share of items decided", "share of errors")
    axes.plot(coverage, risk)
    axes.set(xlim=(0, 1), ylim=(0, max(float(risk.max()) * 1.1, 0.01)))
    return figure


def _threshold_plot(rows: Sequence[dict[str, float]], used: float) -> Figure:
    figure, axes = _axes("Accepting: precision and recall by threshold", "threshold", "share")
    for name in ("precision", "precision_without_tricks", "recall"):
        axes.plot([row["threshold"] for row in rows], [row[name] for row in rows], label=name.replace("_", " "))
    axes.axvline(used, color="grey", linestyle="--", linewidth=1, label=f"threshold {used}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower left")
    return figure


def _axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "myrvm", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]
