"""Covariance of the chained camera poses relative to the first camera, from what links show.

A chain of similarities: each link adds an error to where all later windows lie. Its size is
measured where neighbouring windows saw the same frames (`overlap_noise`), so it needs no knowledge
of the backbone. The state is the covariance of one 8-vector. Seven are a small similarity in odom
axes about a place p: translation v, rotation w (rad), log scale l; it moves a point x to
``x + v + w x (x - p) + l (x - p)``, so the error of a scale grows with the way that follows, and
that of a rotation with the lever to the place where it happened (Sim(3) adjoint, Strasdat 2012,
section 2.4). The eighth is the share by which all turns are too small or large, as they are where
the focal length is wrong; no overlap shows it, so that ``turn_share`` is given. A camera's own
noise in its window comes on top and is not handed on.

Covariances that are published are (6, 6): position x y z, then rotation about x y z, both in odom
axes, at the camera; odom units^2 and rad^2 (nav_msgs/Odometry with REP-103, fixed axes). The error
of a pose is ``[t_est - t_true, log(R_est R_true^T)]``.
"""

from dataclasses import astuple, dataclass, field, fields, replace
from typing import Optional, Tuple

import numpy as np

from ..geometry import se3
from ..types import FrameState, Prediction
from .overlap_noise import (
    Disagreement,
    disagreement,
    MIN_SIGMA_R,
    MIN_SIGMA_T,
    Noise,
    NoisePool,
)

TURN_SHARE = 0.01
"""Deviation to expect of the share by which turns are wrong: that of `sfm`'s focal length."""
_SCALE_WALK, _SCALE_OWN = 0.1, 0.45
"""Parts of the scale's variance between windows that stay in the chain, and that do not."""
_SCALE_CREEP = 0.008            # of the log scale inside a window, which no overlap shows
_FIT = 1.2                      # variance of a robust fit over that of the best
_GROWTH = 0.25                  # of the variance of a camera's noise, one overlap further
_GUESS_TURN_RAD, _GUESS_LOG_SCALE, _GUESS_DEPTHS = 0.1, 0.3, 0.1
"""Error of a guessed frame's rotation, of a guessed window's scale and position over depth."""
_DRIFT_TURN_RAD, _DRIFT_SHARE, _DRIFT_LOG_SCALE = 5e-4, 0.02, 0.005
"""Error a frame where a gauge goes on: of the rotation, over the step, of the log scale."""
_UNKNOWN_SHARE = 0.1            # of the way, where a stream goes on and nothing is known
_N_DEPTHS = 4000
_N_STATE = 93                   # numbers of a state before those of its pool


def lever(offset: np.ndarray, turn=0.0) -> np.ndarray:
    """Return (..., 8, 8) that takes errors at a camera at p to those at one at p + offset.

    ``offset`` is (..., 3); ``turn`` (..., 3) rad is the rotation from one to the other.
    """
    offset = np.asarray(offset, np.float64)
    J = np.zeros(offset.shape[:-1] + (8, 8))
    J[...] = np.eye(8)
    J[..., :3, 3:6] = -se3.hat(offset)
    J[..., :3, 6] = offset
    J[..., 3:6, 7] = turn
    return J


def compose(cov_odom_a: np.ndarray, T_odom_a: np.ndarray, T_a_b: np.ndarray,
            cov_a_b: np.ndarray) -> np.ndarray:
    """Return the covariance (6, 6) of T_odom_b = T_odom_a T_a_b, in odom axes at b.

    ``cov_odom_a`` is in odom axes at a; ``cov_a_b`` is in the axes and at the place of camera b:
    the true relative pose is T_a_b times a small motion (translation, then rotation) of that
    covariance. Both errors are taken as independent.
    """
    offset = T_odom_a[:3, :3] @ T_a_b[:3, 3]
    J = lever(offset)[:6, :6]
    turn = np.kron(np.eye(2), T_odom_a[:3, :3] @ T_a_b[:3, :3])
    return _symmetric(J @ cov_odom_a @ J.T + turn @ cov_a_b @ turn.T)


def to_base(cov: np.ndarray, T_odom_camera: np.ndarray, T_base_camera: np.ndarray) -> np.ndarray:
    """Return the covariance (6, 6) of T_odom_base in the axes of the base's odom, at the base.

    ``cov`` is of T_odom_camera in the camera's odom axes, at the camera. With E = T_base_camera,
    T_odom_base = E T_odom_camera E^-1 (`ros.base_motion`). The mounting is taken as exact.
    """
    R = T_base_camera[:3, :3]
    lever_base = R @ T_odom_camera[:3, :3] @ se3.inverse(T_base_camera)[:3, 3]
    turn = np.kron(np.eye(2), R)
    J = lever(lever_base)[:6, :6] @ turn
    return _symmetric(J @ cov @ J.T)


@dataclass(frozen=True, slots=True, eq=False)
class DriftState:
    """All that later covariances depend on, for going on after a restart."""

    first: np.ndarray                       # (3,) f64, odom units, the first camera
    first_depth: float                      # odom units, of the first window that has any; or 0
    place: np.ndarray                       # (4, 4) f64, odom units, camera at which P is
    P: np.ndarray                           # (8, 8) f64, of the chain of windows
    own_scale: float = 0.0                  # variance of the last window's log scale, not chained
    gap: np.ndarray = field(default_factory=lambda: np.zeros(8))    # variances, of lost frames
    pool: NoisePool = NoisePool()

    def to_array(self) -> np.ndarray:
        """Return all of it as one vector f64, from which `from_array` makes the same."""
        return np.concatenate([self.first, [self.first_depth], self.place.ravel(), self.P.ravel(),
                               [self.own_scale], self.gap, astuple(self.pool)])

    @classmethod
    def from_array(cls, values: np.ndarray) -> 'DriftState':
        """Return the state of `to_array`; ValueError for another length."""
        values = np.array(values, np.float64)
        n = _N_STATE + len(fields(NoisePool))
        if values.shape != (n,):
            raise ValueError(f'values: expected shape ({n},), got {values.shape}')
        return cls(values[:3], float(values[3]), values[4:20].reshape(4, 4),
                   values[20:84].reshape(8, 8), float(values[84]), values[85:93],
                   NoisePool(*values[_N_STATE:].tolist()))


class ChainUncertainty:
    """Follows the chain window by window; see the module's docstring.

    ``state`` is that of an earlier chain to go on from, None for a new stream. ``turn_share`` is
    the deviation of the share by which turns are wrong, 0 where the intrinsics are exact.
    """

    def __init__(self, state: Optional[DriftState] = None, turn_share: float = 0.0):
        self.state, self._turn_share = state, turn_share

    def add(self, previous: Optional[Prediction], aligned: Prediction, n_overlap: int,
            is_linked: bool = True, is_fitted: bool = True,
            log_scale_spread: float = 0.0) -> np.ndarray:
        """Return the covariances (K, 6, 6) of the frames after the ``n_overlap`` leading ones.

        ``previous`` and ``aligned`` are in odom; ``previous`` is None at the beginning.
        ``is_fitted`` is False where a window is put where the gauge of the whole stream says.
        ``log_scale_spread`` is that of the `Alignment`. NaN for lost frames.
        """
        found = _median_depth(aligned)
        depth = found or (self.state.first_depth if self.state else 0.0) or 1.0
        if self.state is None and previous is None:
            return self._begin(aligned, found)
        seen = disagreement(previous, aligned, depth)
        s = self.state or _unknown(previous, depth, self._turn_share)
        pool = s.pool.add(seen, log_scale_spread) if is_linked else s.pool
        noise = pool.noise(seen if is_linked else None)
        if not is_linked:
            added, own_scale = _of_guess(previous, aligned, n_overlap, depth), 0.0
        elif not is_fitted or _shares_gauge(previous, aligned):
            added, own_scale = _of_drift(aligned, n_overlap), 0.0
        else:
            added, own_scale = _of_link(previous, aligned, noise, seen, depth)
        place = np.array(aligned.T_window_camera[max(n_overlap, 1) - 1])
        place[:3, 3] = aligned.T_window_camera[:max(n_overlap, 1), :3, 3].mean(axis=0)
        P = _moved(s, place) + np.diag(added)
        P[6, 6] = max(P[6, 6], pool.seen_drift)
        self.state = replace(s, first_depth=s.first_depth or found, place=place, P=P,
                             own_scale=own_scale, pool=pool, gap=np.zeros(8))
        return self._of_frames(aligned, n_overlap, depth, noise)

    def _begin(self, aligned: Prediction, found: float) -> np.ndarray:
        depth = found or 1.0
        first = aligned.T_window_camera[0]
        P = np.diag(np.append(np.zeros(7), self._turn_share**2))
        self.state = DriftState(first[:3, 3], found, first, P)
        covariance = self._of_frames(aligned, 0, depth, self.state.pool.noise())
        if aligned.states[0] != FrameState.LOST:
            covariance[0] = np.diag(np.repeat([(MIN_SIGMA_T * depth)**2, MIN_SIGMA_R**2], 3))
        return covariance

    def _of_frames(self, aligned: Prediction, n_overlap: int, depth: float,
                   noise: Noise) -> np.ndarray:
        """Return the covariances (K, 6, 6) of the new frames of a window; remember its gaps."""
        s = self.state
        poses = aligned.T_window_camera[n_overlap:]
        centres = poses[:, :3, 3]
        offset = centres - s.place[:3, 3]
        J = lever(offset, _turn(s.place, poses))[:, :6]
        total = J @ s.P @ np.swapaxes(J, -1, -2)
        total[:, :3, :3] += s.own_scale * offset[:, :, None] * offset[:, None, :]
        k = np.arange(1.0, len(centres) + 1)
        growth = 1.0 + (_GROWTH * k / n_overlap if n_overlap else 0.0 * k)
        gaps = _of_gaps(aligned, n_overlap, depth)
        total += _diagonal(noise.position * depth**2 * growth + gaps[:, 0],
                           noise.rotation * growth + noise.trend * k**2 + gaps[:, 1])
        total += self._of_first(centres)
        total[aligned.states[n_overlap:] == FrameState.LOST] = np.nan
        # all later windows hang on what comes after a gap
        self.state = replace(s, gap=np.append(np.repeat(gaps[-1], 3), [0.0, 0.0]))
        return _symmetric(total)

    def _of_first(self, centres: np.ndarray) -> np.ndarray:
        """Return what the noise of the first camera, which is odom, adds at places (K, 3)."""
        s, noise = self.state, self.state.pool.noise()
        J = lever(centres - s.first)[:, :6, :6]
        Q = np.diag(np.repeat([noise.position * s.first_depth**2, noise.rotation], 3))
        return J @ Q @ np.swapaxes(J, -1, -2)


def _moved(state: DriftState, place: np.ndarray) -> np.ndarray:
    """Return P (8, 8) at another place of the last window, with that window's own errors."""
    offset = place[:3, 3] - state.place[:3, 3]
    J = lever(offset, _turn(state.place, place))
    P = J @ (state.P + np.diag(state.gap)) @ J.T
    P[:3, :3] += state.own_scale * np.outer(offset, offset)
    return P


def _of_link(previous: Prediction, aligned: Prediction, noise: Noise, seen: Disagreement,
             depth: float) -> Tuple[np.ndarray, float]:
    """Return the variances (8,) that a fit of the shared frames adds, and the own scale's.

    Each window brings its own noise of the shared cameras; where all stands, poses only repeat.
    """
    own_scale = _SCALE_OWN * noise.scale
    if (np.concatenate([previous.states, aligned.states]) == FrameState.STATIONARY).all():
        return np.zeros(8), own_scale
    share = _FIT * 2 / max(seen.n_shared, 1)
    n_new = len(aligned.frame_ids) - seen.n_shared
    # what turns too fast goes on to do so up to the next link
    position = share * noise.position * depth**2
    rotation = share * noise.rotation + noise.trend * n_new**2
    scale = _SCALE_WALK * noise.scale + _SCALE_CREEP**2
    return _variances(position, rotation, scale), own_scale


def _of_guess(previous: Prediction, aligned: Prediction, n_overlap: int,
              depth: float) -> np.ndarray:
    """Return the variances (8,) of a window that has no link: it may be anywhere near."""
    n_new = len(aligned.frame_ids) - n_overlap
    position = max(n_new * _step(previous), _GUESS_DEPTHS * depth)
    return _variances(position**2, n_new * _GUESS_TURN_RAD**2, _GUESS_LOG_SCALE**2)


def _of_drift(aligned: Prediction, n_overlap: int) -> np.ndarray:
    """Return the variances (8,) that a window adds whose gauge goes on."""
    n_new = len(aligned.frame_ids) - n_overlap
    steps = np.diff(aligned.T_window_camera[:, :3, 3], axis=0)
    return _variances(_DRIFT_SHARE**2 * float((steps**2).sum()), n_new * _DRIFT_TURN_RAD**2,
                      n_new * _DRIFT_LOG_SCALE**2)


def _of_gaps(aligned: Prediction, n_overlap: int, depth: float) -> np.ndarray:
    """Return variances (K, 2), position and rotation, of the lost frames up to each new one."""
    n_lost = np.cumsum(aligned.states[n_overlap:] == FrameState.LOST)
    step = max(_step(aligned), _GUESS_DEPTHS * depth / len(aligned.frame_ids))
    return np.stack([(n_lost * step)**2, n_lost * _GUESS_TURN_RAD**2], axis=-1)


def _unknown(previous: Prediction, depth: float, turn_share: float) -> DriftState:
    """Return a state for a stream that goes on without what was known of it."""
    place = previous.T_window_camera[-1]
    position = _UNKNOWN_SHARE * float(np.linalg.norm(place[:3, 3])) + _GUESS_DEPTHS * depth
    variances = _variances(position**2, _GUESS_TURN_RAD**2, _GUESS_LOG_SCALE**2, turn_share**2)
    return DriftState(np.zeros(3), depth, place, np.diag(variances))


def _variances(position: float, rotation: float, scale: float, turn: float = 0.0) -> np.ndarray:
    """Return variances (8,) of the state, position and rotation an axis."""
    return np.repeat([position, rotation, scale, turn], [3, 3, 1, 1])


def _turn(T_a: np.ndarray, T_b: np.ndarray) -> np.ndarray:
    """Return the rotation vectors (..., 3) rad from poses a to b, in odom axes."""
    return se3.so3_log(T_b[..., :3, :3] @ T_a[..., :3, :3].T)


def _shares_gauge(previous: Prediction, aligned: Prediction) -> bool:
    return aligned.gauge is not None and aligned.gauge == previous.gauge


def _step(prediction: Prediction) -> float:
    """Return the mean distance between neighbouring cameras, odom units."""
    steps = np.diff(prediction.T_window_camera[:, :3, 3], axis=0)
    return float(np.linalg.norm(steps, axis=1).mean()) if len(steps) else 0.0


def _median_depth(aligned: Prediction) -> float:
    """Return the median of some defined depths, 0 without any."""
    n, h, w = aligned.confidence.shape
    step = max(1, int(np.sqrt(n * h * w / _N_DEPTHS)))
    depth = aligned.depth[:, ::step, ::step]
    used = (aligned.confidence[:, ::step, ::step] > 0) & (depth > 0) & np.isfinite(depth)
    return float(np.median(depth[used])) if used.any() else 0.0


def _diagonal(position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return diagonal matrices (K, 6, 6) of variances (K,) an axis."""
    D = np.zeros((len(position), 6, 6))
    axes = np.arange(3)
    D[:, axes, axes], D[:, 3 + axes, 3 + axes] = position[:, None], rotation[:, None]
    return D


def _symmetric(C: np.ndarray) -> np.ndarray:
    return 0.5 * (C + np.swapaxes(C, -1, -2))
