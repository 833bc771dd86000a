"""Points of known depth where the reference has none any more: triangulated on the way.

Corners of an image with a known pose are followed without depth until they have moved against
the rays enough. Then they and the landmarks that are still followed become the landmarks of the
newest image, which takes the place of the reference's (Hartley and Zisserman, Multiple View
Geometry, 12: the midpoint between both rays, judged by its reprojection).
"""

from dataclasses import dataclass, fields, replace
from typing import Optional, Tuple

import cv2
import numpy as np

from ..geometry import se3
from ..geometry.camera import unproject
from .flow import as_bright, follow, is_inside
from .following import Followed, inherited, MARGIN_PX
from .history import Seen
from .pnp import PoseFit
from .points import BESIDE_PX, corners, Landmarks
from .settings import TrackingConfig

_THIN_SHARE = 0.6
"""Of `n_points`: with fewer landmarks in view corners are followed."""
_FULL_SHARE = 0.8
"""Of `n_points`: so many landmarks and corners together are enough."""
_N_EACH = 2
"""Images from one flow of the corners to the next."""
_N_SOUGHT = 4
"""Images from one search for corners to the next."""
_MAX_AGE = 30
"""Images after which a corner that has not moved is given up."""
_MIN_PARALLAX_RAD = np.radians(0.3)
_MAX_SIGMA, _MAX_SIGMA_FEW = 0.05, 0.2
"""Relative deviation of a depth that is of use; the second where few landmarks are left."""
_MIN_NEW, _MIN_NEW_SHARE = 10, 0.12
"""So many new points, and of `n_points`, are worth a change; the first where few are left."""
_FEW_SHARE = 0.25
_NOISE = 2.0
"""Deviation of a corner that is followed from image to image, in those of `sigma_px`."""
_GATE = 3.0
_MIN_FACING = 0.1
"""Cosine between ray and normal below which a surface is taken to face the camera."""


@dataclass(frozen=True, slots=True, eq=False)
class _Corners:
    """Corners without depth: the ray of the image that showed them first, and where they are."""

    centre: np.ndarray                  # (n, 3) f64, odom
    ray: np.ndarray                     # (n, 3) f64, odom, unit length
    uv: np.ndarray                      # (n, 2) f32 px
    speed: np.ndarray                   # (n, 2) f32 px per ns
    age: np.ndarray                     # (n,) i64, images

    def only(self, keep: np.ndarray) -> '_Corners':
        return _Corners(*(getattr(self, field.name)[keep] for field in fields(self)))

    def and_also(self, other: '_Corners') -> '_Corners':
        return _Corners(*(np.concatenate([getattr(self, field.name), getattr(other, field.name)])
                          for field in fields(self)))


class Renewal:
    """Watches how many landmarks are left, and finds new ones in time.

    At most one flow an image, and every few images a search for corners.
    """

    def __init__(self, config: TrackingConfig):
        self._config = config
        self._corners: Optional[_Corners] = None
        self._seen: Optional[Seen] = None       # the image that the corners were found in last
        self._n_waited = 0                      # images since then
        self._n_unsought = _N_SOUGHT            # since the last search

    def __call__(self, landmarks: Landmarks, followed: Followed, fit: PoseFit
                 ) -> Optional[Tuple[Landmarks, Followed]]:
        """Take the next good image, with its pose; return its own landmarks when there are some.

        All of them are in the followed points that come back.
        """
        self._n_waited += 1
        self._n_unsought += 1
        if self._corners is not None and self._n_waited >= _N_EACH:
            self._follow(followed.seen)
            return self._triangulated(landmarks, followed, fit)
        n, n_points = len(followed.which), self._config.n_points
        n_corners = 0 if self._corners is None else len(self._corners.uv)
        if (self._n_unsought >= _N_SOUGHT and n < _THIN_SHARE * n_points
                and n + n_corners < _FULL_SHARE * n_points):
            self._seek(landmarks, followed, n_points - n - n_corners)
        return None

    def _seek(self, landmarks: Landmarks, followed: Followed, n: int) -> None:
        """Look for corners away from all points; earlier ones are brought here first."""
        seen, self._n_unsought = followed.seen, 0
        if self._corners is not None:
            self._follow(seen)
        taken = [followed.uv] if self._corners is None else [followed.uv, self._corners.uv]
        free = np.full(seen.gray.shape, 255, np.uint8)
        for u, v in np.rint(np.concatenate(taken)).astype(int).tolist():
            cv2.circle(free, (u, v), self._config.patch_px, 0, -1)
        uv = corners(seen.gray, n, free)
        uv = uv[is_inside(uv, seen.gray.shape, MARGIN_PX)]
        T = followed.T_odom_camera
        new = _Corners(np.tile(T[:3, 3], (len(uv), 1)), _rays(uv, seen, T, landmarks.K), uv,
                       np.zeros_like(uv), np.zeros(len(uv), np.int64))
        new = new.only(np.isfinite(new.ray).all(axis=1))
        self._corners = new if self._corners is None else self._corners.and_also(new)
        self._seen, self._n_waited = seen, 0

    def _follow(self, seen: Seen) -> None:
        now, before, config = self._corners, self._seen, self._config
        gray = as_bright(before.gray, before.contrast, seen.contrast)
        dt_ns = np.float32(max(1, seen.stamp_ns - before.stamp_ns))
        uv, found = follow(gray, seen.gray, now.uv, now.uv + now.speed * dt_ns, config.patch_px,
                           config.levels + 1)
        age = now.age + self._n_waited
        self._corners = _Corners(now.centre, now.ray, uv, (uv - now.uv) / dt_ns, age).only(
            found & (age < _MAX_AGE))
        self._seen, self._n_waited = seen, 0

    def _triangulated(self, landmarks: Landmarks, followed: Followed, fit: PoseFit
                      ) -> Optional[Tuple[Landmarks, Followed]]:
        now, T, config = self._corners, followed.T_odom_camera, self._config
        sigma_px = _NOISE * config.sigma_px
        points, sigma, error_px = triangulate(
            now.centre, now.ray, T[:3, 3], _rays(now.uv, followed.seen, T, landmarks.K),
            landmarks.K[0, 0], sigma_px)
        is_wrong = (sigma < np.inf) & (error_px > _GATE * sigma_px)
        is_urgent = len(followed.which) < _FEW_SHARE * config.n_points
        good = (sigma < (_MAX_SIGMA_FEW if is_urgent else _MAX_SIGMA)) & ~is_wrong
        is_enough = good.sum() >= max(
            _MIN_NEW, 0 if is_urgent else _MIN_NEW_SHARE * config.n_points)
        self._corners = now.only(~(is_wrong | good) if is_enough else ~is_wrong)
        if not is_enough:
            return None
        return _joined(landmarks, followed, fit, now.uv[good], points[good], sigma[good], config)


def triangulate(centre_a: np.ndarray, a: np.ndarray, centre_b: np.ndarray, b: np.ndarray,
                focal_px: float, sigma_px: float) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points (n, 3) f64 where rays a and b (n, 3) of unit length, odom, are closest.

    They begin in centres (n, 3) and (3,). Comes with the relative deviation of the depth in the
    second camera (n,), infinite where the rays are too much alike or meet behind a camera, and
    the error of the reprojection (n,), px, about the same in both.
    """
    way = centre_b - centre_a
    c, along_a, along_b = (a * b).sum(axis=1), (a * way).sum(axis=1), (b * way).sum(axis=1)
    sine = np.linalg.norm(np.cross(a, b), axis=1)
    with np.errstate(divide='ignore', invalid='ignore'):
        s, t = (along_a - c * along_b) / sine**2, (c * along_a - along_b) / sine**2
        at_a, at_b = centre_a + s[:, None] * a, centre_b + t[:, None] * b
        # an error across the ray moves the crossing by the other ray's length over the sine
        sigma = sigma_px / focal_px * np.hypot(s, t) / np.abs(t) / sine
        error_px = 0.5 * focal_px * np.linalg.norm(at_a - at_b, axis=1) / np.minimum(s, t)
        is_sure = (s > 0) & (t > 0) & (sine > np.sin(_MIN_PARALLAX_RAD)) & (c > 0)
    return (0.5 * (at_a + at_b), np.where(is_sure, sigma, np.inf),
            np.where(is_sure, error_px, np.inf))


def _rays(uv: np.ndarray, seen: Seen, T: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return the rays (n, 3) of pixels, odom, unit length; NaN where the lens has none."""
    ray = unproject(seen.lens.rectify(uv)[0], np.ones(len(uv)), K) @ T[:3, :3].T
    return ray / np.linalg.norm(ray, axis=1, keepdims=True)


def _joined(landmarks: Landmarks, followed: Followed, fit: PoseFit, uv: np.ndarray,
            points: np.ndarray, sigma: np.ndarray, config: TrackingConfig
            ) -> Tuple[Landmarks, Followed]:
    """Make followed landmarks and new points (n, 3) those of the newest image."""
    old, T = followed.which, followed.T_odom_camera
    seen, n = followed.seen, len(points)
    all_uv = np.concatenate([followed.uv, uv]).astype(np.float32)
    all_points = np.concatenate([landmarks.points[old], points])
    normal = np.zeros((len(all_points), 3))
    normal[:len(old)] = np.cross(*np.swapaxes(
        landmarks.beside[old] - landmarks.points[old, None], 0, 1))
    # both ends of the baseline err like this pose
    own = _without_scale(fit, landmarks.centre, config) - inherited(landmarks, T)
    whole = Landmarks(
        all_uv, all_points, _beside(all_uv, all_points, normal, seen, T, landmarks.K),
        landmarks.centre, landmarks.K,
        np.concatenate([landmarks.deviation[old], sigma[:, None] * (points - T[:3, 3])]),
        np.concatenate([landmarks.is_new[old], np.ones(n, bool)]),
        T, 2 * own + inherited(landmarks, T))
    return whole, Followed(seen, T, np.arange(len(all_uv)), all_uv)


def _beside(uv: np.ndarray, points: np.ndarray, normal: np.ndarray, seen: Seen, T: np.ndarray,
            K: np.ndarray) -> np.ndarray:
    """Return the surface (n, 2, 3), odom, a few px right and below of points in an image."""
    depth = se3.apply(se3.inverse(T), points)[:, 2]
    length = np.linalg.norm(normal, axis=1)
    beside = []
    for step in BESIDE_PX * np.eye(2):
        flat, _ = seen.lens.rectify(uv + step)
        ray = unproject(flat, np.ones(len(uv)), K) @ T[:3, :3].T
        facing = (ray * normal).sum(axis=1)
        with np.errstate(divide='ignore', invalid='ignore'):
            at = ((points - T[:3, 3]) * normal).sum(axis=1) / facing
            is_steep = ~(np.abs(facing) > _MIN_FACING * length * np.linalg.norm(ray, axis=1))
        beside.append(T[:3, 3] + np.where(is_steep, depth, at)[:, None] * ray)
    return np.stack(beside, axis=1)


def moved(landmarks: Landmarks, origin: Followed, T_now: np.ndarray, fit: PoseFit,
          centre: np.ndarray, config: TrackingConfig) -> Tuple[Landmarks, Followed]:
    """Bring landmarks, and the image they lie in, to where another reference has the camera.

    ``T_now`` (4, 4) is the newest pose by the landmarks, ``fit`` that by the other reference,
    whose camera is in ``centre`` (3,). Its error is theirs from now on.
    """
    T = fit.T_odom_camera @ se3.inverse(T_now)
    whole = replace(
        landmarks, points=se3.apply(T, landmarks.points),
        beside=se3.apply(T, landmarks.beside.reshape(-1, 3)).reshape(-1, 2, 3), centre=centre,
        deviation=landmarks.deviation @ T[:3, :3].T, T_new=fit.T_odom_camera,
        inherited=_without_scale(fit, centre, config))
    return whole, replace(origin, T_odom_camera=T @ origin.T_odom_camera)


def _without_scale(fit: PoseFit, centre: np.ndarray, config: TrackingConfig) -> np.ndarray:
    """The covariance (6, 6) of a pose but for the scale of the reference: every pose adds that."""
    T, covariance = fit.T_odom_camera, fit.covariance.copy()
    lever = T[:3, :3].T @ (T[:3, 3] - centre) * config.sigma_log_scale
    covariance[:3, :3] -= np.outer(lever, lever)
    return covariance
