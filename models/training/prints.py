"""What is printed: labels with lettering and EAN-13 bars, belts with dirt, as pictures of linear RGB, without Blender.

Row 0 is the lower edge, as Blender counts.
"""

from __future__ import annotations

import numpy as np
from designs import Colour
from numpy.typing import NDArray

Array = NDArray[np.float64]
LABEL_PX = (168, 400)  # height, width: once around the item
BELT_PX = (288, 384)

# Five columns of 7 dots for each letter, lowest bit at the top.
_LETTERS = """
A 7E1111117E B 7F49494936 C 3E41414122 D 7F4141221C E 7F49494941 F 7F09090901 G 3E4149497A H 7F0808087F I 00417F4100
J 2040413F01 K 7F08142241 L 7F40404040 M 7F020C027F N 7F0408107F O 3E4141413E P 7F09090906 Q 3E4151215E R 7F09192946
S 4649494931 T 01017F0101 U 3F4040403F V 1F2040201F W 3F4038403F X 6314081463 Y 0708700807 Z 6151494543
"""
_FONT: dict[str, bytes] = dict(zip(_LETTERS.split()[::2], map(bytes.fromhex, _LETTERS.split()[1::2]), strict=True))
_LEFT = [f"{code:07b}" for code in (0x0D, 0x19, 0x13, 0x3D, 0x23, 0x31, 0x2F, 0x3B, 0x37, 0x0B)]
_PARITY = ["LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL"]


def ean13(first_twelve: str) -> str:
    """The 13 digits with the check digit."""
    digits = [int(c) for c in first_twelve]
    return first_twelve + str(-(sum(digits[::2]) + 3 * sum(digits[1::2])) % 10)


def bars(code: str) -> NDArray[np.bool_]:
    """The 95 modules of an EAN-13 code, true where dark."""
    left = {"L": lambda d: _LEFT[d], "G": lambda d: "".join("10"[int(b)] for b in _LEFT[d])[::-1]}
    first = "".join(left[p](int(d)) for p, d in zip(_PARITY[int(code[0])], code[1:7], strict=True))
    second = "".join("".join("10"[int(b)] for b in _LEFT[int(d)]) for d in code[7:])
    return np.array([b == "1" for b in f"101{first}01010{second}101"])


def word(rng: np.random.Generator) -> str:
    """An invented brand."""
    return "".join(
        rng.choice(list("BDFGKLMNPRSTVZ")) + rng.choice(list("AEIOU")) for _ in range(rng.integers(2, 4))
    ) + rng.choice(["", "", "N", "L", "R", "S"])


def write(image: Array, text: str, row: int, column: int, scale: int, colour: Array) -> None:
    """Letters of 5 x 7 dots of `scale` px, lower left corner at row, column; what does not fit is cut."""
    for number, letter in enumerate(text):
        for x, dots in enumerate(_FONT[letter]):
            for y in range(7):
                if dots >> (6 - y) & 1:
                    left = column + (6 * number + x) * scale
                    image[max(row + y * scale, 0) : row + (y + 1) * scale, left : left + scale] = colour


def label(rng: np.random.Generator, palette: tuple[Colour, ...], code: str, bold: bool) -> Array:
    """A label: ground with bands, waves, hills or stripes, a brand twice, small print and the code's bars."""
    height, width = LABEL_PX
    v, u = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    order = rng.permutation(len(palette))
    ground, second, third = (np.clip(np.array(palette[k]) * rng.uniform(0.75, 1.2, 3), 0.01, 0.85) for k in order[:3])
    if np.abs(ground - third).sum() < 0.4:
        third = np.full(3, 0.82) if ground.mean() < 0.4 else np.full(3, 0.03)
    image = np.broadcast_to(ground, (height, width, 3)).copy()
    pattern = rng.choice(["band", "waves", "hills", "stripes", "fade", "plain"])
    if pattern == "band":
        low, high = sorted(rng.uniform(0.05, 0.95, 2))
        image[(v > low) & (v < high)] = second
    elif pattern == "waves":
        image[v < rng.uniform(0.2, 0.7) + 0.12 * np.sin(2 * np.pi * (rng.integers(1, 5) * u + rng.random()))] = second
    elif pattern == "hills":
        ridge = 0.2 + 0.45 * np.abs(np.mod(u * rng.integers(2, 6) + rng.random(), 1.0) - 0.5) * rng.uniform(0.7, 2.0)
        image[v < ridge] = second
        image[(v > ridge - 0.12) & (v < ridge) & (v > 0.35)] = 0.85
    elif pattern == "stripes":
        image[np.mod(u * rng.integers(2, 9) + v * rng.uniform(-1.5, 1.5), 1.0) < rng.uniform(0.3, 0.7)] = second
    elif pattern == "fade":
        image += (second - ground) * v[..., None]
    name, scale = word(rng), int(rng.integers(4, 8) if bold else rng.integers(3, 6))
    small = [word(rng) + word(rng) for _ in range(8)]
    row = int(rng.uniform(0.35, 0.6) * height)
    for side in range(2):
        column = int(width * (0.04 + 0.5 * side))
        long = 6 * scale * len(name)
        if rng.random() < 0.6:
            centre = ((column + long / 2) / width, (row + 3.5 * scale) / height)
            inside = ((u - centre[0]) / (0.62 * long / width)) ** 2 + ((v - centre[1]) / (8.0 * scale / height)) ** 2
            image[inside < 1] = second
        write(image, name, row, column, scale, third)
        write(image, small[side], row - 14, column + 4, 1, third)
    for line in range(9):
        write(image, small[line % 8], 14 + 11 * line, 150, 1, third)
    image[8:66, 284:396] = 0.85
    dark = bars(code)
    image[14:64, 292 : 292 + len(dark)] = np.where(dark, 0.015, 0.85)[None, :, None]
    # Its place around the item is any.
    return np.roll(image, rng.integers(width), axis=1)


def belt(rng: np.random.Generator, pattern: str, colour: Colour, dirt: float, ribs_px: int, drops: int) -> Array:
    """The floor: a worn belt, which a full bottle visibly bends, with `dirt` 0 (new) to 1 of specks and stains."""
    height, width = BELT_PX
    row, column = np.mgrid[0:height, 0:width]
    shade = rng.normal(1.0, 0.04, (height, width))
    lighter = 1.7 if np.mean(colour) < 0.08 else 0.6
    if pattern == "ribs":
        shade[:, np.arange(width) % ribs_px < max(2, ribs_px // 5)] *= lighter
    elif pattern == "diamond":
        near = np.minimum((row + column) % ribs_px, (row - column) % ribs_px)
        shade[near < 2] *= lighter
    elif pattern == "weave":
        shade *= np.where(((row // 3) + (column // 3)) % 2 == 0, 1.0, 0.85)
    elif pattern == "holes":
        apart = np.hypot(row % ribs_px - ribs_px / 2, column % ribs_px - ribs_px / 2)
        shade[apart < 0.22 * ribs_px] *= 0.25
    elif pattern == "rollers":
        shade *= 0.45 + 0.55 * np.abs(np.sin(np.pi * column / (2 * ribs_px)))
    for _ in range(rng.integers(4, 24)):
        r, c, long = rng.integers(0, height), rng.integers(0, width - 60), rng.integers(8, 60)
        shade[r, c : c + long] *= rng.uniform(0.6, 1.6)
    image = shade[..., None] * np.array(colour)
    for _ in range(int(dirt * 14)):
        at, size = rng.uniform(0, 1, 2) * (height, width), rng.uniform(5, 40)
        around = np.arctan2(row - at[0], column - at[1])
        wobble = 1 + 0.2 * np.sin(2 * around + rng.uniform(0, 6)) + 0.1 * np.sin(5 * around + rng.uniform(0, 6))
        apart = np.hypot(row - at[0], column - at[1]) / (size * wobble)
        amount = rng.uniform(0.2, 0.55) * np.clip(1.5 - apart, 0.0, 1.0)[..., None]
        stain = np.array(rng.choice([0.02, 0.1, 0.35])) * np.array([1.0, 0.85, 0.6])
        image = image * (1 - amount) + stain * amount
    for _ in range(int(dirt * 160)):
        r, c, size = rng.integers(2, height - 3), rng.integers(2, width - 3), rng.integers(1, 4)
        image[r : r + size, c : c + rng.integers(1, 4)] = rng.choice([0.01, 0.05, 0.4]) * rng.uniform(0.6, 1.0, 3)
    for _ in range(drops):
        at, size = rng.uniform(0, 1, 2) * (height, width), rng.uniform(1.5, 4.0)
        apart = np.hypot(row - at[0], column - at[1])
        image[apart < size] *= 0.6
        image[(apart < size) & (row - at[0] > 0.35 * size)] *= 2.2
    return np.clip(image, 0.0, 0.9)
