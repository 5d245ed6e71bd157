"""Our detector against yolo_ros, the usual way: image published to detections received, same frames, same weights, CPU.

python tests/bench/bench_yolo_ros.py --yolo-ros FOLDER [--rounds 60]. FOLDER is a checkout of
https://github.com/mgonzs13/yolo_ros (GPL-3.0): it is built beside the project and runs unchanged, in a process of its
own as our node does. `cv_bridge` has no wheel: `cv_bridge.py` beside this file stands in for it. One image is published
at a time, so that neither side queues; the three nodes take turns in one run.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from bench_detector import THREADS, row
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from myrvm_core.domain_id import claim_domain
from myrvm_interfaces.msg import Detections
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from myrvm_core import paths
from myrvm_ros import image_codec, qos, stamps
from myrvm_vision import model_store

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import shipped_checkpoint

HERE = Path(__file__).resolve().parent
SETTLE_S = 0.1  # before each image: thread pools spin for a while after their work
BLOCK = 10  # images in a row for one side
START_S, ANSWER_S = 60.0, 10.0
SIZE_PX, SCORE = (256, 320), 0.25  # what our letterbox makes of a 4:3 picture; the detector's own lowest score


def build(checkout: Path, workspace: Path) -> dict[str, str]:
    """Build yolo_ros into `workspace`; returns the environment that finds it."""
    workspace.mkdir(parents=True, exist_ok=True)
    command = ["colcon", "--log-base", "log", "build", "--merge-install", "--packages-select", "yolo_msgs", "yolo_ros"]
    command += ["--base-paths", str(checkout.resolve())]
    subprocess.run(command, cwd=workspace, check=True, stdout=sys.stderr)
    install = workspace / "install"
    python = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    before = {name: os.environ.get(name, "") for name in ("AMENT_PREFIX_PATH", "LD_LIBRARY_PATH", "PYTHONPATH")}
    return {
        "AMENT_PREFIX_PATH": f"{install}:{before['AMENT_PREFIX_PATH']}",
        "LD_LIBRARY_PATH": f"{install / 'lib'}:{before['LD_LIBRARY_PATH']}",
        "PYTHONPATH": f"{install / python}:{HERE}:{before['PYTHONPATH']}",
    }


class Side:
    """One node under test in a process and a namespace of its own; this process is its camera and listens to it."""

    def __init__(
        self,
        name: str,
        code: str,
        node_name: str,
        image: str,
        answer: tuple[str, Any, Any],
        parameters: dict[str, Any],
        transitions: tuple[int, ...] = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE),
    ) -> None:
        self.name = name
        self._node = rclpy.create_node(f"bench_{node_name}_{os.urandom(3).hex()}")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        space = f"/{self._node.get_name()}"
        arguments = [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, "--ros-args", "-r", f"__ns:={space}", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._images = self._node.create_publisher(Image, f"{space}/{image}", qos.IMAGE)
        topic, kind, profile = answer
        self._newest: Any = None
        self._node.create_subscription(kind, f"{space}/{topic}", self._receive, profile)
        self._change = self._node.create_client(ChangeState, f"{space}/{node_name}/change_state")
        self._transitions = transitions

    def start(self) -> None:
        """Wait until it listens to images."""
        self._wait(self._change.service_is_ready, START_S)
        for transition in self._transitions:
            request = ChangeState.Request()
            request.transition.id = transition
            future = self._change.call_async(request)
            self._wait(future.done, START_S)
            assert getattr(future.result(), "success", False), f"{self.name}: {transition} failed"
        self._wait(lambda: self._images.get_subscription_count() > 0, START_S)

    def _receive(self, message: Any) -> None:
        self._newest = message

    def _wait(self, condition: Any, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end or self._process.poll() is not None:
                raise TimeoutError(f"{self.name} did not answer")
            self._executor.spin_once(timeout_sec=0.1)

    def look(self, picture: np.ndarray, limit_s: float = ANSWER_S) -> tuple[float, int]:
        """Image published to detections received, s, and how many there are."""
        stamp_ns = time.time_ns()
        message = image_codec.to_message(picture, "bgr8", stamp_ns, "camera")
        begun = time.perf_counter()
        self._images.publish(message)
        self._wait(lambda: self._newest is not None and stamps.to_ns(self._newest.header.stamp) == stamp_ns, limit_s)
        return time.perf_counter() - begun, len(self._newest.detections)

    def close(self) -> None:
        """End the node."""
        self._process.kill()  # it has nothing to save, and torch takes its time to end
        self._process.wait(timeout=10)
        self._executor.shutdown()
        self._node.destroy_node()


def sides(onnx: Path, checkpoint: Path) -> list[Side]:
    """Ours with both of its engines, and theirs."""
    from yolo_msgs.msg import DetectionArray  # pyright: ignore[reportMissingImports]  # built by `build`

    ours = "from myrvm_vision.detector_node import main; main()"
    answer = ("detector/detections", Detections, qos.IMAGE)
    common = {"threads": THREADS, "stream_hz": 60.0, "detection_score": SCORE, "engine_proof": "none"}
    theirs = {
        "model": checkpoint, "device": "cpu", "threshold": SCORE, "iou": 0.7, "image_reliability": 2,
        "imgsz_height": SIZE_PX[0], "imgsz_width": SIZE_PX[1],
    }  # fmt: skip
    return [
        Side("ours, .onnx", ours, "detector", "camera/image_raw", answer, common | {"model_path": onnx}),
        Side(
            "ours, .pt",
            ours,
            "detector",
            "camera/image_raw",
            answer,
            common | {"model_path": checkpoint, "trusted_dir": checkpoint.parent},
        ),
        Side(
            "yolo_ros, .pt",
            "from yolo_ros.yolo_node import main; main()",
            "yolo_node",
            "image_raw",
            ("detections", DetectionArray, 10),
            theirs,
            (),  # it goes through its own by itself
        ),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yolo-ros", type=Path, required=True, help="checkout of mgonzs13/yolo_ros")
    parser.add_argument("--rounds", type=int, default=60, help="images for each side")
    arguments = parser.parse_args()
    workspace = paths.home() / "var" / "bench" / "yolo_ros"
    if str(workspace) not in os.environ["LD_LIBRARY_PATH"]:  # which a process cannot change for itself
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | build(arguments.yolo_ros, workspace))
    onnx, _ = model_store.find_model(paths.home() / "models")
    found = sorted((paths.home() / "src/myrvm_sim/myrvm_sim/pictures").glob("*.jpg"))
    pictures = [cv2.resize(np.asarray(cv2.imread(str(path))), (640, 480)) for path in found[:: len(found) // 20][:20]]
    with claim_domain() as domain, tempfile.TemporaryDirectory() as name:
        os.environ |= {"ROS_DOMAIN_ID": str(domain), "MYRVM_DATA": name, "MYRVM_ENV_FILE": os.devnull}
        rclpy.init()
        checkpoint = shipped_checkpoint.write(Path(name) / "shipped.pt")
        nodes = sides(onnx, checkpoint)
        try:
            durations: dict[str, list[float]] = {side.name: [] for side in nodes}
            counts: dict[str, int] = {side.name: 0 for side in nodes}
            for side in nodes:
                side.start()
                side.look(pictures[0], START_S)
            for _ in range(max(1, arguments.rounds // BLOCK)):
                for side in random.sample(nodes, len(nodes)):
                    for picture in random.sample(pictures, BLOCK):
                        time.sleep(SETTLE_S)
                        taken_s, count = side.look(picture)
                        durations[side.name].append(taken_s)
                        counts[side.name] += count
        finally:
            for side in nodes:
                side.close()
            rclpy.shutdown()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {onnx.name}, 640 x 480, input {SIZE_PX}")
    print("Image published to detections received")
    for name, seconds in durations.items():
        row(f"{name} ({counts[name]} detections)", seconds)
    onnx_s, pt_s, theirs_s = (np.median(seconds) for seconds in durations.values())
    print(f"  yolo_ros takes {theirs_s / onnx_s:.2f} times as long as ours with .onnx, {theirs_s / pt_s:.2f} with .pt")


if __name__ == "__main__":
    main()
