"""The things that people put into the machine, as Blender objects: a function for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import bpy
import numpy as np
import shapes
from designs import STEEL, WHITE, Colour, Designs, Rng, Shape
from materials import liquid, picture, plastic, shell
from mathutils import Matrix


@dataclass
class Item:
    """One thing in the chamber: its kind, the class to be named (none for a hand), its objects."""

    kind: str
    model_class: str | None
    parts: list[bpy.types.Object] = field(default_factory=list)

    def add(self, mesh: shapes.Mesh, material: bpy.types.Material) -> None:
        """Make a Blender object of `mesh`."""
        data = bpy.data.meshes.new(self.kind)
        data.from_pydata(mesh.vertices.tolist(), [], mesh.faces)
        corners = np.empty(len(data.loops), dtype=np.int32)
        data.loops.foreach_get("vertex_index", corners)
        data.uv_layers.new().data.foreach_set("uv", mesh.uv[corners].ravel())
        data.polygons.foreach_set("use_smooth", [len(face) == 4 for face in mesh.faces])
        data.materials.append(material)
        body = bpy.data.objects.new(self.kind, data)
        bpy.context.scene.collection.objects.link(body)
        self.parts.append(body)

    def place(self, x_m: float, y_m: float, yaw: float, height_m: float = 0.0) -> None:
        """Lay the item on the belt with its middle at x, y, turned by `yaw` radians."""
        corners = np.concatenate([np.array([v.co for v in p.data.vertices]) for p in self.parts])
        low, high = corners.min(axis=0), corners.max(axis=0)
        centre = Matrix.Translation((-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, height_m - low[2]))
        pose = Matrix.Translation((x_m, y_m, 0.0)) @ Matrix.Rotation(yaw, 4, "Z") @ centre
        for body in self.parts:
            body.matrix_world = pose


def _one(rng: Rng, choices: tuple[Colour, ...]) -> Colour:
    return choices[rng.integers(len(choices))]


def _print(rng: Rng, colours: tuple[Colour, ...]) -> shapes.Array:
    return np.roll(shapes.printed(rng, list(colours)), rng.integers(160), axis=1)


def _bottle(
    item: Item,
    rng: Rng,
    shape: Shape,
    wall: bpy.types.Material,
    label: bpy.types.Material | None,
    cap: Colour | None,
    *,
    drink: Colour | None = None,
    level: float = 0.0,
    crush: float = 0.0,
) -> None:
    """Body, label, cap and what is inside; `level` is the surface of the drink, -1 (empty) to 1 (full)."""
    section = {"squareness": shape.squareness, "flatness": shape.flatness}
    x, radius = shapes.bottle_profile(
        shape.length_m,
        shape.radius_m,
        shape.neck_m,
        shape.shoulder,
        shape.ribs,
        0.0018,
        shape.waist,
        shape.waist_at,
    )
    meshes = [(shapes.turned(x, radius, **section), wall)]
    if label is not None:
        start = rng.uniform(0.15, 0.3)
        end = start + rng.uniform(0.18, 0.32)
        meshes.append((shapes.turned(*shapes.part(x, radius, start, end, 1.015), **section), label))
    if cap is not None:
        at = np.array([0.93, 0.93, 0.94, 1.0, 1.0]) * shape.length_m * 1.01
        size = np.array([0.2, 1.2, 1.22, 1.2, 0.2]) * shape.neck_m
        meshes.append((shapes.turned(at, size), plastic(cap)))
    seed = int(rng.integers(1 << 32))
    for mesh, material in meshes:
        if crush:
            mesh.vertices = shapes.crushed(mesh.vertices, np.random.default_rng(seed), crush, shape.length_m)
        item.add(mesh, material)
    if drink is not None:
        item.add(shapes.water(x, radius, level, rng.uniform(-0.1, 0.1), **section), liquid(drink))


def _water_bottle(item: Item, rng: Rng, designs: Designs, full: bool) -> None:
    shape = designs.water_bottles[rng.integers(len(designs.water_bottles))].varied(rng)
    label = picture(_print(rng, designs.water_labels)) if rng.random() < 0.85 else None
    cap = _one(rng, (*designs.water_labels, WHITE)) if full or rng.random() < 0.7 else None
    crush = rng.uniform(0.25, 0.7) if not full and rng.random() < 0.35 else 0.0
    drink = (0.74, 0.87, 0.95) if full else None
    wall = shell(_one(rng, designs.pet_tints))
    _bottle(item, rng, shape, wall, label, cap, drink=drink, level=rng.uniform(-0.35, 1.1), crush=crush)


def mineral(rng: Rng, designs: Designs) -> Item:
    """An empty water bottle of PET, sometimes crushed, sometimes without label or cap."""
    item = Item("mineral", "mineral")
    _water_bottle(item, rng, designs, full=False)
    return item


def not_empty(rng: Rng, designs: Designs) -> Item:
    """The same bottles, a third to wholly full of water."""
    item = Item("not_empty", "not_empty")
    _water_bottle(item, rng, designs, full=True)
    return item


def soda(rng: Rng, designs: Designs) -> Item:
    """A PET bottle with a rest of a coloured drink and a bright label."""
    item = Item("soda", "soda")
    shape = designs.soda_bottles[rng.integers(len(designs.soda_bottles))].varied(rng)
    label = picture(_print(rng, designs.bright))
    drink = _one(rng, designs.sodas)
    wall = shell((0.98, 0.98, 0.96))
    _bottle(item, rng, shape, wall, label, _one(rng, designs.bright), drink=drink, level=rng.uniform(-0.5, 1.1))
    return item


def can(rng: Rng, designs: Designs) -> Item:
    """A drink can, 0.25 to 0.5 l, sometimes dented."""
    item = Item("can", "soda")
    length, radius = rng.choice([0.115, 0.135, 0.168]), rng.choice([0.027, 0.033])
    crush, seed = (rng.uniform(0.2, 0.6) if rng.random() < 0.3 else 0.0), int(rng.integers(1 << 32))
    ends = np.array([0.0, 0.0, 0.035, 0.06, 0.93, 0.985, 0.985, 1.0, 1.0, 0.985]) * length
    size = np.array([0.2, 0.76, 0.8, 1.0, 1.0, 0.84, 0.86, 0.86, 0.8, 0.1]) * radius
    body = shapes.part(ends[3:5], size[3:5], 0.0, 1.0, 1.005)
    along = np.linspace(0.06, 0.93, shapes.RINGS) * length
    coat = picture(_print(rng, designs.bright), 0.25, 0.65)
    for mesh, material in (
        (shapes.turned(ends, size), plastic(STEEL, 0.25, 1.0)),
        (shapes.turned(along, np.full_like(along, body[1].max())), coat),
    ):
        if crush:
            mesh.vertices = shapes.crushed(mesh.vertices, np.random.default_rng(seed), crush, length)
        item.add(mesh, material)
    return item


def milk(rng: Rng, designs: Designs) -> Item:
    """A white, opaque bottle or a jug with a handle."""
    item = Item("milk", "milk")
    shape = designs.milk_bottles[rng.integers(len(designs.milk_bottles))].varied(rng)
    white = plastic(tuple(rng.uniform(0.72, 0.85) * np.array([1.0, 0.99, 0.95])), 0.45)
    label = picture(_print(rng, (*designs.pastels, WHITE))) if rng.random() < 0.7 else None
    _bottle(item, rng, shape, white, label, _one(rng, designs.bright[:4]))
    if rng.random() < 0.4:
        bow = np.linspace(0.0, np.pi, 24)
        for a in bow:
            ring = shapes.turned(np.array([-0.007, -0.005, 0.005, 0.007]), np.array([0.003, 0.008, 0.008, 0.003]))
            ring.vertices += (
                shape.length_m * (0.6 - 0.17 * np.cos(a)),
                shape.radius_m * (0.85 + 0.65 * np.sin(a)),
                0.0,
            )
            item.add(ring, white)
    return item


def yogurt(rng: Rng, designs: Designs) -> Item:
    """A cup of 7 to 11 cm, lying or standing, or a drinking yogurt's small opaque bottle."""
    item = Item("yogurt", "yogurt")
    coat = picture(_print(rng, designs.pastels))
    if rng.random() < 0.35:
        small = Shape(rng.uniform(0.08, 0.12), rng.uniform(0.018, 0.023), (0.72, 0.9), waist=0.18, neck_m=0.013)
        _bottle(item, rng, small, plastic(_one(rng, designs.pastels), 0.4), coat, None)
        item.add(
            shapes.turned(np.array([0.985, 0.99, 1.0]) * small.length_m, np.array([0.014, 0.015, 0.015])),
            plastic(STEEL, 0.3, 0.9),
        )
        return item
    length, low, high = rng.uniform(0.07, 0.11), rng.uniform(0.022, 0.028), rng.uniform(0.033, 0.042)
    wall = np.linspace(0.0, 1.0, shapes.RINGS)
    radius = (low + (high - low) * wall) * shapes.rounded(wall)
    rim = (np.array([0.98, 0.98, 1.0, 1.0]) * length, np.array([0.9, 1.08, 1.08, 0.9]) * high)
    meshes = [
        (shapes.turned(wall * length, radius), plastic(WHITE, 0.4)),
        (shapes.turned(*rim), plastic(WHITE, 0.4)),
    ]
    meshes.append((shapes.turned(*shapes.part(wall * length, radius, 0.12, 0.88, 1.01)), coat))
    foil = (np.array([1.001, 1.001, 1.012]) * length, np.array([0.1, 1.09, 1.09]) * high)
    meshes.append(
        (shapes.turned(*foil), plastic(STEEL if rng.random() < 0.5 else _one(rng, designs.pastels), 0.3, 0.8))
    )
    standing = rng.random() < 0.25
    for mesh, material in meshes:
        if standing:
            mesh.vertices = mesh.vertices[:, [1, 2, 0]]
        item.add(mesh, material)
    return item


def dishwasher(rng: Rng, designs: Designs) -> Item:
    """A flat, coloured detergent bottle with a flip cap or a trigger."""
    item = Item("dishwasher", "dishwasher")
    shape = designs.dishwasher_bottles[rng.integers(len(designs.dishwasher_bottles))].varied(rng)
    colour = _one(rng, designs.detergents)
    label = picture(_print(rng, (*designs.detergents, WHITE)))
    _bottle(item, rng, shape, plastic(colour, 0.2), label, None)
    cap = plastic(_one(rng, (*designs.detergents, WHITE)), 0.3)
    end = shape.length_m * 0.95
    if rng.random() < 0.4:
        neck = shapes.turned(np.array([0.0, 0.035]) + end, np.array([0.014, 0.013]))
        head = shapes.box((0.028, 0.075, 0.022))
        head.vertices += (end + 0.033, 0.015, 0.0)
        lever = shapes.box((0.045, 0.008, 0.014))
        lever.vertices += (end - 0.008, 0.036, 0.0)
        for mesh in (neck, head, lever):
            item.add(mesh, cap)
    else:
        at = np.array([0.0, 0.0, 0.02, 0.022, 0.045, 0.045]) + end
        item.add(shapes.turned(at, np.array([0.2, 1.7, 1.5, 0.8, 0.5, 0.1]) * shape.neck_m), cap)
    return item


def non_mineral(rng: Rng, designs: Designs) -> Item:
    """A glass bottle, a carton or a jar."""
    item = Item("non_mineral", "non_mineral")
    form = rng.integers(3)
    label = picture(_print(rng, designs.bright))
    if form == 0:
        shape = designs.glass_bottles[rng.integers(len(designs.glass_bottles))].varied(rng)
        wall = shell(_one(rng, designs.glass_tints), edge=0.35, haze=0.05)
        crown = STEEL if rng.random() < 0.5 else _one(rng, designs.bright)
        _bottle(item, rng, shape, wall, label, crown if rng.random() < 0.6 else None)
    elif form == 1:
        size = (rng.uniform(0.16, 0.24), rng.uniform(0.06, 0.085), rng.uniform(0.055, 0.075))
        item.add(shapes.box(size, ridge=rng.choice([0.1, 1.0])), label)
    else:
        length, radius = rng.uniform(0.1, 0.15), rng.uniform(0.034, 0.045)
        t = np.linspace(0.0, 1.0, shapes.RINGS)
        body = radius * shapes.rounded(t) * (1.0 - 0.18 * shapes.smoothstep(t, 0.78, 0.86))
        item.add(shapes.turned(t * length, body), shell((0.72, 0.85, 0.74), edge=0.8, haze=0.1))
        item.add(shapes.turned(*shapes.part(t * length, body, 0.2, 0.65, 1.01)), label)
        lid = (np.array([0.87, 0.87, 1.01, 1.01]) * length, np.array([0.1, 0.94, 0.94, 0.1]) * radius)
        item.add(shapes.turned(*lid), plastic(_one(rng, designs.bright), 0.3, 0.6))
    return item


def hand(rng: Rng, designs: Designs) -> Item:
    """A hand and an arm as one soft surface of overlapping balls; the fingers point along x."""
    item = Item("hand", None)
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
    item.add(mesh, plastic(_one(rng, designs.skins), 0.5))
    if rng.random() < 0.6:
        cuff = rng.uniform(-0.2, -0.06)
        item.add(
            shapes.turned(np.array([-0.45, cuff - 0.01, cuff]), np.array([0.046, 0.042, 0.036])),
            plastic(_one(rng, (*designs.pastels, *designs.bright)), 0.9),
        )
    return item


MAKERS: dict[str, Callable[[Rng, Designs], Item]] = {
    maker.__name__: maker for maker in (mineral, not_empty, soda, can, milk, yogurt, dishwasher, non_mineral, hand)
}
