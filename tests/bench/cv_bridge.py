"""Stand-in for cv_bridge, which has no wheel: what yolo_ros needs of it, without a copy, so that it is not slower."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class CvBridge:
    """Between images of ROS and of OpenCV."""

    def imgmsg_to_cv2(self, message: Any, desired_encoding: str = "passthrough") -> NDArray[np.uint8]:
        """A picture of 8 bits and three channels in the encoding that it has."""
        assert desired_encoding in ("passthrough", message.encoding), desired_encoding
        return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
