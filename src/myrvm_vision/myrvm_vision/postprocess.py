"""From the network's output to detections: decoding and non-maximum suppression, equal to ultralytics' own.

Two outputs are understood: the anchor-free heads of YOLOv5u to YOLO12, (1, 4 + classes, n) with boxes as centre and
size; and heads that suppress by themselves (YOLO26, or exported with `nms=True`), (1, n, 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CANDIDATES = 30_000  # looked at before suppression, ultralytics' `max_nms`
CLASS_OFFSET = 7680.0  # moves the classes' boxes apart before suppression, ultralytics' `max_wh`


@dataclass(frozen=True)
class Limits:
    """What is kept. Defaults as in ultralytics' `predict`."""

    score: float = 0.25
    overlap: float = 0.7
    count: int = 300


def decode(output: NDArray[np.floating], class_count: int, limits: Limits) -> NDArray[np.float32]:
    """Detections in input coordinates.

    Args:
        output: of the network for one picture, see above.
        class_count: number of classes.
        limits: what is kept.

    Returns:
        (n, 6): x_min, y_min, x_max, y_max (px of the input), score, class number; best score first.

    Raises:
        ValueError: the output has another shape.
    """
    if output.ndim == 3 and output.shape[0] == 1 and output.shape[1] == 4 + class_count:
        return _decode_dense(output[0], limits)
    if output.ndim == 3 and output.shape[0] == 1 and output.shape[2] == 6:
        rows = output[0].astype(np.float32)  # a copy: the caller scales the boxes in place
        return rows[rows[:, 4] > limits.score][: limits.count]
    raise ValueError(
        f"output of shape {output.shape} is not understood: (1, {4 + class_count}, n) or (1, n, 6) for "
        f"{class_count} classes"
    )


def _decode_dense(output: NDArray[np.float32], limits: Limits) -> NDArray[np.float32]:
    scores = output[4:]
    best = scores.max(axis=0)
    columns = np.flatnonzero(best > limits.score)
    columns = columns[np.argsort(-best[columns], kind="stable")[:CANDIDATES]]
    centre, half = output[:2, columns], output[2:4, columns] / 2
    classes = scores[:, columns].argmax(axis=0).astype(np.float32)
    boxes = np.concatenate((centre - half, centre + half)).T
    kept = suppress(boxes + classes[:, None] * np.float32(CLASS_OFFSET), limits.overlap, limits.count)
    return np.column_stack((boxes, best[columns], classes))[kept]


def suppress(boxes: NDArray[np.float32], overlap: float, count: int) -> list[int]:
    """Greedy non-maximum suppression.

    Args:
        boxes: (n, 4), best first.
        overlap: a box with a larger intersection over union with a better one that is kept goes.
        count: most boxes that stay; a network that sees things everywhere costs no more than these.

    Returns:
        Numbers of the boxes that stay, best first.
    """
    kept: list[int] = []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    waiting = np.arange(len(boxes))
    while waiting.size and len(kept) < count:
        first, rest = waiting[0], waiting[1:]
        kept.append(int(first))
        upper_left = np.maximum(boxes[first, :2], boxes[rest, :2])
        lower_right = np.minimum(boxes[first, 2:], boxes[rest, 2:])
        shared = np.clip(lower_right - upper_left, 0, None).prod(axis=1)
        # A product, not a quotient: empty boxes give 0 > 0, not a division by zero.
        waiting = rest[shared <= overlap * (area[first] + area[rest] - shared)]
    return kept
