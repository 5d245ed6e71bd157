"""Pictures with a barcode in them, for tests: drawn by zxing-cpp's writer, turned and pasted."""

from __future__ import annotations

import cv2
import numpy as np
import zxingcpp
from numpy.typing import NDArray

SCALE = 8  # px of a module, before it is made smaller


def draw(
    picture: NDArray[np.uint8],
    text: str,
    centre: tuple[float, float],
    module_px: float,
    angle_deg: float,
    symbology: str = "EAN13",
) -> NDArray[np.uint8]:
    """A copy with a barcode in it: white label, turned about its centre, edges as soft as a lens makes them."""
    code = zxingcpp.create_barcode(text, zxingcpp.barcode_format_from_str(symbology))
    label = np.array(zxingcpp.write_barcode_to_image(code, scale=SCALE))
    size = [max(1, round(side * module_px / SCALE)) for side in reversed(label.shape)]
    label = cv2.resize(label, size, interpolation=cv2.INTER_AREA)
    matrix = cv2.getRotationMatrix2D((size[0] / 2.0, size[1] / 2.0), angle_deg, 1.0)
    matrix[:, 2] += (centre[0] - size[0] / 2.0, centre[1] - size[1] / 2.0)
    whole = (picture.shape[1], picture.shape[0])
    turned = cv2.warpAffine(label, matrix, whole).astype(np.float32)
    where = cv2.warpAffine(np.ones(label.shape, np.float32), matrix, whole)[..., None]
    pasted = picture.astype(np.float32) * (1.0 - where) + turned[..., None] * where
    soft = cv2.GaussianBlur(pasted, (0, 0), 0.6)
    return np.clip(np.where(where > 0.0, soft, pasted), 0, 255).astype(np.uint8)
