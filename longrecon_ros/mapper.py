"""The back end: aligned windows become submaps, places are found again, and the map bends.

odom is never touched: it goes on as the chain of windows says. Where a closure moves submaps, the
map moves over odom (REP-105), by `Mapper.T_map_odom`.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .alignment.bridging import median_depth
from .chain import Link
from .checkpoint import Checkpoint, ContinuedLoops, Resume
from .config import MapConfig
from .errors import ConfigError
from .geometry import se3
from .geometry.camera import pointmap_from_depth
from .geometry.sim3 import Sim3
from .loop.closer import Counts, LoopCloser
from .loop.features import make_keyframe
from .loop.loops import Bent, Loops, Step
from .loop.pose_graph import PoseGraph
from .loop.recognition import PlaceIndex
from .loop.settings import LoopConfig
from .loop.window import frames_of, place_together
from .map_store import MapRecord, Session
from .mapping.atlas import Atlas
from .mapping.normals import normals
from .mapping.pose_log import PoseLog
from .mapping.submap import build_submap, key_frame, place
from .mapping.tiles import believed
from .mapping.voxel_map import VoxelMap
from .types import (
    Frame,
    Keyframe,
    LoopClosure,
    PointCloud,
    Prediction,
    Submap,
    Trajectory,
    View,
    Window,
)


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """What a window adds to the map."""

    cloud: PointCloud                       # its new frames, odom
    T_map_odom: np.ndarray                  # (4, 4) rigid
    closures: Tuple[LoopClosure, ...]       # that became sure meanwhile
    loop_ms: float                          # search and optimisation that ended meanwhile
    inline_ms: float                        # what of it was part of `Mapper.add`


class Mapper:
    """Takes the windows of one stream, in odom, in their order.

    With ``use_thread`` closures are searched and the graph is solved in a thread of its own, at
    most ``loop.max_waiting`` windows behind; results then depend on its pace. Without, everything
    is done when `add` returns, and results are the same every time. ``predict``, if given, is what
    the backbone says of images of their own: closures are then looked at once more by it.
    ``base`` is a map to go on in, in a session of its own; ``resume`` has what a session goes on
    from that another process began.
    """

    def __init__(self, map: MapConfig, loop: LoopConfig, use_thread: bool = False,
                 base: Optional[MapRecord] = None, is_mapping: bool = True,
                 predict: Optional[Callable[[Sequence[Frame]], Prediction]] = None,
                 resume: Optional[Resume] = None):
        self._predict = predict
        self._map, self._loop, self._base, self._is_mapping = map, loop, base, is_mapping
        self.atlas = Atlas(int(map.budget_mb * 1e6), map.thin_share)
        self.poses = PoseLog()
        self._first_id = self.session = 0
        own = None if resume is None else resume.checkpoint
        self._base = base if own is None else own.base()
        record = base if own is None else own.record
        self._files = dict(record.files) if record else {}
        self._is_resumed = resume is not None
        self._loops = self._begin('words') if record is None else self._go_on(record, resume)
        self._pool = ThreadPoolExecutor(1, 'loops') if use_thread and loop.use else None
        self._pending: Deque[Future] = deque()
        self._T_odom_submap: Dict[int, np.ndarray] = {}
        self._last: Optional[int] = None
        self._T_map_odom = np.eye(4)
        self.closures: List[LoopClosure] = []
        self.n_bends = 0                    # times that submaps were moved
        self._loop_ms = 0.0                 # of `_taken_from`, since the last window
        self._untold: Tuple[LoopClosure, ...] = ()      # closures that no `Mapped` has told
        self._T_map_start = np.eye(4)       # T_map_odom of the first submap
        if resume is not None:
            self._restore(resume)

    def _begin(self, kind: str) -> Loops:
        closer = self._closer(PlaceIndex(self._loop.recognition(), kind), [])
        return (ContinuedLoops if self._is_resumed else Loops)(closer, self._loop.drift())

    def _go_on(self, record: MapRecord, resume: Optional[Resume]) -> Loops:
        """Take in a map from disk, or all of it that was there when another process ended."""
        index = PlaceIndex.from_state(self._loop.recognition(), record.places)
        graph = PoseGraph()
        for submap_id, pose in record.poses.items():
            self.atlas.add_file(submap_id, pose, record.files[submap_id])
            graph.add_node(submap_id, pose)
        for edge in record.edges:
            graph.add_edge(edge)
        older = {} if self._base is None else self._base.poses
        if not self._is_mapping:
            graph.fix(older)
        self._first_id = max(older, default=-1) + 1
        self.session = max(self._base.sessions, default=-1) + 1 if self._base else 0
        located = [i for i, session in record.sessions.items() if session.is_located]
        given = (self._closer(index, list(record.place_ids)), self._loop.drift(), graph,
                 record.session_of, located, self._is_mapping)
        if resume is None:
            return Loops(*given)
        if resume.checkpoint is None and resume.tail.is_located:
            located.append(self.session)
        return ContinuedLoops(*given, resume.checkpoint)

    def _restore(self, resume: Resume) -> None:
        """Go on in the session of another process, or, without a checkpoint, where it was."""
        own, tail = resume.checkpoint, resume.tail
        if own is None:
            next_id = self._first_id + tail.n_windows
            self._T_map_start = self._T_map_odom = np.array(tail.T_map_odom)
            self.n_bends = int((self._T_map_start != np.eye(4)).any())
        else:
            self.poses = PoseLog.from_state(own.poses)
            self._T_odom_submap = dict(own.T_odom_submap)
            self._last = next_id = next(reversed(self._T_odom_submap))
            self.closures, self.n_bends = list(own.closures), own.n_bends
            self._use_tokens = str(own.record.places['kind']) == 'tokens'
            if not self._is_odom:
                self._T_map_odom = self._newest(tail.prediction.T_window_camera[-1])
        # what the checkpoint has not; what it has is no worse
        self.poses.add(tail.prediction, tail.stamps_ns, False, next_id)

    def _choose_kind(self, first: Prediction) -> None:
        """Know places by what the backbone says of images, if it does, else by words."""
        has_tokens = first.tokens is not None and self._loop.recognize_by == 'auto'
        if self._base is None:
            self._loops = self._begin('tokens' if has_tokens else 'words')
        self._use_tokens = (has_tokens if self._base is None
                            else str(self._base.places['kind']) == 'tokens')
        if self._use_tokens and first.tokens is None:
            raise ConfigError('the map knows places by what a network says of images, and this '
                              'run has none: run it with the backbone that made the map')

    def _closer(self, index: PlaceIndex, ids: List[int]) -> LoopCloser:
        return LoopCloser(index, ids, self._keyframe, self._loop.closure(), self._loop.min_gap,
                          self._loop.max_drift, self._loop.n_confirm,
                          None if self._predict is None else self._look_again)

    @property
    def is_located(self) -> bool:
        """True when the stream lies in the map; in one from disk that is after a closure."""
        return self._loops.is_located(self.session)

    def record(self, voxel_m: float, **about: Any) -> MapRecord:
        """Return the whole map, to be saved; ``about`` are further fields of `MapRecord`.

        Waits for closures. Not for a stream that only localises: its submaps would be in it.
        """
        self._untold += self.wait()
        base, own = self._base, Session(self.trajectory(), self.poses.states(), self.is_located)
        sessions = {**(base.sessions if base else {}), self.session: own}
        session_of = {**(base.session_of if base else {}),
                      **{i: self.session for i in self._T_odom_submap}}
        closer = self._loops.closer
        return MapRecord(self.atlas.poses(), session_of, sessions,
                         tuple(self._loops.graph.edges), closer.index.state(),
                         tuple(closer.submap_ids), voxel_m, files=dict(self._files), **about)

    def checkpoint(self, record: MapRecord, first_stamp_ns: int) -> Optional[Checkpoint]:
        """Return what a later process goes on from; None before the first window.

        ``record`` is that of now, ``first_stamp_ns`` tells the stream from others.
        """
        if not self._T_odom_submap:
            return None
        return Checkpoint(record, self.session, first_stamp_ns, self.poses.state(),
                          dict(self._T_odom_submap), tuple(self.closures), self.n_bends)

    @property
    def counts(self) -> Counts:
        """What became of all candidates."""
        return self._loops.closer.counts

    @property
    def T_map_odom(self) -> np.ndarray:
        """(4, 4) rigid: takes the newest camera from odom to its place in the map."""
        return self._T_map_odom

    def add(self, window: Window, link: Link) -> Mapped:
        """Put a window into the map; see the class for when closures come."""
        self._loop_ms, aligned = 0.0, link.aligned
        stamps_ns = window.stamps_ns
        if not self._T_odom_submap:
            self._choose_kind(aligned)
        submap = self._submap(window, link, stamps_ns)
        self.poses.add(aligned, stamps_ns, link.linked, submap.id)
        T_odom = aligned.T_window_camera[window.n_overlap]
        step = self._step(submap, T_odom, median_depth(aligned), link.linked)
        if self._last is None or self._is_odom:
            pose = Sim3.from_rigid(self._T_map_start @ T_odom)
        else:
            pose = self.atlas.pose(self._last) @ step.T_previous_submap
        self.atlas.add(submap, pose)
        self._T_odom_submap[submap.id], self._last = T_odom.copy(), submap.id
        closures, self._untold = self._untold + self._bend(step), ()
        if not self._is_odom:
            self._T_map_odom = self._newest(aligned.T_window_camera[-1])
        return Mapped(place(submap, T_odom), self._T_map_odom, closures, self._loop_ms,
                      self._loop_ms if self._pool is None else 0.0)

    def wait(self) -> Tuple[LoopClosure, ...]:
        """Wait until all submaps were searched for closures; return what that gave."""
        return self._taken(wait=True)

    def close(self) -> None:
        """End the thread, and remove what the map has on disk."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self.atlas.close()

    @property
    def _is_odom(self) -> bool:
        """True as long as nothing was bent: then the map is odom, to the last bit."""
        return not self.n_bends

    def trajectory(self) -> Trajectory:
        """Return a pose for every frame so far, in the map."""
        if self._is_odom or not self._T_odom_submap:
            return self.poses.trajectory()
        return self.poses.corrected(self._T_odom_submap, self.atlas.poses())

    def loop_rows(self) -> np.ndarray:
        """Return rows (L, 2) of the trajectory, one in each submap that a closure ties.

        Closures with submaps of another session are left out.
        """
        rows = self.poses.first_rows()
        ends = [(c.target_id, c.source_id) for c in self.closures
                if c.target_id in rows and c.source_id in rows]
        return np.array([[rows[i] for i in pair] for pair in ends], np.int64).reshape(-1, 2)

    def _submap(self, window: Window, link: Link, stamps_ns: np.ndarray) -> Submap:
        """Return the submap of a window, with a keyframe and a view if it has what they need."""
        aligned, config = link.aligned, self._map
        key = key_frame(aligned, window.n_overlap)
        use_view = key is not None and config.keep_views and aligned.K is not None
        submap = build_submap(aligned, stamps_ns, window.n_overlap,
                              self._first_id + window.index,
                              config.min_confidence, config.points_per_frame,
                              config.remove_floating,
                              key if use_view else None)
        if key is None or not self._loop.use:
            return submap
        T = submap.T_submap_camera[key - window.n_overlap]
        token = aligned.tokens[key].copy() if self._use_tokens else None
        keyframe = make_keyframe(aligned, key, submap.id, T, self._loop.n_features, token)
        return submap if keyframe is None else replace(submap, keyframes=(keyframe,))

    def _step(self, submap: Submap, T_odom: np.ndarray, depth: float, is_linked: bool) -> Step:
        relative, length = None, 0.0
        if self._last is not None:
            T = se3.relative(self._T_odom_submap[self._last], T_odom)
            relative, length = Sim3.from_rigid(T), float(np.linalg.norm(T[:3, 3]))
        elif self._is_resumed:
            relative = Sim3.from_rigid(self._T_map_start @ T_odom)
        keyframe = submap.keyframes[0] if submap.keyframes else None
        return Step(submap.id, self._last, relative, length, depth, is_linked, keyframe,
                    self.session)

    def _bend(self, step: Step) -> Tuple[LoopClosure, ...]:
        """Have closures searched; return those that became sure."""
        if not self._loop.use:
            return ()
        if self._pool is None:
            return self._taken_from(self._loops.take(step))
        self._pending.append(self._pool.submit(self._loops.take, step))
        return self._taken(wait=len(self._pending) > self._loop.max_waiting)

    def _taken(self, wait: bool) -> Tuple[LoopClosure, ...]:
        closures: Tuple[LoopClosure, ...] = ()
        while self._pending and (wait or self._pending[0].done()):
            closures += self._taken_from(self._pending.popleft().result())
        return closures

    def _taken_from(self, bent: Bent) -> Tuple[LoopClosure, ...]:
        """Move the map to where a solution says; submaps that it does not know yet follow."""
        self._loop_ms += bent.ms
        if bent.poses:
            moved, previous = dict(bent.poses), None
            for submap_id in self._T_odom_submap:
                if submap_id not in moved:
                    T = se3.relative(self._T_odom_submap[previous],
                                     self._T_odom_submap[submap_id])
                    moved[submap_id] = moved[previous] @ Sim3.from_rigid(T)
                previous = submap_id
            self.atlas.move(moved)
            self.closures.extend(bent.closures)
            self.n_bends += 1
        return bent.closures

    def _newest(self, T_odom_camera: np.ndarray) -> np.ndarray:
        T_submap_camera = se3.relative(self._T_odom_submap[self._last], T_odom_camera)
        T_map_camera = self.atlas.pose(self._last).apply_to_poses(T_submap_camera)
        T = T_map_camera @ se3.inverse(T_odom_camera)
        return se3.from_parts(se3.nearest_rotation(T[:3, :3]), T[:3, 3])

    def _look_again(self, target_id: int, source_id: int) -> Optional[Sim3]:
        """Return where two keyframes' cameras lie by a prediction of both images together."""
        views = [self.atlas.submap(i).views for i in (target_id, source_id)]
        if not all(views):
            return None
        pair = views[0][0], views[1][0]
        return place_together(self._predict(frames_of(*pair)), *pair)

    def _keyframe(self, submap_id: int) -> Optional[Keyframe]:
        keyframes = self.atlas.submap(submap_id).keyframes
        return keyframes[0] if keyframes else None


def fused(atlas: Atlas, voxel_m: float, max_points: int, use_views: bool = True) -> PointCloud:
    """Return the cloud of all submaps where they lie now, one point a voxel.

    With ``use_views`` points that views of the same or a near submap contradict stay out.
    """
    voxels = VoxelMap(voxel_m, max_points) if voxel_m else None
    if voxels is not None:
        fuse(atlas, voxels, 0, use_views)
    return PointCloud.empty() if voxels is None else voxels.cloud()


def with_normals(atlas: Atlas, voxel_m: float, max_points: int) -> PointCloud:
    """Return the cloud of all pixels of all views, one point with its normal a voxel."""
    voxels = VoxelMap(voxel_m, max_points)
    for view in atlas.views():
        local, is_good = pointmap_from_depth(view.depth, view.K), view.depth > 0
        R = view.T_submap_camera[:3, :3].astype(np.float32)
        voxels.insert(PointCloud(se3.apply(view.T_submap_camera, local[is_good]),
                                 view.rgb[is_good], normals(local, is_good)[is_good] @ R.T))
    return voxels.cloud()


def fuse(atlas: Atlas, voxels: VoxelMap, start: int, use_views: bool) -> None:
    """Put the submaps from a position on into voxels, where they lie now; see `fused`."""
    near: Dict[int, List[View]] = {}
    for submap_id in atlas.ids[start:]:
        submap = atlas.submap(submap_id)
        cloud = atlas.cloud_of(submap)
        keep = believed(atlas, submap, near) if use_views else np.ones(len(submap.points), bool)
        weights = None if submap.weights is None else submap.weights[keep]
        voxels.insert(PointCloud(cloud.points[keep], cloud.colors[keep]), weights)


def located_atlas(record: MapRecord, budget_bytes: int) -> Tuple[Atlas, List[int]]:
    """Return the submaps of a map from disk that lie in its frame, and the sessions that do not.

    Those are left out.
    """
    lost = [i for i, session in record.sessions.items() if not session.is_located]
    atlas = Atlas(budget_bytes)
    for submap_id, pose in record.poses.items():
        if record.session_of[submap_id] not in lost:
            atlas.add_file(submap_id, pose, record.files[submap_id])
    return atlas, lost
