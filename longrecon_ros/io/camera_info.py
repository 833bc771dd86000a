"""The calibration in a sensor_msgs CameraInfo message, of any ROS."""

from typing import Any

import numpy as np

from .calibration import Calibration, make_calibration


def calibration_of(message: Any, is_rectified: bool, origin: str) -> Calibration | None:
    """Return the calibration of the images that go with a CameraInfo; None if uncalibrated.

    A focal length of 0 means uncalibrated (the convention of ROS). K and P belong to the full
    sensor: binning and region of interest are applied. Rectified images have the intrinsics of P
    and no distortion. Reads fields only, so that messages of rclpy and of rosbags (ROS 1 names in
    capitals) both go. Raises ``InputError``, naming ``origin``, for NaN and the like.
    """
    K = np.array(_field(message, 'k'), np.float64).reshape(3, 3)
    P = np.array(_field(message, 'p'), np.float64).reshape(3, 4)
    if K[0, 0] == 0:
        return None
    distortion = np.array(_field(message, 'd'), np.float64)
    model = message.distortion_model
    if is_rectified:
        K, distortion, model = (P[:, :3] if P[0, 0] else K).copy(), np.zeros(0), 'plumb_bob'
    roi, binning = message.roi, np.array([message.binning_x or 1, message.binning_y or 1])
    K[:2, 2] -= (roi.x_offset, roi.y_offset)
    K[:2] /= binning[:, None]
    width, height = roi.width or message.width, roi.height or message.height
    size = (width // int(binning[0]), height // int(binning[1])) if width and height else None
    return make_calibration(K.ravel(), distortion, model, size, origin)


def _field(message: Any, name: str) -> Any:
    return getattr(message, name) if hasattr(message, name) else getattr(message, name.upper())
