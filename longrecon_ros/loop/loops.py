"""The graph of a stream as it grows, and the closures that bend it.

`Loops.take` is given each new submap once, in order, and owns all it needs: it can run in a thread
of its own. Lengths are odom units until a closure says otherwise.
"""

from dataclasses import dataclass
import time
from typing import Dict, Iterable, Mapping, Optional, Tuple

import numpy as np

from ..geometry.sim3 import Sim3
from ..types import Keyframe, LoopClosure
from .closer import Estimate, LoopCloser
from .pose_graph import Edge, PoseGraph

_DEPTH_FLOOR, _TURN_FLOOR_RAD, _SCALE_FLOOR = 0.02, 0.008, 0.02     # of closures
_BREAK = 30.0                               # how much less a window without a link is trusted
_LEAST_WEIGHT = 0.05                        # of a closure that the graph believes


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """Expected errors from one submap to the next; their ratios bend the graph."""

    drift_translation: float = 0.03         # of the way
    drift_depth: float = 0.005              # of the scene's depth, standing or not
    drift_rotation_deg: float = 0.4
    drift_log_scale: float = 0.04

    def __post_init__(self):
        for name in self.__slots__:
            if not 0 < getattr(self, name) <= 10:
                raise ValueError(f'{name}: expected above 0 and at most 10, got '
                                 f'{getattr(self, name)}')


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A new submap and its link to the one before."""

    submap_id: int
    previous_id: Optional[int]              # None: the first of its session
    T_previous_submap: Optional[Sim3]
    length: float                           # way from the one before, odom units
    depth: float                            # median of the scene, odom units
    is_linked: bool
    keyframe: Optional[Keyframe]            # None where there is nothing to recognise
    session: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Bent:
    """What a step did to the map."""

    closures: Tuple[LoopClosure, ...]       # that were taken
    poses: Dict[int, Sim3]                  # T_map_submap of all submaps so far, if any moved
    ms: float                               # what it took


class Loops:
    """Search, verification and optimisation behind one call; deterministic.

    ``graph`` and ``sessions`` (of each submap) are those of a map that the stream goes on in,
    ``located`` the sessions that lie in it. A session that begins in a loaded map is not located
    until a closure ties it to that: until then it lies in the frame of its own first submap
    (`is_located`). With ``remember`` False places of this stream are not learnt.
    """

    def __init__(self, closer: LoopCloser, drift: DriftConfig, graph: Optional[PoseGraph] = None,
                 sessions: Optional[Mapping[int, int]] = None, located: Iterable[int] = (0,),
                 remember: bool = True):
        self._closer, self._drift = closer, drift
        self._graph = PoseGraph() if graph is None else graph
        self._poses = dict(self._graph.poses)
        self._sessions: Dict[int, int] = dict(sessions or {})
        self._ways = _ways(self._sessions, self._poses)
        self._closed_at: Dict[int, float] = {}      # way of each session at its last closure
        self._located = set(located)
        self._remember = remember
        self._n_own = 0                     # keyframes of this run
        self._depth = 1.0                   # of the scene, last known

    @property
    def closer(self) -> LoopCloser:
        """Search and verification."""
        return self._closer

    @property
    def graph(self) -> PoseGraph:
        """All submaps and edges."""
        return self._graph

    def is_located(self, session: int) -> bool:
        """Say whether a session lies in the map."""
        return session in self._located

    def take(self, step: Step) -> Bent:
        """Put a submap into the graph, look for closures, and solve if there are any."""
        start_s = time.perf_counter()
        closures = self._looked(step)
        return Bent(closures, dict(self._poses) if closures else {},
                    1e3 * (time.perf_counter() - start_s))

    def _looked(self, step: Step) -> Tuple[LoopClosure, ...]:
        self._append(step)
        if step.keyframe is None:
            return ()
        found = self._closer.add(step.keyframe, Estimate(self._pose, self._way), self._n_own,
                                 self._remember)
        self._n_own += self._remember
        return tuple(closure for closure in found if self._try(closure))

    def _append(self, step: Step) -> None:
        before = step.previous_id
        if before is None:
            pose = Sim3.identity()
            self._ways[step.submap_id] = 0.0
        else:
            pose = self._pose(before) @ step.T_previous_submap
            self._ways[step.submap_id] = self._ways[before] + step.length
        self._sessions[step.submap_id] = step.session
        self._poses[step.submap_id] = pose
        self._graph.add_node(step.submap_id, pose)
        if before is not None:
            self._graph.add_edge(Edge(before, step.submap_id, step.T_previous_submap,
                                      self._sigma(step)))

    def _sigma(self, step: Step) -> np.ndarray:
        d, doubt = self._drift, 1.0 if step.is_linked else _BREAK
        # a window that is lost has no depth: that of the scene before is as good
        self._depth = step.depth if step.depth > 0 else self._depth
        u = d.drift_translation * step.length + d.drift_depth * self._depth
        return doubt * np.array([u] * 3 + [np.radians(d.drift_rotation_deg)] * 3
                                + [d.drift_log_scale])

    def _pose(self, submap_id: int) -> Sim3:
        return self._poses[submap_id]

    def _way(self, a: int, b: int) -> Optional[float]:
        """Return the length of the way on which two submaps may have drifted apart."""
        session_a, session_b = self._sessions[a], self._sessions[b]
        if session_a == session_b:
            return abs(self._ways[a] - self._ways[b])
        newest = max((session_a, a), (session_b, b))
        if newest[0] not in self._closed_at:
            return None
        return self._ways[newest[1]] - self._closed_at[newest[0]]

    def _try(self, closure: LoopClosure) -> bool:
        """Add a closure, solve, and take it out again if the graph does not believe it."""
        source, target = closure.source_id, closure.target_id
        session = self._sessions[source]
        if session not in self._located and self._sessions[target] in self._located:
            self._locate(session, closure)
        before = self._graph.copy()
        depth = self._closer.depth_of(source)
        u = max(closure.sigma, _DEPTH_FLOOR) * max(depth, 1e-9)
        sigma = np.array([u] * 3 + [_TURN_FLOOR_RAD] * 3 + [_SCALE_FLOOR])
        self._graph.add_edge(Edge(target, source, closure.T_target_source, sigma, is_loop=True))
        solution = self._graph.solve()
        if solution.loop_weights[-1] < _LEAST_WEIGHT:
            self._graph = before
            return False
        self._poses.update(solution.T_map_node)
        self._closed_at[session] = self._ways[source]
        return True

    def _locate(self, session: int, closure: LoopClosure) -> None:
        """Move a whole session to where its first closure says that it lies."""
        T = (self._pose(closure.target_id) @ closure.T_target_source
             @ self._pose(closure.source_id).inverse())
        moved = {i: T @ self._pose(i) for i, s in self._sessions.items() if s == session}
        self._graph.move(moved)
        self._poses.update(moved)
        self._located.add(session)


def _ways(sessions: Mapping[int, int], poses: Mapping[int, Sim3]) -> Dict[int, float]:
    """Return the way of each submap from the start of its session, along the submaps."""
    ways: Dict[int, float] = {}
    last: Dict[int, int] = {}
    for submap_id, session in sessions.items():
        before = last.get(session)
        ways[submap_id] = 0.0 if before is None else ways[before] + float(
            np.linalg.norm(poses[submap_id].t - poses[before].t))
        last[session] = submap_id
    return ways
