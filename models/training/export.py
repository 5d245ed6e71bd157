"""Export a trained checkpoint as ONNX, measure it on the held-out pictures, and enter it in the manifest.

python models/training/export.py --checkpoint DIR/best.pt --version 1.0.0 --command 'how it was trained'
"""

from __future__ import annotations

import argparse
import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path

import onnx
from evaluate import evaluate, print_tables
from ultralytics import YOLO

MODELS = Path(__file__).resolve().parent.parent
ORIGIN = (
    "YOLOv5n with an anchor-free head (Ultralytics, AGPL-3.0), started from the published COCO weights of "
    "YOLOv5n v6.2 (AGPL-3.0), trained on pictures rendered by models/training/render.py and on photographs "
    "from 'Bottles and Cup' by DataCluster Labs (CC BY 4.0)"
)


def main() -> None:
    """Write the model and its entry, in place of one of the same name; the model becomes the default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--name", default="rvm-n-320")
    parser.add_argument("--version", required=True)
    parser.add_argument("--command", required=True, help="the training command, for the manifest")
    parser.add_argument("--pictures", type=Path, default=MODELS.parent / "src/myrvm_sim/myrvm_sim/pictures")
    parser.add_argument("--size-px", type=int, default=320)
    parser.add_argument("--opset", type=int, default=17)
    args = parser.parse_args()
    model = YOLO(args.checkpoint)
    trained_at = datetime.fromtimestamp(args.checkpoint.stat().st_mtime, timezone.utc)
    exported = model.export(
        format="onnx",
        imgsz=args.size_px,
        opset=args.opset,
        batch=1,
        simplify=False,
        dynamic=True,  # a 4:3 picture then needs 256 x 320 px, not 320 x 320: a fifth less work
        nms=False,
        device="cpu",
    )
    path = MODELS / f"{args.name}.onnx"
    network = onnx.load(exported)
    for field in network.metadata_props:
        if field.key == "description":  # ultralytics writes the path of the training data of this machine into it
            field.value = f"{args.name} {args.version}"
    onnx.save(network, path)
    Path(exported).unlink()
    figures = evaluate(path, args.pictures, args.size_px)
    print_tables(figures)
    entry = {
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
        "figures": {key: value for key, value in figures.items() if key != "rows"},
    }
    manifest = MODELS / "manifest.json"
    others = json.loads(manifest.read_text())["models"] if manifest.exists() else []
    models = [entry, *(other for other in others if other["name"] != args.name)]
    manifest.write_text(json.dumps({"default": args.name, "models": models}, indent=2) + "\n")


if __name__ == "__main__":
    main()
