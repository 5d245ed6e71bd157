"""Render the same items lying otherwise, for the fingerprint's test: `ITEM_POSE.jpg`. Runs inside Blender.

blender -b --python-exit-code 1 -P models/training/segment_turned.py -- --out DIR --items 12
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from mathutils import Matrix

sys.path.insert(0, str(Path(__file__).resolve().parent))

import dataset
import items
import render

KINDS = ("mineral", "mineral", "mineral", "can", "milk", "soda", "sip", "mineral")
POSES = 3
FIRST_SEED = 990_000  # beyond all others of the split


def lie_otherwise(contents: list[items.Item], rng: np.random.Generator) -> None:
    """Turn and move what lies on the belt; it keeps the side that it shows."""
    for item in contents:
        corners = item.vertices(world=True)
        x, y, _ = (float(v) for v in (corners.min(axis=0) + corners.max(axis=0)) / 2.0)
        turn = rng.uniform(-0.7, 0.7) + (math.pi if rng.random() < 0.5 else 0.0)
        moved = Matrix.Translation((float(rng.normal(0.0, 0.015)), float(rng.normal(0.0, 0.02)), 0.0))
        pose = moved @ Matrix.Rotation(turn, 4, "Z") @ Matrix.Translation((-x, -y, 0.0))
        for body, _ in item.parts:
            body.matrix_world = pose @ body.matrix_world


def main() -> None:
    """Each item in each pose; what is there is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--items", type=int, default=12)
    args = parser.parse_args(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else [])
    for part in ("images", "masks", "facts"):
        (args.out / part).mkdir(parents=True, exist_ok=True)
    lay = render.put_items
    for number in range(args.items):
        for pose in range(POSES):
            name = f"{number:03d}_{pose}"
            facts_file = args.out / "facts" / f"{name}.json"
            if facts_file.exists():
                continue

            def put(*given, number: int = number, pose: int = pose) -> list[items.Item]:
                contents = lay(*given)
                if pose:
                    lie_otherwise(contents, np.random.default_rng([number, pose]))
                return contents

            render.put_items = put
            picture = dataset.Picture("test", KINDS[number % len(KINDS)], FIRST_SEED + number)
            image, mask = args.out / "images" / f"{name}.jpg", args.out / "masks" / f"{name}.png"
            facts = render.render(picture, image, mask, 320, 12, None)
            facts_file.write_text(json.dumps(dataset.rounded(asdict(facts))) + "\n")


if __name__ == "__main__":
    main()
