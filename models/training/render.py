"""Render pictures of items in the chamber with boxes, masks and facts. Runs inside Blender 3.4, Cycles on the CPU.

blender -b --python-exit-code 1 -P models/training/render.py -- --out DATA --plan val=0:2 --plan train=0:33
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix, Vector

# Blender starts a script without its folder on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import camera_effects
import dataset
import items
import materials
import prints
import shapes
from dataset import KINDS, Facts, ItemFacts, Picture
from designs import OF_SPLIT, SPLITS, Chamber, Designs, Rng

BELT_M = (0.56, 0.42)
WALL_M = 0.42
SOLID = ("mineral", "mineral", "not_empty", "soda", "can", "milk", "yogurt", "dishwasher", "non_mineral", "carton")
# Those of dataset.ROUND that are not in items.MAKERS are put together here.


def light_up(rng: Rng, scene: bpy.types.Scene, chamber: Chamber, worn: float) -> None:
    """The chamber's lamps, aged by `worn` (0 new, 1: yellow, and some of them dark)."""
    height = min(chamber.camera_height_m - 0.02, 0.42)
    places = []
    if chamber.light == "ring":
        for angle in np.linspace(0.0, 2 * np.pi, 10, endpoint=False):
            x, y = chamber.spread_m * np.cos(angle), chamber.spread_m * np.sin(angle)
            places.append((x, y, 0.0, 0.02, 0.02, 0.34))
    elif chamber.light == "panel":
        places.append((0.0, 0.1 * np.sign(chamber.spread_m - 0.1), 0.0, 0.35, 0.1, 2.8))
    else:
        for side in (-1, 1):
            places.append((0.0, side * max(chamber.spread_m, 0.09), -side * 0.3, 0.42, 0.03, 1.5))
    warmth = rng.uniform(-0.06, 0.06) + 0.45 * worn
    for x, y, tilt, long, wide, watts in places:
        lamp = bpy.data.lights.new("lamp", "AREA")
        lamp.shape, lamp.size, lamp.size_y = "RECTANGLE", long, wide
        dead = worn > 0.4 and rng.random() < 0.2
        lamp.energy = watts * chamber.brightness * rng.uniform(0.9, 1.1) * (0.1 if dead else 1.0)
        lamp.color = (1.0, 1.0 - abs(warmth) / 3, max(0.2, 1.0 - warmth))
        body = bpy.data.objects.new("lamp", lamp)
        body.location, body.rotation_euler = (x, y, height), (tilt, 0.0, 0.0)
        body.visible_camera = False
        scene.collection.objects.link(body)
    scene.world = bpy.data.worlds.new("world")
    scene.world.color = tuple(0.12 * chamber.brightness * np.array((1.0, 1.0, 1.0 - 0.3 * worn)))


def build_chamber(rng: Rng, scene: bpy.types.Scene, chamber: Chamber, dirt: float, wet: bool) -> items.Item:
    """Belt, walls and the camera above, a little different in every picture."""
    made = items.Item("chamber", None)
    floor = shapes.Mesh(
        np.array([(sx * BELT_M[0] / 2, sy * BELT_M[1] / 2, 0.0) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]),
        [(0, 1, 2, 3)],
        np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=float),
    )
    drops = int(rng.integers(5, 60)) if wet else 0
    surface = prints.belt(rng, chamber.belt, chamber.belt_colour, dirt, chamber.ribs_px, drops)
    made.add(floor, materials.picture(surface, rng.uniform(0.35, 0.8)))
    wall = materials.plastic(tuple(rng.uniform(0.9, 1.0) * np.array(chamber.wall)), chamber.wall_roughness)
    for axis, sign in ((0, -1), (0, 1), (1, -1), (1, 1)):
        panel = shapes.box((0.01, BELT_M[1 - axis] + 0.05, WALL_M))
        # A chute is 0.36 m wide, whatever its length.
        panel.vertices[:, 0] += BELT_M[0] / 2 if axis == 0 else 0.18
        panel.vertices[:, 2] += WALL_M / 2
        made.add(panel, wall)
        made.parts[-1][0].matrix_world = Matrix.Rotation(np.pi * (1 - sign) / 2 + axis * np.pi / 2, 4, "Z")
    lens = bpy.data.cameras.new("camera")
    lens.angle = 2 * np.arctan(0.5 * chamber.field_m / chamber.camera_height_m)
    lens.clip_start = 0.01
    camera = bpy.data.objects.new("camera", lens)
    camera.location = (*rng.normal(0.0, 0.01, 2), chamber.camera_height_m + rng.normal(0.0, 0.004))
    camera.rotation_euler = rng.normal(0.0, 0.035, 3)
    scene.collection.objects.link(camera)
    scene.camera = camera
    return made


def beside(first: items.Item, second: items.Item, gap_m: float) -> None:
    """Move both along y, so that `gap_m` is between them and their common middle stays."""
    bpy.context.view_layer.update()
    low, high = first.vertices(world=True), second.vertices(world=True)
    # Only where both have something along x can they meet.
    left, right = max(low[:, 0].min(), high[:, 0].min()), min(low[:, 0].max(), high[:, 0].max())
    apart = np.inf
    for x in np.linspace(left, right, 40)[:-1]:
        near = [points[np.abs(points[:, 0] - x) < 0.008, 1] for points in (low, high)]
        if min(map(len, near)):
            apart = min(apart, near[1].min() - near[0].max())
    shift = (gap_m - apart) / 2 if np.isfinite(apart) else 0.0
    for item, sign in ((first, -1), (second, 1)):
        for body, _ in item.parts:
            body.matrix_world = Matrix.Translation((0.0, sign * shift, 0.0)) @ body.matrix_world


def put_items(rng: Rng, kind: str, designs: Designs, slope: float, photograph: shapes.Array | None) -> list[items.Item]:
    """The items of one picture, laid in the chamber."""
    yaw = rng.choice([0.0, np.pi]) + (rng.normal(0.0, 0.2) if rng.random() < 0.85 else rng.uniform(-0.6, 0.6))
    x, y = rng.normal(0.0, 0.018), rng.normal(0.0, 0.028)
    if kind == "nothing":
        return []
    if kind == "hand":
        arm = items.hand(rng, designs, slope)
        reach_in(rng, arm, (0.0, 0.0), rng.uniform(0.14, 0.24), rng.uniform(0.01, 0.12))
        return [arm]
    if kind == "holding":
        item = items.MAKERS[str(rng.choice(["mineral", "mineral", "sip", "can"]))](rng, designs, slope)
        item.place(x, y, yaw)
        arm = items.hand(rng, designs, slope)
        arm_yaw = rng.choice([np.pi / 2, -np.pi / 2]) + rng.normal(0.0, 0.3)
        along = rng.uniform(-0.06, 0.06)
        palm = (x + along - 0.05 * np.cos(arm_yaw), y - 0.05 * np.sin(arm_yaw), rng.uniform(0.055, 0.08))
        arm.pose(Matrix.Translation(palm) @ Matrix.Rotation(arm_yaw, 4, "Z") @ Matrix.Rotation(0.25, 4, "Y"))
        return [item, arm]
    if kind in ("two", "touching"):
        names = rng.choice(SOLID if kind == "two" else SOLID[:6], 2)
        pair = [items.MAKERS[str(name)](rng, designs, slope) for name in names]
        yaw = rng.choice([0.0, np.pi]) + rng.normal(0.0, 0.12)
        for side, item in zip((-1, 1), pair, strict=True):
            lean = 0.0 if kind == "touching" else rng.normal(0.0, 0.06)
            item.place(rng.normal(0.0, 0.02), side * 0.05, yaw + lean + rng.choice([0.0, np.pi]))
        beside(*pair, 0.0 if kind == "touching" else rng.uniform(0.006, 0.03))
        for item in pair:
            item.touching = kind == "touching"
        return pair
    if kind == "nested":
        outer = items.large_bottle(rng, designs)
        pose = outer.place(x, y, yaw)
        small = rng.random() < 0.5
        inner = items.MAKERS["can"](rng, designs, slope) if small else items.slim_bottle(rng, designs)
        inner.model_class = None
        points = inner.vertices()
        room = items.LARGE_RADIUS_M * 0.96
        reach = np.hypot(points[:, 1], points[:, 2]).max()
        along = rng.uniform(0.01, max(0.012, 0.215 - points[:, 0].max()))
        inner.pose(pose @ Matrix.Translation((along, 0.0, reach - room)))
        return [outer, inner]
    if kind == "paper":
        item = items.paper(rng, designs, photograph)
        item.place(x, y, yaw, 0.001)
        return [item]
    if kind == "phone":
        item = items.phone(rng, designs, photograph)
        item.place(x, y, yaw, 0.0005)
        return [item]
    if kind == "string":
        item = items.MAKERS["mineral"](rng, designs, slope)
        item.kind = "string"
        pose = item.place(x, y, yaw)
        neck = np.array(pose @ Vector((0.9 * item.length_m, 0.0, 0.0)))
        return [item, items.string(rng, neck, yaw + rng.normal(0.0, 0.3))]
    item = items.MAKERS[kind](rng, designs, slope)
    if item.length_m < 0.14:
        yaw = rng.uniform(-np.pi, np.pi)
    item.place(x, y, yaw)
    return [item]


def reach_in(rng: Rng, arm: items.Item, at: tuple[float, float], reach_m: float, height_m: float) -> None:
    """Most of an arm stays outside: it reaches in from one side of the picture."""
    yaw = rng.choice([0.0, np.pi / 2, np.pi, -np.pi / 2]) + rng.normal(0.0, 0.25)
    arm.place(at[0] - reach_m * np.cos(yaw), at[1] - reach_m * np.sin(yaw), yaw, height_m)


def sprinkle(rng: Rng, contents: list[items.Item]) -> None:
    """Water drops on the items."""
    for item in contents:
        if item.kind in ("hand", "string", "chamber"):
            continue
        body = item.parts[0][0]
        flat = np.empty(3 * len(body.data.vertices))
        body.data.vertices.foreach_get("co", flat)
        mesh = shapes.Mesh(flat.reshape(-1, 3), [], np.zeros((0, 2)))
        item.add(shapes.drops(rng, mesh, int(rng.integers(15, 90))), materials.liquid((0.95, 0.97, 1.0)), "drops")
        item.parts[-1][0].matrix_world = body.matrix_world


def start_scene(width: int, height: int, samples: int, seed: int) -> bpy.types.Scene:
    """An empty scene with Cycles set to be quick; one thread, as pictures are rendered side by side."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.seed = samples, False, seed
    scene.cycles.max_bounces, scene.cycles.transparent_max_bounces, scene.cycles.diffuse_bounces = 7, 16, 1
    scene.cycles.caustics_reflective = scene.cycles.caustics_refractive = False
    scene.cycles.sample_clamp_indirect = 2.0
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = width, height, 100
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.view_settings.view_transform = "Standard"
    return scene


def shoot(scene: bpy.types.Scene, path: Path) -> None:
    """Render to a file."""
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def load_pixels(path: Path) -> shapes.Array:
    """A file's picture, RGBA, row 0 at the bottom."""
    image = bpy.data.images.load(str(path))
    pixels = np.empty(len(image.pixels), dtype=np.float32)
    image.pixels.foreach_get(pixels)
    return pixels.reshape(image.size[1], image.size[0], 4)


def take_photograph(rng: Rng, designs: Designs, temporary: Path) -> shapes.Array:
    """A photograph of an empty bottle on a plain ground, as one would print it to cheat: linear RGB."""
    scene = start_scene(288, 144, 12, int(rng.integers(1 << 31)))
    ground = shapes.Mesh(
        np.array([(-1.0, -1.0, 0.0), (1.0, -1.0, 0.0), (1.0, 1.0, 0.0), (-1.0, 1.0, 0.0)]),
        [(0, 1, 2, 3)],
        np.zeros((4, 2)),
    )
    studio = items.Item("chamber", None)
    colour = rng.uniform(0.05, 0.8) * rng.uniform(0.8, 1.0, 3)
    studio.add(ground, materials.plastic(tuple(float(c) for c in colour), 0.6))
    bottle = items.MAKERS["mineral"](rng, designs, 0.0)
    bottle.place(0.0, 0.0, rng.normal(0.0, 0.05))
    chamber = Chamber.drawn(designs.split, int(rng.integers(designs.chambers)))
    light_up(rng, scene, chamber, 0.0)
    lens = bpy.data.cameras.new("camera")
    camera = bpy.data.objects.new("camera", lens)
    lens.angle, lens.clip_start = 2 * np.arctan(0.5 * (bottle.length_m + rng.uniform(0.01, 0.08)) / 0.5), 0.01
    camera.location = (0.0, 0.0, 0.5)
    scene.collection.objects.link(camera)
    scene.camera = camera
    shoot(scene, temporary)
    pixels = load_pixels(temporary)
    temporary.unlink()
    return np.asarray(pixels[..., :3], dtype=np.float64) ** 2.2


def develop(path: Path, effects: camera_effects.Effects) -> None:
    """Turn a render into a small camera's JPEG."""
    pixels = load_pixels(path)
    pixels[..., :3] = camera_effects.apply(pixels[::-1, :, :3], effects)[::-1]
    # A new one: what was loaded carries the time of the render with it.
    image = bpy.data.images.new("picture", pixels.shape[1], pixels.shape[0])
    image.pixels.foreach_set(pixels.ravel())
    image.file_format, image.filepath_raw = "JPEG", str(path.with_suffix(".jpg"))
    image.save(quality=effects.quality)
    path.unlink()


def shoot_masks(scene: bpy.types.Scene, chamber: items.Item, contents: list[items.Item], path: Path) -> None:
    """One more picture, a sample a pixel, in flat colours: red the item's number, green liquid, blue cap or label."""
    scene.cycles.samples, scene.cycles.max_bounces = 1, 0
    scene.cycles.pixel_filter_type, scene.cycles.filter_width = "BOX", 0.01
    scene.view_settings.view_transform, scene.view_settings.exposure = "Raw", 0.0
    scene.render.dither_intensity = 0.0
    scene.world.color = (0.0, 0.0, 0.0)
    for body in scene.objects:
        body.hide_render = body.type == "LIGHT"
    black = materials.coded(0.0, 0.0, 0.0)
    for body, _ in chamber.parts:
        body.data.materials[0] = black
    blue = {"cap": 1.0, "label": 128 / 255}
    for number, item in enumerate(contents, 1):
        for body, role in item.parts:
            if role == "drops":
                body.hide_render = True
                continue
            clear = role == "body" and "Transparent BSDF" in body.data.materials[0].node_tree.nodes
            body.data.materials[0] = materials.coded(
                number / 255, float(role == "liquid"), blue.get(role, 0.0), see_through=clear
            )
    shoot(scene, path)


def facts_of(item: items.Item, camera: shapes.Camera) -> ItemFacts:
    """The facts of an item where it lies."""
    line = None
    if item.chord is not None:
        pose = np.array(item.parts[0][0].matrix_world)
        ends = camera.project(item.chord @ pose[:3, :3].T + pose[:3, 3])
        line = tuple((float(x), float(y)) for x, y in ends)
    return ItemFacts(
        kind=item.kind,
        model_class=item.model_class,
        design=item.design,
        label_design=item.label_design,
        barcode=item.barcode,
        box=camera.box(item.vertices(world=True)),
        length_m=float(item.length_m),
        volume_l=float(item.volume_l),
        crush=float(item.crush),
        fill=float(item.fill),
        fill_line=line,
        cap=item.cap,
        tint=tuple(float(c) for c in item.tint),
        touching=item.touching,
    )


def render(
    picture: Picture, image_path: Path, mask_path: Path | None, width: int, samples: int, quality: int | None
) -> Facts:
    """One picture with its masks and facts; the same split, kind, seed and size give the same picture."""
    rng = np.random.default_rng([picture.seed, KINDS.index(picture.kind)])
    designs, height = OF_SPLIT[picture.split], width * 3 // 4
    temporary = image_path.with_suffix(".png")
    photograph = take_photograph(rng, designs, temporary) if picture.kind in ("paper", "phone") else None
    scene = start_scene(width, height, samples, picture.seed)
    chamber = Chamber.drawn(picture.split, int(rng.integers(designs.chambers)))
    dark, wet = rng.random() < 0.1, rng.random() < 0.12
    dirt = rng.uniform(0.4, 1.0) if rng.random() < 0.2 else rng.uniform(0.0, 0.25)
    worn = rng.uniform(0.35, 1.0) if rng.random() < 0.15 else rng.uniform(0.0, 0.2)
    scene.view_settings.exposure = rng.uniform(-2.6, -1.5) if dark else rng.uniform(-0.5, 0.7)
    built = build_chamber(rng, scene, chamber, dirt, wet)
    light_up(rng, scene, chamber, worn)
    contents = put_items(rng, picture.kind, designs, chamber.slope, photograph)
    bpy.context.view_layer.update()
    if wet:
        sprinkle(rng, contents)
    effects = camera_effects.Effects.drawn(rng, dark)
    if quality is not None:
        effects = camera_effects.Effects(**{**asdict(effects), "quality": quality})
    bpy.context.view_layer.update()
    lens = scene.camera
    focal_px = width / (2.0 * np.tan(lens.data.angle / 2.0))
    camera = shapes.Camera(np.array(lens.matrix_world.inverted()), float(focal_px), width, height)
    found = tuple(facts_of(item, camera) for item in contents)
    conditions = {
        "dark": dark,
        "dirty": dirt > 0.4,
        "worn": worn > 0.35,
        "wet": wet,
        "blurred": effects.blurred,
        "smeared": bool(effects.smears or effects.scratches),
        "crushed": any(item.crush > dataset.CRUSHED_FROM for item in found),
        "tinted": any(item.model_class in ("mineral", "not_empty") and np.ptp(item.tint) > 0.1 for item in found),
    }
    shoot(scene, temporary)
    develop(temporary, effects)
    if mask_path is not None:
        shoot_masks(scene, built, contents, mask_path)
    height_m = float(lens.location.z)
    view = dataset.CameraFacts(height_m, float(focal_px), float(focal_px / height_m))
    slices = tuple(name for name, holds in conditions.items() if holds)
    return Facts(picture.kind, picture.seed, chamber.name, view, slices, found)


def render_planned(picture: Picture, out: Path, width: int, samples: int) -> None:
    """A picture of the data set; the facts are written last and say that it is whole."""
    folder = out / picture.split
    facts_path = folder / "facts" / f"{picture.name}.json"
    if facts_path.exists():
        return
    paths = {name: folder / name for name in ("images", "labels", "masks", "facts")}
    for path in paths.values():
        path.mkdir(parents=True, exist_ok=True)
    facts = render(
        picture,
        paths["images"] / f"{picture.name}.jpg",
        paths["masks"] / f"{picture.name}.png",
        width,
        samples,
        None,
    )
    (paths["labels"] / f"{picture.name}.txt").write_text(dataset.yolo_rows(facts.items, width, width * 3 // 4))
    unfinished = facts_path.with_suffix(".part")
    unfinished.write_text(json.dumps(dataset.rounded(asdict(facts))) + "\n")
    unfinished.replace(facts_path)


def album_row(facts: Facts, file: str) -> dict[str, object]:
    """A picture's row in the index of the simulated cabinet."""
    boxes = [
        {"class": item.model_class}
        | {side: round(v, 1) for side, v in zip(("x_min", "y_min", "x_max", "y_max"), item.box, strict=True)}
        for item in facts.items
        if item.labelled
    ]
    only = boxes[0]["class"] if len(boxes) == 1 else None
    return {"file": file, "kind": facts.kind, "model_class": only, "boxes": boxes}


def plan(text: str) -> tuple[str, int, int]:
    """`SPLIT=FIRST:LAST` of the command line."""
    split, _, rounds = text.partition("=")
    first, _, last = rounds.partition(":")
    if split not in SPLITS or not first.isdigit() or not last.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: want SPLIT=FIRST:LAST with SPLIT one of {', '.join(SPLITS)}")
    return split, int(first), int(last)


def kind_count(text: str) -> tuple[str, int]:
    """`KIND=NUMBER` of the command line."""
    kind, _, number = text.partition("=")
    if kind not in KINDS or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: want KIND=NUMBER with KIND one of {', '.join(KINDS)}")
    return kind, int(number)


def share(text: str) -> tuple[int, int]:
    """`K/N` of the command line: every N-th picture from the K-th, counted from 0."""
    mine, _, of = text.partition("/")
    if not mine.isdigit() or not of.isdigit() or not 0 <= int(mine) < int(of):
        raise argparse.ArgumentTypeError(f"{text!r}: want K/N with K less than N")
    return int(mine), int(of)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line after Blender's own."""
    parser = argparse.ArgumentParser(prog="render.py", description="Render pictures of items in the chamber.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set, or of an album")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--plan", type=plan, action="append", metavar="SPLIT=FIRST:LAST", help="rounds of a data set")
    what.add_argument("--golden", type=kind_count, action="append", metavar="KIND=NUMBER", help="golden pictures")
    what.add_argument("--album", type=kind_count, action="append", metavar="KIND=NUMBER", help="the cabinet's pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture of each kind (golden, album)")
    parser.add_argument("--share", type=share, default=(0, 1), metavar="K/N", help="part of a data set's plan")
    parser.add_argument("--width-px", type=int, default=320, help="width; the height is three quarters of it")
    parser.add_argument("--samples", type=int, default=10, help="Cycles samples a pixel")
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality, 1 to 100 (golden, album)")
    parser.add_argument("--until", help="start no picture of a data set after this time of day, HH:MM")
    return parser.parse_args(argv)


def main() -> None:
    """Render what was asked for; pictures of a data set that exist are kept, so an interrupted run goes on."""
    args = parse(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else [])
    for split, first, last in args.plan or []:
        mine, of = args.share
        for picture in dataset.pictures(split, first, last)[mine::of]:
            if args.until and time.strftime("%H:%M") >= args.until:
                return
            render_planned(picture, args.out, args.width_px, args.samples)
    rows: list[dict[str, object]] = []
    for kind, number in args.golden or args.album or []:
        seed = args.seed
        for k in range(number):
            path = args.out / f"{kind}_{k:02d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            mask = path.with_suffix(".png") if args.golden else None
            while True:
                facts = render(Picture("test", kind, seed), path, mask, args.width_px, args.samples, args.quality)
                seed += 1
                # The cabinet's light works: what is dark there is dark on request.
                if args.golden or "dark" not in facts.slices:
                    break
            rows.append({"file": path.name, **asdict(facts)} if args.golden else album_row(facts, path.name))
    if rows:
        index = args.out / "index.json"
        new = {row["file"] for row in rows}
        kept = [row for row in json.loads(index.read_text()) if row["file"] not in new] if index.exists() else []
        index.write_text(json.dumps(dataset.rounded(kept + rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
