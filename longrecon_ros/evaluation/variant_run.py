"""One way to chain windows at work, and what it reached."""

from dataclasses import dataclass
import time
from typing import Callable, Optional

import numpy as np

from ..alignment.base import Aligner, Alignment
from ..chain import Chain, Link
from ..geometry import se3
from ..mapping.pose_log import PoseLog
from ..types import Prediction, Trajectory, Window
from .depth import DepthScore, DepthScores
from .frame_errors import FrameErrors
from .points import CloudSamples, PointScore, score_points
from .summary import evaluate, Evaluation


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to chain windows."""

    key: str                                # 'none', 'se3', 'sim3', 'layers', 'published'
    name: str                               # for people
    make: Callable[[], Aligner]


@dataclass(frozen=True, slots=True, eq=False)
class VariantResult:
    """What one variant reached. All variants are scored on the same pixels of the same frames."""

    variant: Variant
    evaluation: Evaluation                  # of the trajectory, after Sim(3)
    sequence_scale: float                   # that makes the median depth of the run right
    depth: DepthScore                       # with the scale of the sequence
    depth_by_trajectory: DepthScore         # with the scale of the trajectory's Sim(3)
    absrel_by_frame: np.ndarray             # (F,) f64, with the scale of the sequence; NaN: none
    points: Optional[PointScore]            # after the Sim(3) of the trajectory; None without K
    ms_per_frame: float                     # alignment alone
    n_unlinked: int                         # windows


class VariantRun:
    """One variant at work: its chain, and what was measured so far."""

    def __init__(self, variant: Variant, gauge: str):
        self.variant, self.depth = variant, DepthScores()
        self._aligner = _Remembering(variant.make())
        self._chain = Chain(self._aligner, gauge)
        self._poses, self._errors, self._cloud = PoseLog(), FrameErrors(), CloudSamples()
        self._align_s = 0.0

    def align(self, window: Window, prediction: Prediction) -> Link:
        """Chain one window, and take the time."""
        self._aligner.last = None
        start_s = time.perf_counter()
        link = self._chain.add(window, prediction)
        self._align_s += time.perf_counter() - start_s
        stamps_ns = window.stamps_ns
        self._poses.add(link.aligned, stamps_ns, is_revision=link.linked)
        return link

    def score(self, aligned: Prediction, n: int, is_used: np.ndarray,
              true_depth: np.ndarray, samples: np.ndarray) -> None:
        """Score frame ``n`` of a window at the pixels ``is_used`` (H, W).

        ``samples`` are flat indices of the pixels that go into the cloud.
        """
        self.depth.add(aligned.depth[n], is_used.astype(np.float32), true_depth)
        self._errors.add(aligned.depth[n][is_used] / true_depth[is_used])
        self._cloud.add(se3.apply(aligned.T_window_camera[n],
                                  aligned.local_points[n].reshape(-1, 3)[samples]))

    @property
    def factors(self) -> Optional[np.ndarray]:
        """Factors (N, H, W) of the last window's layers; None where it has none."""
        return None if self._aligner.last is None else self._aligner.last.depth_scale

    def result(self, truth: Trajectory, true_points: np.ndarray) -> VariantResult:
        """Score the whole run; ``true_points`` (P, 3) are empty without intrinsics."""
        evaluation = evaluate(self._poses.trajectory(), truth)
        scale = self.depth.median_scale
        moved = evaluation.T_gt_est.apply(self._cloud.points())
        return VariantResult(
            self.variant, evaluation, scale, self.depth.with_scale(scale),
            self.depth.with_scale(evaluation.scale), self._errors.absrel(scale),
            score_points(moved, true_points), 1e3 * self._align_s / len(truth),
            self._chain.links.n_unlinked)


class _Remembering:
    """An aligner that keeps its last answer, of which a chain gives the moved window only."""

    def __init__(self, aligner: Aligner):
        self._aligner = aligner
        self.last: Optional[Alignment] = None

    def align(self, previous: Prediction, current: Prediction) -> Alignment:
        self.last = self._aligner.align(previous, current)
        return self.last
