"""The chain of windows: puts each prediction into odom by what it shares with the one before."""

from dataclasses import dataclass
import logging
from typing import Literal, Optional, Tuple

import numpy as np

from .alignment.base import Aligner, Alignment, apply
from .alignment.bridging import bridge, carry_on, has_lengths, is_lost, shares_measured
from .alignment.intrinsics import SharedIntrinsics, with_shared_K
from .alignment.links import LinkStatistics
from .alignment.uncertainty import ChainUncertainty, DriftState
from .errors import AlignmentError
from .geometry.sim3 import Sim3
from .tail import last_frames, Tail
from .types import Prediction, Window

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One window in odom, and how it was linked to the one before."""

    aligned: Prediction                     # odom units; T_window_camera is T_odom_camera
    linked: bool                            # False: not aligned, the last motion is kept
    log_scale: float                        # ln of the window-to-odom scale over the last one's
    covariance: np.ndarray                  # (K, 6, 6) f64 of the new frames, see `Update`


class Chain:
    """Chains the predictions of one stream; deterministic, and independent of other chains.

    odom is the frame of the first camera, in the units of the first window that has any. With
    ``gauge`` ``stream`` all predictions speak one frame, with ``window`` each its own. A window
    that the aligner cannot place keeps the last motion. With ``intrinsics`` all predictions get
    one K. ``links`` counts and measures the links, ``uncertainty`` follows their errors, of which
    ``turn_share`` is one (`ChainUncertainty`).

    With ``tail`` the chain goes on from that, with predictions of a backbone that starts anew.
    ``entry`` then aligns the first of them, where ``aligner`` trusts in what this one does not
    share with the backbone before: a frame, or a scale.
    """

    def __init__(self, aligner: Aligner, gauge: Literal['window', 'stream'],
                 intrinsics: Optional[SharedIntrinsics] = None, tail: Optional[Tail] = None,
                 entry: Optional[Aligner] = None, turn_share: float = 0.0):
        self._aligner, self._has_stream_gauge = aligner, gauge == 'stream'
        self._intrinsics, self._shared_K = intrinsics, None if tail is None else tail.K
        self._entry = None if tail is None else entry
        self._T_odom_gauge: Optional[Sim3] = None   # of all predictions, where they share one
        self._previous = None if tail is None else tail.prediction
        self._previous_scale = 1.0 if tail is None else tail.scale
        self._is_linked = tail is None or tail.is_linked
        self._has_scale = tail is not None and tail.has_scale
        self._last: Optional[Tuple[int, np.ndarray]] = None     # window's index, stamps in ns
        self._tail = tail                   # until there is a window
        self._first_stamp_ns = None if tail is None else tail.first_stamp_ns
        self._log_scale_spread = 0.0        # of the last link
        known = None if tail is None or tail.drift is None else DriftState.from_array(tail.drift)
        self.links, self.uncertainty = LinkStatistics(), ChainUncertainty(known, turn_share)

    def add(self, window: Window, prediction: Prediction) -> Link:
        """Put the prediction of the stream's next window into odom."""
        prediction = self._with_K(window, prediction)
        previous, is_fitted = self._previous, self._entry is not None or not self._has_stream_gauge
        aligned, log_scale = self._align(window, prediction)
        covariance = self.uncertainty.add(previous, aligned, window.n_overlap, self._is_linked,
                                          is_fitted, self._log_scale_spread)
        self._previous, self._has_scale = aligned, self._has_scale or has_lengths(aligned)
        self._last, self._tail = (window.index, window.stamps_ns), None
        if self._first_stamp_ns is None:
            self._first_stamp_ns = window.frames[0].stamp_ns
        return Link(aligned, self._is_linked, log_scale, covariance)

    def tail(self, n: int) -> Optional[Tail]:
        """Return the end of the stream, its last ``n`` frames at most; None at its beginning."""
        if self._last is None:
            return self._tail
        (index, stamps_ns), kept = self._last, last_frames(self._previous, n)
        is_shared = self._intrinsics is not None and self._has_scale and kept.K is not None
        return Tail(kept, stamps_ns[-n:].copy(), index + 1, self._first_stamp_ns,
                    float(self._previous_scale), self._is_linked, self._has_scale,
                    kept.K[0].astype(np.float64) if is_shared else None,
                    drift=self.uncertainty.state.to_array())

    def _with_K(self, window: Window, prediction: Prediction) -> Prediction:
        if self._intrinsics is None:
            return prediction
        if self._shared_K is not None:
            return with_shared_K(prediction, self._shared_K)
        return self._intrinsics(window, prediction)

    def _align(self, window: Window, prediction: Prediction):
        """Return the prediction in odom, and the log of its scale over that of the last one."""
        if self._previous is None:
            T = Sim3.from_rigid(prediction.T_window_camera[0]).inverse()
            self._T_odom_gauge = T if self._has_stream_gauge else None
            return apply(Alignment(T), prediction), 0.0
        if self._entry is not None:
            guess = self._enter(window, prediction)
            if guess is not None:
                return guess, 0.0
        if self._T_odom_gauge is not None:
            prediction = apply(Alignment(self._T_odom_gauge), prediction)
        try:
            alignment = self._aligner.align(self._previous, prediction)
        except AlignmentError as error:
            return self._guess(window, prediction, error), 0.0
        scale = alignment.T_odom_window.scale
        log_scale = float(np.log(scale / self._previous_scale))
        self._previous_scale, self._is_linked = scale, True
        self._log_scale_spread = alignment.log_scale_spread
        self.links.add(log_scale)
        return apply(alignment, prediction), log_scale

    def _enter(self, window: Window, prediction: Prediction) -> Optional[Prediction]:
        """Find where the gauge of a backbone that started anew lies, from then on for good.

        Returns the prediction in odom where that takes a guess, else None.
        """
        guess = None
        try:
            T = self._entry.align(self._previous, prediction).T_odom_window
        except AlignmentError as error:
            guess = self._guess(window, prediction, error)
            if is_lost(prediction, window.n_overlap):
                return guess
            T = guess.T_odom_gauge
        self._entry = None
        self._T_odom_gauge = T if self._has_stream_gauge else Sim3(T.scale, np.eye(3), np.zeros(3))
        return guess

    def _guess(self, window: Window, prediction: Prediction, error: AlignmentError) -> Prediction:
        """Return the prediction in odom for a window that the aligner cannot place."""
        if not self._has_scale and shares_measured(self._previous, prediction):
            # the camera stood or turned since the start, so that every scale is right
            self._is_linked = True
            return apply(bridge(self._previous, prediction), prediction)
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
