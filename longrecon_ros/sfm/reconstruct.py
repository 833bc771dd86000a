"""Poses and points of the frames of one window, whatever the camera did in it.

Three cases: the camera moved (solve anew, or go on from the last window where that fails), it
had no parallax (orientation only), or nothing can be measured (LOST).
"""

from dataclasses import dataclass
from typing import List, Optional, Sequence

import numpy as np

from ..geometry import se3
from ..types import FrameState
from . import self_calibration
from .motion import STILL_PX, turn_on_the_spot
from .session import Points, Session
from .triangulation import midpoints, world_rays
from .window import Problem, resume, Solution, solve, SolverConfig

_MIN_TRACKS = 20
_GOOD_ERROR_PX = 1.0
_GOOD_SHARE = 0.6


@dataclass(slots=True, eq=False)
class Reconstruction:
    """Geometry of some frames in one gauge."""

    T_gauge_camera: np.ndarray      # (F, 4, 4); frames that are LOST repeat a neighbour
    states: np.ndarray              # (F,) uint8 of FrameState
    points: Points


def reconstruct(session: Session, frame_ids: Sequence[int], config: SolverConfig
                ) -> Reconstruction:
    """Reconstruct the frames (records of the session, in order of time) and let it learn."""
    ids, xy, seen = session.grid(frame_ids)
    problem = Problem(xy, seen, session.focal_px(), session.size[0], session.focal_prior())
    known = [session.records[i].T_gauge_camera for i in frame_ids]
    if len(ids) < _MIN_TRACKS:
        return _lost(known)
    enough_px = config.enough_parallax * problem.width_px
    if not self_calibration.moves(session, xy, seen, enough_px):
        return _without_parallax(session, frame_ids, problem, ids, known)
    if self_calibration.is_wanted(session):
        solution = self_calibration.search(session, frame_ids, config)
    else:
        solution = _solve(problem, session.guess(frame_ids, ids), config)
    if solution is None:
        return _lost(known)
    session.learn_focal(solution)
    return _from_solution(solution, ids)


def solve_alone(session: Session, frame_ids: Sequence[int], config: SolverConfig
                ) -> Optional[Reconstruction]:
    """Reconstruct frames of the session by themselves, in a gauge of their own; None if not good.

    The session learns nothing from it.
    """
    ids, xy, seen = session.grid(frame_ids)
    problem = Problem(xy, seen, session.focal_px(), session.size[0])
    if len(ids) < _MIN_TRACKS:
        return None
    solution = solve(problem, config)
    return _from_solution(solution, ids) if solution is not None and _is_good(solution) else None


def _solve(problem: Problem, guess, config: SolverConfig) -> Optional[Solution]:
    """Solve anew; where that is not good, go on from the guess, and take the better of the two.

    Anew comes first because it is the more accurate: errors made in a turn stay in one window.
    """
    fresh = solve(problem, config)
    if fresh is not None and _is_good(fresh):
        return fresh
    resumed = None if guess is None else resume(problem, guess, config)
    candidates = [s for s in (fresh, resumed) if s is not None and s.posed.sum() >= 2
                  and s.mapped.sum() >= _MIN_TRACKS]
    return max(candidates, key=_merit, default=None)


def _is_good(solution: Solution) -> bool:
    return bool(solution.posed.all() and solution.error_px < _GOOD_ERROR_PX
                and solution.fit_share > _GOOD_SHARE)


def _merit(solution: Solution):
    """Most frames first, then most observations that fit."""
    return int(solution.posed.sum()), solution.fit_share


def _from_solution(solution: Solution, ids: np.ndarray) -> Reconstruction:
    s, posed, mapped = solution.scene, solution.posed, solution.mapped
    seen = s.seen[:, mapped] & posed[:, None]
    _, parallax = midpoints(world_rays(s.R, s.xy[:, mapped]), s.centers, seen)
    T = se3.inverse(se3.from_parts(s.R, s.t))
    states = np.where(posed, FrameState.TRACKED, FrameState.LOST).astype(np.uint8)
    _repeat_neighbours(T, posed)
    return Reconstruction(T, states, Points(ids[mapped], s.X[mapped], parallax))


def _without_parallax(session, frame_ids, problem, ids, known) -> Reconstruction:
    """Orientation from bearings; position and points are those of before."""
    is_known = np.array([T is not None for T in known])
    start = np.stack([np.eye(4) if T is None else T for T in known])
    if not is_known.any():
        is_known[0] = True
    R = turn_on_the_spot(problem.xy, problem.seen, problem.focal_px, is_known,
                         np.swapaxes(start[:, :3, :3], 1, 2))
    found = np.isfinite(R[:, 0, 0])
    T = start.copy()
    T[found, :3, :3] = np.swapaxes(R[found], 1, 2)
    T[~is_known, :3, 3] = start[np.flatnonzero(is_known)[-1], :3, 3]
    flow = np.array([session.records[i].seen.flow_px for i in frame_ids])
    still = ~(flow > STILL_PX)          # nan: the very first frame
    states = np.where(still, FrameState.STATIONARY, FrameState.ROTATION_ONLY).astype(np.uint8)
    states[~found] = FrameState.LOST
    _repeat_neighbours(T, found)
    kept = np.isin(session.points.ids, ids, assume_unique=True)
    old = session.points
    return Reconstruction(T, states, Points(old.ids[kept], old.X[kept], old.parallax[kept]))


def _lost(known: List[Optional[np.ndarray]]) -> Reconstruction:
    posed = np.array([T is not None for T in known])
    T = np.stack([np.eye(4) if t is None else t for t in known])
    _repeat_neighbours(T, posed)
    states = np.where(posed, FrameState.TRACKED, FrameState.LOST).astype(np.uint8)
    return Reconstruction(T, states, Points())


def _repeat_neighbours(T: np.ndarray, posed: np.ndarray) -> None:
    """Give frames without a pose that of the last frame with one (else of the next)."""
    with_pose = np.flatnonzero(posed)
    if not len(with_pose):
        return
    for i in np.flatnonzero(~posed):
        before = with_pose[with_pose < i]
        T[i] = T[before[-1] if len(before) else with_pose[0]]
