"""A coloured cloud of bounded size: one point a voxel, the oldest make room for new ones."""

from typing import List, Optional

import numpy as np

from ..types import PointCloud
from .hash_index import HashIndex

_HALF_RANGE = 1 << 20       # voxels to each side of the origin; three axes fit into 63 bits
_MIN_ROWS = 1 << 12
_CANCELLED = 1e-3           # length of a mean of unit normals that says nothing


class VoxelMap:
    """Keeps at most ``max_points`` voxels of edge ``voxel_m``, one point each.

    The point is the weighted mean of those that fell into the voxel, and so is its colour; its
    normal is the direction of the weighted mean of theirs. The oldest voxel is the one that no
    insert touched for longest. Inserting costs O(n log n) in the points given, amortised, whatever
    the size of the map; memory follows the number of voxels and stays flat once ``max_points`` is
    reached.

    Points stay where they were put: poses revised later do not move them, and nothing is carved
    away where the camera looks through a surface (`free_space` tells what to leave out). Points
    beyond 2^20 voxels from the origin on any axis, or not finite, are left out.
    """

    def __init__(self, voxel_m: float, max_points: int):
        if not 0 < voxel_m < np.inf:
            raise ValueError(f'voxel_m: expected a finite number above 0, got {voxel_m}')
        if max_points < 1:
            raise ValueError(f'max_points: expected 1 or more, got {max_points}')
        self.voxel_m, self._max_points = float(voxel_m), int(max_points)
        self._n_live = 0
        self._allocate(_MIN_ROWS, has_normals=False)

    def __len__(self) -> int:
        return self._n_live

    def insert(self, cloud: PointCloud, weights: Optional[np.ndarray] = None) -> None:
        """Add the points of a cloud, in the frame of the map.

        ``weights`` (P,) f32 say how much each counts, in any unit that is the same for all
        inserts, such as confidence; None: all 1. Points without a weight above 0 are left out.
        Raises ValueError for another number of weights than of points.
        """
        if weights is not None and np.shape(weights) != (len(cloud),):
            raise ValueError(f'weights: expected shape ({len(cloud)},), got {np.shape(weights)}')
        if cloud.normals is not None and self._normals is None:
            self._normals = np.zeros((len(self._keys), 3), np.float32)
        keys, weights, values = self._weighted(cloud, weights)
        if len(keys) == 0:
            return
        keys, voxel, count = np.unique(keys, return_inverse=True, return_counts=True)
        voxel = voxel.reshape(-1)
        kept = slice(max(0, len(keys) - self._max_points), None)
        weight = np.bincount(voxel, weights, len(keys))
        sums = np.stack([np.bincount(voxel, column, len(keys)) for column in values.T], axis=1)
        self._merge(keys[kept], sums[kept], weight[kept], count[kept])
        self._evict()

    def cloud(self, min_count: int = 1, min_weight: float = 0.0) -> PointCloud:
        """Return the voxels as points, the oldest first; with normals if any insert had them.

        Those of fewer points than ``min_count``, or less weight in all, are left out.
        """
        used = self._is_live[:self._end] & (self._count[:self._end] >= min_count)
        rows = np.flatnonzero(used & (self._weight[:self._end] >= min_weight))
        normals = None if self._normals is None else _unit(self._normals[rows])
        colors = np.rint(self._colors[rows]).astype(np.uint8)
        return PointCloud(self._points[rows], colors, normals)

    def _weighted(self, cloud: PointCloud, weights: Optional[np.ndarray]):
        """Return keys (n,), weights (n,) and weighted values (n, 6 or 9) of the usable points."""
        points = cloud.points.astype(np.float64)
        weights = np.ones(len(points)) if weights is None else np.asarray(weights, np.float64)
        with np.errstate(invalid='ignore'):
            voxels = np.floor(points / self.voxel_m)
            used = (np.abs(voxels + 0.5) < _HALF_RANGE).all(axis=1)
            used &= (weights > 0) & (weights < np.inf)
        voxels = voxels[used].astype(np.int64) + _HALF_RANGE
        keys = (voxels[:, 0] << 42) | (voxels[:, 1] << 21) | voxels[:, 2]
        values = [points, cloud.colors]
        if self._normals is not None:
            values.append(np.zeros_like(points) if cloud.normals is None else cloud.normals)
        weights = weights[used]
        return keys, weights, weights[:, None] * np.hstack([v[used] for v in values])

    def _merge(self, keys, sums, weight, count) -> None:
        """Append a row a key, taking over what an older row of the same voxel held."""
        if self._end + len(keys) > len(self._keys):
            self._compact(len(keys))
        rows = self._index.get(keys)
        is_known = rows >= 0
        is_known[is_known] = self._is_live[rows[is_known]]
        old = rows[is_known]
        sums[is_known] += self._means(old) * self._weight[old, None]
        weight[is_known] += self._weight[old]
        count[is_known] += self._count[old]
        self._is_live[old] = False
        new = slice(self._end, self._end + len(keys))
        self._keys[new], self._weight[new], self._count[new] = keys, weight, count
        self._set_means(new, sums / weight[:, None])
        self._is_live[new] = True
        self._index.put(keys, np.arange(new.start, new.stop))
        self._end = new.stop
        self._n_live += len(keys) - len(old)

    def _evict(self) -> None:
        """Drop the oldest rows beyond the limit; every row is passed over once only."""
        while self._n_live > self._max_points:
            excess = self._n_live - self._max_points
            block = slice(self._begin, self._begin + max(excess, 256))
            live = np.flatnonzero(self._is_live[block])[:excess] + self._begin
            self._is_live[live] = False
            self._n_live -= len(live)
            self._begin = int(live[-1]) + 1 if len(live) == excess else block.stop

    def _compact(self, n_more: int) -> None:
        """Drop dead rows, with room for as many rows again; costs O(1) a row appended since."""
        rows = np.flatnonzero(self._is_live[:self._end])
        kept = [column[rows] for column in self._columns()]
        self._allocate(max(_MIN_ROWS, 2 * (len(rows) + n_more)), self._normals is not None)
        n = self._end = len(rows)
        for column, values in zip(self._columns(), kept):
            column[:n] = values
        self._is_live[:n] = True
        self._index.put(self._keys[:n], np.arange(n))

    def _columns(self) -> List[np.ndarray]:
        columns = [self._keys, self._weight, self._count, self._points, self._colors]
        return columns if self._normals is None else columns + [self._normals]

    def _means(self, rows: np.ndarray) -> np.ndarray:
        """Return points, colours and, if there are any, normals of rows, (n, 6 or 9) f64."""
        means = np.hstack([column[rows] for column in self._columns()[3:]])
        return means.astype(np.float64)

    def _set_means(self, rows: slice, means: np.ndarray) -> None:
        self._points[rows], self._colors[rows] = means[:, :3], means[:, 3:6]
        if self._normals is not None:
            self._normals[rows] = means[:, 6:]

    def _allocate(self, n_rows: int, has_normals: bool) -> None:
        self._keys = np.zeros(n_rows, np.int64)
        self._points = np.zeros((n_rows, 3), np.float32)
        self._colors = np.zeros((n_rows, 3), np.float32)
        # a mean as long as its points agree: shorter than 1, so that means of means stay right
        self._normals = np.zeros((n_rows, 3), np.float32) if has_normals else None
        self._weight = np.zeros(n_rows)
        self._count = np.zeros(n_rows, np.int32)
        self._is_live = np.zeros(n_rows, bool)
        self._begin = self._end = 0
        self._index = HashIndex(n_rows)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (n, 3) at length 1; those that cancelled out are 0."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > _CANCELLED, vectors / np.maximum(length, _CANCELLED), 0)
