"""From a new keyframe to closures that may touch the graph: search, verify, doubt, confirm.

After the verification of a single pair (`closure`) three doubts remain, and each can say no:

* **Drift**: a closure says how far the estimate has drifted since; more than ``max_drift`` of the
  way in between is not drift but another place that looks the same.
* **Look-alikes**: where a keyframe fits a place that drift rules out better than one it allows,
  neither is believed.
* **Confirmation**: a closure waits until another keyframe nearby finds the same one; then both
  count.
"""

from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Optional, Set, Tuple

import numpy as np

from ..geometry import se3
from ..geometry.sim3 import Sim3
from ..types import Keyframe, LoopClosure
from .closure import ClosureConfig, Match, verify
from .recognition import PlaceIndex

_NEAR_KEYFRAMES = 4                         # a confirmation comes from so near, in the stream
_FRESH, _REST_KEYFRAMES = 6, 3              # after so many closures in a row the next say the same
_ROW_ENDS = 10                              # keyframes without a closure: it is another place
_MOST_TURN_DEG, _MOST_LOG_SCALE = 30.0, np.log(1.8)     # of drift, however long the way
_AGREE_DEG, _AGREE_LOG_SCALE, _AGREE_SHARE = 5.0, 0.15, 0.12


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What the closer must know of the map when it doubts; all of it may change between calls."""

    pose: Callable[[int], Sim3]             # T_map_submap by number
    way: Callable[[int, int], Optional[float]]
    """Length of the way between two submaps, map units; None: nothing is known of how they lie."""


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A verified pair of keyframes."""

    position: int                           # of the source in the stream
    target: Keyframe
    source: Keyframe
    match: Match

    @property
    def T_target_source(self) -> Sim3:
        """From the source's submap to the target's."""
        to_target = Sim3.from_rigid(self.target.T_submap_camera)
        return (to_target @ self.match.T_target_source
                @ Sim3.from_rigid(self.source.T_submap_camera).inverse())


@dataclass(slots=True)
class Counts:
    """What became of the candidates, for diagnostics."""

    n_candidates: int = 0
    n_verified: int = 0
    n_too_far: int = 0                      # ruled out by drift
    n_ambiguous: int = 0
    n_denied: int = 0                       # by a second look
    n_accepted: int = 0


class LoopCloser:
    """Finds closures for the keyframes of a stream, in their order; deterministic.

    ``keyframe_of`` returns the keyframe of a submap by its number. ``index`` may hold places of an
    older map. ``look_again`` is asked, if there is one, where the keyframe's camera of one submap
    lies in that of another; a closure that it denies is dropped, and else takes its answer.
    """

    def __init__(self, index: PlaceIndex, submap_ids: List[int],
                 keyframe_of: Callable[[int], Optional[Keyframe]], closure: ClosureConfig,
                 min_gap: int, max_drift: float, n_confirm: int,
                 look_again: Optional[Callable[[int, int], Optional[Sim3]]] = None):
        self._index, self._ids = index, submap_ids      # submap of each position of the index
        self._keyframe_of, self._closure = keyframe_of, closure
        self._min_gap, self._max_drift, self._n_confirm = min_gap, max_drift, n_confirm
        self._look_again = look_again
        self._waiting: List[_Found] = []
        self._accepted: Set[Tuple[int, int]] = set()
        self._depths: Dict[int, float] = {}
        self._n_seen = 0                    # keyframes of this stream
        self._accepted_at, self._in_a_row = -_ROW_ENDS, 0
        self.counts = Counts()

    @property
    def index(self) -> PlaceIndex:
        """All places."""
        return self._index

    @property
    def submap_ids(self) -> List[int]:
        """The submap of each position of the index."""
        return self._ids

    def depth_of(self, submap_id: int) -> float:
        """Return the median depth of the features of a submap's keyframe, odom units."""
        return self._depths[submap_id]

    def add(self, keyframe: Keyframe, estimate: Estimate, n_own: int,
            remember: bool = True) -> List[LoopClosure]:
        """Take the next keyframe; return the closures that are sure now.

        ``n_own`` is how many of the newest places are of this stream: only such are too near in
        time to be asked. With ``remember`` the keyframe becomes a place.
        """
        since = self._n_seen - self._accepted_at
        self._in_a_row = 0 if since > _ROW_ENDS else self._in_a_row
        is_due = self._in_a_row < _FRESH or since >= _REST_KEYFRAMES
        candidates = self._index.query(keyframe, min(self._min_gap, n_own)) if is_due else []
        self._depths[keyframe.submap_id] = _depth(keyframe)
        self._n_seen += 1
        if remember:
            self._index.add(keyframe)
            self._ids.append(keyframe.submap_id)
        self.counts.n_candidates += len(candidates)
        found = [self._verified(self._ids[c.keyframe], keyframe) for c in candidates]
        best = self._undoubted([item for item in found if item is not None], estimate)
        self._waiting = [w for w in self._waiting if self._n_seen - w.position <= _NEAR_KEYFRAMES]
        return [] if best is None else self._confirmed(best, estimate)

    def _verified(self, target_id: int, source: Keyframe) -> Optional[_Found]:
        target = self._keyframe_of(target_id)
        match = None if target is None else verify(target, source, self._closure)
        if match is None:
            return None
        self.counts.n_verified += 1
        return _Found(self._n_seen, target, source, match)

    def _undoubted(self, found: List[_Found], estimate: Estimate) -> Optional[_Found]:
        """Return the best pair that drift allows, unless one that it rules out fits better."""
        is_possible = [self._is_possible(item, estimate) for item in found]
        self.counts.n_too_far += is_possible.count(False)
        allowed = [item for item, fine in zip(found, is_possible) if fine]
        if not allowed:
            return None
        best = max(allowed, key=lambda item: item.match.n_inliers)
        if any(item.match.n_inliers > best.match.n_inliers
               for item, fine in zip(found, is_possible) if not fine):
            self.counts.n_ambiguous += 1
            return None
        return best

    def _is_possible(self, item: _Found, estimate: Estimate) -> bool:
        """Say whether drift can explain how far a closure is from the estimate."""
        target_id, source_id = item.target.submap_id, item.source.submap_id
        way = estimate.way(target_id, source_id)
        if way is None:
            return True
        T_map_target = estimate.pose(target_id)
        claimed = (T_map_target @ item.T_target_source).apply(item.source.T_submap_camera[:3, 3])
        actual = estimate.pose(source_id).apply(item.source.T_submap_camera[:3, 3])
        depth = T_map_target.scale * _depth(item.target)
        error = (estimate.pose(source_id).inverse() @ T_map_target @ item.T_target_source)
        return bool(np.linalg.norm(claimed - actual) <= self._max_drift * way + 0.3 * depth
                    and np.degrees(se3.rotation_angle(error.R)) <= _MOST_TURN_DEG
                    and abs(np.log(error.scale)) <= _MOST_LOG_SCALE)

    def _confirmed(self, new: _Found, estimate: Estimate) -> List[LoopClosure]:
        """Return the new closure and those that it confirms, if enough agree."""
        agreeing = [old for old in self._waiting if _agree(old, new, estimate)]
        self._waiting.append(new)
        if len(agreeing) + 1 < self._n_confirm:
            return []
        closures = []
        for item in (*agreeing, new):
            key = item.target.submap_id, item.source.submap_id
            if key not in self._accepted:
                self._accepted.add(key)
                looked = self._looked_again(item)
                if looked is not None:
                    closures.append(_closure(looked))
        self.counts.n_accepted += len(closures)
        if closures:
            self._accepted_at, self._in_a_row = self._n_seen, self._in_a_row + 1
        return closures

    def _looked_again(self, item: _Found) -> Optional[_Found]:
        """Return a closure as the second look has it; None where that denies it."""
        if self._look_again is None:
            return item
        T = self._look_again(item.target.submap_id, item.source.submap_id)
        if T is not None:
            apart = T.inverse() @ item.match.T_target_source
            if (np.linalg.norm(apart.t) <= _AGREE_SHARE * _depth(item.source)
                    and np.degrees(se3.rotation_angle(apart.R)) <= _AGREE_DEG
                    and abs(np.log(apart.scale)) <= _AGREE_LOG_SCALE):
                return replace(item, match=replace(item.match, T_target_source=T))
        self.counts.n_denied += 1
        return None


def _agree(a: _Found, b: _Found, estimate: Estimate) -> bool:
    """Say whether two closures are one: by the way around both they come out where they began."""
    pose = estimate.pose
    ends = [(item.target.submap_id, item.source.submap_id) for item in (a, b)]
    if ends[0][1] == ends[1][1]:
        return False
    T_targets = pose(ends[1][0]).inverse() @ pose(ends[0][0])
    T_sources = pose(ends[0][1]).inverse() @ pose(ends[1][1])
    loop = b.T_target_source.inverse() @ T_targets @ a.T_target_source @ T_sources
    ways = [estimate.way(ends[0][side], ends[1][side]) or 0.0 for side in (0, 1)]
    length = (_depth(b.source) + sum(ways) / pose(ends[1][1]).scale)
    return bool(np.linalg.norm(loop.t) <= _AGREE_SHARE * length
                and np.degrees(se3.rotation_angle(loop.R)) <= _AGREE_DEG
                and abs(np.log(loop.scale)) <= _AGREE_LOG_SCALE)


def _closure(item: _Found) -> LoopClosure:
    match = item.match
    sigma = float(np.linalg.norm(match.sigma[:3])) / max(_depth(item.target), 1e-9)
    return LoopClosure(item.target.submap_id, item.source.submap_id, item.T_target_source,
                       match.n_inliers, sigma)


def _depth(keyframe: Keyframe) -> float:
    """Return the median depth of the features, odom units; 0 without any."""
    z = keyframe.points[np.isfinite(keyframe.points[:, 2]), 2]
    return float(np.median(z)) if len(z) else 0.0
