"""The camera: the newest picture, never an old one.

Publishes `camera/image_raw` (sensor_msgs/Image, bgr8), `camera/image_raw/compressed` (sensor_msgs/CompressedImage,
jpeg) and `camera/camera_info` (sensor_msgs/CameraInfo), while somebody listens.
Serves `camera/capture` (myrvm_interfaces/Capture); obeys the frame rate of `health/limits` (OperatingLimits).
`capture` owns the thread and the logic, the driver the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from myrvm_interfaces.msg import NodeHealth
from myrvm_interfaces.srv import Capture as CaptureService
from myrvm_ros.limits import Limits
from myrvm_ros.managed_node import Health, ManagedNode, run
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from myrvm_hardware import calibration
from myrvm_hardware.capture import Capture
from myrvm_hardware.drivers import CAMERA_DRIVERS, Frame, find_driver
from myrvm_hardware.settings import CameraSettings
from myrvm_hardware.usb_camera import UsbCamera
from myrvm_ros import image_codec, qos, stamps


@dataclass(frozen=True)
class Request:
    """Somebody waits for a frame newer than `asked_ns` (ns since the epoch); `answered` gets the answer."""

    asked_ns: int
    answer: Any
    answered: Future


class CameraNode(ManagedNode[CameraSettings]):
    """The camera node."""

    settings_type = CameraSettings

    def __init__(self) -> None:
        super().__init__("camera")

    def configure(self) -> None:
        """Find the driver, read the calibration, make the publishers."""
        settings = self.settings
        driver = find_driver(CAMERA_DRIVERS, settings.driver)(settings.device, settings)
        self._usb = UsbCamera(driver, settings.device, settings.usb_reset_after, self.log, Path(settings.sysfs_root))
        self._image = self.publisher(Image, "camera/image_raw", qos.IMAGE)
        self._compressed = self.publisher(CompressedImage, "camera/image_raw/compressed", qos.IMAGE)
        self._info_publisher = self.publisher(CameraInfo, "camera/camera_info", qos.IMAGE)
        self._publishers = [self._image, self._compressed, self._info_publisher]
        self._info = CameraInfo()  # all zero: not calibrated, as sensor_msgs/CameraInfo defines it
        if self.settings.calibration_file:
            self._info = camera_info(calibration.load(self.settings.calibration_file), self.settings.frame_id)
        self._requests: list[Request] = []
        self._capture = Capture(self._usb, settings, lambda: self.call_soon(self._publish), self._is_wanted, self.log)

    def activate(self) -> None:
        """Start the capture thread; an absent camera is tried again and again, and reported."""
        self.service(CaptureService, "camera/capture", self._on_capture)
        self.on_release(self._refuse_all)
        Limits(self, lambda limits: self._capture.limit(limits.frame_rate_limit_hz))
        self.on_release(self._capture.thread.stop)
        self._capture.start()

    def health(self) -> Health:
        """No picture for a while is an error."""
        if not self.active:
            return Health()
        age_s = self._capture.age_s()
        values = {
            "frame_rate_hz": round(self._capture.frame_rate_hz(), 1),
            "frames": self._capture.frames,
            "dropped": self._capture.dropped,
            "reopened": max(0, self._capture.thread.opened - 1),
            "last_frame_age_s": -1.0 if age_s is None else round(age_s, 2),
        } | self._usb.values()
        if age_s is None or age_s > self.settings.lost_after_s:
            since = "yet" if age_s is None else f"for {age_s:.1f} s"
            return Health(NodeHealth.ERROR, f"no picture {since}: {self._capture.thread.problem or 'waiting'}", values)
        return Health(values=values)

    def _is_wanted(self) -> bool:
        if not self.context.ok():  # the process has been told to end
            return False
        return bool(self._requests) or any(publisher.get_subscription_count() for publisher in self._publishers)

    def _publish(self) -> None:
        frame = self._capture.take()
        if frame is None or not self.active:
            return
        for request in [request for request in self._requests if frame.stamp_ns >= request.asked_ns]:
            self._fulfil(request, frame)
        if self._image.get_subscription_count():
            self._image.publish(image_codec.to_message(frame.image, "bgr8", frame.stamp_ns, self.settings.frame_id))
        if self._compressed.get_subscription_count():
            self._compressed.publish(self._jpeg(frame))
        if self._info_publisher.get_subscription_count():
            self._info.height, self._info.width = frame.image.shape[:2]
            self._info.header.stamp = stamps.to_message(frame.stamp_ns)
            self._info.header.frame_id = self.settings.frame_id
            self._info_publisher.publish(self._info)

    def _jpeg(self, frame: Frame) -> CompressedImage:
        header = Header(stamp=stamps.to_message(frame.stamp_ns), frame_id=self.settings.frame_id)
        return image_codec.to_jpeg(frame.image, self.settings.jpeg_quality, header)

    def _on_capture(self, asked: Any, answer: Any) -> Any:
        if not 0.1 <= asked.timeout_s <= 10.0:
            answer.message = f"timeout_s = {asked.timeout_s:g} is not allowed: 0.1 .. 10 s"
            return answer
        request = Request(self.now_ns(), answer, Future())
        cancel = self.after(asked.timeout_s, lambda: self._refuse(request, f"no picture within {asked.timeout_s:g} s"))
        request.answered.add_done_callback(lambda _: cancel())
        self._requests.append(request)
        return request.answered

    def _fulfil(self, request: Request, frame: Frame) -> None:
        self._requests.remove(request)
        request.answer.success = True
        request.answer.image = image_codec.to_message(frame.image, "bgr8", frame.stamp_ns, self.settings.frame_id)
        request.answered.set_result(request.answer)

    def _refuse(self, request: Request, why: str) -> None:
        self._requests.remove(request)
        request.answer.message = f"{why}: {self._capture.thread.problem or 'none came'}"
        request.answered.set_result(request.answer)

    def _refuse_all(self) -> None:
        for request in list(self._requests):
            self._refuse(request, "the camera was deactivated")


def camera_info(source: calibration.Calibration, frame_id: str) -> CameraInfo:
    """The message of a calibration, without a stamp."""
    message = CameraInfo(
        height=source.image_height,
        width=source.image_width,
        distortion_model=source.distortion_model,
        d=source.distortion_coefficients.data,
        k=source.camera_matrix.data,
        r=source.rectification_matrix.data,
        p=source.projection_matrix.data,
    )
    message.header.frame_id = frame_id
    return message


def main() -> None:
    """Run the node."""
    run(CameraNode)
