"""The things that people put into the machine, as Blender objects with their facts: a function for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import bpy
import numpy as np
import prints
import shapes
from designs import STEEL, WHITE, Colour, Designs, Rng, Shape, seeded
from materials import glowing, liquid, picture, plastic, shell
from mathutils import Matrix

CLEAR_WATER = (0.82, 0.91, 0.96)
LARGE_RADIUS_M = 0.046
STRINGS: tuple[Colour, ...] = ((0.7, 0.7, 0.65), (0.02, 0.02, 0.02), (0.4, 0.25, 0.1))


@dataclass
class Item:
    """One thing in the chamber: its kind, the class to be named (none for a hand), its facts and its objects."""

    kind: str
    model_class: str | None
    design: str = ""
    label_design: str | None = None
    barcode: str | None = None
    length_m: float = 0.0
    volume_l: float = 0.0
    crush: float = 0.0
    fill: float = 0.0
    chord: shapes.Array | None = None
    cap: bool = False
    tint: Colour = (1.0, 1.0, 1.0)
    touching: bool = False
    parts: list[tuple[bpy.types.Object, str]] = field(default_factory=list)

    def add(self, mesh: shapes.Mesh, material: bpy.types.Material, role: str = "body") -> None:
        """Make a Blender object of `mesh`; `role` is body, label, cap, liquid or drops."""
        data = bpy.data.meshes.new(self.kind)
        data.from_pydata(mesh.vertices.tolist(), [], mesh.faces)
        corners = np.empty(len(data.loops), dtype=np.int32)
        data.loops.foreach_get("vertex_index", corners)
        data.uv_layers.new().data.foreach_set("uv", mesh.uv[corners].ravel())
        data.polygons.foreach_set("use_smooth", [len(face) == 4 for face in mesh.faces])
        data.materials.append(material)
        body = bpy.data.objects.new(self.kind, data)
        bpy.context.scene.collection.objects.link(body)
        self.parts.append((body, role))

    def vertices(self, world: bool = False) -> shapes.Array:
        """All vertices but those of drops."""
        found = []
        for body, role in self.parts:
            if role == "drops":
                continue
            flat = np.empty(3 * len(body.data.vertices))
            body.data.vertices.foreach_get("co", flat)
            points = flat.reshape(-1, 3)
            if world:
                pose = np.array(body.matrix_world)
                points = points @ pose[:3, :3].T + pose[:3, 3]
            found.append(points)
        return np.concatenate(found)

    def place(self, x_m: float, y_m: float, yaw: float, height_m: float = 0.0) -> Matrix:
        """Lay the item on the belt with its middle at x, y, turned by `yaw` radians; returns the pose."""
        corners = self.vertices()
        low, high = corners.min(axis=0), corners.max(axis=0)
        centre = Matrix.Translation((-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, height_m - low[2]))
        return self.pose(Matrix.Translation((x_m, y_m, 0.0)) @ Matrix.Rotation(yaw, 4, "Z") @ centre)

    def pose(self, pose: Matrix) -> Matrix:
        """Put the item's own coordinates there."""
        for body, _ in self.parts:
            body.matrix_world = pose
        return pose


@dataclass(frozen=True)
class Finish:
    """What surrounds the design of a bottle in one picture."""

    cap: Colour | None = None
    drink: Colour | None = None
    level: float = 0.0
    slope: float = 0.0
    crush: float = 0.0
    whole_sleeve: bool = False


def _one(rng: Rng, choices: tuple[Colour, ...]) -> Colour:
    return choices[rng.integers(len(choices))]


def _design(rng: Rng, family: str, designs: Designs, shapes_: tuple[Shape, ...]) -> tuple[str, Shape]:
    number = int(rng.integers(len(shapes_)))
    return f"{family}-{designs.split}-{number:02d}", shapes_[number].varied(rng)


def _label(item: Item, rng: Rng, designs: Designs, family: str, palette: tuple[Colour, ...]) -> shapes.Array:
    """The print of one of the split's labels; the item takes its name and code."""
    number = int(rng.integers(designs.labels))
    own = seeded(family, designs.split, number)
    # GS1 keeps 20 to 29 for use inside a shop: no real product's number.
    item.label_design = f"{family}-{designs.split}-{number:03d}"
    item.barcode = prints.ean13("2" + "".join(str(d) for d in own.integers(0, 10, 11)))
    return prints.label(own, palette, item.barcode, bold=family != "water")


def _bottle(
    item: Item,
    rng: Rng,
    shape: Shape,
    wall: bpy.types.Material,
    label: bpy.types.Material | None,
    finish: Finish,
) -> shapes.Crush | None:
    """Body, label, cap and what is inside; `level` is the surface of the drink, -1 (empty) to 1 (full)."""
    around = {"squareness": shape.squareness, "flatness": shape.flatness}
    x, radius = shapes.bottle_profile(
        shape.length_m,
        shape.radius_m,
        shape.neck_m,
        shape.shoulder,
        shape.ribs,
        shape.rib_depth_m,
        shape.waist,
        shape.waist_at,
    )
    meshes = [(shapes.turned(x, radius, **around), wall, "body")]
    if label is not None:
        start, high = rng.uniform(0.13, 0.3), rng.uniform(0.16, 0.34)
        if finish.whole_sleeve:
            start, high = 0.04, shape.shoulder[0] - 0.06
        meshes.append((shapes.turned(*shapes.part(x, radius, start, start + high, 1.015), **around), label, "label"))
    if finish.cap is not None:
        at = np.array([0.93, 0.93, 0.94, 1.0, 1.0]) * shape.length_m * 1.01
        size = np.array([0.2, 1.2, 1.22, 1.2, 0.2]) * shape.neck_m
        meshes.append((shapes.turned(at, size), plastic(finish.cap), "cap"))
    crush = shapes.Crush.drawn(rng, finish.crush, shape.length_m) if finish.crush else None
    if finish.drink is not None:
        inside = shapes.liquid(x, radius, finish.level, finish.slope, **around)
        if inside is not None:
            meshes.append((inside.mesh, liquid(finish.drink), "liquid"))
            item.fill, item.chord = inside.fill, inside.chord
            if crush is not None and item.chord is not None:
                item.chord = crush.press(item.chord)
    for mesh, material, role in meshes:
        if crush is not None:
            mesh.vertices = crush.press(mesh.vertices)
        item.add(mesh, material, role)
    item.cap, item.crush = finish.cap is not None, crush.degree if crush is not None else 0.0
    item.length_m = shape.length_m * (1.01 if finish.cap is not None else 1.0)
    item.volume_l = 1000.0 * shapes.volume_m3(x, radius, **around)
    return crush


def _water_bottle(
    kind: str, model_class: str, rng: Rng, designs: Designs, levels: tuple[float, float] | None, **fixed: float
) -> Item:
    """A bottle of PET; `levels` are the least and greatest height of the water's surface, none: empty."""
    item = Item(kind, model_class)
    item.design, shape = _design(rng, "water", designs, designs.water_bottles)
    if "radius_m" in fixed:
        shape = Shape(0.3, fixed["radius_m"], (0.74, 0.92), ribs=shape.ribs, rib_depth_m=shape.rib_depth_m)
        item.design = f"large-{designs.split}-{item.design[-2:]}"
    if "slim" in fixed:
        shape = Shape(0.195, 0.029, (0.68, 0.9), ribs=shape.ribs, rib_depth_m=shape.rib_depth_m)
        item.design = f"slim-{designs.split}-{item.design[-2:]}"
    art = _label(item, rng, designs, "water", designs.water_labels)
    label = picture(art) if rng.random() < fixed.get("labelled", 0.8) else None
    if label is None:
        item.label_design = item.barcode = None
    # Most bottles are clear: the first tints of a split.
    item.tint = _one(rng, designs.pet_tints[:3] if rng.random() < 0.5 else designs.pet_tints)
    capped = 0.85 if levels else 0.65
    crush = 0.0
    if rng.random() < fixed.get("crushed", 0.15 if levels else 0.45):
        crush = rng.uniform(0.08, 0.3) if levels else rng.choice([rng.uniform(0.08, 0.3), rng.uniform(0.3, 0.8)])
    finish = Finish(
        cap=_one(rng, (*designs.water_labels, WHITE)) if rng.random() < fixed.get("capped", capped) else None,
        drink=CLEAR_WATER if levels else None,
        level=rng.uniform(*levels) if levels else 0.0,
        slope=fixed.get("slope", 0.0) * rng.choice([-1.0, 1.0]),
        crush=crush,
    )
    # Old bottles are scratched and so milkier.
    wall = shell(item.tint, edge=rng.uniform(0.6, 0.9), haze=0.05 + 0.15 * rng.random() ** 3)
    _bottle(item, rng, shape, wall, label, finish)
    return item


def mineral(rng: Rng, designs: Designs, slope: float) -> Item:
    """An empty water bottle of PET, often crushed, sometimes without label or cap."""
    return _water_bottle("mineral", "mineral", rng, designs, None)


def not_empty(rng: Rng, designs: Designs, slope: float) -> Item:
    """The same bottles, two thirds to wholly full of water."""
    return _water_bottle("not_empty", "not_empty", rng, designs, (0.25, 1.1), slope=slope)


def half(rng: Rng, designs: Designs, slope: float) -> Item:
    """The same bottles, about half full."""
    return _water_bottle("half", "not_empty", rng, designs, (-0.4, 0.25), slope=slope)


def sip(rng: Rng, designs: Designs, slope: float) -> Item:
    """The same bottles with a sip left: about 3 to 15 % of their volume."""
    return _water_bottle("sip", "not_empty", rng, designs, (-0.82, -0.55), slope=slope)


def large_bottle(rng: Rng, designs: Designs) -> Item:
    """A wide, uncrushed bottle with room for another in it: so it is not empty."""
    return _water_bottle("nested", "not_empty", rng, designs, None, radius_m=LARGE_RADIUS_M, labelled=0.5, crushed=0.0)


def slim_bottle(rng: Rng, designs: Designs) -> Item:
    """A bottle that fits into a large one."""
    return _water_bottle("mineral", "mineral", rng, designs, None, slim=1.0, crushed=0.0)


def soda(rng: Rng, designs: Designs, slope: float) -> Item:
    """A PET bottle with a dark or coloured rest and a bright label."""
    item = Item("soda", "soda")
    item.design, shape = _design(rng, "soda", designs, designs.soda_bottles)
    label = picture(_label(item, rng, designs, "soda", designs.bright))
    item.tint = (0.98, 0.98, 0.96)
    finish = Finish(
        cap=_one(rng, designs.bright) if rng.random() < 0.85 else None,
        drink=_one(rng, designs.sodas),
        level=rng.choice([rng.uniform(-0.85, -0.4), rng.uniform(-0.4, 1.1)]),
        slope=slope * rng.choice([-1.0, 1.0]),
        crush=rng.uniform(0.08, 0.3) if rng.random() < 0.15 else 0.0,
        whole_sleeve=rng.random() < 0.2,
    )
    _bottle(item, rng, shape, shell(item.tint, haze=rng.uniform(0.03, 0.1)), label, finish)
    return item


def _can(kind: str, rng: Rng, designs: Designs, family: str, palette: tuple[Colour, ...]) -> Item:
    item = Item(kind, "soda", tint=STEEL)
    number = int(rng.integers(5))
    length, radius = ((0.115, 0.033), (0.135, 0.027), (0.145, 0.029), (0.168, 0.033), (0.09, 0.027))[number]
    # The forms of cans are standards and so alike in all splits; the print is not.
    item.design, item.length_m = f"can-{number}", length
    item.volume_l = 1000.0 * np.pi * radius**2 * length * 0.94
    crush = shapes.Crush.drawn(rng, rng.uniform(0.15, 0.7), length) if rng.random() < 0.35 else None
    item.crush = crush.degree if crush is not None else 0.0
    ends = np.array([0.0, 0.0, 0.035, 0.06, 0.93, 0.985, 0.985, 1.0, 1.0, 0.985]) * length
    size = np.array([0.2, 0.76, 0.8, 1.0, 1.0, 0.84, 0.86, 0.86, 0.8, 0.1]) * radius
    low, high = (0.06, 0.93) if kind == "can" else (rng.uniform(0.05, 0.2), rng.uniform(0.75, 0.95))
    along = np.linspace(low, high, shapes.RINGS) * length
    metallic = 0.65 if kind == "can" else 0.0
    coat = picture(_label(item, rng, designs, family, palette), 0.25 if kind == "can" else 0.5, metallic)
    for mesh, material, role in (
        (shapes.turned(ends, size), plastic(STEEL, 0.25, 1.0), "body"),
        (shapes.turned(along, np.full_like(along, 1.006 * radius)), coat, "label"),
    ):
        if crush is not None:
            mesh.vertices = crush.press(mesh.vertices)
        item.add(mesh, material, role)
    return item


def can(rng: Rng, designs: Designs, slope: float) -> Item:
    """A drink can, 0.2 to 0.5 l, sometimes dented."""
    return _can("can", rng, designs, "soda", designs.bright)


def relabelled(rng: Rng, designs: Designs, slope: float) -> Item:
    """A can that wears a water bottle's label."""
    return _can("relabelled", rng, designs, "water", designs.water_labels)


def milk(rng: Rng, designs: Designs, slope: float) -> Item:
    """A white, opaque bottle or a jug with a handle."""
    item = Item("milk", "milk")
    item.design, shape = _design(rng, "milk", designs, designs.milk_bottles)
    item.tint = tuple(float(c) for c in rng.uniform(0.6, 0.85) * np.array([1.0, 0.99, 0.95]))
    white = plastic(item.tint, 0.45)
    art = _label(item, rng, designs, "milk", (*designs.pastels, WHITE))
    label = picture(art) if rng.random() < 0.75 else None
    if label is None:
        item.label_design = item.barcode = None
    finish = Finish(
        cap=_one(rng, designs.bright[:4]) if rng.random() < 0.85 else None,
        crush=rng.uniform(0.1, 0.5) if rng.random() < 0.2 else 0.0,
        whole_sleeve=rng.random() < 0.2,
    )
    crush = _bottle(item, rng, shape, white, label, finish)
    if rng.random() < 0.35 and crush is None:
        for a in np.linspace(0.0, np.pi, 24):
            ring = shapes.turned(np.array([-0.007, -0.005, 0.005, 0.007]), np.array([0.003, 0.008, 0.008, 0.003]))
            ring.vertices += (
                shape.length_m * (0.6 - 0.17 * np.cos(a)),
                shape.radius_m * (0.85 + 0.65 * np.sin(a)),
                0.0,
            )
            item.add(ring, white)
    return item


def yogurt(rng: Rng, designs: Designs, slope: float) -> Item:
    """A cup of 7 to 11 cm, lying or standing, or a drinking yogurt's small opaque bottle."""
    item = Item("yogurt", "yogurt")
    coat = picture(_label(item, rng, designs, "yogurt", designs.pastels))
    if rng.random() < 0.35:
        small = Shape(rng.uniform(0.08, 0.15), rng.uniform(0.018, 0.025), (0.72, 0.9), waist=0.18, neck_m=0.013)
        item.design, item.tint = f"drinking-yogurt-{designs.split}", _one(rng, designs.pastels)
        _bottle(item, rng, small, plastic(item.tint, 0.4), coat, Finish(whole_sleeve=rng.random() < 0.5))
        item.add(
            shapes.turned(np.array([0.985, 0.99, 1.0]) * small.length_m, np.array([0.014, 0.015, 0.015])),
            plastic(STEEL, 0.3, 0.9),
            "cap",
        )
        item.cap = True
        return item
    length, low, high = rng.uniform(0.07, 0.11), rng.uniform(0.022, 0.03), rng.uniform(0.033, 0.044)
    item.design, item.tint, item.length_m = f"cup-yogurt-{designs.split}", WHITE, length
    closed = rng.random() < 0.6
    foil = plastic(STEEL if rng.random() < 0.5 else _one(rng, designs.pastels), 0.3, 0.8)
    _beaker(item, rng, (length, low, high), plastic(WHITE, 0.4), coat, foil if closed else None)
    item.cap = closed
    return item


def _beaker(
    item: Item,
    rng: Rng,
    size_m: tuple[float, float, float],
    wall: bpy.types.Material,
    coat: bpy.types.Material | None,
    lid: bpy.types.Material | None,
) -> None:
    """A cone with a rim, open or with a lid, lying or standing; `size_m` is length and the two radii."""
    length, low, high = size_m
    t = np.linspace(0.0, 1.0, shapes.RINGS)
    radius = (low + (high - low) * t) * shapes.rounded(t)
    item.volume_l = 1000.0 * shapes.volume_m3(t * length, radius)
    # An open one goes back down inside, to a dark bottom.
    inner = (np.linspace(1.0, 0.06, 24) * length, np.interp(np.linspace(1.0, 0.06, 24), t, radius) * 0.95)
    outer = (t * length, radius) if lid is not None else (np.r_[t * length, inner[0]], np.r_[radius, inner[1]])
    rim = (np.array([0.975, 0.98, 1.0, 1.003]) * length, np.array([1.0, 1.08, 1.08, 1.0]) * high)
    meshes = [(shapes.turned(*outer), wall, "body")]
    if lid is not None:
        meshes.append((shapes.turned(*rim), wall, "body"))
        foil = (np.array([1.001, 1.001, 1.012]) * length, np.array([0.1, 1.09, 1.09]) * high)
        meshes.append((shapes.turned(*foil), lid, "cap"))
    if coat is not None:
        meshes.append((shapes.turned(*shapes.part(t * length, radius, 0.1, 0.9, 1.01)), coat, "label"))
    standing = rng.random() < 0.3
    crush = shapes.Crush.drawn(rng, rng.uniform(0.1, 0.5), length) if rng.random() < 0.2 else None
    item.crush = crush.degree if crush is not None else 0.0
    for mesh, material, role in meshes:
        if crush is not None:
            mesh.vertices = crush.press(mesh.vertices)
        if standing:
            mesh.vertices = mesh.vertices[:, [1, 2, 0]]
        item.add(mesh, material, role)


def cup(rng: Rng, designs: Designs, slope: float) -> Item:
    """A drinking cup of paper or plastic, open or with a lid."""
    item = Item("cup", "non_mineral", design=f"cup-{designs.split}")
    length, low = rng.uniform(0.09, 0.16), rng.uniform(0.025, 0.031)
    clear = rng.random() < 0.35
    item.tint = (0.97, 0.98, 0.98) if clear else _one(rng, (*designs.pastels, WHITE))
    wall = shell(item.tint, edge=0.6, haze=0.08) if clear else plastic(item.tint, 0.55)
    coat = None
    if not clear and rng.random() < 0.8:
        coat = picture(_label(item, rng, designs, "cup", (*designs.pastels, *designs.bright)), 0.6)
    lid = None
    if rng.random() < 0.4:
        lid = plastic((0.03, 0.03, 0.03) if rng.random() < 0.4 else WHITE, 0.35)
    item.length_m, item.cap = length, lid is not None
    _beaker(item, rng, (length, low, low * rng.uniform(1.3, 1.55)), wall, coat, lid)
    return item


def dishwasher(rng: Rng, designs: Designs, slope: float) -> Item:
    """A flat, coloured detergent bottle with a flip cap or a trigger."""
    item = Item("dishwasher", "dishwasher")
    item.design, shape = _design(rng, "dishwasher", designs, designs.dishwasher_bottles)
    item.tint = _one(rng, designs.detergents)
    label = picture(_label(item, rng, designs, "dishwasher", (*designs.detergents, WHITE)))
    _bottle(item, rng, shape, plastic(item.tint, rng.uniform(0.15, 0.4)), label, Finish())
    cap = plastic(_one(rng, (*designs.detergents, WHITE)), 0.3)
    end = shape.length_m * 0.95
    if rng.random() < 0.4:
        neck = shapes.turned(np.array([0.0, 0.035]) + end, np.array([0.014, 0.013]))
        head = shapes.box((0.028, 0.075, 0.022))
        head.vertices += (end + 0.033, 0.015, 0.0)
        lever = shapes.box((0.045, 0.008, 0.014))
        lever.vertices += (end - 0.008, 0.036, 0.0)
        for mesh in (neck, head, lever):
            item.add(mesh, cap, "cap")
        item.length_m = end + 0.061
    else:
        at = np.array([0.0, 0.0, 0.02, 0.022, 0.045, 0.045]) + end
        item.add(shapes.turned(at, np.array([0.2, 1.7, 1.5, 0.8, 0.5, 0.1]) * shape.neck_m), cap, "cap")
        item.length_m = end + 0.045
    item.cap = True
    return item


def carton(rng: Rng, designs: Designs, slope: float) -> Item:
    """A beverage carton of 0.2 to 1 l, with a gable or a brick, sometimes with a screw cap."""
    item = Item("carton", "non_mineral", design=f"carton-{designs.split}")
    size = tuple(float(v) for v in ((rng.uniform(0.1, 0.24)), rng.uniform(0.05, 0.085), rng.uniform(0.04, 0.075)))
    gable = rng.random() < 0.5
    crush = shapes.Crush.drawn(rng, rng.uniform(0.1, 0.6), size[0]) if rng.random() < 0.25 else None
    body = shapes.box(size, ridge=0.1 if gable else 1.0)
    if crush is not None:
        body.vertices = crush.press(body.vertices)
        item.crush = crush.degree
    palette = (*designs.pastels, *designs.bright)
    item.add(body, picture(_label(item, rng, designs, "carton", palette), 0.5), "label")
    if not gable and crush is None and rng.random() < 0.6:
        at = np.array([0.0, 0.0, 0.012, 0.012]) + size[0]
        lid = shapes.turned(at, np.array([0.001, 0.014, 0.013, 0.001]))
        lid.vertices += (0.0, 0.2 * size[1], 0.0)
        item.add(lid, plastic(_one(rng, (*designs.bright, WHITE))), "cap")
        item.cap = True
    item.length_m = size[0] + (0.012 if item.cap else 0.0)
    item.volume_l, item.tint = 1000.0 * float(np.prod(size)) * (0.85 if gable else 1.0), WHITE
    return item


def non_mineral(rng: Rng, designs: Designs, slope: float) -> Item:
    """A glass bottle or a jar."""
    item = Item("non_mineral", "non_mineral")
    label = picture(_label(item, rng, designs, "glass", designs.bright))
    if rng.random() < 0.65:
        item.design, shape = _design(rng, "glass", designs, designs.glass_bottles)
        item.tint = _one(rng, (*designs.glass_tints, (0.9, 0.97, 0.93)))
        crown = STEEL if rng.random() < 0.5 else _one(rng, designs.bright)
        bare = rng.random() < 0.2
        finish = Finish(cap=crown if rng.random() < 0.6 else None)
        _bottle(item, rng, shape, shell(item.tint, edge=0.35, haze=0.05), None if bare else label, finish)
        if bare:
            item.label_design = item.barcode = None
        return item
    length, radius = rng.uniform(0.1, 0.15), rng.uniform(0.034, 0.045)
    t = np.linspace(0.0, 1.0, shapes.RINGS)
    body = radius * shapes.rounded(t) * (1.0 - 0.18 * shapes.smoothstep(t, 0.78, 0.86))
    item.design, item.tint, item.cap = f"jar-{designs.split}", (0.72, 0.85, 0.74), True
    item.length_m, item.volume_l = 1.01 * length, 1000.0 * shapes.volume_m3(t * length, body)
    item.add(shapes.turned(t * length, body), shell(item.tint, edge=0.8, haze=0.1))
    item.add(shapes.turned(*shapes.part(t * length, body, 0.2, 0.65, 1.01)), label, "label")
    lid = (np.array([0.87, 0.87, 1.01, 1.01]) * length, np.array([0.1, 0.94, 0.94, 0.1]) * radius)
    item.add(shapes.turned(*lid), plastic(_one(rng, designs.bright), 0.3, 0.6), "cap")
    return item


def hand(rng: Rng, designs: Designs, slope: float) -> Item:
    """A hand and an arm as one soft surface of overlapping balls; the fingers point along x."""
    item = Item("hand", None, design=f"hand-{designs.split}")
    balls = bpy.data.metaballs.new("hand")
    balls.render_resolution = balls.resolution = 0.004
    spread, curl = rng.uniform(0.1, 0.35), rng.uniform(0.0, 0.5)
    chains = [((-0.42, 0.0, 0.0), (-0.04, 0.0, 0.0), 0.034, 0.027)]
    chains += [((-0.03, y, 0.0), (0.05, 1.25 * y, 0.0), 0.019, 0.017) for y in (-0.026, -0.009, 0.009, 0.026)]
    for number, length in enumerate((0.062, 0.075, 0.08, 0.07)):
        y, angle = 0.0225 * (number - 1.5), spread * (number - 1.5)
        reach = length * (1.0 - 0.4 * curl)
        tip = (0.055 + reach * np.cos(angle), y + reach * np.sin(angle), -curl * length)
        chains.append(((0.055, y, 0.0), tip, 0.0125, 0.0095))
    chains.append(((-0.01, 0.035, 0.0), (0.045, 0.078, -0.02), 0.0145, 0.0115))
    for start, end, thick, thin in chains:
        count = max(3, int(np.linalg.norm(np.subtract(end, start)) / (0.45 * thin)))
        for t in np.linspace(0.0, 1.0, count):
            ball = balls.elements.new()
            ball.co = np.add(start, t * np.subtract(end, start))
            # A ball's surface lies well inside its radius of influence.
            ball.radius = 1.35 * (thick + t * (thin - thick))
    source = bpy.data.objects.new("hand", balls)
    bpy.context.scene.collection.objects.link(source)
    bpy.context.view_layer.update()
    soft = source.evaluated_get(bpy.context.evaluated_depsgraph_get()).to_mesh()
    mesh = shapes.Mesh(
        np.array([v.co for v in soft.vertices]),
        [tuple(p.vertices) for p in soft.polygons],
        np.zeros((len(soft.vertices), 2)),
    )
    bpy.data.objects.remove(source)
    item.tint = _one(rng, designs.skins)
    item.add(mesh, plastic(item.tint, 0.5))
    if rng.random() < 0.6:
        cuff = rng.uniform(-0.2, -0.06)
        item.add(
            shapes.turned(np.array([-0.45, cuff - 0.01, cuff]), np.array([0.046, 0.042, 0.036])),
            plastic(_one(rng, (*designs.pastels, *designs.bright)), 0.9),
        )
    item.length_m = float(np.ptp(item.vertices()[:, 0]))
    return item


def paper(rng: Rng, designs: Designs, photograph: shapes.Array) -> Item:
    """A sheet of paper with the photograph of a bottle, with a margin or cut to size, a little curled."""
    item = Item("paper", "non_mineral", design=f"paper-{designs.split}", tint=WHITE)
    height, width = photograph.shape[:2]
    size = rng.uniform(0.2, 0.3)
    margin = int(rng.choice([0, 0, rng.integers(4, 30)]))
    # A printer has less range than a camera, and its paper is never black.
    print_ = 0.04 + 0.72 * photograph
    page = np.full((height + 2 * margin, width + 2 * margin, 3), 0.78)
    page[margin : margin + height, margin : margin + width] = print_
    sheet = shapes.sheet(size, size * page.shape[0] / page.shape[1], rng.uniform(0.0, 0.012))
    item.add(sheet, picture(page, rng.uniform(0.35, 0.9)))
    item.length_m = size
    return item


def phone(rng: Rng, designs: Designs, photograph: shapes.Array) -> Item:
    """A phone or tablet that shows the photograph of a bottle."""
    item = Item("phone", "non_mineral", design=f"phone-{designs.split}", tint=(0.02, 0.02, 0.02))
    length = rng.choice([rng.uniform(0.14, 0.165), rng.uniform(0.2, 0.25)])
    width, thick = length * (rng.uniform(0.47, 0.5) if length < 0.18 else rng.uniform(0.65, 0.72)), 0.008
    case = shapes.box((length, width, thick))
    case.vertices[:, 2] += thick / 2
    item.add(case, plastic(tuple(float(c) for c in rng.uniform(0.01, 0.08, 3)), 0.3))
    edge = rng.uniform(0.004, 0.009)
    height_px, width_px = photograph.shape[:2]
    # The picture fills the screen's width; above and below it is black.
    screen = (length - 2 * edge, width - 2 * edge)
    high = int(width_px * screen[1] / screen[0])
    page = np.zeros((high, width_px, 3))
    gap = (high - height_px) // 2
    page[max(gap, 0) : max(gap, 0) + min(high, height_px)] = photograph[max(-gap, 0) : max(-gap, 0) + high]
    glass = shapes.sheet(*screen, 0.0)
    glass.vertices += (length / 2, 0.0, thick + 0.0006)
    item.add(glass, glowing(page, rng.uniform(0.5, 1.6)))
    item.length_m = float(length)
    return item


def string(rng: Rng, start: shapes.Array, outward: float) -> Item:
    """A string that is tied to `start`, lies along `outward` radians and leaves the picture there."""
    item = Item("string", None, design="string", tint=_one(rng, STRINGS))
    t = np.linspace(0.0, 1.0, 30)
    sway = rng.normal(0.0, 0.02) * np.sin(np.pi * t) + rng.normal(0.0, 0.006) * np.sin(3 * np.pi * t)
    along = 0.34 * t
    points = np.stack(
        [
            start[0] + along * np.cos(outward) - sway * np.sin(outward),
            start[1] + along * np.sin(outward) + sway * np.cos(outward),
            start[2] + rng.uniform(0.0, 0.2) * t**2,
        ],
        axis=1,
    )
    knot = start + 0.016 * np.stack(
        [np.zeros(13), np.cos(np.linspace(0, 2 * np.pi, 13)), np.sin(np.linspace(0, 2 * np.pi, 13))], axis=1
    ) @ np.array([[1, 0, 0], [-np.sin(outward), np.cos(outward), 0], [0, 0, 1]])
    radius = rng.uniform(0.0007, 0.0014)
    material = plastic(item.tint, 0.8)
    item.add(shapes.tube(points, radius), material)
    item.add(shapes.tube(knot, 1.4 * radius), material)
    item.length_m = 0.34
    return item


MAKERS: dict[str, Callable[[Rng, Designs, float], Item]] = {
    maker.__name__: maker
    for maker in (
        mineral,
        not_empty,
        half,
        sip,
        soda,
        can,
        milk,
        yogurt,
        dishwasher,
        non_mineral,
        carton,
        cup,
        relabelled,
        hand,
    )
}
