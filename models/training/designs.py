"""Shapes and colours of the items, two sets that share no bottle shape and no colour but white.

Held-out figures so say something about bottles that the network has not met. Colours are linear RGB, lengths
are metres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Colour = tuple[float, float, float]
Rng = np.random.Generator
WHITE, STEEL = (0.8, 0.8, 0.78), (0.72, 0.72, 0.74)


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

    def varied(self, rng: Rng) -> Shape:
        """The same bottle up to 6 % longer or shorter, thicker or thinner."""
        return replace(
            self,
            length_m=self.length_m * rng.uniform(0.94, 1.06),
            radius_m=self.radius_m * rng.uniform(0.94, 1.06),
        )


@dataclass(frozen=True)
class Designs:
    """One set of shapes and colours."""

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


TRAINING = Designs(
    water_bottles=(
        Shape(0.205, 0.031, (0.68, 0.9), ribs=9),
        Shape(0.22, 0.033, (0.6, 0.9), ribs=6, waist=0.12, waist_at=0.42),
        Shape(0.235, 0.032, (0.74, 0.92), ribs=14),
        Shape(0.3, 0.044, (0.66, 0.92), ribs=10),
        Shape(0.2, 0.032, (0.7, 0.88), squareness=4.0),
        Shape(0.25, 0.036, (0.55, 0.93)),
        Shape(0.285, 0.04, (0.72, 0.92), ribs=5, waist=0.08, waist_at=0.35),
        Shape(0.17, 0.03, (0.62, 0.88), ribs=7),
    ),
    soda_bottles=(
        Shape(0.225, 0.033, (0.55, 0.92), waist=0.16, waist_at=0.35),
        Shape(0.24, 0.034, (0.6, 0.9), ribs=4),
        Shape(0.3, 0.046, (0.66, 0.92)),
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
    pet_tints=((0.98, 0.99, 1.0), (0.98, 0.99, 1.0), (0.82, 0.93, 1.0), (0.85, 0.98, 0.9)),
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
HELD_OUT = Designs(
    water_bottles=(
        Shape(0.215, 0.032, (0.64, 0.91), ribs=11, waist=0.06, waist_at=0.5),
        Shape(0.27, 0.038, (0.7, 0.9), ribs=8),
        Shape(0.19, 0.031, (0.58, 0.9)),
        Shape(0.23, 0.034, (0.68, 0.92), ribs=5, squareness=3.0),
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
    pet_tints=((0.95, 0.99, 0.99), (0.88, 0.95, 1.0)),
    water_labels=((0.1, 0.25, 0.65), (0.03, 0.5, 0.65), (0.7, 0.8, 0.75), (0.1, 0.45, 0.15)),
    bright=((0.7, 0.03, 0.12), (0.85, 0.4, 0.02), (0.3, 0.02, 0.4), (0.1, 0.45, 0.1), WHITE),
    sodas=((0.07, 0.015, 0.008), (0.9, 0.45, 0.02), (0.6, 0.05, 0.15)),
    detergents=((0.6, 0.7, 0.05), (0.02, 0.4, 0.35), (0.85, 0.3, 0.1), (0.1, 0.1, 0.6)),
    glass_tints=((0.42, 0.16, 0.03), (0.08, 0.35, 0.12)),
    pastels=((0.75, 0.5, 0.7), (0.5, 0.75, 0.6), WHITE, (0.1, 0.3, 0.7), (0.8, 0.6, 0.3)),
    skins=((0.5, 0.27, 0.18), (0.28, 0.13, 0.08), (0.65, 0.4, 0.3)),
)
