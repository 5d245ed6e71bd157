"""Train the small promptable segmenter on the renders' masks; called again, or after a stop, it resumes.

python models/training/segment_train.py --data DIR --weights ../shared/data/weights/yolov5n_coco.safetensors --out DIR
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from segment_data import FIGURES, Scene, parts_of, read
from segment_network import DEVIATION, MEAN, SIZE_PX, Segmenter
from torch import Tensor
from torch.nn import functional

NOTHING_BEFORE = -20.0  # mask logits where no mask is given
POINTS = 4  # a prompt has no more: two corners and two points
SMALL = 20.0  # px of a map: a part of less does not count fully
AVERAGED = 0.998  # share of the old weights in the moving average


@dataclass(frozen=True)
class Stage:
    """Part of the training: the window that is cut out of the pictures, px, and how often each item is seen."""

    width: int
    height: int
    epochs: int

    @classmethod
    def parse(cls, text: str) -> Stage:
        """`WIDTHxHEIGHT:EPOCHS` of the command line."""
        size, _, epochs = text.partition(":")
        width, _, height = size.partition("x")
        if not (width.isdigit() and height.isdigit() and epochs.isdigit()) or int(width) % 32 or int(height) % 32:
            raise argparse.ArgumentTypeError(f"{text!r}: want WIDTHxHEIGHT:EPOCHS, sides in px and multiples of 32")
        return cls(int(width), int(height), int(epochs))


@dataclass(frozen=True)
class Sample:
    """One item to learn from: window, prompt and what is true."""

    image: NDArray[np.uint8]
    points: NDArray[np.float32]  # POINTS x 2
    labels: NDArray[np.float32]
    before: NDArray[np.float32]  # mask logits, half size
    truth: NDArray[np.uint8]  # 5 x height x width: outline, liquid, cap, label, other
    figures: NDArray[np.float32]
    known: float  # 1 where the figures are the item's, 0 where it has none or too little is seen


def draw(scene: Scene, number: int, item: dict[str, Any], stage: Stage, rng: np.random.Generator) -> Sample | None:
    """An item of a picture, turned, scaled and lit by chance, in a window; none where it fell out of it."""
    image, mask = _window(scene, number, stage, rng)
    outline = mask[:, :, 2] == number
    seen = int(np.count_nonzero(outline))
    if seen < 60:
        return None
    points, labels = _prompt(outline, rng)
    truth = np.concatenate((outline[None], parts_of(mask, outline))).astype(np.uint8)
    before = np.full((stage.height // 2, stage.width // 2), NOTHING_BEFORE, np.float32)
    if rng.random() < 0.1:
        before = _rough(outline, rng)
    whole = np.count_nonzero(scene.mask[:, :, 2] == number)
    known = float(item["model_class"] is not None and seen > 0.6 * whole)
    figures = np.array([item["crush"], item["fill"], float(item["cap"])], np.float32)
    return Sample(_light(image, rng), points, labels, before, truth, figures, known)


def _window(
    scene: Scene, number: int, stage: Stage, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rows, columns = np.nonzero(scene.mask[:, :, 2] == number)
    picture_width = scene.image.shape[1]
    scale = SIZE_PX / picture_width * math.exp(rng.normal(0.0, 0.12))
    turn = 90.0 * rng.integers(4) + rng.normal(0.0, 8.0) if stage.width == stage.height else rng.normal(0.0, 8.0)
    if stage.width != stage.height:
        turn += 180.0 * rng.integers(2)
    middle = (float(columns.min() + columns.max()) / 2, float(rows.min() + rows.max()) / 2)
    if stage.width >= SIZE_PX:  # the whole picture
        middle = (picture_width / 2, scene.image.shape[0] / 2)
    matrix = cv2.getRotationMatrix2D(middle, turn, scale)
    matrix[:, 2] += np.array([stage.width, stage.height]) * (0.5 + rng.normal(0.0, 0.06, 2)) - middle
    if rng.random() < 0.5:
        matrix = np.array([[-1.0, 0.0, stage.width - 1.0], [0.0, 1.0, 0.0]]) @ np.vstack((matrix, (0.0, 0.0, 1.0)))
    size = (stage.width, stage.height)
    image = cv2.warpAffine(scene.image, matrix, size, flags=cv2.INTER_AREA, borderValue=(103, 116, 124))
    mask = cv2.warpAffine(scene.mask, matrix, size, flags=cv2.INTER_NEAREST)
    return image, mask


def _prompt(outline: NDArray[np.bool_], rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A detector's box with its errors, mostly; else points, or both."""
    points, labels = np.zeros((POINTS, 2), np.float32), np.full(POINTS, -1.0, np.float32)
    rows, columns = np.nonzero(outline)
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
    sides = np.tile(box[2:] - box[:2], 2)
    spread = 0.1 if rng.random() < 0.15 else 0.03
    box = box + (rng.normal(0.0, spread, 4) * sides + rng.normal(0.0, 1.0, 4)).astype(np.float32)
    kind = rng.random()
    if kind < 0.85:
        points[:2], labels[:2] = box.reshape(2, 2), (2.0, 3.0)
    if kind > 0.78:
        inside = cv2.erode(outline.astype(np.uint8), np.ones((5, 5), np.uint8))
        rows, columns = np.nonzero(inside if inside.any() else outline)
        for place in range(2, 2 + int(rng.integers(1, 3))):
            chosen = rng.integers(len(rows))
            points[place], labels[place] = (columns[chosen], rows[chosen]), 1.0
        others = np.nonzero(~outline)
        if kind > 0.92 and len(others[0]):
            chosen = rng.integers(len(others[0]))
            points[1], labels[1] = (others[1][chosen], others[0][chosen]), 0.0
    return points, labels


def _rough(outline: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """A bad outline of the item, as an earlier answer may be."""
    rough = outline.astype(np.uint8)
    kernel = np.ones((int(rng.integers(1, 8)), int(rng.integers(1, 8))), np.uint8)
    rough = (cv2.dilate if rng.random() < 0.5 else cv2.erode)(rough, kernel)
    rough = np.roll(rough, rng.integers(-4, 5, 2).tolist(), (0, 1))
    return 12.0 * cv2.resize(rough.astype(np.float32), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) - 6.0


def _light(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Other light, colour, focus and noise."""
    gain = math.exp(rng.normal(0.0, 0.2)) * (1.0 + rng.normal(0.0, 0.06, 3))
    lit = image.astype(np.float32) * gain.astype(np.float32) + np.float32(rng.normal(0.0, 10.0))
    if rng.random() < 0.15:
        lit = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.4, 1.4))
    if rng.random() < 0.3:
        lit += rng.normal(0.0, rng.uniform(1.0, 7.0), lit.shape).astype(np.float32)
    return np.clip(lit, 0.0, 255.0).astype(np.uint8)


def normalised(images: NDArray[np.uint8]) -> Tensor:
    """BGR pictures (n, h, w, 3) as the network takes them."""
    planes = torch.from_numpy(np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2))).float()
    return (planes - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(DEVIATION).view(1, 3, 1, 1)


def loss_of(logits: Tensor, figures: Tensor, samples: list[Sample]) -> tuple[Tensor, float]:
    """What is to become small, and the mean overlap of outlines."""
    truth = torch.from_numpy(np.stack([sample.truth for sample in samples])).float()
    truth = functional.avg_pool2d(truth, 2)
    outline, parts = truth[:, :1], truth[:, 1:]
    mask, part_logits = logits[:, :1], logits[:, 1:]
    crossed = functional.binary_cross_entropy_with_logits(mask, outline, reduction="none")
    # Half of the weight lies near the item, where the outline is.
    near = (functional.max_pool2d(outline, 31, 1, 15) > 0.0).float()
    edge = ((crossed * near).sum((1, 2, 3)) / near.sum((1, 2, 3)) + crossed.mean((1, 2, 3))).mean()
    sure = torch.sigmoid(mask)
    shared = (sure * outline).sum((1, 2, 3))
    dice = (1.0 - (2.0 * shared + 1.0) / ((sure + outline).sum((1, 2, 3)) + 1.0)).mean()
    found_parts = functional.binary_cross_entropy_with_logits(part_logits, parts, reduction="none")
    # Parts matter on the item, others about it.
    weight = near * torch.cat(((0.1 + 0.9 * outline).expand(-1, 3, -1, -1), 0.1 + 0.9 * (1.0 - outline)), 1)
    part = ((found_parts * weight).sum((2, 3)) / weight.sum((2, 3))).mean()
    # Parts are small, or not there at all.
    seen = torch.sigmoid(part_logits) * near
    part_dice = 1.0 - (2.0 * (seen * parts).sum((2, 3)) + SMALL) / ((seen + parts * near).sum((2, 3)) + SMALL)
    with torch.no_grad():
        found, real = mask > 0.0, outline > 0.5
        overlap = (found & real).sum((1, 2, 3)) / (found | real).sum((1, 2, 3)).clamp(min=1)
    promised = functional.mse_loss(torch.sigmoid(figures[:, 0]), overlap)
    known = torch.tensor([sample.known for sample in samples])
    wanted = torch.from_numpy(np.stack([sample.figures for sample in samples]))
    whole = functional.binary_cross_entropy_with_logits(figures[:, 1:], wanted, reduction="none").mean(1)
    whole = (whole * known).sum() / known.sum().clamp(min=1.0)
    return edge + dice + 0.6 * part + 0.5 * part_dice.mean() + promised + 0.5 * whole, float(overlap.mean())


def batches(
    scenes: list[Scene], stage: Stage, batch: int, rng: np.random.Generator
) -> Iterator[tuple[list[Sample], float]]:
    """The items in an order by chance, each once, and the share of the epoch that they end at."""
    items = [(scene, number, item) for scene in scenes for number, item in scene.outlined()]
    order = rng.permutation(len(items))
    for start in range(0, len(order), batch):
        chosen = [draw(*items[place], stage, rng) for place in order[start : start + batch]]
        samples = [sample for sample in chosen if sample is not None]
        if len(samples) > 1:  # normalisation over a batch needs two
            yield samples, min((start + batch) / len(order), 1.0)


def forward(network: Segmenter, samples: list[Sample]) -> tuple[Tensor, Tensor]:
    """The network's answers."""
    return network(
        normalised(np.stack([sample.image for sample in samples])),
        torch.from_numpy(np.stack([sample.points for sample in samples])),
        torch.from_numpy(np.stack([sample.labels for sample in samples])),
        torch.from_numpy(np.stack([sample.before for sample in samples]))[:, None],
    )


@torch.no_grad()
def overlap_on(network: Segmenter, scenes: list[Scene], seed: int) -> float:
    """Mean overlap with the truth at picture size, prompted by boxes with a detector's errors."""
    network.eval()
    overlaps = []
    for scene in scenes:
        height, width = scene.image.shape[:2]
        scale = SIZE_PX / max(height, width)
        small = cv2.resize(scene.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        padded = np.full((1, -(-small.shape[0] // 32) * 32, SIZE_PX, 3), 114, np.uint8)
        padded[0, : small.shape[0], : small.shape[1]] = small
        embedding = network.encoder(normalised(padded))
        for number, item in scene.outlined():
            corners = jittered(item["box"], seed + number).reshape(1, 2, 2) * scale
            before = torch.full((1, 1, padded.shape[1] // 2, SIZE_PX // 2), NOTHING_BEFORE)
            logits, _ = network.decoder(embedding, torch.from_numpy(corners), torch.tensor([[2.0, 3.0]]), before)
            whole = functional.interpolate(logits[:, :1], scale_factor=2.0 / scale, mode="bilinear")[0, 0]
            found, real = whole.numpy()[:height, :width] > 0.0, scene.truth(number)
            overlaps.append(np.count_nonzero(found & real) / max(np.count_nonzero(found | real), 1))
    return float(np.mean(overlaps))


def jittered(box: list[float], seed: int) -> NDArray[np.float32]:
    """A box as a detector gives it: each side off by 3 % of the box's, one standard deviation."""
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    return (np.array(box) + np.random.default_rng(seed).normal(0.0, 0.03, 4) * sides).astype(np.float32)


class Run:
    """A training that can be stopped and goes on where its last epoch ended: `out/last.pt`, `out/epochs.jsonl`."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.out: Path = args.out
        self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(args.seed)
        random.seed(args.seed)
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(1)
        self.network, self.average = Segmenter(), Segmenter()
        if args.weights is not None:
            print(f"{self.network.encoder.start_from(args.weights)} tensors from {args.weights.name}")
        slow = list(self.network.encoder.layers.parameters())
        fast = [p for p in self.network.parameters() if all(p is not other for other in slow)]
        self.optimizer = torch.optim.AdamW(
            [{"params": slow, "share": 0.3}, {"params": fast, "share": 1.0}], lr=args.rate, weight_decay=0.01
        )
        self.average.load_state_dict(self.network.state_dict())
        self.epoch, self.steps, self.seconds = 0, 0, 0.0
        if (self.out / "last.pt").exists():
            self._resume()

    def _resume(self) -> None:
        saved = torch.load(self.out / "last.pt", map_location="cpu", weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.epoch, self.steps, self.seconds = saved["epoch"], saved["steps"], saved["seconds"]
        print(f"goes on after epoch {self.epoch}")

    def save(self) -> None:
        """Keep where it stands; a stop while it writes leaves the file before it."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "steps": self.steps,
            "seconds": self.seconds,
        }
        partial = self.out / "last.partial"
        torch.save(state, partial)
        partial.replace(self.out / "last.pt")

    def rate(self, done: float) -> float:
        """The learning rate at a share of the whole training: a short rise, then half a cosine."""
        if done < 0.03:
            return self.args.rate * done / 0.03
        return self.args.rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * (done - 0.03) / 0.97)))

    def train(self) -> None:
        """All epochs that are left."""
        stages = [stage for stage in self.args.stage for _ in range(stage.epochs)]
        judged = read(self.args.data / "val", self.args.judged)
        while self.epoch < len(stages):
            begun = time.monotonic()
            scenes = read(self.args.data / "train", self.args.most)  # those rendered meanwhile come in
            losses = self._one_epoch(scenes, stages[self.epoch], len(stages))
            self.epoch += 1
            self.seconds += time.monotonic() - begun
            self.save()
            overlap = overlap_on(self.average, judged, self.args.seed)
            row = {"epoch": self.epoch, "pictures": len(scenes), "seconds": round(self.seconds), **losses}
            row["validation_iou"] = round(overlap, 4)
            with (self.out / "epochs.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)

    def _one_epoch(self, scenes: list[Scene], stage: Stage, epochs: int) -> dict[str, float]:
        rng = np.random.default_rng([self.args.seed, self.epoch])
        self.network.train()
        losses, overlaps = [], []
        for samples, share in batches(scenes, stage, self.args.batch, rng):
            rate = self.rate((self.epoch + share) / epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["share"]
            loss, overlap = loss_of(*forward(self.network, samples), samples)
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimizer.step()
            self._follow()
            losses.append(loss.item())
            overlaps.append(overlap)
        return {"loss": round(float(np.mean(losses)), 4), "training_iou": round(float(np.mean(overlaps)), 4)}

    @torch.no_grad()
    def _follow(self) -> None:
        self.steps += 1
        share = max(1.0 - AVERAGED, 9.0 / (10.0 + self.steps))  # at the beginning it forgets sooner
        ours = self.network.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(ours[name], share)
            else:
                value.copy_(ours[name])


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/ as render.py writes them")
    parser.add_argument("--weights", type=Path, help="COCO tensors of YOLOv5n (safetensors) to start from")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--stage", type=Stage.parse, action="append", metavar="WIDTHxHEIGHT:EPOCHS")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=2e-3, help="greatest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=int, default=0, help="pictures to train on [all]")
    parser.add_argument("--judged", type=int, default=80, help="pictures of val/ that judge each epoch")
    args = parser.parse_args()
    args.stage = args.stage or [Stage(192, 192, 12), Stage(320, 256, 2)]
    assert len(FIGURES) == 3  # `draw` writes them in this order
    return args


def main() -> None:
    """Train. SIGTERM stops at once: what the last whole epoch left is on disk."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Run(parse()).train()


if __name__ == "__main__":
    main()
