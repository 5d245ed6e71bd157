"""Segmenters as operators bring them, with random weights: MobileSAM, SAM 2.1, FastSAM, and the public ONNX pair."""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from myrvm_vision.onnx_segmenter import decoder_of
from myrvm_vision.segmenter import Prompt
from numpy.typing import NDArray

SIDE_PX, CHANNELS = 128, 32  # of the small Segment Anything
CHECKPOINTS = ("mobile_sam.pt", "sam2.1_t.pt", "FastSAM-s.pt")


def picture(height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """Soft blots, the same every time."""
    blots = np.random.default_rng(height).integers(0, 255, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(blots, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def checkpoint(name: str, folder: Path) -> Path:
    """Write a `.pt` of the family that ultralytics tells by this name. Needs the torch extra."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    torch = importlib.import_module("torch")
    torch.manual_seed(3)
    file = folder / name
    if name.startswith("FastSAM"):
        ultralytics = importlib.import_module("ultralytics")
        tasks = importlib.import_module("ultralytics.nn.tasks")
        model = ultralytics.YOLO("yolov8s-seg.yaml")
        model.model = tasks.SegmentationModel("yolov8s-seg.yaml", nc=1, verbose=False)
        model.model.names, model.model.task = {0: "object"}, "segment"
        head = model.model.model[-1]
        for branch in head.cv3:  # random scores lie near 0.01: some must pass the limit
            torch.nn.init.constant_(branch[-1].bias, -1.0)
            torch.nn.init.normal_(branch[-1].weight, std=0.5)
        model.save(file)
        return file
    build = importlib.import_module("ultralytics.models.sam.build")
    builder = build.build_mobile_sam if name == "mobile_sam.pt" else build.build_sam2_t
    # What differs between 2 and 2.1 is told by the checkpoint's name, which is read here before there is one.
    with mock.patch.object(build, "_load_checkpoint", lambda model, _: model):
        network = builder(name)
    torch.save({"model": network.state_dict()}, file)
    return file


def small_sam() -> Any:
    """Segment Anything as ultralytics builds it, of a size that is quick."""
    torch = importlib.import_module("torch")
    modules = "ultralytics.models.sam.modules"
    encoders, decoders = (importlib.import_module(f"{modules}.{name}") for name in ("encoders", "decoders"))
    sam = importlib.import_module(f"{modules}.sam")
    transformer = importlib.import_module(f"{modules}.transformer")
    torch.manual_seed(5)
    network = sam.SAMModel(
        image_encoder=encoders.ImageEncoderViT(
            img_size=SIDE_PX, patch_size=16, embed_dim=48, depth=2, num_heads=2, out_chans=CHANNELS, qkv_bias=True,
            use_rel_pos=True, window_size=4, global_attn_indexes=(1,),
        ),
        prompt_encoder=encoders.PromptEncoder(
            embed_dim=CHANNELS, image_embedding_size=(SIDE_PX // 16,) * 2, input_image_size=(SIDE_PX,) * 2,
            mask_in_chans=16,
        ),
        mask_decoder=decoders.MaskDecoder(
            transformer_dim=CHANNELS,
            transformer=transformer.TwoWayTransformer(depth=2, embedding_dim=CHANNELS, num_heads=2, mlp_dim=64),
            num_multimask_outputs=3, iou_head_depth=3, iou_head_hidden_dim=32,
        ),
    )  # fmt: skip
    for module in network.modules():
        if type(module).__name__ == "LayerNorm2d":  # its shape is read from the tensor, which cannot be exported
            module.forward = functools.partial(_normalised, module)
    return network.eval().requires_grad_(False)


def _normalised(layer: Any, x: Any) -> Any:
    """As `LayerNorm2d` does it, its shape read from the weights."""
    normalise = importlib.import_module("torch").nn.functional.layer_norm
    planes = normalise(x.permute(0, 2, 3, 1), tuple(layer.weight.shape), layer.weight, layer.bias, layer.eps)
    return planes.permute(0, 3, 1, 2)


def public_pair(network: Any, folder: Path, name: str, *, single: bool, preprocess: bool) -> Path:
    """Write `network` as the ONNX pair that segment-anything's exporter makes; gives the encoder's file.

    Args:
        network: of `small_sam`.
        folder: for the two files.
        name: of them.
        single: whether the decoder chooses among its masks itself (`--return-single-mask`).
        preprocess: whether the encoder normalises and pads by itself, as samexporter's do.
    """
    torch = importlib.import_module("torch")
    functional = torch.nn.functional

    class Encoder(torch.nn.Module):
        def forward(self, picture: Any) -> Any:
            if preprocess:
                mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
                scaled = ((picture - mean) / deviation).permute(2, 0, 1)[None]
                picture = functional.pad(scaled, (0, SIDE_PX - scaled.shape[3], 0, SIDE_PX - scaled.shape[2]))
            return network.image_encoder(picture)

    class Decoder(torch.nn.Module):
        """As `SamOnnxModel` does it."""

        def forward(self, features: Any, points: Any, labels: Any, mask: Any, has_mask: Any, size: Any) -> Any:
            prompts = network.prompt_encoder
            coordinates = (points + 0.5) / SIDE_PX
            sparse = prompts.pe_layer._pe_encoding(coordinates)
            labels = labels[..., None].expand_as(sparse)
            sparse = sparse * (labels != -1) + prompts.not_a_point_embed.weight * (labels == -1)
            for kind, embedding in enumerate(prompts.point_embeddings):
                sparse = sparse + embedding.weight * (labels == kind)
            dense = has_mask * prompts.mask_downscaling(mask)
            dense = dense + (1 - has_mask) * prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
            masks, scores = network.mask_decoder.predict_masks(features, prompts.get_dense_pe(), sparse, dense)
            if single:
                masks, scores = masks[:, :1], scores[:, :1]
            whole = functional.interpolate(masks, (SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
            size = size.to(torch.float32)
            scaled = torch.floor(SIDE_PX / torch.max(size) * size + 0.5).to(torch.int64)
            whole = whole[..., : scaled[0], : scaled[1]]
            size = size.to(torch.int64)
            return (
                functional.interpolate(whole, (size[0], size[1]), mode="bilinear", align_corners=False),
                scores,
                masks,
            )

    side = SIDE_PX // 16
    examples = (
        torch.randn(1, CHANNELS, side, side), torch.rand(1, 3, 2) * SIDE_PX, torch.tensor([[2.0, 3.0, 1.0]]),
        torch.randn(1, 1, 4 * side, 4 * side), torch.ones(1), torch.tensor([120.0, 160.0]),
    )  # fmt: skip
    file = folder / f"{name}.encoder.onnx"
    encoder_input = torch.rand(SIDE_PX // 2, SIDE_PX, 3) * 255 if preprocess else torch.randn(1, 3, SIDE_PX, SIDE_PX)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Encoder(), (encoder_input,), str(file), opset_version=17, dynamo=False, input_names=["x"],
            output_names=["image_embeddings"], dynamic_axes={"x": {0: "height", 1: "width"}} if preprocess else None,
        )  # fmt: skip
        torch.onnx.export(
            Decoder(), examples, str(decoder_of(file)), opset_version=17, dynamo=False,
            input_names=[
                "image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size",
            ],
            output_names=["masks", "iou_predictions", "low_res_masks"],
            dynamic_axes={"point_coords": {1: "points"}, "point_labels": {1: "points"}},
        )  # fmt: skip
    return file


def reference_logits(network: Any, image: NDArray[np.uint8], prompt: Prompt) -> tuple[NDArray[np.float32], float]:
    """What the network says without ONNX, by Segment Anything's own way for boxes; picture's longer side: `SIDE_PX`."""
    torch = importlib.import_module("torch")
    height, width = image.shape[:2]
    assert max(height, width) == SIDE_PX  # nothing is scaled: the reference has no interpolation of its own
    planes = torch.zeros(1, 3, SIDE_PX, SIDE_PX)
    colours = torch.from_numpy(image[..., ::-1].astype(np.float32))
    colours = (colours - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    planes[0, :, :height, :width] = colours.permute(2, 0, 1)
    box = prompt.box
    with torch.no_grad():
        sparse, dense = network.prompt_encoder(
            points=(torch.tensor([prompt.points]), torch.tensor([prompt.labels])) if prompt.points else None,
            boxes=torch.tensor([[box.x_min, box.y_min, box.x_max, box.y_max]]) if box else None,
            masks=None,
        )
        masks, scores = network.mask_decoder(
            network.image_encoder(planes), network.prompt_encoder.get_dense_pe(), sparse, dense,
            multimask_output=box is None and len(prompt.points) == 1,
        )  # fmt: skip
        best = int(scores[0].argmax())
        whole = torch.nn.functional.interpolate(masks[:, [best]], (SIDE_PX, SIDE_PX), mode="bilinear")
    return whole[0, 0, :height, :width].numpy(), float(scores[0, best])
