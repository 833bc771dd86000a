"""From the image of a reference that came late to the newest image, in few steps of flow."""

from dataclasses import dataclass
from typing import List, Optional

import numpy as np

from ..geometry import se3
from .following import advance, Followed, in_view, is_good, Refill, Step
from .history import Seen
from .points import Landmarks, spread
from .settings import TrackingConfig

_N_EXTRA = 4
"""Flows of the first reference's way that may fail."""
_N_KNOWN = 3
"""Flows of a later reference, after the jump."""


@dataclass(slots=True, eq=False)
class Walk:
    """A way along images, in strides that get shorter where one fails; it can be interrupted."""

    landmarks: Landmarks
    origin: Followed
    refill: Refill
    config: TrackingConfig
    now: Followed                               # the last image that was reached
    previous: Optional[Followed] = None         # and the one before
    stride: int = 1                             # images
    is_blind: bool = False                      # the guess has failed: next without
    is_stuck: bool = False                      # even the next image cannot be reached

    def go(self, path: List[Seen], n_flows: int) -> List[Step]:
        """Walk along the images after `now` by at most so many flows; return the good steps."""
        done, at = [], -1
        while n_flows > 0 and at < len(path) - 1 and not self.is_stuck:
            n_flows -= 1
            to = min(at + self.stride, len(path) - 1)
            guess = None if self.is_blind else self._guess(path[to])
            step = advance(self.landmarks, self.origin, self.now, path[to], guess, self.config)
            if is_good(step, self.now, to - at, self.config):
                done.append(step)
                at = to
                self._reached(step.followed)
            else:
                self._failed(guess is None, to - at)
        return done

    def _reached(self, followed: Followed) -> None:
        self.previous, self.now, self.is_blind = self.now, followed, False
        if self.refill.is_due(followed):
            self.now = self.refill(self.landmarks, self.origin, followed)

    def _failed(self, was_blind: bool, n_images: int) -> None:
        if was_blind and n_images == 1:
            self.is_stuck = True
        elif was_blind:
            self.stride = max(1, n_images // 2)
        self.is_blind = not was_blind

    def _guess(self, seen: Seen) -> Optional[np.ndarray]:
        known = _known_motion(self.now, seen, self.origin)
        return _constant_motion(self.previous, self.now, seen) if known is None else known


def catch_up(walk: Walk, path: List[Seen], is_first: bool) -> List[Step]:
    """Follow landmarks from the reference's image along later ones, up to the last.

    ``path`` are images after it, in order. Where an older reference gave poses, one jump is tried
    first: they predict the pixels. Else the way is cut into pieces, at most `n_catch_up` of them
    for the first reference and few for a later one, and into smaller ones where one fails.
    Returns the good steps; none, or a last one that ends before the last image, means that the
    walk has not arrived: it may go on.
    """
    origin, config = walk.origin, walk.config
    guess = _known_motion(origin, path[-1])
    if guess is not None:
        start = in_view(walk.landmarks, origin, path[-1], guess, config)
        step = advance(walk.landmarks, origin, start, path[-1], guess, config)
        if is_good(step, origin, len(path), config):
            return [step]
    n_pieces = config.n_catch_up if is_first else min(_N_KNOWN, config.n_catch_up)
    walk.stride = -(-len(path) // n_pieces)
    return walk.go(path, n_pieces + _N_EXTRA if is_first else _N_KNOWN)


def begin(landmarks: Landmarks, origin: Followed, refill: Refill, config: TrackingConfig) -> Walk:
    """Return a walk that starts in the reference's image."""
    some = np.sort(spread(origin.uv, origin.seen.lens.size, config.n_points))
    return Walk(landmarks, origin, refill, config, origin.only(some))


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
