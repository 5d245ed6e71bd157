"""The photographs of "Bottles and Cup" (DataCluster Labs, CC BY 4.0): what each box shows, and which are held out.

The classes were given by eye. Mugs, steel and refillable bottles, glass and cans of spray are `non_mineral`.
"""

from __future__ import annotations

from pathlib import Path

from picture_sets import PHOTOGRAPH, Item, Picture, read_rows, size_of, to_sides

OTHER = "non_mineral"
# By box, in the order of the label file; None: it cannot be told whether there is something in it.
CLASSES_SEEN: dict[str, tuple[str | None, ...]] = {
    "002": ("not_empty",),
    "004": (None,),
    "005": (None,),
    "006": ("not_empty",),
    "007": (OTHER, "not_empty", "not_empty", None, OTHER),
    "008": ("not_empty",),
    "012": ("mineral", "mineral"),
    "014": ("not_empty",),
    "021": ("dishwasher",),
    "022": ("soda",),
    "026": (None, OTHER),
    "028": ("soda",),
    "029": (None,),
    "037": (None, None, None),
    "041": ("not_empty",),
    "051": (None,),
}
WRONG_BOXES = frozenset({"046", "047"})
# A third, never trained on for a measured figure; photographs of the same bottle or table are on the same side.
HELD_OUT = frozenset(
    "002 005 008 011 014 015 020 023 026 029 032 035 038 041 044 048 050".split()  # noqa: SIM905
)


def read(folder: Path) -> list[Picture]:
    """All photographs whose boxes are right."""
    pictures: list[Picture] = []
    for file in sorted((folder / "images").glob("*.jpg")):
        if file.stem in WRONG_BOXES:
            continue
        height, width = size_of(file)
        rows = read_rows(folder / "labels" / f"{file.stem}.txt")
        names = CLASSES_SEEN.get(file.stem, (OTHER,) * len(rows))
        items = [Item(name, to_sides(row, width, height)) for name, (_, *row) in zip(names, rows, strict=True)]
        slices = ("bottle",) if any(number == 0 for number, *_ in rows) else ("cup",)
        pictures.append(Picture(file, PHOTOGRAPH, tuple(items), slices))
    return pictures


def split(folder: Path) -> tuple[list[Picture], list[Picture]]:
    """Photographs to train on (each box has a class) and those that are held out (some boxes may have none)."""
    pictures = read(folder)
    training = [
        picture for picture in pictures
        if picture.file.stem not in HELD_OUT and len(picture.classes) == len(picture.items)
    ]  # fmt: skip
    return training, [picture for picture in pictures if picture.file.stem in HELD_OUT]
