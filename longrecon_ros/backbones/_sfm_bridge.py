"""Weak links between two ``sfm`` windows, and the window across them that mends them.

Two windows can each be right and still share too little that both know well: a fast turn in the
overlap is enough. A window centred on the overlap shares more with either one. Its points and
its poses of the shared frames then take the place of the new window's own.
"""

from typing import Optional, Sequence

import numpy as np

from ..alignment.base import apply
from ..alignment.depth_ratio import DepthRatioAligner
from ..errors import AlignmentError
from ..sfm.reconstruct import Reconstruction, solve_alone
from ..sfm.session import Points, Session
from ..sfm.window import SolverConfig
from ..types import FrameState, Landmarks, Prediction

_TRACK_SIGMA_PX = 0.5
_MIN_INLIERS = 60
_MAX_ERROR = 0.015
"""Expected error of the log scale of a link that is not weak."""


def landmarks_of(points: Points, focal_px: float) -> Landmarks:
    """Landmarks with the depth uncertainty that their parallax leaves."""
    sigma = _TRACK_SIGMA_PX / (focal_px * np.maximum(points.parallax, 1e-6))
    return Landmarks(points.ids, points.X, sigma)


def outline(frame_ids: Sequence[int], result: Reconstruction, focal_px: float) -> Prediction:
    """A prediction without pictures: poses and landmarks, all that a link is made of."""
    n = len(frame_ids)
    return Prediction(np.array(frame_ids), result.T_gauge_camera, np.ones((n, 1, 1, 3)),
                      np.zeros((n, 1, 1)), np.zeros((n, 1, 1, 3), np.uint8),
                      states=result.states, landmarks=landmarks_of(result.points, focal_px))


def mend(session: Session, previous: Prediction, frame_ids: Sequence[int],
         result: Reconstruction, config: SolverConfig) -> Reconstruction:
    """Return the reconstruction with a better link to the previous window, where it needs one.

    ``frame_ids`` and ``result`` are those of the new window, its memory included; ``previous`` is
    the `outline` of the window before. Returns ``result`` itself where the link is good already,
    and where no window across mends it.
    """
    focal_px = session.focal_px()
    current = outline(frame_ids, result, focal_px)
    if not (_is_moving(previous) and _is_moving(current)) or _is_good(previous, current):
        return result
    # what the last window remembered beside its own frames may be forgotten by now
    is_kept = np.isin(previous.frame_ids, list(session.records))
    across_ids = _across(previous.frame_ids[is_kept], current.frame_ids)
    solved = solve_alone(session, across_ids, config)
    if solved is None:
        return result
    across = outline(across_ids, solved, focal_px)
    if not _is_good(previous, across):
        return result
    try:
        joined = apply(DepthRatioAligner().align(current, across), across)
    except AlignmentError:
        return result
    return _take_over(current, result, joined, solved, set(previous.frame_ids.tolist()))


def _is_moving(prediction: Prediction) -> bool:
    return bool((prediction.states == FrameState.TRACKED).sum() >= 3)


def _is_good(previous: Prediction, current: Prediction) -> bool:
    try:
        link = DepthRatioAligner().align(previous, current)
    except AlignmentError:
        return False
    error = link.log_scale_spread / np.sqrt(max(link.n_inliers, 1))
    return link.n_inliers >= _MIN_INLIERS and bool(error < _MAX_ERROR)


def _across(previous_ids: np.ndarray, current_ids: np.ndarray) -> list:
    """Frames of a window centred on the overlap: half of what is unshared on either side."""
    shared = np.intersect1d(previous_ids, current_ids)
    if not len(shared):
        return sorted({*previous_ids[len(previous_ids) // 2:].tolist(),
                       *current_ids[:len(current_ids) // 2].tolist()})
    before = previous_ids[previous_ids < shared[0]]
    after = current_ids[current_ids > shared[-1]]
    return [*before[len(before) // 2:].tolist(), *shared.tolist(),
            *after[:(len(after) + 1) // 2].tolist()]


def _take_over(current: Prediction, result: Reconstruction, joined: Prediction,
               solved: Reconstruction, previous_ids: set) -> Reconstruction:
    """Shared frames and points as the window across has them, the rest as it was."""
    T = result.T_gauge_camera.copy()
    states = result.states.copy()
    across_row = {int(i): k for k, i in enumerate(joined.frame_ids)}
    for row, i in enumerate(current.frame_ids.tolist()):
        k: Optional[int] = across_row.get(i)
        if k is not None and i in previous_ids and joined.states[k] == FrameState.TRACKED:
            T[row], states[row] = joined.T_window_camera[k], FrameState.TRACKED
    own = result.points
    keep = ~np.isin(own.ids, joined.landmarks.ids, assume_unique=True)
    ids = np.concatenate([own.ids[keep], joined.landmarks.ids])
    order = np.argsort(ids)
    points = Points(ids[order],
                    np.concatenate([own.X[keep], joined.landmarks.points])[order],
                    np.concatenate([own.parallax[keep], solved.points.parallax])[order])
    return Reconstruction(T, states, points)
