"""Corrected labels into the next training: the YOLO or COCO export of a labelling tool becomes DATA/added/NAME.

python models/training/merge.py EXPORT --into DATA [--images DIR] [--name NAME]
EXPORT is a folder or a .zip with data.yaml or classes.txt (YOLO), or a COCO .json whose pictures are in --images.
Classes go by their names. A fifth of the pictures validates, chosen by name: always the same ones. Called again it
replaces what is there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import picture_sets
import yaml
from picture_sets import CLASSES, SUFFIXES, Sides

VALIDATES = 5  # one picture of so many


@dataclass(frozen=True)
class Labelled:
    """A picture with what a person says that it shows."""

    file: Path
    labels: tuple[tuple[str, Sides], ...]


def read_yolo(folder: Path) -> list[Labelled]:
    """Pictures with a label file, whether tools put them flat or into subsets.

    Raises:
        ValueError: classes are missing or not ours, or a row is none.
    """
    names = _class_names(folder)
    files = {
        file.stem: file for file in sorted(folder.rglob("*.txt"))
        if file.parent != folder and "labels" in file.relative_to(folder).parts
    }  # fmt: skip
    found: list[Labelled] = []
    for image in sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES):
        if (label := files.get(image.stem)) is None:
            continue  # not labelled yet
        height, width = picture_sets.size_of(image)
        rows = [(names[number], row) for number, *row in picture_sets.read_rows(label, len(names))]
        labels = tuple((name, picture_sets.to_sides(row, width, height)) for name, row in rows)
        found.append(_checked(Labelled(image, labels), label))
    return found


def _class_names(folder: Path) -> list[str]:
    if (described := folder / "data.yaml").is_file():
        names = yaml.safe_load(described.read_text(encoding="utf-8"))["names"]
        return [names[number] for number in range(len(names))] if isinstance(names, dict) else list(names)
    if (listed := folder / "classes.txt").is_file():
        return [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    raise ValueError(f"{folder} has neither data.yaml nor classes.txt: which class has which number?")


def read_coco(file: Path, images: Path) -> list[Labelled]:
    """Pictures of a COCO file, also those without annotations: a person says that nothing is there.

    Raises:
        ValueError: a picture is missing, a class is not ours, or the file is none.
    """
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    try:
        names = {category["id"]: category["name"] for category in document["categories"]}
        labels: dict[int, list[tuple[str, Sides]]] = {image["id"]: [] for image in document["images"]}
        for annotation in document["annotations"]:
            x, y, width, height = annotation["bbox"]
            labels[annotation["image_id"]].append((names[annotation["category_id"]], (x, y, x + width, y + height)))
        pictures = [(images / Path(image["file_name"]).name, labels[image["id"]]) for image in document["images"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} is no COCO file of boxes: {error!r}") from error
    for picture, _ in pictures:
        if not picture.is_file():
            raise ValueError(f"{picture} is missing: {file} names it")
    return [_checked(Labelled(picture, tuple(found)), file) for picture, found in pictures]


def _checked(picture: Labelled, source: Path) -> Labelled:
    height, width = picture_sets.size_of(picture.file)
    for name, (x_min, y_min, x_max, y_max) in picture.labels:
        if name not in CLASSES:
            raise ValueError(f"{source}: class {name!r} is not allowed: {', '.join(CLASSES)}")
        if not (-1 <= x_min < x_max <= width + 1 and -1 <= y_min < y_max <= height + 1):
            raise ValueError(f"{source}: a box of {picture.file.name} lies outside of its {width} x {height} px")
    return picture


def read(source: Path, images: Path | None) -> list[Labelled]:
    """An export in whatever form it comes. Errors as in `read_yolo`, `read_coco`."""
    if source.suffix == ".json":
        beside = source.parent.parent / "images" if source.parent.name == "annotations" else source.parent / "images"
        return read_coco(source, images or beside)
    if documents := sorted((source / "annotations").glob("*.json")):
        return [one for document in documents for one in read_coco(document, images or source / "images")]
    return read_yolo(source)


def write(pictures: Sequence[Labelled], folder: Path) -> dict[str, int]:
    """Put them where `train.py` looks, in place of an earlier version; gives how many train and validate."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    counts = {"train": 0, "val": 0}
    for picture in pictures:
        digest = hashlib.sha256(picture.file.stem.encode()).digest()
        subset = "val" if digest[0] % VALIDATES == 0 else "train"
        counts[subset] += 1
        for part in ("images", "labels"):
            (partial / subset / part).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture.file, partial / subset / "images" / picture.file.name)
        height, width = picture_sets.size_of(picture.file)
        rows = "".join(picture_sets.to_row(name, sides, width, height) for name, sides in picture.labels)
        (partial / subset / "labels" / f"{picture.file.stem}.txt").write_text(rows)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return counts


def main() -> None:
    """Read, check, put into DATA/added; the next `train.py --data DATA` uses it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path, help="folder, .zip, or COCO .json")
    parser.add_argument("--into", type=Path, required=True, metavar="DATA", help="the data that train.py is given")
    parser.add_argument("--images", type=Path, help="folder of a COCO file's pictures [images/ beside it]")
    parser.add_argument("--name", default="", help="what it is called there [that of the export]")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as unpacked:
        source = args.export
        if source.suffix == ".zip":
            with zipfile.ZipFile(source) as archive:
                archive.extractall(unpacked)  # zipfile keeps names inside of the folder
            source = Path(unpacked)
        try:
            pictures = read(source, args.images)
        except ValueError as error:
            raise SystemExit(f"merge.py: {error}") from None
        if not pictures:
            raise SystemExit(f"merge.py: {args.export} holds no labelled pictures")
        folder = args.into / "added" / (args.name or args.export.stem)
        folder.parent.mkdir(parents=True, exist_ok=True)
        counts = write(pictures, folder)
    print(f"{counts['train']} to train on and {counts['val']} to validate in {folder}")


if __name__ == "__main__":
    main()
