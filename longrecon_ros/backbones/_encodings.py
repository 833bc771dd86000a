"""What VGGT and its kin say of a camera: poses and intrinsics of their encodings.

An encoding is [t, quaternion xyzw, vertical FoV, horizontal FoV]: world to camera, angles in rad
(`nets.camera_head`).
"""

import math
from typing import Tuple

import numpy as np

from ..geometry import se3

ENCODING = 9
"""Numbers in an encoding."""

_MIN_FOV, _MAX_FOV = math.radians(2), math.radians(175)
"""The net may say 0, which no camera has."""


def poses(encoding: np.ndarray) -> np.ndarray:
    """Return T_window_camera (N, 4, 4) of encodings (N, 9), world to camera; nan for nonsense."""
    q, t = encoding[:, 3:7].astype(np.float64), encoding[:, :3].astype(np.float64)
    norm = np.linalg.norm(q, axis=1, keepdims=True)
    R = se3.rotation_from_quaternion_xyzw(np.where(norm > 1e-6, q / np.maximum(norm, 1e-6),
                                                   [0, 0, 0, 1]))
    T = se3.inverse(se3.from_parts(R, t))
    T[~(norm[:, 0] > 1e-6)] = np.nan
    return T


def intrinsics(encoding: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Return K (N, 3, 3), px, of encodings (N, 9) for images of ``size`` (width, height).

    The principal point is (w / 2, h / 2), as in the original (its pixels are whole numbers).
    """
    fov = np.clip(np.nan_to_num(encoding[:, 7:].astype(np.float64)), _MIN_FOV, _MAX_FOV)
    centre = np.array(size) / 2
    K = np.zeros((len(encoding), 3, 3))
    K[:, 0, 0], K[:, 1, 1] = (centre / np.tan(fov[:, ::-1] / 2)).T
    K[:, :2, 2], K[:, 2, 2] = centre, 1
    return K
