"""Render pictures of items in the chamber, with boxes. Runs inside Blender 3.4, Cycles on the CPU.

blender -b --python-exit-code 1 -P models/training/render.py -- --out DIR --count mineral=20 --count hand=5
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

# Blender starts a script without its folder on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import items
import materials
import shapes
from designs import HELD_OUT, TRAINING, Designs

CLASSES = ("mineral", "not_empty", "soda", "milk", "yogurt", "dishwasher", "non_mineral")
KINDS = (*items.MAKERS, "two", "nothing")
BELT_M = (0.46, 0.345)
MIN_BOX_PX = 6


@dataclass(frozen=True)
class Box:
    """An item's box in pixels of the picture, origin at the upper left."""

    model_class: str
    x_min: float
    y_min: float
    x_max: float
    y_max: float


def build_chamber(rng: np.random.Generator, scene: bpy.types.Scene) -> None:
    """Belt, walls, two LED strips and the camera above, a little different in every picture."""
    chamber = items.Item("chamber", None)
    floor = shapes.Mesh(
        np.array([(sx * BELT_M[0] / 2, sy * BELT_M[1] / 2, 0.0) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]),
        [(0, 1, 2, 3)],
        np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=float),
    )
    chamber.add(floor, materials.picture(shapes.belt(rng), rng.uniform(0.35, 0.8)))
    wall = materials.plastic(tuple(rng.uniform(0.2, 0.65) * rng.uniform(0.93, 1.0, 3)), rng.uniform(0.3, 0.7))
    for axis, sign in ((0, -1), (0, 1), (1, -1), (1, 1)):
        panel = shapes.box((0.01, *((BELT_M[1 - axis] + 0.05, 0.4))))
        panel.vertices[:, 0] += BELT_M[axis] / 2
        panel.vertices[:, 2] += 0.2
        chamber.add(panel, wall)
        chamber.parts[-1].matrix_world = Matrix.Rotation(np.pi * (1 - sign) / 2 + axis * np.pi / 2, 4, "Z")
    warmth = rng.uniform(-0.08, 0.08)
    for side in (-1, 1):
        strip = bpy.data.lights.new("strip", "AREA")
        strip.shape, strip.size, strip.size_y = "RECTANGLE", 0.4, 0.03
        strip.energy = rng.uniform(0.9, 1.9)
        strip.color = (1.0, 1.0 - abs(warmth) / 2, 1.0 - warmth)
        lamp = bpy.data.objects.new("strip", strip)
        lamp.location = (rng.normal(0.0, 0.02), side * rng.uniform(0.1, 0.15), rng.uniform(0.32, 0.4))
        lamp.rotation_euler = (-side * rng.uniform(0.1, 0.5), 0.0, 0.0)
        scene.collection.objects.link(lamp)
    scene.world = bpy.data.worlds.new("world")
    scene.world.color = (0.12, 0.12, 0.12)
    lens = bpy.data.cameras.new("camera")
    lens.angle = 2 * np.arctan(0.5 * rng.uniform(0.36, 0.43) / 0.5)
    camera = bpy.data.objects.new("camera", lens)
    camera.location = (*rng.normal(0.0, 0.012, 2), rng.uniform(0.48, 0.52))
    camera.rotation_euler = rng.normal(0.0, 0.035, 3)
    scene.collection.objects.link(camera)
    scene.camera = camera


def put_items(rng: np.random.Generator, kind: str, designs: Designs) -> list[items.Item]:
    """The items of one picture, laid in the chamber."""
    if kind == "nothing":
        return []
    if kind == "hand":
        arm = items.hand(rng, designs)
        # Most of the arm stays outside: it reaches in from one side of the picture.
        yaw = rng.choice([0.0, np.pi / 2, np.pi, -np.pi / 2]) + rng.normal(0.0, 0.25)
        reach = rng.uniform(0.14, 0.24)
        arm.place(-reach * np.cos(yaw), -reach * np.sin(yaw), yaw, rng.uniform(0.01, 0.12))
        return [arm]
    if kind == "two":
        solid = [name for name in items.MAKERS if name != "hand"]
        pair = [items.MAKERS[name](rng, designs) for name in rng.choice(solid, 2)]
        for side, item in zip((-1, 1), pair, strict=True):
            yaw = rng.choice([0.0, np.pi]) + rng.normal(0.0, 0.1)
            item.place(rng.normal(0.0, 0.02), side * rng.uniform(0.055, 0.07), yaw)
        return pair
    item = items.MAKERS[kind](rng, designs)
    item.place(rng.normal(0.0, 0.015), rng.normal(0.0, 0.025), rng.choice([0.0, np.pi]) + rng.normal(0.0, 0.2))
    return [item]


def box_of(item: items.Item, scene: bpy.types.Scene) -> Box | None:
    """The projection of all vertices of an item, cut at the picture's edges; none for what has no class."""
    if item.model_class is None:
        return None
    camera, width, height = scene.camera, scene.render.resolution_x, scene.render.resolution_y
    corners = np.concatenate(
        [np.array([body.matrix_world @ vertex.co for vertex in body.data.vertices]) for body in item.parts]
    )
    local = np.c_[corners, np.ones(len(corners))] @ np.array(camera.matrix_world.inverted()).T
    focal_px = width / (2.0 * np.tan(camera.data.angle / 2.0))
    x = width / 2.0 + focal_px * local[:, 0] / -local[:, 2]
    y = height / 2.0 - focal_px * local[:, 1] / -local[:, 2]
    x, y = np.clip(x, 0, width), np.clip(y, 0, height)
    box = Box(item.model_class, *(float(v) for v in (x.min(), y.min(), x.max(), y.max())))
    return box if min(box.x_max - box.x_min, box.y_max - box.y_min) >= MIN_BOX_PX else None


def develop(path: Path, rng: np.random.Generator, quality: int, soft: bool) -> None:
    """Turn a render into a small camera's picture: sensor noise, if `soft` its smoothing over 3 x 3 px, JPEG."""
    image = bpy.data.images.load(str(path))
    pixels = np.empty(len(image.pixels), dtype=np.float32)
    image.pixels.foreach_get(pixels)
    grid = pixels.reshape(image.size[1], image.size[0], 4)
    grid[..., :3] += rng.normal(0.0, rng.uniform(0.002, 0.01), grid.shape[:2])[..., None]
    grid[..., :3] += rng.normal(0.0, 0.004, (*grid.shape[:2], 3))
    if soft:
        wide = np.pad(grid, ((1, 1), (0, 0), (0, 0)), "edge")
        wide = np.pad((wide[:-2] + 2.0 * wide[1:-1] + wide[2:]) / 4.0, ((0, 0), (1, 1), (0, 0)), "edge")
        grid[:] = (wide[:, :-2] + 2.0 * wide[:, 1:-1] + wide[:, 2:]) / 4.0
    image.pixels.foreach_set(np.clip(grid, 0.0, 1.0).ravel())
    image.file_format, image.filepath_raw = "JPEG", str(path.with_suffix(".jpg"))
    image.save(quality=quality)
    path.unlink()


def render(stem: Path, kind: str, seed: int, args: argparse.Namespace) -> list[Box]:
    """One picture with its boxes; the same seed, kind and designs give the same picture."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.seed = args.samples, False, seed
    scene.cycles.max_bounces, scene.cycles.transparent_max_bounces, scene.cycles.diffuse_bounces = 6, 10, 1
    scene.cycles.caustics_reflective = scene.cycles.caustics_refractive = False
    scene.cycles.sample_clamp_indirect = 2.0
    scene.render.threads_mode, scene.render.threads = "FIXED", args.threads
    scene.render.resolution_x, scene.render.resolution_y = args.width_px, args.width_px * 3 // 4
    scene.render.resolution_percentage = 100
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.exposure = rng.uniform(-0.3, 0.8)
    build_chamber(rng, scene)
    contents = put_items(rng, kind, HELD_OUT if args.designs == "held_out" else TRAINING)
    bpy.context.view_layer.update()
    path = stem.with_suffix(".png")
    scene.render.image_settings.file_format, scene.render.filepath = "PNG", str(path)
    bpy.ops.render.render(write_still=True)
    develop(path, rng, args.quality, args.soft)
    return [box for item in contents if (box := box_of(item, scene)) is not None]


def yolo_rows(boxes: list[Box], width: int, height: int) -> str:
    """Class number, then centre x, centre y, width and height relative to the picture."""
    return "".join(
        f"{CLASSES.index(b.model_class)} "
        f"{(b.x_min + b.x_max) / 2 / width:.5f} {(b.y_min + b.y_max) / 2 / height:.5f} "
        f"{(b.x_max - b.x_min) / width:.5f} {(b.y_max - b.y_min) / height:.5f}\n"
        for b in boxes
    )


def kind_count(text: str) -> tuple[str, int]:
    """`KIND=NUMBER` of the command line."""
    kind, _, number = text.partition("=")
    if kind not in KINDS or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: want KIND=NUMBER with KIND one of {', '.join(KINDS)}")
    return kind, int(number)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line after Blender's own."""
    parser = argparse.ArgumentParser(
        prog="render.py", description="Render pictures of items in the chamber, with boxes."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for images/ and labels/ (or flat, see --index)")
    parser.add_argument("--count", type=kind_count, action="append", required=True, metavar="KIND=NUMBER")
    parser.add_argument("--seed", type=int, default=0, help="number of the first picture of each kind")
    parser.add_argument("--designs", choices=("training", "held_out"), default="training")
    parser.add_argument("--index", action="store_true", help="write flat pictures and an index.json instead of labels")
    parser.add_argument("--width-px", type=int, default=320, help="width; the height is three quarters of it")
    parser.add_argument("--samples", type=int, default=10, help="Cycles samples a pixel")
    parser.add_argument("--quality", type=int, default=92, help="JPEG quality, 1 to 100")
    parser.add_argument("--soft", action="store_true", help="smooth over 3 x 3 px, as a camera does")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(argv)


def main() -> None:
    """Render what was asked for; training pictures that exist are kept, so an interrupted run goes on."""
    args = parse(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else [])
    width, height = args.width_px, args.width_px * 3 // 4
    index = []
    for kind, number in args.count:
        for seed in range(args.seed, args.seed + number):
            if args.index:
                stem = args.out / f"{kind}_{seed - args.seed:02d}"
            else:
                stem = args.out / "images" / f"{kind}_{seed:05d}"
                label = args.out / "labels" / f"{stem.name}.txt"
                if label.exists():
                    continue
                label.parent.mkdir(parents=True, exist_ok=True)
            stem.parent.mkdir(parents=True, exist_ok=True)
            boxes = render(stem, kind, seed, args)
            if args.index:
                rows = [
                    {"class": b.model_class}
                    | {side: round(getattr(b, side), 1) for side in ("x_min", "y_min", "x_max", "y_max")}
                    for b in boxes
                ]
                names = {b.model_class for b in boxes}
                only = names.pop() if len(boxes) == 1 else None
                index.append({"file": f"{stem.name}.jpg", "kind": kind, "model_class": only, "boxes": rows})
            else:
                label.write_text(yolo_rows(boxes, width, height))
    if args.index:
        (args.out / "index.json").write_text(json.dumps(index, indent=1) + "\n")


main()
