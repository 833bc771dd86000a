"""Everything that is known at the end of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..config import Config
from ..evaluation import DepthScores, WindowCentres
from ..map_store import MapRecord
from ..types import PointCloud, Submap, Trajectory


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One frame kept for the page, reduced in size; lengths in odom units."""

    frame_id: int
    stamp_ns: int
    state: int                              # FrameState
    rgb: np.ndarray                         # (h, w, 3) uint8
    depth: np.ndarray                       # (h, w) f32
    confidence: np.ndarray                  # (h, w) f32
    true_depth: np.ndarray | None           # (h, w) f32 m, 0 where unmeasured


@dataclass(frozen=True, slots=True)
class WindowLog:
    """How one window was chained to the stream, and what it cost."""

    stamp_ns: int                           # of its first new frame
    is_linked: bool
    log_scale: float                        # of Update
    n_new: int                              # new frames
    total_ms: float
    centres: WindowCentres                  # of all its frames


@dataclass(frozen=True, slots=True, eq=False)
class RunStatistics:
    """What `RunRecorder` gathered from the updates of a run."""

    windows: tuple[WindowLog, ...]
    stage_ms: dict[str, float]              # total a stage, in the order of first use
    size: tuple[int, int] | None            # (width, height) px of the predictions
    n_pixels: int
    n_confident: int                        # pixels with a confidence above 0.5
    samples: tuple[Sample, ...]             # spread evenly over the run
    depth: DepthScores | None               # None: no true depth
    spans_s: tuple[Mapping[str, tuple[float, float]], ...] = ()     # of Update, last windows


@dataclass(frozen=True, slots=True, eq=False)
class RunRecord:
    """A finished run: what was asked, what came out, and what to compare it with."""

    source: str                             # one line: where the frames came from
    config: Config
    n_frames: int                           # frames that were given to the pipeline
    trajectory: Trajectory                  # odom or map units
    states: np.ndarray                      # (K,) uint8 of FrameState, one a pose
    cloud: PointCloud
    statistics: RunStatistics
    elapsed_s: float                        # reading and reconstructing
    is_metric: bool = False                 # the backbone knows metres
    is_simulated: bool = False              # the backbone made its predictions from the truth
    is_untrained: bool = False              # the backbone's weights are random numbers
    odometry: Trajectory | None = None      # as `trajectory`, before closures
    loops: np.ndarray | None = None         # (L, 2) i64, rows of `trajectory` that closures tie
    saved_map: tuple[MapRecord, Callable[[int], Submap]] | None = None      # to be written, too
    groundtruth: Trajectory | None = None
    warnings: tuple[str, ...] = ()          # plain sentences
