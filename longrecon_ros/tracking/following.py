"""The points that are followed, and one step of them: from one image to another, with its pose."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Optional, Tuple

import numpy as np

from ..geometry import se3
from .flow import as_bright, follow, is_inside
from .history import Seen
from .patches import refine
from .pnp import locate, PoseFit, Prior
from .points import Landmarks, predicted, spread
from .residuals import Sightings
from .settings import TrackingConfig

_MORE_LEVELS = 2
"""Of the pyramid, where nothing predicts the motion."""
MARGIN_PX = 8
"""Off the border, where points are sought."""
_REFILL_SHARE = 0.7
_MAX_MISSES = 2
_JOIN_PX = 1.5
_MAX_MOVE_PX = 1.5
"""Between where flow puts a point and where the patch of the reference does."""
_MAX_SIGMA, _MAX_SIGMA_RAD = 0.1, 0.1
"""Deviations, of the place in median depths and of the rotation, of a pose that is of no use."""


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """Where one image shows landmarks, and its pose."""

    seen: Seen
    T_odom_camera: np.ndarray           # (4, 4) f64
    which: np.ndarray                   # (n,) i64, ascending positions in the landmarks
    uv: np.ndarray                      # (n, 2) f32 px of the working image

    def only(self, keep: np.ndarray) -> 'Followed':
        """Return some of the points; ``keep`` selects from them."""
        return Followed(self.seen, self.T_odom_camera, self.which[keep], self.uv[keep])


class Step(NamedTuple):
    """The outcome of following points into an image."""

    followed: Optional[Followed]        # the inliers; None: no pose
    fit: Optional[PoseFit]
    n_found: int


def advance(landmarks: Landmarks, origin: Followed, start: Followed, seen: Seen,
            guess: Optional[np.ndarray], config: TrackingConfig,
            prior: Optional[Prior] = None) -> Step:
    """Follow points into another image and measure its pose: roughly, then by refined places.

    ``guess`` is the pose (4, 4) expected there: flow begins where it puts the points. None: they
    are sought where they were, with more levels. ``prior`` has a say in the place.
    """
    uv, found = _flow(landmarks, start, seen, guess, config)
    n_found = int(found.sum())
    rough = _located(landmarks, seen, start.which[found], uv[found],
                     start.T_odom_camera if guess is None else guess, config, prior)
    if rough is None:
        return Step(None, None, n_found)
    which, uv, fit = rough
    uv, found = refine(landmarks, origin.seen, seen, fit.T_odom_camera, which, uv,
                       config.patch_px, _MAX_MOVE_PX)
    fine = _located(landmarks, seen, which[found], uv[found], fit.T_odom_camera, config, prior)
    which, uv, fit = rough if fine is None else fine
    return Step(Followed(seen, fit.T_odom_camera, which, uv), fit, n_found)


def _located(landmarks: Landmarks, seen: Seen, which: np.ndarray, uv: np.ndarray,
             guess: np.ndarray, config: TrackingConfig, prior: Optional[Prior]
             ) -> Optional[Tuple[np.ndarray, np.ndarray, PoseFit]]:
    """Measure a pose by landmarks: which of them agree, where they are, and the pose."""
    flat, stretch = seen.lens.rectify(uv)
    known = np.isfinite(flat).all(axis=1) & (stretch > 0)
    which, uv = which[known], uv[known]
    fit = locate(Sightings(landmarks.points[which], flat[known], stretch[known],
                           landmarks.centre, landmarks.K, landmarks.deviation[which]),
                 guess, config, prior)
    if fit is None:
        return None
    return which[fit.is_inlier], uv[fit.is_inlier], _with_inherited(landmarks, fit)


def _with_inherited(landmarks: Landmarks, fit: PoseFit) -> PoseFit:
    carried = inherited(landmarks, fit.T_odom_camera)
    return replace(fit, covariance=fit.covariance + carried) if carried.any() else fit


def inherited(landmarks: Landmarks, T_odom_camera: np.ndarray) -> np.ndarray:
    """Return the covariance (6, 6) of what landmarks of a later image than the reference's share.

    New points were triangulated from its pose, and old ones are sought by their patches in it,
    so whatever moved that pose moves all later ones. None of it before.
    """
    if landmarks.inherited is None:
        return np.zeros((6, 6))
    # an error xi of that pose moves this one by Ad(T_here_there) xi
    A = se3.adjoint(se3.relative(T_odom_camera, landmarks.T_new))
    return A @ landmarks.inherited @ A.T


def is_good(step: Step, start: Followed, n_images: int, config: TrackingConfig) -> bool:
    """Judge a step over ``n_images`` images: enough points agree, and the motion is believable."""
    fit = step.fit
    if fit is None or len(step.followed.which) < config.min_share * step.n_found:
        return False
    motion = se3.relative(start.T_odom_camera, fit.T_odom_camera)
    way, turn_deg = np.linalg.norm(motion[:3, 3]), np.degrees(se3.rotation_angle(motion[:3, :3]))
    sigma = np.sqrt(np.diag(fit.covariance))
    return bool(fit.misfit_px <= config.max_rmse_px
                and way <= config.max_step * n_images * fit.depth
                and turn_deg <= config.max_turn_deg * n_images
                and sigma[:3].max() <= _MAX_SIGMA * fit.depth
                and sigma[3:].max() <= _MAX_SIGMA_RAD)


def in_view(landmarks: Landmarks, origin: Followed, seen: Seen, T_odom_camera: np.ndarray,
            config: TrackingConfig) -> Followed:
    """Return the landmarks to follow from the reference's image into one with a known pose."""
    at = predicted(landmarks, T_odom_camera, seen.lens)
    inside = np.flatnonzero(is_inside(at, seen.gray.shape, MARGIN_PX))
    chosen = inside[spread(at[inside], seen.lens.size, config.n_points)]
    return origin.only(np.sort(chosen))


class Refill:
    """Brings landmarks into view back that are not followed any more, or were not yet."""

    def __init__(self, n_landmarks: int, config: TrackingConfig):
        self._n_missed = np.zeros(n_landmarks, np.int64)
        self._config = config
        self._aim = min(config.n_points, n_landmarks)

    def is_due(self, followed: Followed) -> bool:
        """Tell whether few enough points are left."""
        return len(followed.which) < _REFILL_SHARE * self._aim

    def __call__(self, landmarks: Landmarks, origin: Followed, followed: Followed) -> Followed:
        """Return the followed points with those that flow from the reference's image adds.

        They must lie where the pose has them. Who fails twice is not tried again.
        """
        seen, T = followed.seen, followed.T_odom_camera
        at = predicted(landmarks, T, seen.lens)
        is_free = is_inside(at, seen.gray.shape, MARGIN_PX) & (self._n_missed < _MAX_MISSES)
        is_free[followed.which] = False
        pool = np.flatnonzero(is_free)
        pool = pool[spread(np.concatenate([followed.uv, at[pool]]), seen.lens.size, self._aim,
                           len(followed.which))]
        if not len(pool):
            return followed
        uv, found = _flow(landmarks, origin.only(pool), seen, T, self._config)
        with np.errstate(invalid='ignore'):
            found &= np.linalg.norm(uv - at[pool], axis=1) < _JOIN_PX
        self._n_missed[pool[~found]] += 1
        which = np.concatenate([followed.which, pool[found]])
        order = np.argsort(which)
        return Followed(seen, T, which[order], np.concatenate([followed.uv, uv[found]])[order])


def _flow(landmarks: Landmarks, start: Followed, seen: Seen, guess: Optional[np.ndarray],
          config: TrackingConfig):
    gray = as_bright(start.seen.gray, start.seen.contrast, seen.contrast)
    if guess is None:
        return follow(gray, seen.gray, start.uv, start.uv, config.patch_px,
                      config.levels + _MORE_LEVELS, config.round_trip_px)
    # no way back: what flow makes of a good guess is compared with the reference's patch anyway
    before = predicted(landmarks, start.T_odom_camera, start.seen.lens, start.which)
    begin = start.uv + predicted(landmarks, guess, seen.lens, start.which) - before
    return follow(gray, seen.gray, start.uv, begin, config.patch_px, config.levels)
