"""Figures of a model on pictures that it has not seen, by the machine's own way from letterbox to rules.

python models/training/evaluate.py [--model NAME] [--pictures DIR ...] [--photographs DIR] [--out DIR]
Needs no torch. Writes `figures.json` and `evaluation.html`, a page that opens without a server.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import figures
import photographs
import picture_sets
from evaluation_page import write_page
from figures import Judged
from myrvm_core.configuration import parameters
from myrvm_core.settings import validate
from myrvm_vision.recognizer import Recognizer
from myrvm_vision.settings import DetectorSettings
from picture_sets import PHOTOGRAPH, Picture

from myrvm_core import paths, rules
from myrvm_vision import recognizer

SHOWN = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)  # thresholds on the terminal; the page plots all
RANKED_FROM = 0.01  # score from which boxes count for average precision
GOLDEN, CABINET = "models/golden", "src/myrvm_sim/myrvm_sim/pictures"


@dataclass(frozen=True)
class Evaluation:
    """A model on pictures: what was made of each, and the figures."""

    judged: tuple[Judged, ...]
    figures: dict[str, Any]


def machine_settings(**changed: Any) -> DetectorSettings:
    """The detector's parameters as they ship (`config/rvm.yaml`), whatever this machine's environment says."""
    shipped = parameters([paths.home() / "config" / "rvm.yaml"]).get("detector", {})
    if file := changed.get("model_path"):  # a candidate: to be measured here, whatever it is worth
        shipped |= {"engine_proof": "none", "trusted_dir": str(Path(file).parent)}
    settings = validate(DetectorSettings, shipped | changed, "detector")
    assert isinstance(settings, DetectorSettings)
    return settings


def judge(pictures: Iterable[Picture], settings: DetectorSettings) -> tuple[Judged, ...]:
    """Look at each picture once with the machine's limits, once for the weak boxes as well.

    Raises:
        ModelError: there is no such model, or it fails.
        ValueError: a picture cannot be read.
    """
    machine = recognizer.load(settings)
    thorough = recognizer.load(settings.model_copy(update={"detection_score": RANKED_FROM}))
    try:
        return tuple(_judge_one(picture, machine, thorough) for picture in pictures)
    finally:
        machine.close()
        thorough.close()


def _judge_one(picture: Picture, machine: Recognizer, thorough: Recognizer) -> Judged:
    image = picture_sets.load(picture.file)
    look = machine.look(image, 0)
    ranked = thorough.look(image, 0).inference.detections
    return Judged(picture, look.findings, look.ballot.decision, ranked)


def evaluate(pictures: Sequence[Picture], settings: DetectorSettings) -> Evaluation:
    """All figures; photographs and renders apart, for they are asked different questions. Errors as in `judge`."""
    begun = perf_counter()
    judged = judge(pictures, settings)
    table = rules.load(paths.resolve(settings.rules_file), settings.threshold)
    rendered = [one for one in judged if one.picture.kind != PHOTOGRAPH]
    scores, right = figures.scored(rendered)
    return Evaluation(
        judged,
        {
            "pictures": len(rendered),
            "threshold": settings.threshold,
            "item_score": settings.item_score,
            "boxes": figures.box_figures(rendered),
            "decisions": figures.decisions(rendered),
            "slices": figures.slices(rendered),
            "thresholds": figures.thresholds(rendered, table),
            "confusion": figures.confusion(rendered),
            "calibration_error": round(figures.reliability(scores, right).error, 4),
            "photographs": figures.photographs(judged),
            "seconds": round(perf_counter() - begun, 1),
        },
    )


def print_tables(found: dict[str, Any]) -> None:
    """The figures on a terminal."""
    print(f"{found['pictures']} rendered pictures, threshold {found['threshold']}, items from {found['item_score']}")
    print(f"\n{'class':<14}{'items':>7}{'precision':>11}{'recall':>9}{'mAP50':>9}{'mAP50-95':>10}")
    for name, row in found["boxes"].items():
        cells = [row["items"], *(f"{row[key]:.3f}" if row[key] is not None else "-" for key in list(row)[1:])]
        print(f"{name:<14}{cells[0]:>7}{cells[1]:>11}{cells[2]:>9}{cells[3]:>9}{cells[4]:>10}")
    print()
    outcome = found["decisions"]
    for name in figures.DECIDED:
        print(f"{name.replace('_', ' '):<34}{share(outcome[name])}")
    print(f"{'calibration error':<34}{found['calibration_error']:.3f}")
    print(f"\n{'threshold':>9}{'precision':>11}{'without tricks':>16}{'recall':>9}")
    for row in found["thresholds"]:
        if row["threshold"] in SHOWN:
            cells = (row["precision"], row["precision_without_tricks"], row["recall"])
            print(f"{row['threshold']:>9}{cells[0]:>11.3f}{cells[1]:>16.3f}{cells[2]:>9.3f}")
    print(f"\n{'kind':<14}decisions")
    for kind, counts in outcome["reasons"].items():
        print(f"{kind:<14}{', '.join(f'{name} {count}' for name, count in sorted(counts.items()))}")
    for name, row in found["slices"].items():
        print(f"slice {name:<12}{row['pictures']:>5} pictures, items right {share(row['items_right'])}")
    shown = found["photographs"]
    if shown["pictures"]:
        print(f"\n{shown['pictures']} photographs")
        for name, figure in shown["found"].items():
            print(f"{name + ' found':<26}{share(figure)}")
        for name in ("objects_found", "false_boxes", "pictures_with_false_box", "class_right"):
            print(f"{name.replace('_', ' '):<26}{share(shown[name])}")


def share(figure: dict[str, Any]) -> str:
    """A share with its interval, as text."""
    if figure["share"] is None:
        return "none there"
    bounds = f"{figure['low']:.3f} .. {figure['high']:.3f}"
    return f"{figure['share']:.3f} ({figure['hits']} of {figure['count']}; 95 %: {bounds})"


def default_pictures() -> Path:
    """The golden set, or the simulated cabinet's pictures where it is not there."""
    golden = paths.home() / GOLDEN
    return golden if (golden / "index.json").is_file() else paths.home() / CABINET


def main() -> None:
    """Evaluate, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="name in models/manifest.json [its default]")
    parser.add_argument("--file", default="", help="a model file in place of it, not calibrated")
    parser.add_argument("--pictures", type=Path, action="append", help=f"may be repeated [{GOLDEN}, or the cabinet's]")
    parser.add_argument("--photographs", type=Path, help="folder of the photographs; the held-out third is used")
    parser.add_argument("--threshold", type=float, help="score from which a bottle is accepted [config/rvm.yaml]")
    parser.add_argument("--item-score", type=float, help="score from which a box is an item [config/rvm.yaml]")
    parser.add_argument("--out", type=Path, default=paths.data() / "evaluation", help="folder for page and figures")
    args = parser.parse_args()
    changed = {"model": args.model, "model_path": args.file, "threshold": args.threshold, "item_score": args.item_score}
    changed = {name: value for name, value in changed.items() if value is not None}
    settings = machine_settings(**changed)
    pictures = [picture for folder in args.pictures or [default_pictures()] for picture in picture_sets.read(folder)]
    if args.photographs is not None:
        pictures += photographs.split(args.photographs)[1]
    evaluation = evaluate(pictures, settings)
    print_tables(evaluation.figures)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "figures.json").write_text(json.dumps(evaluation.figures, indent=1) + "\n", encoding="utf-8")
    page, model = args.out / "evaluation.html", args.file or args.model or "the default model"
    write_page(page, evaluation.judged, evaluation.figures, model)
    print(f"\n{page}, {evaluation.figures['seconds']} s")


if __name__ == "__main__":
    main()
