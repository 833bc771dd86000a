"""One shared camera is made to coincide; rotation and translation are not fitted to anything."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import AlignmentError
from ..geometry import se3
from ..geometry.sim3 import Sim3
from ..types import Prediction
from .base import Alignment, shared_frames

_MIN_SCALE, _MAX_SCALE = 1e-3, 1e3
_TRIMMED = 0.25


@dataclass(frozen=True, slots=True)
class CameraAligner:
    """Puts one shared camera of the window where it is in odom.

    With the ``last`` one and scale 1 this is what one gets without alignment: the baseline that
    others are compared with. With the ``first`` one it is the feed-forward alignment of LoGeR*
    (arXiv 2603.03269), whose windows agree about scale: SE(3) with scale 1, or Sim(3) with
    ``scale_by`` a statistic of the ratios of depths at the same pixels, of that frame or of
    ``all`` shared ones; ``half_median`` goes half the way from 1 to the median.
    """

    shared: Literal['first', 'last'] = 'last'
    scale_by: Literal['nothing', 'median', 'trimmed_mean', 'half_median'] = 'nothing'
    scale_frames: Literal['one', 'all'] = 'one'

    def align(self, previous: Prediction, current: Prediction) -> Alignment:
        """Return the transform; ``n_inliers`` counts the shared frames.

        Raises AlignmentError when the windows share no frame, or no depth that has a ratio.
        """
        i, j = shared_frames(previous, current)
        k = 0 if self.shared == 'first' else -1
        which = slice(None) if self.scale_frames == 'all' else [k]
        scale = 1.0 if self.scale_by == 'nothing' else self._scale(
            previous.depth[i[which]], current.depth[j[which]])
        target, source = previous.T_window_camera[i[k]], current.T_window_camera[j[k]]
        R = se3.nearest_rotation(target[:3, :3] @ source[:3, :3].T)
        t = target[:3, 3] - scale * R @ source[:3, 3]
        return Alignment(Sim3(scale, R, t), n_inliers=len(i))

    def _scale(self, target: np.ndarray, source: np.ndarray) -> float:
        """Return the scale from source to target depths at the same pixels."""
        used = np.isfinite(target) & np.isfinite(source)
        used &= np.abs(source) > np.finfo(np.float32).eps
        ratios = np.sort(target[used] / source[used])
        if not len(ratios):
            raise AlignmentError('the shared frames have no depth in common; use a larger overlap')
        if self.scale_by == 'trimmed_mean':
            cut = int(_TRIMMED * len(ratios))
            scale = float(ratios[cut:len(ratios) - cut].mean())
        else:
            scale = float(ratios[(len(ratios) - 1) // 2])
        scale = float(np.clip(scale, _MIN_SCALE, _MAX_SCALE))
        return (scale + 1) / 2 if self.scale_by == 'half_median' else scale
