"""Speed and accuracy of recognition in one run: stages, engines, input and model size, int8, the verdict, ultralytics.

python tests/bench/bench_vision.py [--rounds 40] [--plot FILE] [--only stages,engines,sizes,int8,verdict,pipeline].
The verdict and ultralytics' `predict` are timed by the clock, with a thread for each core, on a machine that should be
idle; all else is CPU time of one thread, in turns. Accuracy is that of boxes in `models/golden`: of the items that the
network names, the share found with their class (score 0.25, overlap 0.5), and the boxes that are none of them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from myrvm_core.domain_id import claim_domain
from myrvm_core.errors import ModelError
from myrvm_core.rules import overlap
from myrvm_core.verdict import Box
from myrvm_vision.engine import Engine, EngineOptions, make_engine
from myrvm_vision.letterbox import Letterbox
from myrvm_vision.postprocess import Limits, decode
from myrvm_vision.proven_model import default_threads
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from myrvm_core import paths
from myrvm_vision import golden, model_store, picture_quality

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bench_detector
import shipped_checkpoint
import untrained_networks

SIZES_PX = (192, 256, 320, 416, 512)
ARCHITECTURES = ("yolov5n", "yolov8n", "yolo11n", "yolo12n", "yolov8s", "yolo11s")
ACCURACY_SCORE = 0.25
SHARE = 0.5  # overlap
CALIBRATED_ON = 32  # pictures
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Accuracy:
    """On the golden pictures."""

    right: int
    items: int
    wrong: int

    def __str__(self) -> str:
        return f"{self.right / self.items:4.0%} of {self.items} items, {self.wrong:2d} other boxes"


def in_turns(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """CPU time of each side, ms: with one thread it hardly minds what else the machine does."""
    durations: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            begun = time.process_time()
            side()
            durations[name].append((time.process_time() - begun) * 1e3)
    return {name: np.array(values) for name, values in durations.items()}


def print_rows(durations: dict[str, NDArray[np.float64]], notes: dict[str, str] | None = None) -> None:
    """One line a side: best, median."""
    for name, values in durations.items():
        note = (notes or {}).get(name, "")
        print(f"  {name:46} best {values.min():7.2f}   median {np.median(values):7.2f} ms   {note}")


def golden_pictures() -> list[tuple[Picture, list[dict[str, Any]]]]:
    """The golden pictures and their items."""
    folder = paths.home() / "models" / golden.FOLDER
    entries = json.loads((folder / golden.INDEX).read_text(encoding="utf-8"))
    return [(np.asarray(cv2.imread(str(folder / one["file"])), np.uint8), one["items"]) for one in entries]


def accuracy(engine: Engine, pictures: list[tuple[Picture, list[dict[str, Any]]]]) -> Accuracy:
    """What an engine finds in the golden pictures."""
    right = items = wrong = 0
    for picture, there in pictures:
        found = [one for one in engine.infer(picture).detections if one.score >= ACCURACY_SCORE]
        named = [item for item in there if item["model_class"] is not None]
        hits = [
            {
                number for number, one in enumerate(found)
                if one.class_name == item["model_class"] and overlap(one.box, Box(*item["box"])) >= SHARE
            }
            for item in named
        ]  # fmt: skip
        items += len(named)
        right += sum(map(bool, hits))
        wrong += len(found) - len(set().union(*hits))
    return Accuracy(right, items, wrong)


def loaded(file: Path, kind: str = "auto", score: float = ACCURACY_SCORE) -> Engine:
    """An engine with one thread, ready."""
    limits = Limits(score=score)
    engine = make_engine(file, kind, EngineOptions(1, limits, trusted_folder=file.parent))
    engine.load()
    return engine


def bench_stages(file: Path, picture: Picture, rounds: int) -> None:
    """Each stage apart, and what was tried for it."""
    described = loaded(file).describe()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    letterbox = Letterbox(described.size, described.stride)
    network_input, _ = letterbox(picture)
    name = session.get_inputs()[0].name
    output = np.asarray(session.run(None, {name: network_input})[0])
    height, width = network_input.shape[2:]
    inner = (width, round(picture.shape[0] * width / picture.shape[1]))
    canvas, planes = np.empty((height, width, 3), np.uint8), np.empty((3, height, width), np.uint8)
    scaled, small = np.empty((3, height, width), np.float32), np.empty((inner[1], inner[0], 3), np.uint8)
    bound = session.io_binding()
    result = np.empty_like(output)
    bound.bind_cpu_input(name, network_input)
    bound.bind_output(session.get_outputs()[0].name, "cpu", 0, np.float32, result.shape, result.ctypes.data)

    def colour() -> None:
        cv2.split(canvas, [planes[2], planes[1], planes[0]])
        np.divide(planes, np.float32(255.0), out=scaled)

    print(f"\nStages of one picture, {picture.shape[1]} x {picture.shape[0]} to {width} x {height} px")
    print_rows(
        in_turns(
            {
                "letterbox, reused buffers": lambda: letterbox(picture),
                "  of it resize": lambda: cv2.resize(picture, inner, dst=small),
                "  of it colour, planes, scale": colour,
                "  tried: cv2.dnn.blobFromImage for the latter": lambda: cv2.dnn.blobFromImage(
                    canvas, 1 / 255, swapRB=True
                ),
                "forward pass, run": lambda: session.run(None, {name: network_input}),
                "  tried: bound to reused memory": lambda: session.run_with_iobinding(bound),
                "suppression": lambda: decode(output, len(described.class_names), Limits()),
                "picture quality": lambda: picture_quality.measure(picture),
            },
            rounds,
        )
    )


def bench_engines(file: Path, checkpoint: Path, picture: Picture, rounds: int) -> None:
    """The same network by every engine that is here."""
    engines: dict[str, Engine] = {}
    for name, source in (("onnx", file), ("openvino", file), ("ultralytics", checkpoint)):
        try:
            engines[name] = loaded(source, name)
        except ModelError as error:
            print(f"  {name}: {error}")
    print("\nOne picture in, detections out, by engine")
    sides = {f"{name}": lambda engine=engine: engine.infer(picture) for name, engine in engines.items()}
    print_rows(in_turns(sides, rounds))


def resized(file: Path, size_px: int, folder: Path) -> Path:
    """The same network, an input of any size, that says another size of itself."""
    network = onnx.load(file)
    stored = {one.key: one.value for one in network.metadata_props} | {"imgsz": str([size_px, size_px])}
    onnx.helper.set_model_props(network, stored)
    written = folder / f"{file.stem}-{size_px}.onnx"
    onnx.save(network, written)
    return written


def bench_sizes(file: Path, folder: Path, picture: Picture, rounds: int) -> list[tuple[str, float, float | None]]:
    """Input size with accuracy, and architectures without; gives name, ms, share of items."""
    pictures = golden_pictures()
    shipped = {f"{file.stem} at {size}": loaded(resized(file, size, folder)) for size in SIZES_PX}
    found = {name: accuracy(engine, pictures) for name, engine in shipped.items()}
    others: dict[str, Engine] = {}
    for architecture in ARCHITECTURES:
        source = untrained_networks.checkpoint(architecture, folder / f"{architecture}.pt")
        exported = untrained_networks.export(source, untrained_networks.Export(True, False, False))
        for size in (320, 640):
            # Random weights find things everywhere: without any, what is timed is the network.
            others[f"{architecture} at {size}, untrained"] = loaded(resized(exported, size, folder), score=1.0)
    print("\nInput size and architecture: one picture in, detections out")
    sides = {name: lambda engine=engine: engine.infer(picture) for name, engine in (shipped | others).items()}
    durations = in_turns(sides, rounds)
    print_rows(durations, {name: str(one) for name, one in found.items()})
    return [
        (name, float(values.min()), found[name].right / found[name].items if name in found else None)
        for name, values in durations.items()
    ]


class Reader(CalibrationDataReader):
    """Pictures for the ranges of int8."""

    def __init__(self, letterbox: Letterbox, name: str) -> None:
        files = sorted((paths.home() / "src/myrvm_sim/myrvm_sim/pictures").glob("*.jpg"))
        self._inputs = (
            {name: letterbox(np.asarray(cv2.imread(str(file)), np.uint8))[0].copy()}
            for file in files[:: max(1, len(files) // CALIBRATED_ON)]
        )

    def get_next(self) -> dict[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The next input."""
        return next(self._inputs, None)


def bench_int8(file: Path, folder: Path, picture: Picture, rounds: int) -> list[tuple[str, float, float | None]]:
    """Static quantisation by ONNX Runtime, of everything and of all but the head."""
    described = loaded(file).describe()
    network = onnx.load(file)
    name = network.graph.input[0].name
    last = max(int(number) for node in network.graph.node for number in re.findall(r"/model\.(\d+)/", node.name))
    head = [node.name for node in network.graph.node if f"/model.{last}/" in node.name]
    pictures, engines = golden_pictures(), {"float32": loaded(file)}
    for title, left_out in (("int8, all", []), ("int8, all but the head", head)):
        written = folder / f"{title.replace(' ', '_')}.onnx"
        quantize_static(
            file, written, Reader(Letterbox(described.size, described.stride), name), QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            nodes_to_exclude=left_out,
        )  # fmt: skip
        stored = onnx.load(written)
        onnx.helper.set_model_props(stored, {one.key: one.value for one in network.metadata_props})
        onnx.save(stored, written)
        engines[title] = loaded(written)
    found = {title: accuracy(engine, pictures) for title, engine in engines.items()}
    print("\nint8 (onnxruntime.quantization, static, QDQ, by channel)")
    durations = in_turns({title: lambda one=engine: one.infer(picture) for title, engine in engines.items()}, rounds)
    print_rows(durations, {title: str(one) for title, one in found.items()})
    return [(title, float(durations[title].min()), found[title].right / found[title].items) for title in engines]


def draw(points: list[tuple[str, float, float | None]], file: Path) -> None:
    """Accuracy over time, one point a network."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "bench_vision"}
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, duration_ms, share in points:
        if share is not None:
            axes.plot(duration_ms, share, "o", color="tab:blue")
            axes.annotate(name, (duration_ms, share), xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="one picture in, detections out: CPU time of one thread, ms", ylabel="items found with their class")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    print(f"\n{file}")


def main() -> None:
    """Print the tables."""
    bench_detector.as_launched()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--plot", type=Path, default=paths.data() / "vision_speed.svg")
    parser.add_argument("--only", default="stages,engines,sizes,int8,verdict,pipeline")
    args = parser.parse_args()
    wanted = args.only.split(",")
    file, _ = model_store.find_model(paths.home() / "models")
    found = sorted((paths.home() / "src/myrvm_sim/myrvm_sim/pictures").glob("*.jpg"))
    read = [np.asarray(cv2.imread(str(path)), np.uint8) for path in found[:: len(found) // 20][:20]]
    pictures = [np.asarray(cv2.resize(picture, (640, 480)), np.uint8) for picture in read]
    print(f"{os.cpu_count()} cores, {default_threads()} threads, load {os.getloadavg()[0]:.1f}, {file.name}")
    points: list[tuple[str, float, float | None]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if "verdict" in wanted:  # first: what later networks leave in this process would slow the bare call down
            with claim_domain() as domain:
                os.environ |= {"ROS_DOMAIN_ID": str(domain), "MYRVM_DATA": place, "MYRVM_ENV_FILE": os.devnull}
                bench_detector.bench_verdict(file, pictures, args.rounds)
                own = resized(file, 640, folder)  # the input that operators' own networks have
                bench_detector.bench_verdict(own, pictures, args.rounds, model_path=own, engine_proof="none")
        if "pipeline" in wanted:
            bench_detector.bench_pipeline(file, pictures, args.rounds)
        if "stages" in wanted:
            bench_stages(file, pictures[0], args.rounds)
        if "engines" in wanted:
            bench_engines(file, shipped_checkpoint.write(folder / "shipped.pt"), pictures[0], args.rounds)
        if "sizes" in wanted:
            points += bench_sizes(file, folder, pictures[0], args.rounds)
        if "int8" in wanted:
            points += bench_int8(file, folder, pictures[0], args.rounds)
        if points:
            draw(points, args.plot)


if __name__ == "__main__":
    main()
