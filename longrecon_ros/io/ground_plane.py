"""Where the ground is below cameras that know no gravity: a plane, and how it goes on.

Heights and lengths are in metres. Cameras are taken to be level on average, within 40 degrees.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MAX_TILT_DEG = 40.0
_TOLERANCE_M = 0.03             # of a point on the plane
_FINEST_M = 1e-3
_BELOW_M = 3 * _TOLERANCE_M     # points further below than this speak against a plane
_N_CANDIDATES, _N_REFINED, _N_SCORED = 1500, 5, 4000
_NEARBY = 0.15                  # of a view's points, in their order: those of one candidate
_MIN_POINTS, _MIN_SHARE = 50, 0.03
_LOWEST_SHARE = 0.02
_SECTOR_RAD, _MIN_STRETCH = np.radians(3.0), 0.2
_REACH_M = 6.0                  # floor further away is not followed
_GATE_M = 0.2
_BEFORE = 0.9                   # of the way to an obstacle: further may be its foot
# weight of what was known of the floor (height, slopes), over that of a view a metre around
_PRIOR = np.array([0.02, 0.5, 0.5])


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A plane: ``normal`` . x + ``offset`` is the height of x above it."""

    normal: np.ndarray          # (3,) f64, up
    offset: float
    share: float                # of the points below cameras, those on the plane
    is_seen: bool               # False: no plane, only the height of the lowest points


def find_ground(parts: Sequence[np.ndarray], cameras: np.ndarray, up: np.ndarray,
                is_exact: bool) -> Ground:
    """Return the ground among points that lie below their cameras.

    ``parts`` holds (n, 3) points of each view, neighbours in the image near each other, all in the
    frame of ``cameras`` (V, 3), the views' centres. The plane is that of most points, less those
    below it (so that a table does not win over the floor round it): RANSAC (Fischler and Bolles
    1981) over planes through three near points, the best made exact by iteratively reweighted
    least squares. Its normal is within 40 degrees of ``up`` (3,), or exactly that. It is seen only
    if it stretches away from the cameras; a strip of walls does not.
    """
    rng = np.random.default_rng(0)
    up = np.asarray(up, np.float64) / np.linalg.norm(up)
    points = np.concatenate([np.zeros((0, 3)), *parts])
    if len(points) < _MIN_POINTS:
        lowest = float((points @ up).min(initial=0.0))
        return Ground(up, -lowest, 0.0, False)
    planes = np.concatenate([_level(points, up, rng)]
                            + ([] if is_exact else [_through_three(parts, points, up, rng)]))
    scored = points[rng.permutation(len(points))[:_N_SCORED]]
    best = planes[np.argsort(-_scores(scored, planes))[:_N_REFINED]]
    best = np.array([_refined(scored, plane, is_exact) for plane in best])
    plane = best[np.argmax(_scores(scored, best))]
    share = float((np.abs(scored @ plane[:3] + plane[3]) < _TOLERANCE_M).mean())
    if share < _MIN_SHARE or _stretch(parts, cameras, plane) < _MIN_STRETCH:
        return Ground(up, -float(np.quantile(points @ up, _LOWEST_SHARE)), share, False)
    return Ground(plane[:3], float(plane[3]), share, True)


def _level(points: np.ndarray, up: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return planes (C, 4) of normal ``up`` through points."""
    through = points[rng.integers(len(points), size=_N_CANDIDATES)]
    return np.column_stack([np.tile(up, (len(through), 1)), -through @ up])


def _through_three(parts: Sequence[np.ndarray], points: np.ndarray, up: np.ndarray,
                   rng: np.random.Generator) -> np.ndarray:
    """Return planes (C, 4) through three points each that are near in one view."""
    sizes = np.array([len(part) for part in parts])
    ends = np.cumsum(sizes)
    first = rng.integers(len(points), size=_N_CANDIDATES)
    view = np.searchsorted(ends, first, side='right')
    reach = np.maximum(_NEARBY * sizes[view], 3)
    others = first + rng.uniform(-reach, reach, (2, len(first)))
    others = np.clip(np.rint(others), ends[view] - sizes[view], ends[view] - 1).astype(np.int64)
    a, b, c = points[first], points[others[0]], points[others[1]]
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1)
    tilt = (normal @ up) / np.where(length > 0, length, np.inf)
    is_good = np.abs(tilt) > np.cos(np.radians(_MAX_TILT_DEG))
    normal = normal[is_good] / (length * np.sign(tilt))[is_good, None]
    return np.column_stack([normal, -(normal * a[is_good]).sum(axis=1)])


def _scores(points: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Return how many points lie on each plane (C, 4), less those below it."""
    def score(plane):
        height = points @ plane[:3] + plane[3]
        return (np.abs(height) < _TOLERANCE_M).sum() - (height < -_BELOW_M).sum()
    return np.array([score(plane) for plane in planes])


def _refined(points: np.ndarray, plane: np.ndarray, is_exact: bool) -> np.ndarray:
    """Return the plane (4,) fitted to the points near it, with Cauchy weights."""
    R = axes_of(plane[:3])
    local = points @ R.T
    n_columns = 1 if is_exact else 3
    height = np.array([-plane[3], 0.0, 0.0])        # z = a + b x + c y in the plane's own axes
    for _ in range(10):
        residual = local[:, 2] - _at(height, local)
        near = np.abs(residual) < _BELOW_M
        if near.sum() < _MIN_POINTS:
            return plane
        A = np.column_stack([np.ones(near.sum()), local[near, :2]])[:, :n_columns]
        AW = A.T / (1 + (residual[near] / _scale(residual[near]))**2)
        step = np.linalg.lstsq(AW @ A, AW @ residual[near], rcond=None)[0]
        height[:n_columns] += step
    normal = R.T @ np.array([-height[1], -height[2], 1.0])
    length = np.linalg.norm(normal)
    return np.append(normal, -height[0]) / length


def _stretch(parts: Sequence[np.ndarray], cameras: np.ndarray, plane: np.ndarray) -> float:
    """Return how far the plane is seen along a direction: median of 1 - nearest / farthest."""
    R = axes_of(plane[:3])
    shares = [np.zeros(0)]
    for part, camera in zip(parts, cameras):
        x, y, _ = R @ (part[np.abs(part @ plane[:3] + plane[3]) < _TOLERANCE_M] - camera).T
        distance, sector = np.hypot(x, y), np.floor(np.arctan2(y, x) / _SECTOR_RAD)
        order = np.lexsort([distance, sector])
        _, first, n = np.unique(sector[order], return_index=True, return_counts=True)
        first, last = first[n > 2], (first + n - 1)[n > 2]
        shares.append(1 - distance[order[first]] / distance[order[last]])
    shares = np.concatenate(shares)
    return float(np.median(shares)) if len(shares) else 0.0


def axes_of(z: np.ndarray, x: np.ndarray | None = None) -> np.ndarray:
    """Return the rotation (3, 3) into axes whose third is z and whose first is nearest to x."""
    x = np.eye(3)[np.argmin(np.abs(z))] if x is None else x
    z = z / np.linalg.norm(z)
    x = x - (x @ z) * z
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


class Floor:
    """The floor near a camera on its way: drift of the map and ramps make it leave the plane.

    It is z = a + b x + c y in a frame whose z axis is up, about the last camera.
    """

    def __init__(self):
        self._height = np.zeros(3)
        self._centre = np.zeros(2)

    def heights(self, points: np.ndarray) -> np.ndarray:
        """Return how high points (n, 3) are above the floor."""
        return points[:, 2] - _at(self._height, points[:, :2] - self._centre)

    def follow(self, points: np.ndarray, camera: np.ndarray) -> None:
        """Move on to a camera (3,) and fit the floor to the points (n, 3) near it."""
        self._height[0] = _at(self._height, camera[None, :2] - self._centre)[0]
        self._centre = camera[:2].copy()
        local = points - np.append(self._centre, 0.0)
        local = local[self._before_obstacles(local)]
        known = self._height.copy()
        for _ in range(5):
            residual = local[:, 2] - _at(self._height, local)
            near = np.abs(residual) < _GATE_M
            if near.sum() < _MIN_POINTS:
                # unseen: slopes would carry a small error far
                self._height = known * (1.0, 0.5, 0.5)
                return
            A = np.column_stack([np.ones(near.sum()), local[near, :2]])
            AW = A.T / (1 + (residual[near] / _scale(residual[near]))**2) / near.sum()
            self._height += np.linalg.solve(
                AW @ A + np.diag(_PRIOR), AW @ residual[near] + _PRIOR * (known - self._height))

    def _before_obstacles(self, local: np.ndarray) -> np.ndarray:
        """Tell which points (n, 3) about the camera are not at the foot of something."""
        distance = np.hypot(local[:, 0], local[:, 1])
        sector = np.floor(np.arctan2(local[:, 1], local[:, 0]) / _SECTOR_RAD).astype(np.int64)
        nearest = np.full(round(2 * np.pi / _SECTOR_RAD) + 2, _REACH_M)
        is_high = local[:, 2] - _at(self._height, local) > _GATE_M
        np.minimum.at(nearest, sector[is_high], distance[is_high])
        return distance < _BEFORE * nearest[sector]


def _scale(residual: np.ndarray) -> float:
    """Return the usual size of residuals: the foot of a wall must not lift a clean floor."""
    return float(np.clip(1.48 * np.median(np.abs(residual)), _FINEST_M, _TOLERANCE_M))


def _at(height: np.ndarray, points: np.ndarray) -> np.ndarray:
    return height[0] + points[:, 0] * height[1] + points[:, 1] * height[2]
