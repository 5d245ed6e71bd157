"""Geometry of the items, without Blender: profiles, turned bodies, dents, water, prints.

Lengths are metres, the axis of an item runs along x, colours are linear RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RINGS, SEGMENTS = 96, 48


@dataclass
class Mesh:
    """Vertices, faces of vertex numbers, and a (u, v) in 0..1 for each vertex: u around, v along the axis."""

    vertices: Array
    faces: list[tuple[int, ...]]
    uv: Array


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
    return t * length_m, body * (1.0 - blend) + neck_m * blend


def turned(x: Array, radius: Array, squareness: float = 2.0, flatness: float = 1.0) -> Mesh:
    """A closed body around x; `squareness` 2 is a circle, 6 nearly a square, `flatness` scales its height."""
    angle = np.linspace(0.0, 2.0 * np.pi, SEGMENTS + 1)
    cos, sin = np.cos(angle), np.sin(angle)
    unit = (np.abs(cos) ** squareness + np.abs(sin) ** squareness) ** (-1.0 / squareness)
    section = np.stack([unit * cos, unit * sin * flatness], axis=1)
    rings = radius[:, None, None] * section[None]
    vertices = np.concatenate([np.broadcast_to(x[:, None, None], (*rings.shape[:2], 1)), rings], axis=2)
    columns, last = SEGMENTS + 1, (len(x) - 1) * (SEGMENTS + 1)
    faces: list[tuple[int, ...]] = [
        (r * columns + s, r * columns + s + 1, (r + 1) * columns + s + 1, (r + 1) * columns + s)
        for r in range(len(x) - 1)
        for s in range(SEGMENTS)
    ]
    faces += [tuple(range(SEGMENTS))[::-1], tuple(range(last, last + SEGMENTS))]
    along = (x - x[0]) / (x[-1] - x[0])
    uv = np.stack(np.broadcast_arrays((angle / (2.0 * np.pi))[None], along[:, None]), axis=2)
    return Mesh(vertices.reshape(-1, 3), faces, uv.reshape(-1, 2))


def part(x: Array, radius: Array, start: float, end: float, swell: float = 1.0) -> tuple[Array, Array]:
    """The profile between two parts of the length (a label, the inside), its radii times `swell`."""
    inside = np.linspace(start, end, RINGS) * x[-1]
    return inside, np.interp(inside, x, radius) * swell


def water(x: Array, radius: Array, level: float, slope: float, **section: float) -> Mesh:
    """The liquid in a lying bottle, below a surface at `level` (-1 bottom, 1 top) that rises along x."""
    x, radius = part(x, radius, 0.01, 0.97, 0.97)
    surface = level * radius.max() * section.get("flatness", 1.0) + slope * (x - x.mean())
    wet = np.flatnonzero(surface > -radius * section.get("flatness", 1.0))
    mesh = turned(x[wet], radius[wet], **section)
    height = np.repeat(surface[wet], SEGMENTS + 1)
    mesh.vertices[:, 2] = np.minimum(mesh.vertices[:, 2], height)
    return mesh


def crushed(vertices: Array, rng: np.random.Generator, depth: float, length_m: float) -> Array:
    """Vertices pressed flat by up to `depth` (0..1), widened and bent; alike for all parts of an item."""
    knots = np.linspace(-0.05, 1.05, 9)
    t = vertices[:, 0] / length_m
    pressed = 1.0 - np.interp(t, knots, rng.uniform(0.3, 1.0, 9) * depth)
    out = vertices.copy()
    out[:, 2] = vertices[:, 2] * pressed
    out[:, 1] = vertices[:, 1] * (1.0 + 0.35 * (1.0 - pressed)) + np.interp(t, knots, rng.normal(0, 0.006, 9))
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


def printed(rng: np.random.Generator, colours: list[tuple[float, float, float]]) -> Array:
    """A label of 64 x 160 pixels: two grounds, two emblems, lines of lettering and a bar code."""
    height, width = 64, 160
    v, u = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    order = rng.permutation(len(colours))
    ground, second, third = (np.array(colours[order[i % len(colours)]]) for i in range(3))
    edge = rng.uniform(0.15, 0.85) + rng.choice([0.0, 0.12]) * np.sin(
        2 * np.pi * (rng.integers(1, 4) * u + rng.random())
    )
    image = np.where((v < edge)[..., None], ground, second)
    for k in range(2):
        centre_u, centre_v = (rng.uniform(0.1, 0.4) + 0.5 * k, rng.uniform(0.3, 0.7))
        inside = ((u - centre_u) / rng.uniform(0.08, 0.17)) ** 2 + ((v - centre_v) / rng.uniform(0.15, 0.35)) ** 2 < 1
        image = np.where(inside[..., None], third, image)
        row, column = int(height * centre_v), int(width * centre_u)
        for letter in range(column - 12, column + 12, 4):
            image[row - 5 : row + 5, letter : letter + rng.integers(2, 4)] = ground if rng.random() < 0.8 else second
    for row in range(8, 56, 5):
        image[row : row + 2, 72 : 72 + rng.integers(6, 16)] = third
    bars = rng.random(16) < 0.5
    image[36:58, 140:156] = np.where(bars[None, :, None], 0.02, 0.9)
    return image


def belt(rng: np.random.Generator) -> Array:
    """The floor, 192 x 256 pixels: a scratched belt with ribs, which a full bottle visibly bends."""
    height, width = 192, 256
    grey = rng.uniform(0.04, 0.26)
    image = np.full((height, width), grey) * rng.normal(1.0, 0.05, (height, width))
    pitch = int(rng.integers(9, 20))
    image[:, np.arange(width) % pitch < rng.integers(2, 4)] *= (
        rng.uniform(0.45, 0.8) if grey > 0.1 else rng.uniform(1.4, 2.4)
    )
    for _ in range(rng.integers(4, 18)):
        row, column = rng.integers(0, height), rng.integers(0, width - 40)
        image[row, column : column + rng.integers(5, 40)] *= rng.uniform(0.6, 1.6)
    return np.repeat(np.clip(image, 0.0, 1.0)[..., None], 3, axis=2)
