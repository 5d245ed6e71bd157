"""Figures of a model on held-out pictures: boxes for each class, and what a machine would decide.

python models/training/evaluate.py --model models/rvm-n-320.onnx --pictures src/myrvm_sim/myrvm_sim/pictures
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import yaml
from ultralytics import YOLO

SEEN_FROM = 0.5
ACCEPTED_FROM = 0.7
VERDICTS = ("accepted", "unsure", "refused", "several", "nothing")


def box_figures(model: YOLO, pictures: Path, index: list[dict[str, Any]], size_px: int) -> dict[str, dict[str, float]]:
    """Precision, recall and mean average precision of each class, by ultralytics' own validator."""
    numbers = {name: number for number, name in model.names.items()}
    with tempfile.TemporaryDirectory() as name:
        images, labels = Path(name, "images"), Path(name, "labels")
        images.mkdir()
        labels.mkdir()
        for entry in index:
            source = pictures / entry["file"]
            shutil.copyfile(source, images / source.name)
            height, width = cv2.imread(str(source)).shape[:2]
            rows = [
                f"{numbers[b['class']]} "
                f"{(b['x_min'] + b['x_max']) / 2 / width} {(b['y_min'] + b['y_max']) / 2 / height} "
                f"{(b['x_max'] - b['x_min']) / width} {(b['y_max'] - b['y_min']) / height}\n"
                for b in entry["boxes"]
            ]
            (labels / f"{source.stem}.txt").write_text("".join(rows))
        data = Path(name, "data.yaml")
        data.write_text(yaml.safe_dump({"train": str(images), "val": str(images), "names": dict(model.names)}))
        result = model.val(
            data=str(data),
            imgsz=size_px,
            batch=1,
            device="cpu",
            workers=0,
            plots=False,
            verbose=False,
            project=name,
        )
    box = result.box
    columns = ("precision", "recall", "map50", "map50_95")
    figures = {
        model.names[number]: dict(zip(columns, (round(float(v), 3) for v in box.class_result(row)), strict=True))
        for row, number in enumerate(box.ap_class_index)
    }
    return figures | {"all": dict(zip(columns, (round(float(v), 3) for v in box.mean_results()), strict=True))}


def verdict(classes: list[str], scores: list[float]) -> str:
    """What a machine does with the boxes of one picture; only a single, certain water bottle is accepted."""
    if not classes:
        return "nothing"
    if len(classes) > 1:
        return "several"
    if classes[0] != "mineral":
        return "refused"
    return "accepted" if scores[0] >= ACCEPTED_FROM else "unsure"


def decisions(model: YOLO, pictures: Path, index: list[dict[str, Any]], size_px: int) -> list[dict[str, Any]]:
    """For each picture: its kind, the classes and scores seen, the verdict."""
    rows = []
    for entry in index:
        boxes = model.predict(
            str(pictures / entry["file"]),
            imgsz=size_px,
            conf=SEEN_FROM,
            agnostic_nms=True,
            device="cpu",
            verbose=False,
        )[0].boxes
        classes = [model.names[int(number)] for number in boxes.cls]
        scores = [round(float(score), 3) for score in boxes.conf]
        rows.append(
            {
                "file": entry["file"],
                "kind": entry["kind"],
                "classes": classes,
                "scores": scores,
                "verdict": verdict(classes, scores),
            }
        )
    return rows


def evaluate(path: Path, pictures: Path, size_px: int) -> dict[str, Any]:
    """All figures of the model file on the pictures that `pictures/index.json` lists."""
    model = YOLO(path, task="detect")
    index = json.loads((pictures / "index.json").read_text())
    rows = decisions(model, pictures, index, size_px)
    kinds = list(dict.fromkeys(entry["kind"] for entry in index))
    seen: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    verdicts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    for row in rows:
        seen[row["kind"]]["+".join(sorted(row["classes"])) or "nothing"] += 1
        verdicts[row["kind"]][row["verdict"]] += 1
    return {
        "pictures": len(index),
        "seen_from": SEEN_FROM,
        "accepted_from": ACCEPTED_FROM,
        "boxes": box_figures(model, pictures, index, size_px),
        "seen": {kind: dict(counts) for kind, counts in seen.items()},
        "verdicts": {kind: dict(counts) for kind, counts in verdicts.items()},
        "rows": rows,
    }


def print_tables(figures: dict[str, Any]) -> None:
    """The figures on a terminal."""
    print(f"{'class':<14}{'precision':>10}{'recall':>10}{'mAP50':>10}{'mAP50-95':>10}")
    for name, row in figures["boxes"].items():
        print(f"{name:<14}" + "".join(f"{value:>10.3f}" for value in row.values()))
    print(f"\n{'kind':<14}" + "".join(f"{name:>10}" for name in VERDICTS) + "   seen")
    for kind, counts in figures["verdicts"].items():
        seen = ", ".join(f"{name} {number}" for name, number in figures["seen"][kind].items())
        print(f"{kind:<14}" + "".join(f"{counts.get(name, 0):>10}" for name in VERDICTS) + f"   {seen}")


def main() -> None:
    """Evaluate, print, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help=".onnx or .pt")
    parser.add_argument("--pictures", type=Path, required=True, help="folder with pictures and index.json")
    parser.add_argument("--size-px", type=int, default=320)
    parser.add_argument("--json", type=Path, help="where to write all figures")
    args = parser.parse_args()
    figures = evaluate(args.model, args.pictures, args.size_px)
    print_tables(figures)
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
