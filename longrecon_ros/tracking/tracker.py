"""A pose for every image between the windows of a slow backbone.

1. `Tracker.add` keeps the image. Without a reference there is nothing to say.
2. `Tracker.set_reference` takes up a pointmap that belongs to an image some way back: corners of
   that image get their 3-D points from it and are followed to the newest image (`catching_up`).
3. From then on every image is reached by flow from the one before, there and back, and its pose
   is the one with which most points agree (`following`, `pnp`). A guess of the motion only says
   where the search for each point begins.
4. Points that leave the view are replaced by others of the reference, found in its own image.
   Where those run out, new ones are triangulated on the way (`renewing`).
5. Where too few agree the image is LOST. The next ones are tried from the last good image and
   from the reference's, in turn, in one way an image. Where a reference came in the meantime and
   its way is long, that way comes first, one flow an image.
"""

from dataclasses import replace
import logging
from typing import List, Optional, Tuple

import numpy as np

from ..geometry import se3
from ..types import FrameState
from .catching_up import begin, catch_up, Walk
from .following import advance, Followed, in_view, is_good, Refill, Step
from .history import History, Seen
from .pnp import Prior
from .points import choose, Landmarks
from .records import Camera, Reference, TrackedPose
from .renewing import moved, Renewal
from .settings import TrackingConfig

log = logging.getLogger(__name__)

_MAX_COAST = 3
"""Images over which the last motion still predicts anything."""
_REFILL_EVERY = 3
_FEW_SHARE = 0.25
"""Of `n_points`: a reference with fewer in the newest image will soon be lost."""
_MAX_CORRECTION_SIGMA = 0.03
"""Deviation, in median depths, of a pose by such a reference that is still of use."""


class Tracker:
    """Measures the pose of every image of one camera; bounded in memory and in time an image.

    Not thread safe: one thread calls it. All images must have one size; `reset` begins anew.
    """

    def __init__(self, config: TrackingConfig):
        self._config = config
        self.reset()

    def reset(self) -> None:
        """Forget all images and the reference; the next image may have another size."""
        self._history = History(self._config.n_history, self._config.width_px)
        self._landmarks: Optional[Landmarks] = None
        self._origin: Optional[Followed] = None     # all landmarks in their own image
        self._now: Optional[Followed] = None        # points in the last good image
        self._newest: Optional[Followed] = None     # the last good image, of any reference
        self._refill: Optional[Refill] = None
        self._reference_id: Optional[int] = None
        self._walk: Optional[Walk] = None           # the way to the newest image, where it is long
        self._motion: Optional[np.ndarray] = None   # (6,) a second, in the camera's frame
        self._renewal = Renewal(self._config)
        self._n_missed = 0                          # images since the last good one
        self._n_since_refill = 0

    @property
    def newest(self) -> Optional[Tuple[int, np.ndarray]]:
        """Frame id and T_odom_camera (4, 4) of the last good image; None without a reference.

        `set_reference` may give the same image another pose.
        """
        now = self._now
        return None if now is None else (now.seen.frame_id, now.T_odom_camera)

    @property
    def reference_id(self) -> Optional[int]:
        """Frame id of the reference that is tracked against; None without one."""
        return self._reference_id

    def add(self, frame_id: int, stamp_ns: int, image: np.ndarray, camera: Camera
            ) -> Optional[TrackedPose]:
        """Return the pose of the next image (H0, W0, 3) uint8 RGB or (H0, W0), LOST if need be.

        None while there is no reference. Raises ValueError for an image of another type or size,
        or a ``frame_id`` that is not above the last one.
        """
        seen = self._history.add(frame_id, stamp_ns, image, camera)
        if self._landmarks is None:
            return None
        seen.is_answered = True
        if seen.is_blank:
            step = None
        else:
            step = self._measured(seen) if self._walk is None else self._walked(seen)
        if step is None:
            self._n_missed += 1
            return self._lost(seen)
        self._accept(step)
        return _pose(step)

    def set_reference(self, reference: Reference) -> List[TrackedPose]:
        """Track against another pointmap from now on, if that of the newest image is found in it.

        Returns poses of later images that `add` could say nothing about: they come with the
        first reference, in order. Where there are more than `n_catch_up`, some are left out.
        A reference is ignored when its image is not kept any more, when too few of its pixels
        are of use, or when it does not reach the newest image and the present one does. Where
        the present one is lost, too, `add` goes on with the way. Where it reaches the newest
        image with few points, only its pose is taken. After the first reference all this takes
        at most 4 flows with their refinements.
        """
        images = self._history.since(reference.frame_id)
        if not images:
            log.debug('reference %d: its image is not kept any more', reference.frame_id)
            return []
        seen, config = images[0], self._config
        landmarks = choose(seen.gray, reference, seen.lens, config)
        if len(landmarks) < config.min_inliers:
            log.debug('reference %d: only %d points of use', reference.frame_id, len(landmarks))
            return []
        origin = Followed(seen, reference.T_odom_camera, np.arange(len(landmarks)), landmarks.uv)
        refill = Refill(len(landmarks), config)
        path = [image for image in images[1:] if not image.is_blank]
        walk = begin(landmarks, origin, refill, config)
        steps = catch_up(walk, path, self._landmarks is None) if path else []
        has_arrived = not path or (bool(steps) and steps[-1].followed.seen is path[-1])
        is_lost = self._now is None or self._n_missed > 0
        if not has_arrived and not is_lost:
            log.debug('reference %d: not found in the newest image', reference.frame_id)
            return []
        if not is_lost and steps and self._is_thin(steps[-1]):
            self._correct(origin, steps[-1])
            return []
        self._landmarks, self._origin, self._refill = landmarks, origin, refill
        self._reference_id, self._renewal = reference.frame_id, Renewal(config)
        self._walk = None if has_arrived or walk.is_stuck else walk
        self._take_up(origin, steps, images)
        news = [_pose(step) for step in steps if not step.followed.seen.is_answered]
        for image in images:
            # what is older than a pose that was given gets none any more
            image.is_answered |= image.frame_id <= self._now.seen.frame_id
        return news

    def _is_thin(self, step: Step) -> bool:
        """Tell whether a reference came to far fewer points than are followed now."""
        n = len(step.followed.which)
        return n < _FEW_SHARE * self._config.n_points and 2 * n < len(self._now.which)

    def _correct(self, origin: Followed, step: Step) -> None:
        """Take a pose of the newest image from a reference, and keep the present landmarks."""
        now, fit = self._now, step.fit
        if np.sqrt(np.diag(fit.covariance)[:3].max()) > _MAX_CORRECTION_SIGMA * fit.depth:
            log.debug('reference %d: hardly found in the newest image', origin.seen.frame_id)
            return
        self._landmarks, self._origin = moved(
            self._landmarks, self._origin, now.T_odom_camera, fit, origin.T_odom_camera[:3, 3],
            self._config)
        self._now = self._newest = replace(now, T_odom_camera=fit.T_odom_camera)
        self._reference_id, self._renewal = origin.seen.frame_id, Renewal(self._config)
        origin.seen.T_odom_camera = origin.T_odom_camera
        now.seen.T_odom_camera = fit.T_odom_camera

    def _take_up(self, origin: Followed, steps: List[Step], images: List[Seen]) -> None:
        here = [origin] + [step.followed for step in steps]
        self._now = here[-1] if steps else in_view(self._landmarks, origin, origin.seen,
                                                   origin.T_odom_camera, self._config)
        if self._motion is None or self._n_missed:
            self._motion = None
            if steps:
                self._remember_motion(*here[-2:])
        # a motion is between poses of one reference
        origin.seen.T_odom_camera = origin.T_odom_camera
        if self._newest is None or self._now.seen.frame_id >= self._newest.seen.frame_id:
            self._newest = self._now
        for followed in here[1:]:
            followed.seen.T_odom_camera = followed.T_odom_camera
        self._n_missed = sum(image.frame_id > self._now.seen.frame_id for image in images)
        self._n_since_refill = _REFILL_EVERY

    def _walked(self, seen: Seen) -> Optional[Step]:
        """Go on towards the newest image by one flow; None unless it is reached."""
        images = self._history.since(self._walk.now.seen.frame_id)
        path = [image for image in images[1:] if not image.is_blank]
        for step in self._walk.go(path, 1):
            if step.followed.seen is seen:
                self._walk = None
                return step
            self._accept(step)
            self._n_missed = sum(image.frame_id > step.followed.seen.frame_id
                                 for image in images[:-1])
        if not path or self._walk.is_stuck:
            self._walk = None
        return None

    def _measured(self, seen: Seen) -> Optional[Step]:
        """Follow the points into an image: in up to two ways after a good one, else in one."""
        now, config = self._now, self._config
        n_images, prior = self._n_missed + 1, None
        if self._n_missed == 0:
            expected = self._predicted(seen)
            ways, prior = [(now, expected), (now, None)], self._prior(seen, expected)
        elif self._n_missed < _MAX_COAST and self._n_missed % 2 == 0:
            ways = [(now, self._predicted(seen))]
        elif self._n_missed % 2:
            ways = [(now, None)]
        else:
            ways = [(in_view(self._landmarks, self._origin, seen, now.T_odom_camera, config),
                     now.T_odom_camera)]
        for start, guess in ways:
            step = advance(self._landmarks, self._origin, start, seen, guess, config, prior)
            if is_good(step, now, n_images, config):
                return step
        return None

    def _prior(self, seen: Seen, expected: np.ndarray) -> Optional[Prior]:
        """Return how sure the expected pose is that follows a good image; None if not at all."""
        dt_s = (seen.stamp_ns - self._now.seen.stamp_ns) * 1e-9
        if self._motion is None or dt_s <= 0:
            return None
        return Prior(expected, self._config.sigma_acceleration * dt_s**2)

    def _predicted(self, seen: Seen) -> np.ndarray:
        T = self._now.T_odom_camera
        if self._motion is None:
            return T
        dt_s = (seen.stamp_ns - self._now.seen.stamp_ns) * 1e-9
        return T @ se3.exp(self._motion * max(0.0, dt_s))

    def _accept(self, step: Step) -> None:
        self._remember_motion(self._now, step.followed)
        self._now, self._newest, self._n_missed = step.followed, step.followed, 0
        step.followed.seen.T_odom_camera = step.followed.T_odom_camera
        self._n_since_refill += 1
        if self._n_since_refill >= _REFILL_EVERY and self._refill.is_due(self._now):
            self._now = self._refill(self._landmarks, self._origin, self._now)
            self._n_since_refill = 0
            return
        renewed = self._renewal(self._landmarks, self._now, step.fit)
        if renewed is not None:
            self._landmarks, self._now = renewed
            self._origin, self._refill = self._now, Refill(len(self._now.which), self._config)

    def _remember_motion(self, before: Followed, after: Followed) -> None:
        dt_s = (after.seen.stamp_ns - before.seen.stamp_ns) * 1e-9
        relative = se3.relative(before.T_odom_camera, after.T_odom_camera)
        self._motion = se3.log(relative) / dt_s if dt_s > 0 else None

    def _lost(self, seen: Seen) -> TrackedPose:
        return TrackedPose(seen.frame_id, seen.stamp_ns, self._newest.T_odom_camera,
                           np.diag(np.full(6, np.inf)), 0, 0, float('nan'), FrameState.LOST)


def _pose(step: Step) -> TrackedPose:
    seen, fit = step.followed.seen, step.fit
    return TrackedPose(seen.frame_id, seen.stamp_ns, fit.T_odom_camera, fit.covariance,
                       int(fit.is_inlier.sum()), step.n_found, fit.rmse_px, FrameState.TRACKED)
