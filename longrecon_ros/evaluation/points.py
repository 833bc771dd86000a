"""Accuracy and completeness of a reconstructed cloud, gathered frame by frame in bounded memory.

As on 7-Scenes and NRGBD (Wang 2024, "3D reconstruction with spatial memory", section 4): accuracy
is the distance from predicted points to the nearest true one, completeness the reverse. Both
clouds come from the same frames. Points that are measured are thinned to one a voxel, so that
what was seen often or from near does not outvote the rest; those measured against are not.
"""

from dataclasses import dataclass
from typing import List

import numpy as np
from scipy.spatial import cKDTree

from ..alignment.sampling import evenly

_POINTS_PER_FRAME = 2000
_MAX_POINTS = 300_000
_VOXEL_PER_EXTENT = 0.002
_MAX_MEASURED = 20_000


@dataclass(frozen=True, slots=True)
class PointScore:
    """Distances between a predicted and a true cloud, m."""

    accuracy_mean_m: float
    accuracy_median_m: float
    completeness_mean_m: float
    completeness_median_m: float
    extent_m: float                         # of the true cloud, see `extent`
    n_predicted: int                        # points whose distance was taken, after thinning
    n_true: int


class CloudSamples:
    """A cloud that grows frame by frame and never holds more than ``max_points``.

    When it is full every second point goes, and later frames give half as many, so that all
    frames stay represented alike. Deterministic.
    """

    def __init__(self, max_points: int = _MAX_POINTS):
        if max_points < 1:
            raise ValueError(f'max_points: expected 1 or more, got {max_points}')
        self._max_points = max_points
        self._parts: List[np.ndarray] = []
        self._stride = 1
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, points: np.ndarray) -> None:
        """Take the samples (P, 3) of one frame, m; see `choose_pixels`."""
        part = np.asarray(points, np.float32)[::self._stride].copy()
        self._parts.append(part)
        self._n += len(part)
        while self._n > self._max_points:
            self._stride *= 2
            self._parts = [self.points()[::2].copy()]
            self._n = len(self._parts[0])

    def points(self) -> np.ndarray:
        """Return all samples (P, 3) f32."""
        return np.concatenate(self._parts) if self._parts else np.zeros((0, 3), np.float32)


def choose_pixels(is_used: np.ndarray, n: int = _POINTS_PER_FRAME) -> np.ndarray:
    """Return at most n flat indices, evenly spread over the true pixels of a mask (H, W)."""
    used = np.flatnonzero(is_used)
    return used[evenly(len(used), n)]


def thin(points: np.ndarray, voxel_m: float) -> np.ndarray:
    """Return the first point of every voxel that holds any, in their order."""
    if not voxel_m > 0:
        raise ValueError(f'voxel_m: expected above 0, got {voxel_m}')
    cells = np.floor(np.asarray(points, np.float64) / voxel_m).astype(np.int64)
    if not len(cells):
        return points
    _, first = np.unique(cells, axis=0, return_index=True)
    return points[np.sort(first)]


def extent(points: np.ndarray) -> float:
    """Return the diagonal of the box that holds 2 % to 98 % of the points along each axis."""
    low, high = np.quantile(points, [0.02, 0.98], axis=0)
    return float(np.linalg.norm(high - low))


def score_points(predicted: np.ndarray, true: np.ndarray,
                 voxel_m: float | None = None) -> PointScore | None:
    """Compare two clouds (P, 3) and (Q, 3) in the same frame, m; None when one is empty.

    ``voxel_m`` is the edge of the voxels for thinning; by default 0.2 % of the extent of the
    true cloud. At most 20,000 points of each are measured, evenly spread.
    """
    if not len(predicted) or not len(true):
        return None
    extent_m = extent(true)
    voxel_m = voxel_m or max(_VOXEL_PER_EXTENT * extent_m, 1e-6)
    accuracy = _distances(thin(predicted, voxel_m), true)
    completeness = _distances(thin(true, voxel_m), predicted)
    return PointScore(float(accuracy.mean()), float(np.median(accuracy)),
                      float(completeness.mean()), float(np.median(completeness)), extent_m,
                      len(accuracy), len(completeness))


def _distances(points: np.ndarray, cloud: np.ndarray) -> np.ndarray:
    chosen = evenly(len(points), _MAX_MEASURED)
    return cKDTree(cloud, balanced_tree=False).query(points[chosen])[0]
