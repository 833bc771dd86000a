"""Poses and points of one window: start from the best pair anywhere, grow both ways, adjust."""

from dataclasses import dataclass
from typing import Optional, Tuple

import cv2
import numpy as np

from ..geometry.se3 import so3_exp
from .bundle import adjust, FocalPrior, Scene
from .resection import locate
from .triangulation import midpoints, world_rays
from .two_view import Pair, starting_pairs

_FIT_PX = 1.5
_MIN_POSE_POINTS = 12
"""Fewer points than this agree with a pose by chance, over a cut for instance."""
_SAME_SHARE = 0.02
_MAX_MISSED = 5
"""Frames in a row without a pose (black, blocked) that growing steps over."""


@dataclass(frozen=True, slots=True)
class SolverConfig:
    """Gates of the window solver; px of the tracked image."""

    n_points: int = 240
    """Points that take part in bundle adjustment: those with most views."""
    enough_parallax: float = 0.015
    """Parallax of a good starting pair, relative to the image width."""
    mask_px: float = 3.0
    """Observations further off than this after resection are dropped for good."""
    point_px: float = 2.5
    """Largest error of a new point."""
    drop_px: float = 4.0
    """Observations further off than this after an adjustment are dropped."""
    min_parallax_deg: float = 0.7
    good_share: float = 0.88
    """A solution that explains less than this share of the observations is solved again from
    another start."""
    max_starts: int = 3
    adjust_every: int = 4
    """While frames are added, everything is adjusted after so many."""


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """What earlier windows say about some frames and points of this one, in one gauge."""

    posed: np.ndarray           # (F,) bool: frames whose pose is known
    R: np.ndarray               # (F, 3, 3) window to camera
    t: np.ndarray               # (F, 3)
    X: np.ndarray               # (P, 3); nan where unknown


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """The observations of one window and what is known beforehand."""

    xy: np.ndarray              # (F, P, 2) normalised image coordinates
    seen: np.ndarray            # (F, P) bool
    focal_px: float
    width_px: int
    focal_prior: Optional[FocalPrior] = None    # None: the focal length is exact


@dataclass(frozen=True, slots=True)
class _Effort:
    """How far one adjustment is driven."""

    n_iterations: int
    tolerance: float            # relative decrease that ends it
    point_share: float          # of SolverConfig.n_points


_ROUGH = _Effort(3, 1e-2, 0.6)          # while frames are added: enough to keep them coming
_SETTLE = _Effort(6, 1e-3, 1.0)
_FINISH = _Effort(10, 1e-4, 1.0)


@dataclass(slots=True, eq=False)
class Solution:
    """A solved window; frames that are not ``posed`` hold no pose, unmapped points are nan."""

    scene: Scene
    posed: np.ndarray           # (F,) bool
    error_px: float             # median reprojection error
    fit_share: float            # share of all observations that fit a mapped point
    log_focal: float = 0.0      # ln of the focal length over the one that was given
    focal_information: float = 0.0

    @property
    def mapped(self) -> np.ndarray:
        """(P,) bool: points that are triangulated."""
        return np.isfinite(self.scene.X[:, 0])


class _Grower:
    """Working state of one solve; grows a scene frame by frame."""

    def __init__(self, problem: Problem, config: SolverConfig):
        F, P = problem.seen.shape
        self.cfg = config
        self.problem = problem
        self.scene = Scene(np.tile(np.eye(3), (F, 1, 1)), np.zeros((F, 3)),
                           np.full((P, 3), np.nan), problem.xy, problem.seen.copy(),
                           problem.focal_px)
        self.posed = np.zeros(F, bool)
        self.last_posed = 0
        self.focal_information = 0.0
        self.adjusted = np.zeros(P, bool)

    @property
    def mapped(self):
        return np.isfinite(self.scene.X[:, 0])

    def triangulate(self, everything: bool = False) -> None:
        """Map points that posed frames see well enough (all of them anew if ``everything``)."""
        s, cfg = self.scene, self.cfg
        frames = np.flatnonzero(self.posed)
        seen = s.seen[frames]
        todo = seen.sum(axis=0) >= 2
        if not everything:      # the others were tried when their last frame came
            todo &= ~self.mapped & s.seen[self.last_posed]
        columns = np.flatnonzero(todo)
        if not len(columns):
            return
        seen = seen[:, columns]
        xy = s.xy[np.ix_(frames, columns)]
        X, parallax = midpoints(world_rays(s.R[frames], xy), s.centers[frames], seen)
        trial = Scene(s.R[frames], s.t[frames], X, xy, seen, s.focal_px)
        error = np.where(seen, trial.errors_px(), 0.0).max(axis=0)
        good = np.isfinite(X[:, 0]) & (error < cfg.point_px)
        views = seen.sum(axis=0)
        newest = self.last_posed
        n_mapped = int((s.seen[newest] & self.mapped).sum())
        degrees = np.rad2deg(parallax)
        for min_views, min_deg in ((3, cfg.min_parallax_deg), (2, 0.5 * cfg.min_parallax_deg),
                                   (2, 0.15 * cfg.min_parallax_deg)):
            accept = good & (views >= min_views) & (degrees > min_deg)
            visible = int((accept & s.seen[newest, columns]).sum())
            if everything or visible + n_mapped >= 80:
                break
        if everything:
            accept = good & (degrees > 0.15 * cfg.min_parallax_deg)
            s.X[columns] = np.nan
        s.X[columns[accept]] = X[accept]

    def start(self, pair: Pair) -> bool:
        s = self.scene
        s.R[pair.a], s.t[pair.a] = np.eye(3), 0
        s.R[pair.b], s.t[pair.b] = pair.R, pair.t
        self.posed[[pair.a, pair.b]] = True
        self.last_posed = pair.b
        both = np.flatnonzero(s.seen[pair.a] & s.seen[pair.b])
        frames = [pair.a, pair.b]
        xy = s.xy[np.ix_(frames, both)]
        X, parallax = midpoints(world_rays(s.R[frames], xy), s.centers[frames],
                                np.ones((2, len(both)), bool))
        trial = Scene(s.R[frames], s.t[frames], X, xy, np.ones((2, len(both)), bool), s.focal_px)
        error = trial.errors_px().max(axis=0)
        good = (error < self.cfg.point_px) & (np.rad2deg(parallax) > 0.5)
        if good.sum() < 12:
            return False
        scale = 1.0 / np.median(X[good, 2])
        s.X[both[good]] = X[good] * scale
        s.t[pair.b] *= scale
        return True

    def resume(self, guess: Guess) -> None:
        """Take over known poses and points; drop what does not fit them."""
        s = self.scene
        self.posed = guess.posed.copy()
        s.R[self.posed], s.t[self.posed] = guess.R[self.posed], guess.t[self.posed]
        s.X = guess.X.copy()
        self.last_posed = int(np.flatnonzero(self.posed)[-1])
        bad = ~(s.errors_px() < self.cfg.drop_px) & self.posed[:, None] & self.mapped
        s.seen &= ~bad

    def pose(self, frame: int, R: np.ndarray, t: np.ndarray) -> bool:
        """Locate a frame from a predicted pose; observations that do not fit are dropped."""
        s = self.scene
        columns = np.flatnonzero(s.seen[frame] & self.mapped)
        if len(columns) < _MIN_POSE_POINTS:
            return False
        found = locate(R, t, s.X[columns], s.xy[frame, columns], s.focal_px)
        if found is None:
            return False
        s.R[frame], s.t[frame], _ = found
        self.posed[frame] = True
        self.last_posed = frame
        bad = columns[~(self._errors(frame, columns) < self.cfg.mask_px)]
        s.seen[frame, bad] = False
        return True

    def _errors(self, frame, columns):
        s = self.scene
        one = slice(frame, frame + 1)
        return Scene(s.R[one], s.t[one], s.X[columns], s.xy[one, columns],
                     np.ones((1, len(columns)), bool), s.focal_px).errors_px()[0]

    def predict(self, near: int, far: Optional[int]) -> Tuple[np.ndarray, np.ndarray]:
        """Constant velocity: the pose after ``near`` when ``far`` came before it."""
        s = self.scene
        if far is None or not self.posed[far]:
            return s.R[near], s.t[near]
        dR = s.R[near] @ s.R[far].T
        return dR @ s.R[near], dR @ s.t[near] + s.t[near] - dR @ s.t[far]

    def between(self, pair: Pair) -> None:
        """Pose the frames between the starting pair from interpolated guesses."""
        s = self.scene
        rvec = cv2.Rodrigues(pair.R)[0][:, 0]
        center = s.centers[pair.b]
        for frame in range(pair.a + 1, pair.b):
            share = (frame - pair.a) / (pair.b - pair.a)
            R = so3_exp(share * rvec)
            self.pose(frame, R, -R @ (share * center))

    def grow(self, first: int, direction: int, adjust_every: int) -> None:
        """Add frames from ``first`` on, predicted from the last two; step over a few bad ones."""
        near, far, since, missed = first - direction, first - 2 * direction, 0, 0
        F = len(self.posed)
        for frame in range(first, F if direction > 0 else -1, direction):
            if not self.pose(frame, *self.predict(near, far if 0 <= far < F else None)):
                missed += 1
                if missed > _MAX_MISSED:
                    break
                continue
            near, far, missed = frame, near, 0
            self.triangulate()
            since += 1
            if since >= adjust_every:
                self.adjust(_ROUGH)
                since = 0

    def adjust(self, effort: '_Effort', use_focal: bool = False) -> None:
        """Bundle-adjust posed frames and the points with most views; drop what does not fit."""
        s = self.scene
        frames = np.flatnonzero(self.posed)
        views = np.where(self.mapped, s.seen[frames].sum(axis=0), 0)
        usable = int((views >= 2).sum())
        n = min(int(effort.point_share * self.cfg.n_points), usable)
        self.adjusted = np.zeros(len(views), bool)
        if n < 8 or len(frames) < 2:
            return
        columns = _best_points(views, s.seen[frames], n)
        self.adjusted[columns] = True
        part = Scene(s.R[frames], s.t[frames], s.X[columns], s.xy[np.ix_(frames, columns)],
                     s.seen[np.ix_(frames, columns)], s.focal_px)
        self._adjust_part(part, effort, use_focal)
        s.R[frames], s.t[frames], s.X[columns] = part.R, part.t, part.X
        error = part.errors_px()
        bad = part.seen & ~(error < self.cfg.drop_px)
        s.seen[np.ix_(frames, columns)] &= ~bad
        few = s.seen[np.ix_(frames, columns)].sum(axis=0) < 2
        s.X[columns[few]] = np.nan

    def _adjust_part(self, part: Scene, effort: '_Effort', use_focal: bool) -> None:
        prior = self.problem.focal_prior if use_focal else None
        if prior is None:
            adjust(part, effort.n_iterations, tolerance=effort.tolerance)
            return
        s = self.scene
        so_far = np.log(s.focal_px / self.problem.focal_px)
        result = adjust(part, effort.n_iterations,
                        FocalPrior(prior.mean - so_far, prior.information), effort.tolerance)
        s.xy = s.xy * (s.focal_px / part.focal_px)
        s.focal_px = part.focal_px
        self.focal_information = result.focal_information

    def _restore(self) -> None:
        """Take dropped observations back that fit by now, and all of the points still unmapped."""
        s = self.scene
        everything = Scene(s.R, s.t, s.X, s.xy, self.problem.seen, s.focal_px)
        fits = (everything.errors_px() < self.cfg.mask_px) | ~self.mapped
        s.seen |= self.problem.seen & fits & self.posed[:, None]

    def _map_the_rest(self) -> None:
        """Map the points that took no part in the last adjustment with the final poses."""
        s = self.scene
        s.X[~self.adjusted] = np.nan
        kept = s.X.copy()
        self.triangulate(everything=True)
        s.X[self.adjusted] = kept[self.adjusted]

    def finish(self) -> Solution:
        """Adjust everything to the end and say how well it fits."""
        for effort in (_SETTLE, _FINISH):
            self._restore()
            self.triangulate(everything=True)
            self.adjust(effort, use_focal=effort is _FINISH)
        self._map_the_rest()
        s = self.scene
        error = s.errors_px()[self.posed][:, self.mapped]
        values = error[np.isfinite(error)]
        error_px = float(np.median(values)) if len(values) else np.inf
        fit_share = float((values < _FIT_PX).sum()) / max(int(self.problem.seen.sum()), 1)
        return Solution(s, self.posed, error_px, fit_share,
                        float(np.log(s.focal_px / self.problem.focal_px)), self.focal_information)


def _best_points(views: np.ndarray, seen: np.ndarray, n: int) -> np.ndarray:
    """Columns of about ``n`` points with most views, and of the best of every single frame.

    In a fast turn all tracks are short; without its own share such a frame would hang on a few.
    """
    chosen = np.zeros(len(views), bool)
    chosen[np.argpartition(-views, n - 1)[:n]] = True
    each = max(8, 4 * n // len(seen))
    for row in seen:
        missing = each - int((chosen & row).sum())
        if missing > 0:
            rest = np.flatnonzero(row & ~chosen & (views >= 2))
            if len(rest) > missing:
                rest = rest[np.argpartition(-views[rest], missing - 1)[:missing]]
            chosen[rest] = True
    return np.flatnonzero(chosen)


def solve(problem: Problem, config: SolverConfig) -> Optional[Solution]:
    """Reconstruct one window on its own; None when no pair of frames gives a start.

    A start from the best pair can end in a poor optimum, which shows in the share of
    observations that fit; then other pairs are tried until two agree, and the best end is taken.
    """
    pairs = starting_pairs(problem.xy, problem.seen, problem.focal_px,
                           config.enough_parallax * problem.width_px)
    best, n_starts, tried = None, 0, set()
    for pair in pairs:
        if pair.a in tried or n_starts == config.max_starts:
            continue
        solution = _solve_from(pair, problem, config)
        if solution is None:
            continue
        tried.add(pair.a)
        n_starts += 1
        agree = best is not None and abs(solution.fit_share - best.fit_share) < _SAME_SHARE
        if best is None or solution.fit_share > best.fit_share:
            best = solution
        if best.fit_share > config.good_share or agree:
            break
    return best


def _solve_from(pair: Pair, problem: Problem, config: SolverConfig) -> Optional[Solution]:
    grower = _Grower(problem, config)
    if not grower.start(pair):
        return None
    grower.between(pair)
    grower.triangulate()
    grower.adjust(_ROUGH)
    grower.grow(pair.b + 1, +1, config.adjust_every)
    grower.grow(pair.a - 1, -1, config.adjust_every)
    return grower.finish()


def resume(problem: Problem, guess: Guess, config: SolverConfig) -> Solution:
    """Reconstruct a window from the poses and points that earlier windows left."""
    grower = _Grower(problem, config)
    grower.resume(guess)
    grower.triangulate()
    grower.grow(grower.last_posed + 1, +1, config.adjust_every)
    return grower.finish()
