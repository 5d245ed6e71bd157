"""Train the bottle detector from COCO features on renders, composites and photographs; called again, it resumes.

python models/training/train.py --data DATA --photographs ../shared/data/photos --out RUN \
  --weights ../shared/data/weights/yolov5n_coco.safetensors
DATA holds train/ and val/ (render.py); composites/ (compose.py) and added/*/ (merge.py) count where they are there.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import photographs
import picture_sets
import runs
import torch
import yaml
from picture_sets import CLASSES, Picture, images_of
from safetensors.torch import load_file
from ultralytics import YOLO

Stage = tuple[int, int, int, float]  # image size, px; epochs; frozen layers; learning rate, 0 for ultralytics' choice

STAGES: list[Stage] = [(160, 6, 10, 0.0), (320, 40, 0, 0.0)]


def coco_start(weights: Path, out: Path) -> Path:
    """YOLOv5n (anchor-free head) with every COCO tensor that fits; returns the checkpoint's path."""
    model = YOLO("yolov5n.yaml")
    own = model.model.state_dict()
    fitting = {k: v.float() for k, v in load_file(weights).items() if k in own and v.shape == own[k].shape}
    model.model.load_state_dict(fitting, strict=False)
    print(f"{len(fitting)} of {len(own)} tensors from {weights.name}")
    path = out / "start.pt"
    model.save(path)
    return path


def labelled(pictures: list[Picture], out: Path) -> list[Path]:
    """Copy photographs with labels in our classes to `out`, as ultralytics wants them; returns the copies.

    A box without a class is left out, so only pictures that are measured on may have one.
    """
    images, labels = out / "images", out / "labels"
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    copies: list[Path] = []
    for picture in pictures:
        height, width = picture_sets.size_of(picture.file)
        known = [(item.model_class, item.box) for item in picture.items if item.model_class is not None]
        rows = "".join(picture_sets.to_row(name, box, width, height) for name, box in known)
        (labels / f"{picture.file.stem}.txt").write_text(rows)
        copies.append(Path(shutil.copyfile(picture.file, images / picture.file.name)))
    return copies


def write_lists(args: argparse.Namespace, out: Path) -> tuple[Path, dict[str, int]]:
    """The lists of pictures that this run trains and validates on, and how many there are of each origin.

    They are written once: a run that is resumed sees the same pictures, whatever has been rendered since.
    """
    data = out / "data.yaml"
    counts_file = out / "counts.yaml"
    if counts_file.is_file():
        return data, yaml.safe_load(counts_file.read_text())
    renders, composites = images_of(args.data / "train"), images_of(args.data / "composites")
    added = [file for folder in sorted(args.data.glob("added/*")) for file in images_of(folder / "train")]
    validation = images_of(args.data / "val")
    validation += [file for folder in sorted(args.data.glob("added/*")) for file in images_of(folder / "val")]
    photos: list[Path] = []
    if args.photographs is not None:
        training, held_out = photographs.split(args.photographs)
        if args.all_photographs:
            training += [picture for picture in held_out if len(picture.classes) == len(picture.items)]
        else:
            # Those with a box that has no class would be counted against it.
            whole = [picture for picture in held_out if len(picture.classes) == len(picture.items)]
            validation += labelled(whole, out / "photographs_val")
        photos = labelled(training, out / "photographs")
    lists = {"train": renders + composites + added + photos * args.repeat_photographs, "val": validation}
    for name, files in lists.items():
        (out / f"{name}.txt").write_text("".join(f"{file.resolve()}\n" for file in files))
    data.write_text(
        yaml.safe_dump({"path": str(out), "train": "train.txt", "val": "val.txt", "names": dict(enumerate(CLASSES))})
    )
    counts = {
        "renders": len(renders), "composites": len(composites), "photographs": len(photos), "added": len(added),
        "validation": len(validation),
    }  # fmt: skip
    counts_file.write_text(yaml.safe_dump(counts))
    return data, counts


def finished(checkpoint: Path) -> bool:
    """Whether the stage that wrote this checkpoint ran to its end (ultralytics then strips the epoch)."""
    return checkpoint.exists() and torch.load(checkpoint, map_location="cpu", weights_only=False)["epoch"] == -1


def use_the_cores(trainer: Any) -> None:
    """All cores, of which ultralytics leaves one idle, and the memory order in which convolutions are fast there."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    trainer.model.to(memory_format=torch.channels_last)


def train_stage(start: Path, data: Path, folder: Path, stage: Stage, seed: int, hue: float) -> Path:
    """One stage; returns its best checkpoint."""
    size_px, epochs, freeze, rate = stage
    last, best = folder / "weights" / "last.pt", folder / "weights" / "best.pt"
    if finished(last):
        return best
    model = YOLO(last if last.exists() else start)
    model.add_callback("on_pretrain_routine_end", use_the_cores)
    if last.exists():
        model.train(resume=True)
        return best
    model.train(
        data=str(data),
        imgsz=size_px,
        epochs=epochs,
        freeze=freeze,
        project=str(folder.parent),
        name=folder.name,
        exist_ok=True,
        seed=seed,
        device="cpu",
        # One optimiser step a batch (ultralytics gathers 64 images for one): few images need many steps.
        batch=16,
        nbs=16,
        workers=0,
        cache="ram",
        warmup_epochs=1.0,
        # The chamber is controlled: small changes of place and light; composites bring what photographs need.
        mosaic=0.0,
        degrees=8.0,
        scale=0.25,
        flipud=0.5,
        hsv_h=hue,
        hsv_s=0.5,
        plots=False,
        **({"optimizer": "AdamW", "lr0": rate} if rate else {}),
    )
    return best


def validate(checkpoint: Path, data: Path, size_px: int) -> dict[str, float]:
    """Columns of runs.csv: precision and recall at the best F1, and average precision, of all and of each class."""
    model = YOLO(checkpoint)
    box = model.val(data=str(data), imgsz=size_px, batch=16, device="cpu", workers=0, plots=False, verbose=False).box
    of_class = {model.names[number]: box.class_result(row) for row, number in enumerate(box.ap_class_index)}
    return {
        f"{name}_{measure}": round(float(value), 4)
        for name, values in ({"all": box.mean_results()} | of_class).items()
        for measure, value in zip(runs.MEASURES, values, strict=True)
    }


def parsed_stage(text: str) -> Stage:
    """`SIZE:EPOCHS:FROZEN[:RATE]` of the command line."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+)(?::(0?\.\d+))?", text)
    if found is None or int(found[1]) % 32:
        raise argparse.ArgumentTypeError(f"{text!r}: want SIZE:EPOCHS:FROZEN[:RATE], SIZE in px and a multiple of 32")
    return int(found[1]), int(found[2]), int(found[3]), float(found[4] or 0.0)


def main() -> None:
    """Prepare the lists of pictures, run the stages one after the other, enter the run in models/runs.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/ as render.py writes them")
    parser.add_argument("--weights", type=Path, required=True, help="COCO tensors (safetensors) or a .pt to go on from")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--photographs", type=Path, help="folder of photographs with boxes, as ../shared/data/photos")
    parser.add_argument("--repeat-photographs", type=int, default=3, help="how often an epoch sees each of them [3]")
    parser.add_argument("--all-photographs", action="store_true", help="train on the held-out third too, for shipping")
    parser.add_argument(
        "--stage", type=parsed_stage, action="append", metavar="SIZE:EPOCHS:FROZEN[:RATE]", help="may be repeated"
    )
    parser.add_argument("--hue", type=float, default=0.02, help="most that colours are turned by, of a circle [0.02]")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    best = out / "best.pt"
    if best.exists():
        print(f"{best} is there: this run has ended")
        return
    data, counts = write_lists(args, out)
    stages = args.stage or STAGES
    checkpoints = [args.weights if args.weights.suffix == ".pt" else coco_start(args.weights, out)]
    for number, one in enumerate(stages):
        checkpoints.append(train_stage(checkpoints[-1], data, out / f"stage{number}", one, args.seed, args.hue))
    shutil.copyfile(checkpoints[-1], best)
    seconds = sum(runs.seconds_of(out / f"stage{number}" / "results.csv") for number in range(len(stages)))
    runs.append(
        {
            "run": out.name,
            "commit": runs.commit(),
            "command": f"python models/training/train.py {shlex.join(sys.argv[1:])}",
            "seed": args.seed,
            "stages": " ".join(":".join(map(str, one if one[3] else one[:3])) for one in stages),
            "seconds": round(seconds),
            **counts,
            **validate(best, data, stages[-1][0]),
        }
    )
    print(best)


if __name__ == "__main__":
    main()
