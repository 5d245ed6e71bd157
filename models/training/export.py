"""Export a trained checkpoint as ONNX, enter it in the manifest, calibrate it, and measure it.

python models/training/export.py --checkpoint DIR/best.pt --version 2.0.0 --command 'how it was trained' \
  --calibrate DATA/val --pictures DATA/test [--photographs ../shared/data/photos]
"""

from __future__ import annotations

import argparse
import hashlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import onnx
import photographs
import picture_sets
import shipped_models
from calibrate import calibrate
from evaluate import default_pictures, evaluate, machine_settings, print_tables
from myrvm_vision.engine import make_engine
from ultralytics import YOLO

from myrvm_vision import golden

ORIGIN = (
    "YOLOv5n with an anchor-free head (Ultralytics, AGPL-3.0), started from the published COCO weights of "
    "YOLOv5n v6.2 (AGPL-3.0), trained on pictures rendered by models/training/render.py and on photographs "
    "from 'Bottles and Cup' by DataCluster Labs (CC BY 4.0)"
)


def export(model: Any, name: str, version: str, size_px: int, opset: int) -> Path:
    """Write `models/NAME.onnx`; returns it."""
    exported = model.export(
        format="onnx",
        imgsz=size_px,
        opset=opset,
        batch=1,
        simplify=False,
        dynamic=True,  # a 4:3 picture then needs 256 x 320 px, not 320 x 320: a fifth less work
        nms=False,
        device="cpu",
    )
    network = onnx.load(exported)
    for field in network.metadata_props:
        if field.key == "description":  # ultralytics writes the path of the training data of this machine into it
            field.value = f"{name} {version}"
    path = shipped_models.MODELS / f"{name}.onnx"
    onnx.save(network, path)
    Path(exported).unlink()
    return path


def main() -> None:
    """Write the model and its entry, in place of one of the same name; the model becomes the default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--name", default="rvm-n-320")
    parser.add_argument("--version", required=True)
    parser.add_argument("--command", required=True, help="the training command, for the manifest")
    parser.add_argument("--calibrate", type=Path, help="pictures to calibrate on, not trained on [not calibrated]")
    parser.add_argument("--pictures", type=Path, action="append", help="to measure on [models/golden]")
    parser.add_argument("--photographs", type=Path, help="folder of the photographs; the held-out third is measured on")
    parser.add_argument("--size-px", type=int, default=320)
    parser.add_argument("--opset", type=int, default=17)
    args = parser.parse_args()
    model = YOLO(args.checkpoint)
    trained_at = datetime.fromtimestamp(args.checkpoint.stat().st_mtime, timezone.utc)
    path = export(model, args.name, args.version, args.size_px, args.opset)
    shipped_models.put(
        {
            "name": args.name,
            "version": args.version,
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "classes": list(model.names.values()),
            "image_size_px": args.size_px,
            "origin": ORIGIN,
            "licence": "AGPL-3.0",
            "training_command": args.command,
            "trained_at": trained_at.isoformat(timespec="seconds"),
        }
    )
    engine = make_engine(path)
    engine.load()
    figures = golden.measure(engine, shipped_models.MODELS / golden.FOLDER)
    engine.close()
    shipped_models.change(args.name, {"golden": figures.model_dump(mode="json")})
    if args.calibrate is not None:
        shipped_models.change(args.name, {"calibration": calibrate(args.name, picture_sets.read(args.calibrate))})
    pictures = [picture for folder in args.pictures or [default_pictures()] for picture in picture_sets.read(folder)]
    if args.photographs is not None:
        pictures += photographs.split(args.photographs)[1]
    figures = evaluate(pictures, machine_settings(model=args.name)).figures
    print_tables(figures)
    shipped_models.change(
        args.name, {"figures": {name: figures[name] for name in figures if name not in ("seconds", "thresholds")}}
    )


if __name__ == "__main__":
    main()
