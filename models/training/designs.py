"""Shapes, colours, label designs and chambers in three sets: training, validation, test.

The sets share no bottle shape, no label, no chamber and no colour but white, so that figures on the test set say
something about bottles and machines that the network has not met. Colours are linear RGB, lengths are metres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Colour = tuple[float, float, float]
Rng = np.random.Generator
WHITE, STEEL = (0.8, 0.8, 0.78), (0.72, 0.72, 0.74)
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Shape:
    """A bottle: length and radius in metres, the shoulder in parts of the length, ribs, waist, section."""

    length_m: float
    radius_m: float
    shoulder: tuple[float, float] = (0.66, 0.9)
    ribs: int = 0
    waist: float = 0.0
    waist_at: float = 0.5
    squareness: float = 2.0
    flatness: float = 1.0
    neck_m: float = 0.013
    rib_depth_m: float = 0.0018

    def varied(self, rng: Rng) -> Shape:
        """The same bottle up to 5 % longer or shorter, thicker or thinner."""
        return replace(
            self,
            length_m=self.length_m * rng.uniform(0.95, 1.05),
            radius_m=self.radius_m * rng.uniform(0.95, 1.05),
        )


@dataclass(frozen=True)
class Designs:
    """One set of shapes and colours; `labels` and `chambers` count the drawn ones."""

    split: str
    labels: int
    chambers: int
    water_bottles: tuple[Shape, ...]
    soda_bottles: tuple[Shape, ...]
    milk_bottles: tuple[Shape, ...]
    dishwasher_bottles: tuple[Shape, ...]
    glass_bottles: tuple[Shape, ...]
    pet_tints: tuple[Colour, ...]
    water_labels: tuple[Colour, ...]
    bright: tuple[Colour, ...]
    sodas: tuple[Colour, ...]
    detergents: tuple[Colour, ...]
    glass_tints: tuple[Colour, ...]
    pastels: tuple[Colour, ...]
    skins: tuple[Colour, ...]


def seeded(purpose: str, split: str, number: int) -> Rng:
    """The random numbers of a label or chamber: each name has its own."""
    return np.random.default_rng([*purpose.encode(), SPLITS.index(split), number])


@dataclass(frozen=True)
class Chamber:
    """A machine's chamber: belt, walls, light and camera, as built; dirt and wear come with each picture."""

    name: str
    belt: str
    belt_colour: Colour
    ribs_px: int
    wall: Colour
    wall_roughness: float
    light: str
    brightness: float
    spread_m: float
    camera_height_m: float
    field_m: float
    slope: float

    @staticmethod
    def drawn(split: str, number: int) -> Chamber:
        """The chamber of this number in a split."""
        rng = seeded("chamber", split, number)
        grey = float(rng.choice([0.03, 0.06, 0.12, 0.2, 0.3, 0.5]) * rng.uniform(0.8, 1.2))
        hue = np.array([(1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.45, 1.0, 0.6), (0.5, 0.7, 1.2)][rng.integers(4)])
        wall = rng.uniform(0.1, 0.65) * rng.uniform(0.9, 1.0, 3)
        return Chamber(
            name=f"{split}-{number:02d}",
            belt=str(rng.choice(["ribs", "ribs", "plain", "diamond", "weave", "holes", "rollers"])),
            belt_colour=(float(grey * hue[0]), float(grey * hue[1]), float(grey * hue[2])),
            ribs_px=int(rng.integers(11, 30)),
            wall=(float(wall[0]), float(wall[1]), float(wall[2])),
            wall_roughness=float(rng.uniform(0.25, 0.8)),
            light=("strips", "ring", "ring", "panel")[rng.integers(4)],
            brightness=float(rng.uniform(0.8, 1.5)),
            spread_m=float(rng.uniform(0.05, 0.15)),
            camera_height_m=float(rng.uniform(0.4, 0.62)),
            field_m=float(rng.uniform(0.36, 0.44)),
            slope=float(rng.uniform(0.0, 0.08)),
        )


TRAINING = Designs(
    split="train",
    labels=120,
    chambers=30,
    water_bottles=(
        Shape(0.205, 0.031, (0.68, 0.9), ribs=9),
        Shape(0.22, 0.033, (0.6, 0.9), ribs=6, waist=0.12, waist_at=0.42),
        Shape(0.235, 0.032, (0.74, 0.92), ribs=14),
        Shape(0.3, 0.044, (0.66, 0.92), ribs=10),
        Shape(0.2, 0.032, (0.7, 0.88), squareness=4.0),
        Shape(0.25, 0.036, (0.55, 0.93)),
        Shape(0.285, 0.04, (0.72, 0.92), ribs=5, waist=0.08, waist_at=0.35),
        Shape(0.17, 0.03, (0.62, 0.88), ribs=7),
        Shape(0.21, 0.0325, (0.72, 0.87), ribs=18, rib_depth_m=0.0011),
        Shape(0.225, 0.031, (0.5, 0.86), waist=0.1, waist_at=0.6),
        Shape(0.26, 0.037, (0.62, 0.84), ribs=4, rib_depth_m=0.003),
        Shape(0.31, 0.043, (0.7, 0.9), squareness=2.8, ribs=7),
        Shape(0.24, 0.033, (0.45, 0.94)),
        Shape(0.195, 0.033, (0.76, 0.9), waist=0.07, waist_at=0.3),
        Shape(0.3, 0.042, (0.56, 0.9), waist=0.14, waist_at=0.48, ribs=9),
        Shape(0.18, 0.028, (0.66, 0.9)),
        Shape(0.275, 0.0385, (0.75, 0.93), ribs=12, rib_depth_m=0.0025, waist=0.05),
        Shape(0.215, 0.035, (0.58, 0.82), squareness=5.0, neck_m=0.014),
    ),
    soda_bottles=(
        Shape(0.225, 0.033, (0.55, 0.92), waist=0.16, waist_at=0.35),
        Shape(0.24, 0.034, (0.6, 0.9), ribs=4),
        Shape(0.3, 0.046, (0.66, 0.92)),
        Shape(0.205, 0.032, (0.52, 0.86), waist=0.12, waist_at=0.5),
        Shape(0.285, 0.043, (0.5, 0.9), ribs=3, waist=0.06),
    ),
    milk_bottles=(
        Shape(0.23, 0.045, (0.55, 0.82), squareness=4.5, neck_m=0.019),
        Shape(0.25, 0.042, (0.66, 0.86), neck_m=0.018),
        Shape(0.2, 0.038, (0.6, 0.85), ribs=3, neck_m=0.019),
    ),
    dishwasher_bottles=(
        Shape(0.22, 0.045, (0.7, 0.88), waist=0.2, waist_at=0.6, flatness=0.55),
        Shape(0.24, 0.042, (0.6, 0.86), flatness=0.6, squareness=3.0),
        Shape(0.2, 0.048, (0.5, 0.84), flatness=0.5),
    ),
    glass_bottles=(
        Shape(0.235, 0.031, (0.5, 0.72), neck_m=0.014),
        Shape(0.3, 0.038, (0.6, 0.74), neck_m=0.015),
        Shape(0.18, 0.032, (0.55, 0.75), neck_m=0.014),
    ),
    pet_tints=(
        (0.98, 0.99, 1.0),
        (0.98, 0.98, 0.97),
        (0.95, 0.98, 1.0),
        (0.82, 0.93, 1.0),
        (0.85, 0.98, 0.9),
        (0.6, 0.82, 1.0),
        (0.55, 0.85, 0.62),
    ),
    water_labels=(
        (0.02, 0.12, 0.55),
        (0.05, 0.35, 0.75),
        (0.8, 0.85, 0.9),
        (0.02, 0.4, 0.4),
        (0.6, 0.05, 0.1),
    ),
    bright=(
        (0.65, 0.01, 0.01),
        (0.8, 0.25, 0.0),
        (0.02, 0.35, 0.03),
        (0.75, 0.55, 0.0),
        (0.02, 0.02, 0.02),
        WHITE,
    ),
    sodas=((0.1, 0.02, 0.005), (0.9, 0.3, 0.01), (0.35, 0.75, 0.08), (0.7, 0.02, 0.03)),
    detergents=(
        (0.75, 0.65, 0.02),
        (0.05, 0.5, 0.1),
        (0.8, 0.2, 0.02),
        (0.02, 0.15, 0.65),
        (0.75, 0.1, 0.35),
    ),
    glass_tints=((0.35, 0.12, 0.02), (0.05, 0.3, 0.06), (0.5, 0.22, 0.05)),
    pastels=(
        (0.8, 0.45, 0.5),
        (0.45, 0.6, 0.8),
        WHITE,
        (0.8, 0.75, 0.5),
        (0.05, 0.2, 0.6),
        (0.7, 0.05, 0.15),
    ),
    skins=((0.6, 0.34, 0.24), (0.4, 0.2, 0.12), (0.2, 0.09, 0.05), (0.7, 0.45, 0.36)),
)
VALIDATION = Designs(
    split="val",
    labels=30,
    chambers=8,
    water_bottles=(
        Shape(0.222, 0.0325, (0.66, 0.88), ribs=8, rib_depth_m=0.0015),
        Shape(0.265, 0.0365, (0.66, 0.91), waist=0.09, waist_at=0.45),
        Shape(0.185, 0.0305, (0.7, 0.9), ribs=13),
        Shape(0.305, 0.0425, (0.63, 0.9), ribs=6),
        Shape(0.228, 0.0345, (0.61, 0.86), squareness=3.5),
    ),
    soda_bottles=(
        Shape(0.23, 0.0335, (0.57, 0.88), waist=0.13, waist_at=0.4),
        Shape(0.29, 0.0445, (0.64, 0.9), ribs=5),
    ),
    milk_bottles=(
        Shape(0.24, 0.0435, (0.58, 0.83), squareness=3.8, neck_m=0.0185),
        Shape(0.21, 0.039, (0.68, 0.87), neck_m=0.0185),
    ),
    dishwasher_bottles=(
        Shape(0.235, 0.0455, (0.66, 0.87), waist=0.16, waist_at=0.52, flatness=0.56),
        Shape(0.205, 0.0435, (0.58, 0.85), flatness=0.62, squareness=2.7),
    ),
    glass_bottles=(
        Shape(0.242, 0.0315, (0.53, 0.7), neck_m=0.0142),
        Shape(0.295, 0.037, (0.58, 0.72), neck_m=0.0148),
    ),
    pet_tints=((0.97, 0.99, 1.0), (0.96, 0.97, 0.98), (0.85, 0.94, 1.0), (0.65, 0.83, 0.97), (0.6, 0.88, 0.68)),
    water_labels=((0.04, 0.18, 0.6), (0.02, 0.45, 0.55), (0.75, 0.82, 0.85), (0.55, 0.08, 0.2), (0.06, 0.42, 0.25)),
    bright=((0.68, 0.02, 0.06), (0.82, 0.32, 0.01), (0.06, 0.4, 0.06), (0.5, 0.02, 0.25), (0.03, 0.03, 0.05), WHITE),
    sodas=((0.085, 0.018, 0.006), (0.9, 0.38, 0.015), (0.45, 0.7, 0.06), (0.65, 0.035, 0.08)),
    detergents=((0.68, 0.68, 0.03), (0.03, 0.45, 0.2), (0.82, 0.25, 0.06), (0.06, 0.12, 0.62)),
    glass_tints=((0.38, 0.14, 0.025), (0.065, 0.33, 0.09)),
    pastels=((0.78, 0.48, 0.6), (0.48, 0.68, 0.7), WHITE, (0.08, 0.25, 0.65), (0.8, 0.68, 0.4)),
    skins=((0.55, 0.3, 0.21), (0.33, 0.16, 0.1), (0.67, 0.42, 0.33)),
)
TEST = Designs(
    split="test",
    labels=40,
    chambers=10,
    water_bottles=(
        Shape(0.215, 0.032, (0.64, 0.91), ribs=11, waist=0.06, waist_at=0.5),
        Shape(0.27, 0.038, (0.7, 0.9), ribs=8),
        Shape(0.19, 0.031, (0.58, 0.9)),
        Shape(0.23, 0.034, (0.68, 0.92), ribs=5, squareness=3.0),
        Shape(0.205, 0.0315, (0.74, 0.89), ribs=16, rib_depth_m=0.0013),
        Shape(0.295, 0.041, (0.6, 0.88), waist=0.1, waist_at=0.52),
        Shape(0.245, 0.035, (0.52, 0.91), ribs=7, rib_depth_m=0.0024),
    ),
    soda_bottles=(
        Shape(0.235, 0.034, (0.5, 0.9), waist=0.1, waist_at=0.45),
        Shape(0.27, 0.04, (0.62, 0.92), ribs=3),
    ),
    milk_bottles=(
        Shape(0.22, 0.043, (0.6, 0.84), squareness=3.2, neck_m=0.019),
        Shape(0.235, 0.04, (0.7, 0.88), neck_m=0.018),
    ),
    dishwasher_bottles=(
        Shape(0.23, 0.044, (0.64, 0.86), waist=0.12, waist_at=0.45, flatness=0.58),
        Shape(0.21, 0.046, (0.56, 0.84), flatness=0.52, squareness=2.5),
    ),
    glass_bottles=(
        Shape(0.25, 0.032, (0.55, 0.74), neck_m=0.014),
        Shape(0.29, 0.036, (0.52, 0.7), neck_m=0.015),
    ),
    pet_tints=((0.95, 0.99, 0.99), (0.97, 0.98, 0.99), (0.88, 0.95, 1.0), (0.7, 0.86, 0.98), (0.65, 0.9, 0.75)),
    water_labels=((0.1, 0.25, 0.65), (0.03, 0.5, 0.65), (0.7, 0.8, 0.75), (0.1, 0.45, 0.15)),
    bright=((0.7, 0.03, 0.12), (0.85, 0.4, 0.02), (0.3, 0.02, 0.4), (0.1, 0.45, 0.1), WHITE),
    sodas=((0.07, 0.015, 0.008), (0.9, 0.45, 0.02), (0.6, 0.05, 0.15)),
    detergents=((0.6, 0.7, 0.05), (0.02, 0.4, 0.35), (0.85, 0.3, 0.1), (0.1, 0.1, 0.6)),
    glass_tints=((0.42, 0.16, 0.03), (0.08, 0.35, 0.12)),
    pastels=((0.75, 0.5, 0.7), (0.5, 0.75, 0.6), WHITE, (0.1, 0.3, 0.7), (0.8, 0.6, 0.3)),
    skins=((0.5, 0.27, 0.18), (0.28, 0.13, 0.08), (0.65, 0.4, 0.3)),
)
OF_SPLIT = {designs.split: designs for designs in (TRAINING, VALIDATION, TEST)}
