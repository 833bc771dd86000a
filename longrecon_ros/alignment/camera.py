"""Naive concatenation: one shared camera is made to coincide, and nothing is fitted."""

from dataclasses import dataclass

from ..geometry import se3
from ..geometry.sim3 import Sim3
from ..types import Prediction
from .base import Alignment, shared_frames


@dataclass(frozen=True, slots=True)
class CameraAligner:
    """Puts the last shared camera of the window where it is in odom, at scale 1.

    What one gets without alignment: the baseline that others are compared with.
    """

    def align(self, previous: Prediction, current: Prediction) -> Alignment:
        """Return the rigid transform; ``n_inliers`` counts the shared frames.

        Raises AlignmentError when the windows share no frame.
        """
        i, j = shared_frames(previous, current)
        T_odom_camera = previous.T_window_camera[i[-1]]
        T_odom_window = T_odom_camera @ se3.inverse(current.T_window_camera[j[-1]])
        R = se3.nearest_rotation(T_odom_window[:3, :3])
        return Alignment(Sim3(1.0, R, T_odom_window[:3, 3]), n_inliers=len(i))
