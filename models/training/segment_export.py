"""Export a trained segmenter as Segment Anything's ONNX pair, enter it in `models/segmenters.json`, and measure it.

python models/training/segment_export.py --checkpoint RUN/last.pt --version 1.0.0 --command 'how it was trained' \
  --calibrate DATA/val --pictures DATA/test
"""

from __future__ import annotations

import argparse
import hashlib
import json
import warnings
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import onnx
import runs
import torch
from myrvm_vision.onnx_segmenter import decoder_of
from myrvm_vision.segmenter import SegmenterOptions, make_segmenter
from segment_data import FIGURES, PARTS, read
from segment_evaluate import evaluate, rows
from segment_network import CHANNELS, SIZE_PX, STRIDE, ExportedDecoder, Segmenter

FILL_MARGIN = 0.02
MODELS = Path(__file__).resolve().parent.parent
ORIGIN = (
    "backbone and neck of YOLOv5n (Ultralytics, AGPL-3.0) from the published COCO weights of YOLOv5n v6.2 (AGPL-3.0), "
    "with a promptable decoder of our own, trained on pictures rendered by models/training/render.py"
)


def export(network: Segmenter, name: str, folder: Path, fill_zero: float = 0.0, opset: int = 17) -> tuple[Path, Path]:
    """Write `NAME.encoder.onnx` and `NAME.decoder.onnx`; the decoder answers any number of prompts at once."""
    network.eval()
    encoder = folder / f"{name}.encoder.onnx"
    side = SIZE_PX // STRIDE
    examples = (
        torch.zeros(1, CHANNELS, side, side), torch.tensor([[[30.0, 40.0], [200.0, 150.0]]]),
        torch.tensor([[2.0, 3.0]]),
        torch.zeros(1, 1, 2 * side, 2 * side), torch.zeros(1), torch.tensor([480.0, 640.0]),
    )  # fmt: skip
    prompts = {0: "prompts", 1: "points"}
    answers = {answer: {0: "prompts"} for answer in ExportedDecoder.outputs[1:]}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.encoder, (torch.zeros(1, 3, SIZE_PX, SIZE_PX),), str(encoder), opset_version=opset, dynamo=False,
            input_names=["x"], output_names=["image_embeddings"],
        )  # fmt: skip
        torch.onnx.export(
            ExportedDecoder(network.decoder, fill_zero).eval(), examples, str(decoder_of(encoder)), opset_version=opset,
            dynamo=False, input_names=list(ExportedDecoder.inputs), output_names=list(ExportedDecoder.outputs),
            dynamic_axes={
                "point_coords": prompts, "point_labels": prompts,
                "masks": {0: "prompts", 2: "height", 3: "width"}, **answers,
            },
        )  # fmt: skip
    decoder = onnx.load(decoder_of(encoder))
    onnx.helper.set_model_props(decoder, {"parts": " ".join(PARTS), "figures": " ".join(FIGURES)})
    onnx.save(decoder, decoder_of(encoder))
    return encoder, decoder_of(encoder)


def fill_of_empty(encoder: Path, pictures: Path) -> float:
    """What is said of the fullest of the empty bottles that lie alone, and a little more."""
    segmenter = opened(encoder)
    empty = [
        row.segment.figures["fill"]
        for row in rows(read(pictures), segmenter)
        if row.item["kind"] == "mineral" and len(row.scene.facts["items"]) == 1
    ]
    return max(empty) + FILL_MARGIN


def opened(encoder: Path) -> Any:
    """The pair, loaded, on one thread."""
    segmenter = make_segmenter(encoder, SegmenterOptions(threads=1))
    segmenter.load()
    return segmenter


def enter(entry: dict[str, Any], folder: Path) -> None:
    """Into the manifest, in place of one of the same name; it becomes the default."""
    file = folder / "segmenters.json"
    others = json.loads(file.read_text())["segmenters"] if file.exists() else []
    segmenters = [entry, *(other for other in others if other["name"] != entry["name"])]
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({"default": entry["name"], "segmenters": segmenters}, indent=2) + "\n")
    partial.replace(file)


def main() -> None:
    """Write the pair and its entry, in place of one of the same name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="last.pt of segment_train.py")
    parser.add_argument("--name", default="rvm-segment-320")
    parser.add_argument("--version", required=True)
    parser.add_argument("--command", required=True, help="the training command, for the manifest")
    parser.add_argument(
        "--calibrate", type=Path, required=True, help="DATA/val: where nothing was trained or measured on"
    )
    parser.add_argument("--pictures", type=Path, action="append", required=True, help="to measure on; may be repeated")
    parser.add_argument("--models", type=Path, default=MODELS)
    args = parser.parse_args()
    saved = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    network = Segmenter()
    network.load_state_dict(saved["average"])
    files = export(network, args.name, args.models)
    fill_zero = fill_of_empty(files[0], args.calibrate)
    export(network, args.name, args.models, fill_zero)
    segmenter = opened(files[0])
    figures = {folder.name: evaluate(folder, segmenter) for folder in args.pictures}
    entry = {
        "name": args.name,
        "version": args.version,
        "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "origin": ORIGIN,
        "licence": "AGPL-3.0",
        "training_command": args.command,
        "trained_at": datetime.fromtimestamp(args.checkpoint.stat().st_mtime, timezone.utc).isoformat(
            timespec="seconds"
        ),
        "fill_zero": round(fill_zero, 4),
        "figures": figures,
    }
    enter(entry, args.models)
    last = json.loads((args.checkpoint.parent / "epochs.jsonl").read_text().splitlines()[-1])
    runs.append(
        {
            "run": f"{args.name} {args.version}",
            "commit": runs.commit(),
            "command": args.command,
            "renders": last["pictures"],
            "validation": next(iter(figures)),
            "stages": f"{saved['epoch']} epochs",
            "seconds": round(saved["seconds"]),
            "mask_iou": next(iter(figures.values()))["mean_iou_of_classes"],
        }
    )
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
