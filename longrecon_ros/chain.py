"""The chain of windows: puts each prediction into odom by what it shares with the one before."""

from dataclasses import dataclass
import logging
from typing import Literal, Optional

import numpy as np

from .alignment.base import Aligner, Alignment, apply
from .alignment.bridging import bridge, carry_on, has_lengths, is_lost, shares_measured
from .alignment.intrinsics import SharedIntrinsics
from .alignment.links import LinkStatistics
from .errors import AlignmentError
from .geometry.sim3 import Sim3
from .types import Prediction, Window

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One window in odom, and how it was linked to the one before."""

    aligned: Prediction                     # odom units; T_window_camera is T_odom_camera
    linked: bool                            # False: not aligned, the last motion is kept
    log_scale: float                        # ln of the window-to-odom scale over the last one's


class Chain:
    """Chains the predictions of one stream; deterministic, and independent of other chains.

    odom is the frame of the first camera, in the units of the first window that has any. With
    ``gauge`` ``stream`` all predictions speak one frame, with ``window`` each its own. A window
    that the aligner cannot place keeps the last motion. With ``intrinsics`` all predictions get
    one K. ``links`` counts and measures the links.
    """

    def __init__(self, aligner: Aligner, gauge: Literal['window', 'stream'],
                 intrinsics: Optional[SharedIntrinsics] = None):
        self._aligner, self._has_stream_gauge = aligner, gauge == 'stream'
        self._intrinsics = intrinsics
        self._T_odom_first: Optional[Sim3] = None   # from the gauge of the first window
        self._previous: Optional[Prediction] = None
        self._previous_scale = 1.0
        self._is_linked = True
        self._has_scale = False
        self.links = LinkStatistics()

    def add(self, window: Window, prediction: Prediction) -> Link:
        """Put the prediction of the stream's next window into odom."""
        if self._intrinsics is not None:
            prediction = self._intrinsics(window, prediction)
        aligned, log_scale = self._align(window, prediction)
        self._previous, self._has_scale = aligned, self._has_scale or has_lengths(aligned)
        return Link(aligned, self._is_linked, log_scale)

    def _align(self, window: Window, prediction: Prediction):
        """Return the prediction in odom, and the log of its scale over that of the last one."""
        if self._T_odom_first is None:
            self._T_odom_first = Sim3.from_rigid(prediction.T_window_camera[0]).inverse()
            return apply(Alignment(self._T_odom_first), prediction), 0.0
        if self._has_stream_gauge:
            prediction = apply(Alignment(self._T_odom_first), prediction)
        try:
            alignment = self._aligner.align(self._previous, prediction)
        except AlignmentError as error:
            if self._has_scale or not shares_measured(self._previous, prediction):
                return self._keep_motion(window, prediction, error), 0.0
            # the camera stood or turned since the start, so that every scale is right
            self._is_linked = True
            return apply(bridge(self._previous, prediction), prediction), 0.0
        scale = alignment.T_odom_window.scale
        log_scale = float(np.log(scale / self._previous_scale))
        self._previous_scale, self._is_linked = scale, True
        self.links.add(log_scale)
        return apply(alignment, prediction), log_scale

    def _keep_motion(self, window: Window, prediction: Prediction,
                     error: AlignmentError) -> Prediction:
        """Return the prediction in odom for a window that has no link to the one before."""
        _log.warning('window %d (frames %d to %d) is not linked: %s; the last motion is kept',
                     window.index, window.frame_ids[0], window.frame_ids[-1], error)
        # one window at the last velocity, then at rest: a guess must not run away
        use_motion, self._is_linked = self._is_linked, False
        self.links.add_unlinked()
        if is_lost(prediction, window.n_overlap):
            return carry_on(self._previous, prediction, use_motion)
        alignment = bridge(self._previous, prediction, use_motion)
        self._previous_scale = alignment.T_odom_window.scale
        return apply(alignment, prediction)
