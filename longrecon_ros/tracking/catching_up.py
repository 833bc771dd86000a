"""From the image of a reference that came late to the newest image, in few steps of flow."""

from typing import List, Optional, Tuple

import numpy as np

from ..geometry import se3
from .following import advance, Followed, in_view, is_good, Refill, Step
from .history import Seen
from .points import Landmarks, spread
from .settings import TrackingConfig

_N_PIECES = 2
"""Of the way, where older poses predict the pixels."""
_N_EXTRA = 4
"""Steps that may fail."""


def catch_up(landmarks: Landmarks, origin: Followed, path: List[Seen], refill: Refill,
             config: TrackingConfig) -> List[Step]:
    """Follow landmarks from the reference's image along later ones, up to the last.

    ``path`` are images after it, in order. Where an older reference gave poses, one jump is tried
    first: they predict the pixels. Else the way is cut into pieces, at most `n_catch_up` of them,
    and into smaller ones where one fails, but not for long. Returns the good steps; none, or a
    last one that ends before the last image, means that this failed.
    """
    goal = path[-1]
    guess = _known_motion(origin, goal)
    if guess is not None:
        start = in_view(landmarks, origin, goal, guess, config)
        step = advance(landmarks, origin, start, goal, guess, config)
        if is_good(step, origin, len(path), config):
            return [step]
    return _walk(landmarks, origin, path, refill, config, guess is not None)


def _walk(landmarks: Landmarks, origin: Followed, path: List[Seen], refill: Refill,
          config: TrackingConfig, is_known: bool) -> List[Step]:
    n_pieces = _N_PIECES if is_known else config.n_catch_up
    stride, n_tries = -(-len(path) // n_pieces), n_pieces + _N_EXTRA
    at, done, previous = -1, [], None
    now = origin.only(np.sort(spread(origin.uv, origin.seen.lens.size, config.n_points)))
    while n_tries > 0 and at < len(path) - 1:
        to = min(at + stride, len(path) - 1)
        guess = _known_motion(now, path[to], origin)
        guess = _constant_motion(previous, now, path[to]) if guess is None else guess
        step, n_tried = _tried(landmarks, origin, now, path[to], guess, to - at, config)
        n_tries -= n_tried
        if step is not None:
            done.append(step)
            at, previous, now = to, now, step.followed
            now = refill(landmarks, origin, now) if refill.is_due(now) else now
        elif to == at + 1:
            break
        else:
            stride = max(1, (to - at) // 2)
    return done


def _tried(landmarks: Landmarks, origin: Followed, now: Followed, seen: Seen,
           guess: Optional[np.ndarray], n_images: int, config: TrackingConfig
           ) -> Tuple[Optional[Step], int]:
    """A good step into an image, by the guess or without; and how many were tried."""
    guesses = [None] if guess is None else [guess, None]
    for n_tried, way in enumerate(guesses, start=1):
        step = advance(landmarks, origin, now, seen, way, config)
        if is_good(step, now, n_images, config):
            return step, n_tried
    return None, len(guesses)


def _known_motion(start: Followed, seen: Seen, origin: Optional[Followed] = None
                  ) -> Optional[np.ndarray]:
    """The pose (4, 4) of an image by the motion that older references measured; None if unknown.
    """
    before = (start if origin is None else origin).seen.T_odom_camera
    if before is None or seen.T_odom_camera is None or start.seen.T_odom_camera is None:
        return None
    return start.T_odom_camera @ se3.relative(start.seen.T_odom_camera, seen.T_odom_camera)


def _constant_motion(previous: Optional[Followed], now: Followed, seen: Seen
                     ) -> Optional[np.ndarray]:
    if previous is None or now.seen.stamp_ns <= previous.seen.stamp_ns:
        return None
    share = (seen.stamp_ns - now.seen.stamp_ns) / (now.seen.stamp_ns - previous.seen.stamp_ns)
    return se3.interpolate(previous.T_odom_camera, now.T_odom_camera, 1 + min(share, 3.0))
