"""What the ``sfm`` backbone keeps from window to window.

Tracks pass on with their ids, so the shared frames are tracked once; their poses and the points
of the last window are the first guess for the next; a few older frames stay as a memory of
baseline, so that a camera that slows down or stops does not lose its sense of scale.
"""

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..geometry import se3
from ..types import Prediction
from .bundle import FocalPrior
from .tracks import Observations, Tracker
from .window import Guess, Solution, SolverConfig

MIN_SHARED_TRACKS = 40


@dataclass(slots=True, eq=False)
class FrameRecord:
    """One frame as the session remembers it."""

    seen: Observations
    rgb: np.ndarray                                 # (h, w, 3) uint8, at the size of depth maps
    gray: np.ndarray                                # (h, w) uint8, the same
    T_gauge_camera: Optional[np.ndarray] = None     # (4, 4); None while unknown


@dataclass(slots=True, eq=False)
class Points:
    """Mapped points of the last window, ids ascending."""

    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    X: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))             # gauge
    parallax: np.ndarray = field(default_factory=lambda: np.zeros(0))           # rad


@dataclass(slots=True, eq=False)
class Session:
    """State of the ``sfm`` backbone; one a stream."""

    tracker: Optional[Tracker] = None               # None: before the first frame
    solver: SolverConfig = SolverConfig()
    K: Optional[np.ndarray] = None                  # (3, 3) px of the tracked image, as given
    size: Tuple[int, int] = (0, 0)                  # (width, height) px
    log_focal: float = 0.0                          # belief: ln of the true over the given focal
    focal_information: float = 0.0
    is_calibrated: bool = True                      # False: K is a guess of ours
    n_searches: int = 0                             # windows searched for a focal length
    records: Dict[int, FrameRecord] = field(default_factory=dict)
    memory: List[int] = field(default_factory=list)     # frame ids, ascending
    last_ids: List[int] = field(default_factory=list)   # frames of the last window
    points: Points = field(default_factory=Points)
    outline: Optional[Prediction] = None            # of the last window

    def focal_prior(self, off: float = 0.0) -> Optional[FocalPrior]:
        """The belief as a prior for the next window; None when the focal length is exact.

        ``off`` is how far ln focal has been moved away from the belief for a trial.
        """
        if not np.isfinite(self.focal_information):
            return None
        return FocalPrior(-off, self.focal_information)

    def believed_K(self) -> np.ndarray:
        """Intrinsics (3, 3) px of the tracked image with the focal length now believed in."""
        K = self.K.copy()
        K[[0, 1], [0, 1]] *= np.exp(self.log_focal)
        return K

    def focal_px(self) -> float:
        """Believed focal length, px (geometric mean of both axes)."""
        K = self.believed_K()
        return float(np.sqrt(K[0, 0] * K[1, 1]))

    def normalise(self, uv: np.ndarray) -> np.ndarray:
        """Pixels (n, 2) to normalised coordinates under the believed intrinsics."""
        K = self.believed_K()
        return (uv - K[:2, 2]) / K[[0, 1], [0, 1]]

    def learn_focal(self, solution: Solution) -> None:
        """Take over what a window says about the focal length."""
        if np.isfinite(self.focal_information):
            self.log_focal += solution.log_focal
            self.focal_information += solution.focal_information

    def move_on(self, window_ids: Sequence[int], n_memory: int) -> None:
        """Prepare for a window: choose the memory among the frames it leaves behind.

        Candidates share enough tracks with the newest frame so far; of these the ones furthest
        from it and from each other are kept, because they hold the baseline. Frames of the last
        window stay, too, until the next call; all others are forgotten.
        """
        inside = set(window_ids)
        usable = {*self.memory, *self.last_ids}
        shared = [i for i in self.records if i in inside]
        chosen = []
        if shared:
            newest = max(shared)
            candidates = [i for i in sorted(self.records) if i in usable - inside
                          and self._n_common(i, newest) >= MIN_SHARED_TRACKS]
            anchors = [newest]
            while candidates and len(chosen) < n_memory:
                spread = [min(self._distance(i, j) for j in anchors) for i in candidates]
                best = candidates.pop(int(np.argmax(spread)))
                chosen.append(best)
                anchors.append(best)
        self.memory = sorted(chosen)
        keep = {*inside, *chosen, *self.last_ids}
        self.records = {i: r for i, r in self.records.items() if i in keep}
        self.last_ids = list(window_ids)

    def _n_common(self, i: int, j: int) -> int:
        a, b = self.records[i].seen.ids, self.records[j].seen.ids
        return len(np.intersect1d(a, b, assume_unique=True))

    def _distance(self, i: int, j: int) -> float:
        """Camera distance in the gauge; median flow over the width where a pose is unknown."""
        a, b = self.records[i], self.records[j]
        if a.T_gauge_camera is not None and b.T_gauge_camera is not None:
            return float(np.linalg.norm(a.T_gauge_camera[:3, 3] - b.T_gauge_camera[:3, 3]))
        _, ia, ib = np.intersect1d(a.seen.ids, b.seen.ids, assume_unique=True, return_indices=True)
        if not len(ia):
            return 0.0
        flow = np.linalg.norm(a.seen.uv[ia] - b.seen.uv[ib], axis=1)
        return float(np.median(flow)) / self.size[0]

    def grid(self, frame_ids: Sequence[int]) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observations of some frames on a grid: ids (P,), xy (F, P, 2), seen (F, P)."""
        records = [self.records[i].seen for i in frame_ids]
        ids = np.concatenate([r.ids for r in records])
        frame = np.repeat(np.arange(len(records)), [len(r.ids) for r in records])
        unique, column, count = np.unique(ids, return_inverse=True, return_counts=True)
        keep = count >= 2
        new_column = np.cumsum(keep) - 1
        used = keep[column]
        xy = np.zeros((len(records), int(keep.sum()), 2))
        seen = np.zeros(xy.shape[:2], bool)
        where = frame[used], new_column[column[used]]
        xy[where] = self.normalise(np.concatenate([r.uv for r in records])[used])
        seen[where] = True
        return unique[keep], xy, seen

    def guess(self, frame_ids: Sequence[int], ids: np.ndarray) -> Optional[Guess]:
        """What is known of these frames and points; None when it is too little to go on from."""
        T = [self.records[i].T_gauge_camera for i in frame_ids]
        posed = np.array([t is not None for t in T])
        X = np.full((len(ids), 3), np.nan)
        _, mine, theirs = np.intersect1d(ids, self.points.ids, assume_unique=True,
                                         return_indices=True)
        X[mine] = self.points.X[theirs]
        if posed.sum() < 2 or len(mine) < 30:
            return None
        T_camera_gauge = se3.inverse(np.stack([np.eye(4) if t is None else t for t in T]))
        return Guess(posed, T_camera_gauge[:, :3, :3], T_camera_gauge[:, :3, 3], X)
