"""Windows that a backbone puts into one frame stay in one; others are aligned."""

from dataclasses import dataclass

from ..types import Prediction
from .base import Aligner, Alignment, shared_frames


@dataclass(frozen=True, slots=True)
class ContinuedAligner:
    """Wraps an aligner: where the gauge goes on, so does the transform of the window before.

    Backbones with a memory give such windows one number (`Prediction.gauge`), until they forget.
    """

    aligner: Aligner

    def align(self, previous: Prediction, current: Prediction) -> Alignment:
        """Return the transform of ``previous``, or what the wrapped aligner says."""
        is_same = current.gauge is not None and current.gauge == previous.gauge
        if not is_same or previous.T_odom_gauge is None:
            return self.aligner.align(previous, current)
        i, _ = shared_frames(previous, current)
        return Alignment(previous.T_odom_gauge, n_inliers=len(i))
