"""Geometry of the items, without Blender: profiles, turned bodies, dents, liquid, drops, the camera's projection.

Lengths are metres, the axis of an item runs along x, z is up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RINGS, SEGMENTS = 96, 48
ARC, SURFACE = 26, 22  # points below and on the surface of a section through the liquid
MENISCUS_M = 0.0016  # how far water climbs up the wall; as wide again


@dataclass
class Mesh:
    """Vertices, faces of vertex numbers, and a (u, v) in 0..1 for each vertex: u around, v along the axis."""

    vertices: Array
    faces: list[tuple[int, ...]]
    uv: Array


@dataclass(frozen=True)
class Liquid:
    """What is in a lying bottle: its mesh, its share of the inner volume, the widest chord of its surface (2 x 3)."""

    mesh: Mesh
    fill: float
    chord: Array | None


def smoothstep(x: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def rounded(t: Array) -> Array:
    """The factor that rounds the bottom of a profile over 0..1."""
    return 0.8 + 0.2 * np.sqrt(np.clip(t / 0.06, 0.0, 1.0))


def bottle_profile(
    length_m: float,
    radius_m: float,
    neck_m: float,
    shoulder: tuple[float, float],
    ribs: int = 0,
    rib_depth_m: float = 0.0,
    waist: float = 0.0,
    waist_at: float = 0.5,
) -> tuple[Array, Array]:
    """Positions along the axis and radii; within `shoulder` (parts of the length) body becomes neck."""
    t = np.linspace(0.0, 1.0, RINGS)
    body = radius_m * (1.0 - waist * np.exp(-(((t - waist_at) / 0.1) ** 2)))
    on_body = smoothstep(t, 0.06, 0.12) * (1.0 - smoothstep(t, shoulder[0] - 0.06, shoulder[0]))
    body = body - rib_depth_m * on_body * (0.5 - 0.5 * np.cos(2.0 * np.pi * ribs * t))
    body = body * (0.72 + 0.28 * np.sqrt(np.clip(t / 0.05, 0.0, 1.0)))
    blend = smoothstep(t, *shoulder)
    # The ring below the thread, by which the filling line holds a bottle.
    collar = 0.0022 * np.exp(-(((t - 0.905) / 0.011) ** 2))
    return t * length_m, body * (1.0 - blend) + neck_m * blend + collar


def section(angle: Array, squareness: float = 2.0, flatness: float = 1.0) -> Array:
    """Points (y, z) of a section of radius 1; `squareness` 2 is a circle, 6 nearly a square."""
    cos, sin = np.cos(angle), np.sin(angle)
    unit = (np.abs(cos) ** squareness + np.abs(sin) ** squareness) ** (-1.0 / squareness)
    return np.stack([unit * cos, unit * sin * flatness], axis=-1)


def section_area(squareness: float = 2.0, flatness: float = 1.0) -> float:
    """The area of a section of radius 1."""
    y, z = section(np.linspace(0.0, 2.0 * np.pi, 721), squareness, flatness).T
    return float(0.5 * np.sum(y[:-1] * z[1:] - y[1:] * z[:-1]))


def volume_m3(x: Array, radius: Array, squareness: float = 2.0, flatness: float = 1.0) -> float:
    """The volume of a turned body."""
    square = radius**2
    return float(np.sum((square[1:] + square[:-1]) / 2.0 * np.diff(x))) * section_area(squareness, flatness)


def _tube(rings: Array, u: Array, along: Array) -> Mesh:
    """Closed rings of points (rings x points x 3, first point repeated last) joined to a body with two lids."""
    count, columns = rings.shape[0], rings.shape[1]
    last = (count - 1) * columns
    faces: list[tuple[int, ...]] = [
        (r * columns + s, r * columns + s + 1, (r + 1) * columns + s + 1, (r + 1) * columns + s)
        for r in range(count - 1)
        for s in range(columns - 1)
    ]
    faces += [tuple(range(columns - 1))[::-1], tuple(range(last, last + columns - 1))]
    uv = np.stack(np.broadcast_arrays(u[None], along[:, None]), axis=2)
    return Mesh(rings.reshape(-1, 3).copy(), faces, uv.reshape(-1, 2))


def turned(x: Array, radius: Array, squareness: float = 2.0, flatness: float = 1.0) -> Mesh:
    """A closed body around x; `flatness` scales its height."""
    angle = np.linspace(0.0, 2.0 * np.pi, SEGMENTS + 1)
    yz = radius[:, None, None] * section(angle, squareness, flatness)[None]
    rings = np.concatenate([np.broadcast_to(x[:, None, None], (*yz.shape[:2], 1)), yz], axis=2)
    return _tube(rings, angle / (2.0 * np.pi), (x - x[0]) / (x[-1] - x[0]))


def part(x: Array, radius: Array, start: float, end: float, swell: float = 1.0) -> tuple[Array, Array]:
    """The profile between two parts of the length (a label, the inside), its radii times `swell`."""
    inside = np.linspace(start, end, RINGS) * x[-1]
    return inside, np.interp(inside, x, radius) * swell


def liquid(
    x: Array, radius: Array, level: float, slope: float, squareness: float = 2.0, flatness: float = 1.0
) -> Liquid | None:
    """What lies in a bottle below a surface at `level` (-1 bottom, 1 top) that rises by `slope` along x; or none."""
    x, radius = part(x, radius, 0.01, 0.97, 0.97)
    grid = np.linspace(-np.pi / 2, np.pi / 2, 361)
    y_grid, z_grid = section(grid, squareness, flatness).T
    height = np.clip(
        (level * radius.max() * flatness + slope * (x - x.mean())) / radius, z_grid[0], z_grid[-1]
    )  # of the surface, in radii
    wet = height > z_grid[0] + 1e-3
    # The longest run of wet rings: what else there is are drops.
    edges = np.flatnonzero(np.diff(np.r_[0, wet.astype(np.int8), 0]))
    if not len(edges):
        return None
    first, last = max(edges.reshape(-1, 2), key=lambda run: run[1] - run[0])
    if last - first < 3:
        return None
    below = np.r_[0.0, np.cumsum((y_grid[1:] + y_grid[:-1]) * np.diff(z_grid))]  # area under each height
    inner = np.sum(radius**2) * below[-1]
    x, radius, height = x[first:last], radius[first:last], height[first:last]
    fill = float(np.sum(np.interp(height, z_grid, below) * radius**2) / inner)
    shore = np.interp(height, z_grid, grid)
    arc = np.linspace(0.0, 1.0, ARC)[None]
    angle = (np.pi - shore[:, None]) * (1 - arc) + (2.0 * np.pi + shore[:, None]) * arc
    under = radius[:, None, None] * section(angle, squareness, flatness)
    across = np.sin(np.linspace(np.pi / 2, -np.pi / 2, SURFACE + 2)[1:])
    half = np.interp(height, z_grid, y_grid) * radius
    rise = MENISCUS_M * np.exp(-half[:, None] * (1.0 - np.abs(across))[None] / MENISCUS_M)
    rise = rise * np.clip(half / 0.008, 0.0, 1.0)[:, None]
    surface = np.stack([half[:, None] * across[None], (height * radius)[:, None] + rise], axis=2)
    yz = np.concatenate([under, surface], axis=1)
    rings = np.concatenate([np.broadcast_to(x[:, None, None], (*yz.shape[:2], 1)), yz], axis=2)
    widest = int(np.argmax(half))
    chord = None
    if half[widest] > 0.002:
        chord = np.array([(x[widest], sign * half[widest], height[widest] * radius[widest]) for sign in (-1.0, 1.0)])
    u = np.linspace(0.0, 1.0, rings.shape[1])
    return Liquid(_tube(rings, u, np.linspace(0.0, 1.0, len(x))), fill, chord)


@dataclass(frozen=True)
class Crush:
    """How an item is crushed, alike for all its parts: pressed flat along the axis, bent, dented."""

    depth: float
    length_m: float
    knots: Array
    pressed: Array
    bend_m: Array
    dents: Array  # rows of x, angle, radius, depth in metres and radians

    @staticmethod
    def drawn(rng: np.random.Generator, depth: float, length_m: float) -> Crush:
        """Crushed by up to `depth`, 0..1."""
        knots = np.linspace(-0.05, 1.05, 9)
        count = int(3 + 14 * depth)
        dents = np.stack(
            [
                rng.uniform(0.05, 0.75, count) * length_m,
                rng.uniform(-np.pi, np.pi, count),
                rng.uniform(0.008, 0.024, count),
                rng.uniform(0.15, 0.6, count) * depth * 0.016,
            ],
            axis=1,
        )
        return Crush(depth, length_m, knots, rng.uniform(0.3, 1.0, 9) * depth, rng.normal(0, 0.008 * depth, 9), dents)

    @property
    def degree(self) -> float:
        """The share of its height that the item has lost, mean along the axis, 0..1."""
        return float(np.interp(np.linspace(0.0, 1.0, 50), self.knots, self.pressed).mean())

    def press(self, vertices: Array) -> Array:
        """The vertices after the crush."""
        t = vertices[:, 0] / self.length_m
        angle = np.arctan2(vertices[:, 2], vertices[:, 1])
        away = np.hypot(vertices[:, 1], vertices[:, 2])
        inward = np.zeros(len(vertices))
        for x, at, radius, depth in self.dents:
            apart = np.abs(np.angle(np.exp(1j * (angle - at)))) * away
            # A crease has a sharp bottom: linear, not round.
            inward += depth * np.clip(1.0 - np.hypot(vertices[:, 0] - x, apart) / radius, 0.0, 1.0)
        scale = np.clip(1.0 - inward / np.maximum(away, 1e-4), 0.3, 1.0)
        left = 1.0 - np.interp(t, self.knots, self.pressed)
        out = vertices.copy()
        out[:, 2] = vertices[:, 2] * scale * left
        out[:, 1] = vertices[:, 1] * scale * (1.0 + 0.35 * (1.0 - left)) + np.interp(t, self.knots, self.bend_m)
        return out


def box(size_m: tuple[float, float, float], ridge: float = 1.0) -> Mesh:
    """A box from x = 0, whose far end narrows to `ridge` of its height (the gable of a carton)."""
    length, width, height = size_m
    x = np.array([0.0, 0.76, 0.96, 1.0]) * length
    narrow = np.array([1.0, 1.0, ridge, ridge])
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * 0.5
    vertices = np.array([(p, c[0] * width, c[1] * height * n) for p, n in zip(x, narrow, strict=True) for c in corners])
    faces: list[tuple[int, ...]] = [
        (r * 5 + s, r * 5 + s + 1, r * 5 + s + 6, r * 5 + s + 5) for r in range(3) for s in range(4)
    ]
    faces += [(3, 2, 1, 0), (15, 16, 17, 18)]
    uv = np.array([(s / 4.0, p / length) for p in x for s in range(5)])
    return Mesh(vertices, faces, uv)


def sheet(width_m: float, height_m: float, curl_m: float) -> Mesh:
    """Paper in the x-y plane, its ends lifted by `curl_m`; u runs along x, v along y."""
    steps = 17
    t = np.linspace(-0.5, 0.5, steps)
    low = [(x * width_m, -height_m / 2, curl_m * 4.0 * x * x) for x in t]
    vertices = np.array(low + [(x, -y, z) for x, y, z in low])
    faces: list[tuple[int, ...]] = [(i, i + 1, steps + i + 1, steps + i) for i in range(steps - 1)]
    uv = np.array([(x + 0.5, 0.0) for x in t] + [(x + 0.5, 1.0) for x in t])
    return Mesh(vertices, faces, uv)


def tube(points: Array, radius_m: float) -> Mesh:
    """A string along points in space."""
    angle = np.linspace(0.0, 2.0 * np.pi, 7)
    direction = np.gradient(points, axis=0)
    direction = direction / np.linalg.norm(direction, axis=1)[:, None]
    side = np.cross(direction, (0.31, 0.17, 0.94))
    side = side / np.linalg.norm(side, axis=1)[:, None]
    up = np.cross(direction, side)
    rings = points[:, None] + radius_m * (
        np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    )
    return _tube(rings, angle / (2.0 * np.pi), np.linspace(0.0, 1.0, len(points)))


def joined(meshes: list[Mesh]) -> Mesh:
    """Several meshes as one."""
    faces: list[tuple[int, ...]] = []
    offset = 0
    for mesh in meshes:
        faces += [tuple(number + offset for number in face) for face in mesh.faces]
        offset += len(mesh.vertices)
    return Mesh(np.concatenate([m.vertices for m in meshes]), faces, np.concatenate([m.uv for m in meshes]))


def drops(rng: np.random.Generator, mesh: Mesh, count: int) -> Mesh:
    """Water drops on the upper side of a mesh: flat half balls of 1 to 4 mm."""
    upper = np.flatnonzero(mesh.vertices[:, 2] > np.median(mesh.vertices[:, 2]))
    balls = []
    for at in rng.choice(upper, count):
        size = float(rng.uniform(0.0008, 0.0026))
        ball = turned(size * np.array([-1.0, -0.7, 0.0, 0.7, 1.0]), size * np.array([0.05, 0.7, 1.0, 0.7, 0.05]))
        # 48 segments would be many for a drop: every sixth is kept.
        keep = np.arange(0, SEGMENTS + 1, 6)
        rings = ball.vertices.reshape(5, SEGMENTS + 1, 3)[:, keep] * (1.0, 1.0, 0.6)
        rings = rings + mesh.vertices[at] + rng.normal(0.0, 0.001, 3) * (1.0, 1.0, 0.2)
        balls.append(_tube(rings, keep / SEGMENTS, np.linspace(0.0, 1.0, 5)))
    return joined(balls)


@dataclass(frozen=True)
class Camera:
    """A pinhole: `to_camera` (4 x 4) takes world to camera coordinates, which look along -z."""

    to_camera: Array
    focal_px: float
    width_px: int
    height_px: int

    def project(self, points: Array) -> Array:
        """World points (n x 3) to pixels (n x 2), origin at the upper left."""
        local = np.c_[points, np.ones(len(points))] @ self.to_camera.T
        depth = np.maximum(-local[:, 2], 1e-3)
        return np.stack(
            [
                self.width_px / 2.0 + self.focal_px * local[:, 0] / depth,
                self.height_px / 2.0 - self.focal_px * local[:, 1] / depth,
            ],
            axis=1,
        )

    def box(self, points: Array) -> tuple[float, float, float, float]:
        """x_min, y_min, x_max, y_max of the points' projection, cut at the picture's edges."""
        x, y = self.project(points).T
        x, y = np.clip(x, 0, self.width_px), np.clip(y, 0, self.height_px)
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())
