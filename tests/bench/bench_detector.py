"""The detector against the bare engine, and our pipeline against ultralytics' own `predict`.

python tests/bench/bench_detector.py [--rounds 60]. Both sides of a ratio are measured in turns within one run. Tables:
camera stamp to verdict (one frame voting, through the real node's process), pictures a second, stages, idle CPU.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import psutil
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from myrvm_core.domain_id import claim_domain
from myrvm_interfaces.srv import Classify
from myrvm_vision.engine import EngineOptions
from myrvm_vision.letterbox import Letterbox
from myrvm_vision.onnx_engine import OnnxEngine
from myrvm_vision.settings import DetectorSettings
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from myrvm_core import paths
from myrvm_ros import image_codec, qos, stamps
from myrvm_system import transport
from myrvm_vision import model_store, recognizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import shipped_checkpoint

THREADS = 2
SETTLE_S = 0.08  # before each measurement: ONNX Runtime's threads spin for some 25 ms after their work
PAUSE_S = 0.3  # between blocks of the two sides: thread pools of torch spin for a while after their work


def row(name: str, seconds: list[float]) -> None:
    """Print one line of a table."""
    figures = np.array(seconds) * 1e3
    print(f"  {name:44} median {np.median(figures):7.2f} ms   p95 {np.percentile(figures, 95):7.2f} ms")


def timed(function: Callable[[], Any]) -> float:
    """Duration of one call, s."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


class Bench:
    """The node under test in its own process; this process is the camera and the client."""

    def __init__(self, **parameters: object) -> None:
        rclpy.init()
        self.node = rclpy.create_node("bench")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.camera = self.node.create_publisher(Image, "camera/image_raw", qos.IMAGE)
        self.client = self.node.create_client(Classify, "detector/classify")
        code = "from myrvm_vision.detector_node import main; main()"
        given = {"votes": 1, "threads": THREADS} | parameters
        arguments = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "--ros-args", *arguments], stderr=subprocess.DEVNULL
        )
        change = self.node.create_client(ChangeState, "detector/change_state")
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request()
            request.transition.id = transition
            self.wait(change.service_is_ready)
            future = change.call_async(request)
            self.wait(future.done)
            assert getattr(future.result(), "success", False)
        self.wait(self.client.service_is_ready)

    def wait(self, condition: Callable[[], bool], period_s: float = 0.002, limit_s: float = 30.0) -> None:
        """Spin until the condition holds; `period_s` is how often it is looked at where no event announces it."""
        end = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("the detector did not answer")
            self.executor.spin_once(timeout_sec=period_s)

    def verdict(self, picture: np.ndarray) -> tuple[float, float, Any]:
        """Request to subscription, capture to verdict (s), and the verdict."""
        begun = time.perf_counter()
        future = self.client.call_async(Classify.Request(item_arrived_at=stamps.to_message(time.time_ns())))
        self.wait(lambda: self.camera.get_subscription_count() > 0)
        captured = time.perf_counter()
        self.camera.publish(image_codec.to_message(picture, "bgr8", time.time_ns(), "camera"))
        self.wait(future.done, period_s=0.1)
        ended = time.perf_counter()
        self.wait(lambda: self.camera.get_subscription_count() == 0)
        return captured - begun, ended - captured, getattr(future.result(), "verdict", None)

    def idle_cpu_percent(self, span_s: float) -> float:
        """CPU of the node's process while nobody asks, in percent of one core."""
        process = psutil.Process(self.process.pid)
        process.cpu_percent()
        end = time.monotonic() + span_s
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.1)
        return process.cpu_percent()

    def close(self) -> None:
        """End the node."""
        self.process.terminate()
        self.process.wait(timeout=10)
        self.node.destroy_node()
        rclpy.shutdown()


def as_launched() -> None:
    """Begin this process again with what the launch gives to nodes that exchange pictures, where it is without."""
    missing = transport.environment(True, os.environ)
    if any(os.environ.get(name) != value for name, value in missing.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | missing)


def bench_verdict(file: Path, pictures: list[np.ndarray], rounds: int, **parameters: object) -> None:
    """Capture to verdict against the bare call; `parameters` of the detector."""
    engine = OnnxEngine(file, EngineOptions(THREADS))
    engine.load()
    size, stride = engine.describe().size, engine.describe().stride
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    dynamic = not isinstance(session.get_inputs()[0].shape[2], int)
    letterbox = Letterbox(size, stride if dynamic else 0)
    bench = Bench(**parameters)
    try:
        bare: list[float] = []
        whole: list[float] = []
        matched: list[float] = []
        stages: list[list[float]] = []
        for number in range(rounds + 5):
            picture = pictures[number % len(pictures)]
            network_input, _ = letterbox(picture)
            time.sleep(SETTLE_S)
            alone = timed(lambda value=network_input: session.run(None, {"images": value}))
            time.sleep(SETTLE_S)
            match_s, verdict_s, verdict = bench.verdict(picture)
            if number >= 5:
                bare.append(alone)
                whole.append(verdict_s)
                matched.append(match_s)
                times = verdict.times
                stages.append([times.preprocess_s, times.inference_s, times.postprocess_s])
        print(f"\nCamera stamp to verdict, one frame voting, {len(bare)} frames, {THREADS} threads, {file.name}")
        row("bare ONNX Runtime call", bare)
        row("camera stamp to verdict", whole)
        row("  of it letterbox", [stage[0] for stage in stages])
        row("  of it forward pass in the node", [stage[1] for stage in stages])
        row("  of it suppression, quality, rules", [stage[2] for stage in stages])
        row("  of it transport and the rest", [total - sum(stage) for total, stage in zip(whole, stages, strict=True)])
        row("request to subscription (before the stamp)", matched)
        print(f"  ratio of medians {np.median(whole) / np.median(bare):.2f} (goal <= 1.25)")
        pss_mb = psutil.Process(bench.process.pid).memory_full_info().pss / 1e6
        idle_percent = bench.idle_cpu_percent(10.0)
        print(f"  idle CPU of the node {idle_percent:.1f} % of a core, PSS {pss_mb:.0f} MB (goal < 600)")
    finally:
        bench.close()


def bench_pipeline(file: Path, pictures: list[np.ndarray], rounds: int) -> None:
    """Pictures a second against ultralytics."""
    import ultralytics

    pipeline = recognizer.load(DetectorSettings(threads=THREADS))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ultralytics.YOLO(str(shipped_checkpoint.write(Path(folder) / "shipped.pt")))
        exported = ultralytics.YOLO(str(file), task="detect")
        sides: dict[str, Callable[[np.ndarray], Any]] = {
            "ours, with quality and rules": lambda picture: pipeline.look(picture, 0),
            "ultralytics predict, .pt": lambda picture: checkpoint.predict(picture, verbose=False),
            "ultralytics predict, .onnx": lambda picture: exported.predict(picture, verbose=False),
        }
        durations: dict[str, list[float]] = {name: [] for name in sides}
        for side in sides.values():
            side(pictures[0])
        for _ in range(max(1, rounds // 10)):
            for name, side in random.sample(list(sides.items()), len(sides)):
                time.sleep(PAUSE_S)
                for picture in random.sample(pictures, 10):
                    durations[name].append(timed(lambda run=side, value=picture: run(value)))
    print("\nOne picture, 640 x 480, in to decision out")
    for name, seconds in durations.items():
        row(f"{name} ({1 / np.median(seconds):.0f} a second)", seconds)
    ours, theirs, theirs_onnx = (np.median(seconds) for seconds in durations.values())
    print(f"  times as many as .pt {theirs / ours:.2f} (goal >= 2), as .onnx {theirs_onnx / ours:.2f}")


def main() -> None:
    """Print the tables."""
    as_launched()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    file, _ = model_store.find_model(paths.home() / "models")
    found = sorted((paths.home() / "src/myrvm_sim/myrvm_sim/pictures").glob("*.jpg"))
    pictures = [cv2.resize(np.asarray(cv2.imread(str(path))), (640, 480)) for path in found[:: len(found) // 20][:20]]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {file.name}")
    with claim_domain() as domain, tempfile.TemporaryDirectory() as data:
        os.environ |= {"ROS_DOMAIN_ID": str(domain), "MYRVM_DATA": data, "MYRVM_ENV_FILE": os.devnull}
        bench_verdict(file, pictures, rounds)
    bench_pipeline(file, pictures, rounds)


if __name__ == "__main__":
    main()
