"""Train the bottle detector from COCO features on renders and photographs; called again, it resumes.

python models/training/train.py --data DIR --weights ../shared/data/weights/yolov5n_coco.safetensors --out DIR
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from ultralytics import YOLO

CLASSES = ("mineral", "not_empty", "soda", "milk", "yogurt", "dishwasher", "non_mineral")

# What the photographs show, judged by eye. Whatever is not named here (mugs, refillable bottles, glass) is
# `non_mineral`; in the ones left out the contents cannot be told, or the box is wrong (046).
PHOTO_CLASSES = {
    "008": "not_empty",
    "012": "mineral",
    "021": "dishwasher",
    "022": "soda",
    "028": "soda",
    "041": "not_empty",
}
PHOTOS_LEFT_OUT = {"002", "004", "005", "006", "007", "029", "037", "046", "051"}


def photo_lists(photos: Path, out: Path) -> Path:
    """Copy the usable photographs with their labels in our classes to `out`; returns the folder of images."""
    images, labels = out / "images", out / "labels"
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    for source in sorted((photos / "images").glob("*.jpg")):
        if source.stem in PHOTOS_LEFT_OUT:
            continue
        number = CLASSES.index(PHOTO_CLASSES.get(source.stem, "non_mineral"))
        rows = (photos / "labels" / f"{source.stem}.txt").read_text().splitlines()
        (labels / f"{source.stem}.txt").write_text("".join(f"{number} {row.split(' ', 1)[1]}\n" for row in rows))
        shutil.copyfile(source, images / source.name)
    return images


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


def finished(checkpoint: Path) -> bool:
    """Whether the stage that wrote this checkpoint ran to its end (ultralytics then strips the epoch)."""
    return checkpoint.exists() and torch.load(checkpoint, map_location="cpu", weights_only=False)["epoch"] == -1


def train_stage(start: Path, data: Path, folder: Path, size_px: int, epochs: int, freeze: int, seed: int) -> Path:
    """One stage at one image size; returns its best checkpoint."""
    last, best = folder / "weights" / "last.pt", folder / "weights" / "best.pt"
    if finished(last):
        return best
    if last.exists():
        YOLO(last).train(resume=True)
        return best
    YOLO(start).train(
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
        # The chamber is controlled: small changes of place and light, no mosaic of four chambers.
        mosaic=0.0,
        degrees=8.0,
        scale=0.2,
        flipud=0.5,
        hsv_h=0.02,
        hsv_s=0.5,
        plots=False,
    )
    return best


def average(first: Path, second: Path, out: Path) -> None:
    """Write the mean of two checkpoints of the same network, which errs less than either."""
    mean, other = YOLO(first), YOLO(second).model.state_dict()
    weights = mean.model.state_dict()
    mean.model.load_state_dict(
        {k: (v.float() + other[k].float()) / 2 if v.is_floating_point() else v for k, v in weights.items()}
    )
    mean.save(out)


def stage(text: str) -> tuple[int, int, int]:
    """`SIZE:EPOCHS:FROZEN` of the command line."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in parts) or int(parts[0]) % 32:
        raise argparse.ArgumentTypeError(f"{text!r}: want SIZE:EPOCHS:FROZEN, SIZE in px and a multiple of 32")
    return int(parts[0]), int(parts[1]), int(parts[2])


def main() -> None:
    """Prepare the lists of pictures, then run the stages one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/ as render.py writes them")
    parser.add_argument("--weights", type=Path, required=True, help="COCO tensors (safetensors) or a .pt to go on from")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--photos", type=Path, help="folder of photographs with boxes, as in ../shared/data/photos")
    parser.add_argument("--stage", type=stage, action="append", metavar="SIZE:EPOCHS:FROZEN", help="may be repeated")
    parser.add_argument("--average", action="store_true", help="average the best of the last two stages")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    train = [str(args.data.resolve() / "train" / "images")]
    if args.photos is not None:
        train.append(str(photo_lists(args.photos, out / "photos")))
    data = out / "data.yaml"
    data.write_text(
        yaml.safe_dump(
            {
                "train": train,
                "val": str(args.data.resolve() / "val" / "images"),
                "names": dict(enumerate(CLASSES)),
            }
        )
    )
    checkpoints = [args.weights if args.weights.suffix == ".pt" else coco_start(args.weights, out)]
    for number, (size_px, epochs, freeze) in enumerate(args.stage or [(160, 12, 10), (320, 14, 0)]):
        folder = out / f"stage{number}"
        checkpoints.append(train_stage(checkpoints[-1], data, folder, size_px, epochs, freeze, args.seed))
    if args.average:
        average(*checkpoints[-2:], out / "best.pt")
    else:
        shutil.copyfile(checkpoints[-1], out / "best.pt")
    print(out / "best.pt")


if __name__ == "__main__":
    main()
