"""A coloured cloud of bounded size: one point a voxel, the oldest make room for new ones."""

import numpy as np

from ..types import PointCloud
from .hash_index import HashIndex

_HALF_RANGE = 1 << 20       # voxels to each side of the origin; three axes fit into 63 bits
_MIN_ROWS = 1 << 12


class VoxelMap:
    """Keeps at most ``max_points`` voxels of edge ``voxel_m``, one point each.

    The point is the mean of those that fell into the voxel, its colour that of the newest. The
    oldest voxel is the one that no insert touched for longest. Inserting costs O(n log n) in
    the points given, amortised, whatever the size of the map; memory follows the number of voxels
    and stays flat once ``max_points`` is reached.

    In this form points stay where their window put them: poses revised later do not move them,
    nothing is carved away where the camera looks through a surface, and all points weigh the
    same. Points beyond 2^20 voxels from the origin on any axis, or not finite, are left out.
    """

    def __init__(self, voxel_m: float, max_points: int):
        if not 0 < voxel_m < np.inf:
            raise ValueError(f'voxel_m: expected a finite number above 0, got {voxel_m}')
        if max_points < 1:
            raise ValueError(f'max_points: expected 1 or more, got {max_points}')
        self.voxel_m, self._max_points = float(voxel_m), int(max_points)
        self._n_live = 0
        self._allocate(_MIN_ROWS)

    def __len__(self) -> int:
        return self._n_live

    def insert(self, cloud: PointCloud) -> None:
        """Add the points of a cloud, in the frame of the map."""
        keys, points, colors = self._keyed(cloud)
        if len(keys) == 0:
            return
        # np.unique gives first occurrences, so the reversed order gives the newest
        keys, newest, voxel, count = np.unique(
            keys[::-1], return_index=True, return_inverse=True, return_counts=True)
        voxel = voxel.reshape(-1)[::-1]
        sums = np.stack([np.bincount(voxel, points[:, axis], len(keys)) for axis in range(3)],
                        axis=1)
        colors = colors[::-1][newest]
        kept = slice(max(0, len(keys) - self._max_points), None)
        self._merge(keys[kept], sums[kept], count[kept], colors[kept])
        self._evict()

    def cloud(self) -> PointCloud:
        """Return all voxels as points, the oldest first."""
        rows = np.flatnonzero(self._is_live[:self._end])
        return PointCloud(self._points[rows], self._colors[rows])

    def _keyed(self, cloud: PointCloud):
        points = cloud.points.astype(np.float64)
        with np.errstate(invalid='ignore'):
            voxels = np.floor(points / self.voxel_m)
            used = (np.abs(voxels + 0.5) < _HALF_RANGE).all(axis=1)
        voxels = voxels[used].astype(np.int64) + _HALF_RANGE
        keys = (voxels[:, 0] << 42) | (voxels[:, 1] << 21) | voxels[:, 2]
        return keys, points[used], cloud.colors[used]

    def _merge(self, keys, sums, count, colors) -> None:
        """Append a row a key, taking over what an older row of the same voxel held."""
        if self._end + len(keys) > len(self._keys):
            self._compact(len(keys))
        rows = self._index.get(keys)
        is_known = rows >= 0
        is_known[is_known] = self._is_live[rows[is_known]]
        old = rows[is_known]
        sums[is_known] += self._points[old].astype(np.float64) * self._count[old, None]
        count[is_known] += self._count[old]
        self._is_live[old] = False
        new = np.arange(self._end, self._end + len(keys))
        self._keys[new], self._points[new] = keys, sums / count[:, None]
        self._count[new], self._colors[new], self._is_live[new] = count, colors, True
        self._index.put(keys, new)
        self._end += len(keys)
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
        kept = (self._keys[rows], self._points[rows], self._count[rows], self._colors[rows])
        self._allocate(max(_MIN_ROWS, 2 * (len(rows) + n_more)))
        n = self._end = len(rows)
        self._keys[:n], self._points[:n], self._count[:n], self._colors[:n] = kept
        self._is_live[:n] = True
        self._index.put(kept[0], np.arange(n))

    def _allocate(self, n_rows: int) -> None:
        self._keys = np.zeros(n_rows, np.int64)
        self._points = np.zeros((n_rows, 3), np.float32)
        self._colors = np.zeros((n_rows, 3), np.uint8)
        self._count = np.zeros(n_rows, np.int64)
        self._is_live = np.zeros(n_rows, bool)
        self._begin = self._end = 0
        self._index = HashIndex(n_rows)
