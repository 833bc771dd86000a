"""Tracks of known points in front of known cameras, exact or with faults, for tests of sfm."""

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from longrecon_ros.geometry import se3

SIZE = (640, 480)
FOCAL_PX = 500.0


@dataclass(frozen=True, eq=False)
class Tracks:
    """What ideal cameras see, and the truth about it. ``x_c = R X + t``."""

    T_world_camera: np.ndarray      # (F, 4, 4)
    X: np.ndarray                   # (P, 3)
    xy: np.ndarray                  # (F, P, 2) normalised
    seen: np.ndarray                # (F, P) bool
    is_outlier: np.ndarray          # (F, P) bool: the observation is wrong

    @property
    def R(self) -> np.ndarray:
        """(F, 3, 3) world to camera."""
        return np.swapaxes(self.T_world_camera[:, :3, :3], 1, 2)

    @property
    def t(self) -> np.ndarray:
        """(F, 3) of world to camera."""
        return se3.inverse(self.T_world_camera)[:, :3, 3]

    @property
    def centers(self) -> np.ndarray:
        """(F, 3) camera centres."""
        return self.T_world_camera[:, :3, 3]


def travel(n: int, step=(0.0, 0.0, 0.0), turn_deg=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Return n poses (n, 4, 4), each the one before moved and turned in its own axes."""
    one = se3.from_parts(se3.so3_exp(np.deg2rad(np.array(turn_deg, float))), np.array(step, float))
    poses = [np.eye(4)]
    for _ in range(n - 1):
        poses.append(poses[-1] @ one)
    return np.stack(poses)


def chain(*parts: np.ndarray) -> np.ndarray:
    """Return paths (n_i, 4, 4) one after another: each goes on where the one before ended."""
    poses = parts[0]
    for part in parts[1:]:
        poses = np.concatenate([poses, poses[-1] @ part[1:]])
    return poses


FORWARD = dict(step=(0.0, 0.0, 0.3))
SIDEWAYS = dict(step=(0.2, 0.02, 0.0))
CURVE = dict(step=(0.05, 0.0, 0.25), turn_deg=(0.1, 2.0, 0.0))
MOTIONS = {'forward': FORWARD, 'sideways': SIDEWAYS, 'curve': CURVE}


def watch(poses: np.ndarray, n_points: int = 300, seed: int = 0, noise_px: float = 0.0,
          outliers: float = 0.0, life: Optional[int] = None,
          depth: Tuple[float, float] = (3.0, 20.0)) -> Tracks:
    """Return the tracks of points spread over the images; ``life`` bounds how long one is seen.

    Each point is drawn in the image of a random frame. ``outliers`` is the share of observations
    that lie 10 to 60 px off.
    """
    rng = np.random.default_rng(seed)
    F = len(poses)
    anchor = rng.integers(F, size=n_points)
    size = np.array(SIZE)
    uv = rng.uniform(0, 1, (n_points, 2)) * size - size / 2
    z = np.exp(rng.uniform(*np.log(depth), n_points))
    local = np.column_stack([uv / FOCAL_PX * z[:, None], z])
    X = se3.apply(poses[anchor], local[:, None])[:, 0]
    seen_from = se3.apply(se3.inverse(poses), X)
    front = seen_from[..., 2] > 0.5
    xy = seen_from[..., :2] / np.where(front, seen_from[..., 2], 1.0)[..., None]
    seen = front & (np.abs(xy) * FOCAL_PX < size / 2 + 1e-6).all(axis=2)
    if life is not None:
        seen &= np.abs(np.arange(F)[:, None] - anchor) <= rng.integers(1, life + 1, n_points) / 2
    xy = xy + rng.normal(0, noise_px / FOCAL_PX, xy.shape)
    is_outlier = seen & (rng.random(seen.shape) < outliers)
    angle = rng.uniform(0, 2 * np.pi, seen.shape)
    jump = rng.uniform(10, 60, seen.shape)[..., None] / FOCAL_PX
    xy = np.where(is_outlier[..., None],
                  xy + jump * np.stack([np.cos(angle), np.sin(angle)], -1), xy)
    return Tracks(poses, X, np.where(seen[..., None], xy, 0.0), seen, is_outlier)


def pose_errors(R: np.ndarray, t: np.ndarray, tracks: Tracks, frames=None) -> Tuple[float, float]:
    """Return the largest rotation error (deg) and rms position error over the path length.

    The gauge is taken out with the first frame and the scale that fits the centres.
    """
    frames = np.arange(len(R)) if frames is None else np.flatnonzero(frames)
    T = se3.inverse(se3.from_parts(R, t))[frames]
    found = se3.relative(T[0], T)
    truth = se3.relative(tracks.T_world_camera[frames[0]], tracks.T_world_camera[frames])
    delta = np.swapaxes(found[:, :3, :3], 1, 2) @ truth[:, :3, :3]
    a, b = found[:, :3, 3], truth[:, :3, 3]
    scale = (a * b).sum() / max((a * a).sum(), 1e-30)
    rms = np.sqrt(((scale * a - b) ** 2).sum(axis=1).mean())
    length = np.linalg.norm(np.diff(b, axis=0), axis=1).sum()
    return float(np.degrees(se3.rotation_angle(delta)).max()), float(rms / max(length, 1e-30))
