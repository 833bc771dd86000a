"""Poses by time, and what is between them."""

from bisect import bisect_left
from typing import List, Optional

import numpy as np

from ..geometry import se3

_ROTATION_TOLERANCE = 1e-3


class PoseBuffer:
    """The newest ``limit`` poses of a stream, in the order of their stamps.

    Poses further apart than ``max_gap_ns`` are not interpolated.
    """

    def __init__(self, limit: int, max_gap_ns: int):
        self._limit, self._max_gap_ns = limit, max_gap_ns
        self._stamps_ns: List[int] = []
        self._poses: List[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._stamps_ns)

    @property
    def newest_ns(self) -> Optional[int]:
        """The latest stamp; None when there is no pose."""
        return self._stamps_ns[-1] if self._stamps_ns else None

    def add(self, stamp_ns: int, T: np.ndarray) -> bool:
        """Take a pose (4, 4); False if it is none, or if one of that stamp is there already."""
        T = np.array(T, np.float64)
        if not is_pose(T):
            return False
        at = bisect_left(self._stamps_ns, stamp_ns)
        if at < len(self) and self._stamps_ns[at] == stamp_ns:
            return False
        self._stamps_ns.insert(at, stamp_ns)
        self._poses.insert(at, T)
        if len(self) > self._limit:
            self._drop(1)
        return True

    def at(self, stamp_ns: int) -> Optional[np.ndarray]:
        """Return the pose (4, 4) at a time; None where neighbours are missing or far apart."""
        after = bisect_left(self._stamps_ns, stamp_ns)
        if after == len(self):
            return None
        if self._stamps_ns[after] == stamp_ns:
            return self._poses[after]
        if after == 0:
            return None
        start_ns, end_ns = self._stamps_ns[after - 1], self._stamps_ns[after]
        if end_ns - start_ns > self._max_gap_ns:
            return None
        fraction = (stamp_ns - start_ns) / (end_ns - start_ns)
        return se3.interpolate(self._poses[after - 1], self._poses[after], fraction)

    def forget_before(self, stamp_ns: int) -> None:
        """Drop the poses that are not needed at this time or later."""
        self._drop(max(0, bisect_left(self._stamps_ns, stamp_ns) - 1))

    def _drop(self, n: int) -> None:
        del self._stamps_ns[:n], self._poses[:n]


def is_pose(T: np.ndarray) -> bool:
    """Tell whether T is a finite rigid transform (4, 4)."""
    if T.shape != (4, 4) or not np.isfinite(T).all():
        return False
    R = T[:3, :3]
    return bool(np.abs(R @ R.T - np.eye(3)).max() < _ROTATION_TOLERANCE
                and np.linalg.det(R) > 0)
