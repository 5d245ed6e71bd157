"""What a small camera makes of a scene: lens, glass cover, motion, noise; on pictures of 0..1, without Blender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Effects:
    """Strengths in one picture; lengths are pixels of a picture that is 320 px wide."""

    vignette: float
    blur_px: float
    motion_px: float
    noise: float
    white: Sequence[float]
    smears: int
    scratches: int
    quality: int
    seed: int

    @staticmethod
    def drawn(rng: np.random.Generator, dark: bool) -> Effects:
        """Mostly mild; a dark picture is amplified and so noisier."""
        strong = rng.random() < 0.1
        return Effects(
            vignette=float(rng.uniform(0.0, 0.35)),
            blur_px=float(rng.uniform(1.0, 1.7) if strong else rng.uniform(0.3, 0.7)),
            motion_px=float(rng.uniform(2.0, 6.0) if rng.random() < 0.06 else 0.0),
            noise=float(rng.uniform(0.004, 0.014) * (2.2 if dark else 1.0)),
            white=rng.normal(1.0, 0.025, 3).tolist(),
            smears=int(rng.integers(1, 4)) if rng.random() < 0.15 else 0,
            scratches=int(rng.integers(2, 9)) if rng.random() < 0.1 else 0,
            quality=int(rng.integers(60, 96)),
            seed=int(rng.integers(1 << 31)),
        )

    @property
    def blurred(self) -> bool:
        """Whether a person would call the picture blurred."""
        return self.blur_px >= 1.0 or self.motion_px > 0.0


def _along(image: Pixels, kernel: NDArray[np.float64], axis: int) -> Pixels:
    reach = len(kernel) // 2
    pad = [(reach, reach) if k == axis else (0, 0) for k in range(3)]
    wide = np.pad(image, pad, "edge")
    size = image.shape[axis]
    out = np.zeros_like(image)
    for k, weight in enumerate(kernel):
        out += np.float32(weight) * np.take(wide, range(k, k + size), axis=axis)
    return out


def gaussian(sigma_px: float) -> NDArray[np.float64]:
    """A kernel of weights with sum 1."""
    reach = max(1, int(np.ceil(2.5 * sigma_px)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    return kernel / kernel.sum()


def apply(image: Pixels, effects: Effects) -> Pixels:
    """The picture (height x width x RGB) as this camera delivers it."""
    rng = np.random.default_rng(effects.seed)
    height, width = image.shape[:2]
    scale = width / 320.0
    row, column = np.mgrid[0:height, 0:width]
    out = image.astype(np.float32)
    for _ in range(effects.smears):
        at, size = rng.uniform(0, 1, 2) * (height, width), rng.uniform(20, 80) * scale
        stretch = rng.uniform(0.2, 0.6)
        apart = ((row - at[0]) * stretch) ** 2 + (column - at[1]) ** 2
        out += (rng.uniform(0.03, 0.12) * np.exp(-apart / size**2)).astype(np.float32)[..., None]
    for _ in range(effects.scratches):
        at, angle = rng.uniform(0, 1, 2) * (height, width), rng.uniform(0, np.pi)
        across = np.abs((row - at[0]) * np.cos(angle) - (column - at[1]) * np.sin(angle))
        along = np.abs((row - at[0]) * np.sin(angle) + (column - at[1]) * np.cos(angle))
        line = (across < 0.6 * scale) & (along < rng.uniform(10, 60) * scale)
        out[line] += rng.uniform(0.03, 0.15)
    out = _along(_along(out, gaussian(effects.blur_px * scale), 0), gaussian(effects.blur_px * scale), 1)
    if effects.motion_px:
        length = int(effects.motion_px * scale) | 1
        out = _along(out, np.full(length, 1.0 / length), 1)
    away = ((row - height / 2) ** 2 + (column - width / 2) ** 2) / (height**2 / 4 + width**2 / 4)
    out *= (1.0 - effects.vignette * away).astype(np.float32)[..., None]
    out *= np.array(effects.white, np.float32)
    grain = effects.noise * (0.6 + 0.8 * np.sqrt(np.clip(out.mean(axis=2), 0.0, 1.0)))
    out += (grain * rng.normal(0.0, 1.0, (height, width)))[..., None].astype(np.float32)
    out += (0.4 * effects.noise * rng.normal(0.0, 1.0, out.shape)).astype(np.float32)
    return np.clip(out, 0.0, 1.0)
