"""Rotation and translation between two windows from the poses of their shared cameras alone.

Each camera stands for three points: its centre, and one ahead along each of two of its axes. So a
camera that does not move fixes the rotation, too, which centres alone would not (LASER, camera
anchors).
"""

from typing import Optional, Tuple

import numpy as np

_AXES = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_N_ROBUST = 5


def kabsch_anchors(T_source_camera: np.ndarray, T_target_camera: np.ndarray, scale: float,
                   arm: float = 1.0, weights: Optional[np.ndarray] = None
                   ) -> Tuple[np.ndarray, np.ndarray]:
    """Return R (3, 3) and t (3,) with ``x_target = scale R x_source + t``, scale given.

    ``T_source_camera`` and ``T_target_camera`` are (C, 4, 4) poses of the same cameras; ``arm`` is
    the length from the centre to the other two points, in units of the target: the longer, the
    more orientations count against positions. ``weights`` (C,) or None. Kabsch 1976: the points
    are taken about the (weighted) means of the camera centres.
    """
    weights = np.ones(len(T_source_camera)) if weights is None else np.asarray(weights)
    centres, turned = scale * T_source_camera[:, :3, 3], T_source_camera[:, :3, :3] @ _AXES.T
    centres_target, turned_target = T_target_camera[:, :3, 3], T_target_camera[:, :3, :3] @ _AXES.T
    mean = weights @ centres / weights.sum()
    mean_target = weights @ centres_target / weights.sum()
    H = np.zeros((3, 3))
    for a, b in zip(_anchors(centres - mean, turned, arm),
                    _anchors(centres_target - mean_target, turned_target, arm)):
        H += (weights[:, None] * a).T @ b
    U, _, Vt = np.linalg.svd(H)
    R = Vt.T @ U.T
    if np.linalg.det(R) < 0:
        Vt[2] *= -1
        R = Vt.T @ U.T
    return R, mean_target - R @ mean


def robust_anchors(T_source_camera: np.ndarray, T_target_camera: np.ndarray, scale: float,
                   arm: float) -> Tuple[np.ndarray, np.ndarray]:
    """Return R and t as `kabsch_anchors`, a camera with a bad pose counting less.

    Cameras are reweighted by one over the distance of their anchors to where they belong (L1).
    """
    weights = np.ones(len(T_source_camera))
    for _ in range(_N_ROBUST):
        R, t = kabsch_anchors(T_source_camera, T_target_camera, scale, arm, weights)
        if len(weights) < 3:
            break
        distance = _distances(T_source_camera, T_target_camera, scale, arm, R, t)
        weights = 1.0 / np.maximum(distance, 0.5 * np.median(distance) + 1e-9 * arm)
    return R, t


def _anchors(centres: np.ndarray, turned: np.ndarray, arm: float):
    yield centres
    for k in range(len(_AXES)):
        yield centres + arm * turned[..., k]


def _distances(T_source_camera, T_target_camera, scale, arm, R, t) -> np.ndarray:
    """Return the root mean square distance of the anchors of each camera, (C,)."""
    source = _anchors(scale * T_source_camera[:, :3, 3], T_source_camera[:, :3, :3] @ _AXES.T, arm)
    target = _anchors(T_target_camera[:, :3, 3], T_target_camera[:, :3, :3] @ _AXES.T, arm)
    squares = [((a @ R.T + t - b)**2).sum(axis=1) for a, b in zip(source, target)]
    return np.sqrt(np.mean(squares, axis=0))
