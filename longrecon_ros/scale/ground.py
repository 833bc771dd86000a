"""The ground below a camera whose unit of length is unknown.

All tolerances are shares of the camera's height over the plane. (`io/ground_plane.py` finds the
ground of maps in metres.)
"""

from dataclasses import dataclass
from typing import Optional

import numpy as np

_TOLERANCE = 0.05               # of a point on the plane: relative errors of depth are as large
_BELOW = 3 * _TOLERANCE         # points further below speak against a plane
_N_LEVEL, _N_TILTED = 200, 400
_NEARBY = 0.1                   # of the points, in their order: those of one candidate
_MIN_DIP = 0.08                 # sine of the angle below the horizon of what may be ground
_MIN_POINTS = 150
_MIN_SHARE_OF_ALL, _MIN_SHARE_BELOW = 0.05, 0.25
_MIN_SHARPNESS = 0.5            # points on it over those three times as near; a volume has 1/3
_MIN_STRETCH = 1.3              # farthest over nearest
_N_INDEPENDENT = 100.0          # at most: errors of neighbouring points are alike
_FINEST = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class GroundPlane:
    """A plane below the camera at the origin: ``normal`` . x + ``height`` is the height of x."""

    normal: np.ndarray          # (3,) f64, up
    height: float               # of the origin, units of the points
    sigma: float                # of height, relative
    share: float                # of the points below the camera, those on the plane


def find_ground(points: np.ndarray, up: np.ndarray, max_tilt_rad: float,
                slope_sigma: float) -> Optional[GroundPlane]:
    """Return the plane that carries the camera, None where it is not well seen.

    ``points`` (n, 3) are in the camera's axes, any unit, neighbours in the image near each other
    in order. ``up`` (3,) is how the ground's normal is expected, off by ``slope_sigma`` rad (one
    sigma) and at most ``max_tilt_rad``. The plane is that of most points below the camera, less
    the points under it: RANSAC (Fischler and Bolles 1981), made exact by iteratively reweighted
    least squares with the expected slope as a prior.
    """
    up = np.asarray(up, np.float64) / np.linalg.norm(up)
    points = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    below = points[points @ up < -_MIN_DIP * np.linalg.norm(points, axis=1)]
    if len(below) < max(_MIN_POINTS, _MIN_SHARE_OF_ALL * len(points)):
        return None
    planes = _candidates(below, up, max_tilt_rad)
    start = planes[np.argmax(_scores(below, planes))]
    axes = _axes(up)
    plane, sigma = _refined(below @ axes.T, _in_axes(start, axes), slope_sigma)
    normal = axes.T @ plane[:3]
    if not (plane[3] > 0 and normal @ up > np.cos(max_tilt_rad)):
        return None
    share = _support(below, normal, plane[3], len(points))
    return GroundPlane(normal, float(plane[3]), sigma, share) if share else None


def _candidates(points: np.ndarray, up: np.ndarray, max_tilt_rad: float) -> np.ndarray:
    """Return planes (C, 4) below the origin: level ones, and such through three near points."""
    rng = np.random.default_rng(0)
    through = points[rng.integers(len(points), size=_N_LEVEL)]
    level = np.column_stack([np.tile(up, (_N_LEVEL, 1)), -through @ up])
    reach = max(3, round(_NEARBY * len(points)))
    first = rng.integers(len(points), size=_N_TILTED)
    others = np.clip(first + rng.integers(-reach, reach + 1, (2, _N_TILTED)), 0, len(points) - 1)
    a = points[first]
    normal = np.cross(points[others[0]] - a, points[others[1]] - a)
    length = np.linalg.norm(normal, axis=1)
    tilt = (normal @ up) / np.where(length > 0, length, np.inf)
    is_good = np.abs(tilt) > np.cos(max_tilt_rad)
    normal = normal[is_good] / (length * np.sign(tilt))[is_good, None]
    tilted = np.column_stack([normal, -(normal * a[is_good]).sum(axis=1)])
    planes = np.concatenate([level, tilted])
    return planes[planes[:, 3] > 0]


def _scores(points: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Return how many points lie on each plane (C, 4), less those below it."""
    height = (points @ planes[:, :3].T) / planes[:, 3] + 1.0
    return (np.abs(height) < _TOLERANCE).sum(axis=0) - (height < -_BELOW).sum(axis=0)


def _refined(points: np.ndarray, plane: np.ndarray, slope_sigma: float) -> tuple:
    """Return the plane (4,) fitted to the points near it, with Cauchy weights, and its sigma.

    Axes are such that the third is up: z = a + b x + c y, with a prior for b and c.
    """
    fit = np.array([-plane[3], -plane[0], -plane[1]]) / plane[2]
    prior = np.diag([0.0, slope_sigma**-2, slope_sigma**-2])
    A = np.column_stack([np.ones(len(points)), points[:, :2]])
    for _ in range(10):
        residual = points[:, 2] - A @ fit
        near = np.abs(residual) < _BELOW * abs(fit[0])
        if near.sum() < 3:
            return np.array([0.0, 0.0, 1.0, -1.0]), np.inf
        spread = max(1.4826 * float(np.median(np.abs(residual[near]))), _FINEST * abs(fit[0]))
        # as many as are independent, so that the prior has its due
        share = min(1.0, _N_INDEPENDENT / near.sum())
        AW = A[near].T * (share / spread**2 / (1 + (residual[near] / (2 * spread))**2))
        information = AW @ A[near] + prior
        fit = fit + np.linalg.solve(information, AW @ residual[near] - prior @ fit)
    normal = np.array([-fit[1], -fit[2], 1.0])
    length = np.linalg.norm(normal)
    sigma = float(np.sqrt(np.linalg.inv(information)[0, 0]) / max(abs(fit[0]), 1e-300))
    return np.append(normal, -fit[0]) / length, sigma


def _support(below: np.ndarray, normal: np.ndarray, height: float, n_points: int) -> float:
    """Return the share of the points below the camera that are on the plane; 0: not enough."""
    over = below @ normal / height + 1.0
    on = np.abs(over) < _TOLERANCE
    n_on, n_around = np.count_nonzero(on), np.count_nonzero(np.abs(over) < 3 * _TOLERANCE)
    if n_on < max(_MIN_POINTS, _MIN_SHARE_OF_ALL * n_points, _MIN_SHARE_BELOW * len(below),
                  _MIN_SHARPNESS * n_around):
        return 0.0
    flat = below[on] - np.outer(below[on] @ normal, normal)
    near, far = np.quantile(np.linalg.norm(flat, axis=1), (0.1, 0.9))
    return n_on / len(below) if far > _MIN_STRETCH * near else 0.0


def _in_axes(plane: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return np.append(axes @ plane[:3], plane[3])


def _axes(z: np.ndarray) -> np.ndarray:
    """Return a rotation (3, 3) into axes whose third is z."""
    x = np.eye(3)[np.argmin(np.abs(z))]
    x = x - (x @ z) * z
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])
