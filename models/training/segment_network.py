"""The small promptable segmenter: an encoder that sees a picture once, a decoder that outlines what a prompt names.

It speaks the layout of Segment Anything's public ONNX pair (facebookresearch/segment-anything, `utils/onnx.py`): the
encoder takes a padded, normalised picture, the decoder points with labels (1 belongs to it, 0 does not, 2 and 3 are a
box's corners, -1 is padding). Inside it is a convolutional network: YOLOv5n's backbone and neck with COCO features, and
prompts drawn as maps (K. Sofiiuk et al., "Reviving iterative training with mask guidance ...", ICIP 2022).
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from segment_data import FIGURES, PARTS
from torch import Tensor, nn
from torch.nn import functional
from ultralytics.nn.tasks import DetectionModel

MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of RGB, Segment Anything
SIZE_PX = 320  # the exported input's side
STRIDE = 4  # of the embedding; masks come at half of it
CHANNELS = 48
NECK = 17  # the last layer of YOLOv5n that is used: stride 8
POINT_PX = 6.0  # radius of a point's mark


def block(inputs: int, outputs: int, size: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, normalisation, activation."""
    padding = dilation * (size // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


class Encoder(nn.Module):
    """Pictures (n, 3, h, w), RGB, normalised, h and w multiples of 32, to embeddings (n, CHANNELS, h / 4, w / 4)."""

    def __init__(self) -> None:
        super().__init__()
        layers = DetectionModel("yolov5n.yaml", verbose=False).model
        self.layers = nn.ModuleList(layers[: NECK + 1])
        self.fine = block(64, 16, 1)
        self.middle = block(64, 32, 1)
        self.join = block(16 + 32 + 32, CHANNELS)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        x = (pictures * self.deviation + self.mean) / 255.0  # as YOLO takes them
        kept: list[Tensor] = []
        for layer in self.layers:
            sources = layer.f if isinstance(layer.f, list) else [layer.f]
            inputs = [x if source == -1 else kept[source] for source in sources]
            x = layer(inputs if isinstance(layer.f, list) else inputs[0])
            kept.append(x)
        fine = self.fine(functional.pixel_unshuffle(kept[0], 2))
        middle = functional.interpolate(self.middle(x), scale_factor=2.0, mode="bilinear")
        return self.join(torch.cat((fine, kept[2], middle), 1))

    def start_from(self, weights: Path) -> int:
        """Take every COCO tensor that fits; returns how many."""
        own = self.layers.state_dict()
        given = {name.removeprefix("model."): value.float() for name, value in load_file(weights).items()}
        fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
        self.layers.load_state_dict(fitting, strict=False)
        return len(fitting)


class Prompts(nn.Module):
    """Prompts as maps over the embedding: (n, 7, h, w), and where to look for the item, (n, 1, h, w)."""

    def forward(self, shape: tuple[int, int], points: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Maps for an embedding of `shape`: points (n, p, 2), px, labels (n, p), logits of a mask twice as large."""
        rows = (torch.arange(shape[0], device=points.device, dtype=points.dtype) + 0.5) * STRIDE
        columns = (torch.arange(shape[1], device=points.device, dtype=points.dtype) + 0.5) * STRIDE
        x, y = columns.view(1, 1, 1, -1), rows.view(1, 1, -1, 1)
        at_x, at_y = points[:, :, 0, None, None] + 0.5, points[:, :, 1, None, None] + 0.5  # (n, p, 1, 1)
        label = labels[:, :, None, None]
        marks = torch.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2.0 * POINT_PX**2))
        wanted = (marks * (label == 1).float()).amax(1, keepdim=True)
        unwanted = (marks * (label == 0).float()).amax(1, keepdim=True)
        first, second = (label == 2).float(), (label == 3).float()
        boxed = first.amax(1, keepdim=True)
        left, top = (at_x * first).sum(1, keepdim=True), (at_y * first).sum(1, keepdim=True)
        right, bottom = (at_x * second).sum(1, keepdim=True), (at_y * second).sum(1, keepdim=True)
        # Where a place lies in the box: -1 and 1 at its edges, no further than 2.
        u = (2.0 * x - left - right) / (right - left + 1.0).clamp(min=1.0) + torch.zeros_like(y)
        v = (2.0 * y - top - bottom) / (bottom - top + 1.0).clamp(min=1.0) + torch.zeros_like(x)
        inside = boxed * torch.sigmoid(8.0 * (1.0 - u.abs())) * torch.sigmoid(8.0 * (1.0 - v.abs()))
        before = functional.avg_pool2d(torch.sigmoid(mask), 2).expand(points.shape[0], -1, -1, -1)
        maps = (inside, boxed * u.clamp(-2.0, 2.0), boxed * v.clamp(-2.0, 2.0), wanted, unwanted, before)
        # Of a box the middle is the item's, most likely; a point is surely.
        where = wanted + boxed * torch.exp(-2.0 * (u**2 + v**2)) * (1.0 - unwanted)
        return torch.cat((*maps, torch.ones_like(inside) * boxed), 1), where


class Decoder(nn.Module):
    """Embeddings and prompts to logits of the outline and the parts at half the embedding's stride, and figures."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts = Prompts()
        self.modulate = nn.Linear(CHANNELS, 2 * CHANNELS)
        self.enter = block(CHANNELS + 8, CHANNELS)
        self.down = block(CHANNELS, 64, stride=2)
        self.context = nn.ModuleList(block(64, 64, dilation=dilation) for dilation in (1, 2, 4))
        self.up = block(64, CHANNELS, 1)
        self.leave = block(CHANNELS, CHANNELS)
        self.head = nn.Conv2d(CHANNELS, 4 * (1 + len(PARTS)), 3, padding=1)
        self.figures = nn.Sequential(nn.Linear(64 + CHANNELS, 64), nn.SiLU(), nn.Linear(64, 1 + len(FIGURES)))

    def forward(self, embeddings: Tensor, points: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, 1 + parts, 2 h, 2 w), and (n, 1 + figures): overlap with the truth, then `FIGURES`, as logits."""
        maps, where = self.prompts((embeddings.shape[2], embeddings.shape[3]), points, labels, mask)
        embeddings = embeddings.expand(points.shape[0], -1, -1, -1)
        item = (embeddings * where).sum((2, 3)) / (where.sum((2, 3)) + 1e-4)
        alike = (embeddings * item[:, :, None, None]).mean(1, keepdim=True)
        scale, shift = self.modulate(item)[:, :, None, None].chunk(2, 1)
        x = self.enter(torch.cat((embeddings, maps, alike), 1)) * (1.0 + scale) + shift
        deep = self.down(x)
        for layer in self.context:
            deep = deep + layer(deep)
        x = x + functional.interpolate(self.up(deep), scale_factor=2.0, mode="bilinear")
        x = self.leave(x)
        logits = functional.pixel_shuffle(self.head(x), 2)
        weight = torch.sigmoid(functional.avg_pool2d(logits[:, :1], 2))
        coarse = functional.avg_pool2d(weight, 2)
        pooled = (x * weight).sum((2, 3)) / (weight.sum((2, 3)) + 1.0)
        deeper = (deep * coarse).sum((2, 3)) / (coarse.sum((2, 3)) + 1.0)
        return logits, self.figures(torch.cat((pooled, deeper), 1))


class Segmenter(nn.Module):
    """Encoder and decoder, as they are trained: one prompt a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()

    def forward(self, pictures: Tensor, points: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `Encoder` and `Decoder`."""
        return self.decoder(self.encoder(pictures), points, labels, mask)


class ExportedDecoder(nn.Module):
    """The decoder with the inputs and outputs of Segment Anything's, and two more outputs.

    `masks` (n, 1, height, width) are logits at picture size, `low_res_masks` those of the network, `part_masks`
    (n, parts, ...) logits as large as these, `item_figures` (n, figures) 0 .. 1.

    Args:
        decoder: trained.
        fill_zero: what it says of the fullest of empty items; so much is said to be nothing.
    """

    inputs = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size")
    outputs = ("masks", "iou_predictions", "low_res_masks", "part_masks", "item_figures")

    def __init__(self, decoder: Decoder, fill_zero: float = 0.0) -> None:
        super().__init__()
        self.decoder = decoder
        zeros = torch.tensor([[fill_zero if name == "fill" else 0.0 for name in FIGURES]])
        self.register_buffer("zeros", zeros, persistent=False)

    def forward(
        self, embeddings: Tensor, points: Tensor, labels: Tensor, mask: Tensor, has_mask: Tensor, size: Tensor
    ) -> tuple[Tensor, ...]:
        """See the class."""
        # No mask before it: as sure as can be that nothing is one.
        logits, figures = self.decoder(embeddings, points, labels, mask * has_mask - 20.0 * (1.0 - has_mask))
        figures = torch.sigmoid(figures)
        low = logits[:, :1]
        scaled = torch.floor(SIZE_PX / torch.max(size) * size + 0.5).to(torch.int64)
        masks = functional.interpolate(low, size=(SIZE_PX, SIZE_PX), mode="bilinear", align_corners=False)
        masks = masks[..., : scaled[0], : scaled[1]]
        whole = size.to(torch.int64)
        masks = functional.interpolate(masks, size=(whole[0], whole[1]), mode="bilinear", align_corners=False)
        item = ((figures[:, 1:] - self.zeros) / (1.0 - self.zeros)).clamp(min=0.0)
        return masks, figures[:, :1], low, logits[:, 1:], item
