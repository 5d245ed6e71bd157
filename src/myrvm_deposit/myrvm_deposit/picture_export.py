"""Kept pictures with what the machine thought of them, in forms that labelling tools read: YOLO and COCO.

YOLO is the layout of Ultralytics (`data.yaml`, `images/`, `labels/`) with the `classes.txt` of Label Studio; COCO is
`annotations/instances_default.json` beside `images/`, as CVAT wants it. What a person corrects there goes back into
training by `models/training/merge.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from myrvm_core.errors import StorageError
from myrvm_core.kept_pictures import KeptPicture, size_of

UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class Format(str, Enum):
    """Of an export."""

    YOLO = "yolo"
    COCO = "coco"


def export(
    pictures: Iterable[KeptPicture],
    jpeg_of: Callable[[KeptPicture], bytes | None],
    folder: Path,
    form: Format,
    classes: Sequence[str],
) -> int:
    """Write pictures and labels into a new folder; gives how many pictures.

    Args:
        pictures: that are wanted.
        jpeg_of: gives the picture itself; None: it is gone meanwhile, and left out.
        folder: made here; it must be empty or not there.
        form: of the labels.
        classes: names in the order of their numbers; a note of another class gives a picture without a label.

    Raises:
        StorageError: the folder is not empty, cannot be written, or a picture cannot be read.
    """
    write = _write_yolo if form is Format.YOLO else _write_coco
    try:
        if folder.exists() and any(folder.iterdir()):
            raise StorageError(f"{folder} is not empty")
        (folder / "images").mkdir(parents=True, exist_ok=True)
        written: list[tuple[KeptPicture, str, tuple[int, int]]] = []
        for picture in pictures:
            jpeg = jpeg_of(picture)
            if jpeg is not None:
                file = f"{UNSAFE.sub('_', picture.name)}.jpg"
                (folder / "images" / file).write_bytes(jpeg)
                written.append((picture, file, size_of(jpeg)))
        write(folder, written, list(classes))
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error}") from error
    return len(written)


Written = Sequence[tuple[KeptPicture, str, tuple[int, int]]]  # picture, file, height and width


def _write_yolo(folder: Path, written: Written, classes: list[str]) -> None:
    (folder / "labels").mkdir(exist_ok=True)
    for picture, file, (height, width) in written:
        row = ""
        if picture.note.box is not None and picture.note.class_name in classes:
            x_min, y_min, x_max, y_max = picture.note.box
            row = (
                f"{classes.index(picture.note.class_name)} {(x_min + x_max) / 2 / width:.6f} "
                f"{(y_min + y_max) / 2 / height:.6f} {(x_max - x_min) / width:.6f} {(y_max - y_min) / height:.6f}\n"
            )
        (folder / "labels" / file).with_suffix(".txt").write_text(row)
    (folder / "train.txt").write_text("".join(f"images/{file}\n" for _, file, _ in written))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    described = {"path": ".", "train": "train.txt", "val": "train.txt", "names": dict(enumerate(classes))}
    (folder / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False))


def _write_coco(folder: Path, written: Written, classes: list[str]) -> None:
    annotations: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for number, (picture, file, (height, width)) in enumerate(written, start=1):
        note = picture.note
        kept_at = datetime.fromtimestamp(picture.kept_at, timezone.utc).isoformat(timespec="seconds")
        images.append(
            {
                "id": number, "file_name": file, "height": height, "width": width, "date_captured": kept_at,
                "kind": picture.kind.value, "reason": note.reason, "model": note.model,
            }
        )  # fmt: skip
        if note.box is not None and note.class_name in classes:
            x_min, y_min, x_max, y_max = note.box
            box = [x_min, y_min, x_max - x_min, y_max - y_min]
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": classes.index(note.class_name) + 1,
                    "bbox": [round(side, 2) for side in box], "area": round(box[2] * box[3], 2), "iscrowd": 0,
                    "segmentation": [], "score": round(note.score, 4),
                }
            )  # fmt: skip
    document = {
        "info": {"description": "pictures of a reverse vending machine, labelled by its network, to be corrected"},
        "licenses": [],
        "images": images,
        "categories": [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(classes, 1)],
        "annotations": annotations,
    }
    file = folder / "annotations" / "instances_default.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
