"""What outlasts the process of a stream: its tail, and its map on disk.

A process that is killed takes the backbone's memory and the map with it. Two things are kept
outside: the `Tail`, which is what the next window is aligned to, and a `Checkpoint`, which is the
map as it was a while ago. A new process goes on from both (`Resume`), in the same odom and, as far
as the checkpoint reaches, in the same map. Without a checkpoint the map begins anew, at its place.
"""

from dataclasses import dataclass, replace
from pathlib import Path
import time
from typing import Any, Dict, Iterable, List, Mapping, Optional, Protocol, Tuple
import weakref

import numpy as np

from .errors import InputError
from .geometry.sim3 import Sim3
from .loop.closer import LoopCloser
from .loop.loops import DriftConfig, Loops, Step
from .loop.pose_graph import PoseGraph
from .map_store import load_map_with, MANIFEST, MapRecord, remove_map, save_map
from .tail import Tail
from .types import LoopClosure, Submap

_PART = 'stream'


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A map, and what else it takes to go on in the session that made it.

    ``record`` holds the whole map: that which the stream began in, if any, and its own session.
    """

    record: MapRecord
    session: int
    first_stamp_ns: int                     # of the stream
    poses: Mapping[str, np.ndarray]         # `PoseLog.state`
    T_odom_submap: Mapping[int, np.ndarray]     # (4, 4) of the session's submaps, in their order
    closures: Tuple[LoopClosure, ...] = ()  # of the session, in their order
    n_bends: int = 0

    def base(self) -> Optional[MapRecord]:
        """Return the map that the stream began in; None for none. Its places are those of all."""
        record = self.record
        sessions = {i: s for i, s in record.sessions.items() if i != self.session}
        session_of = {i: s for i, s in record.session_of.items() if s != self.session}
        if not sessions:
            return None
        return replace(record, sessions=sessions, session_of=session_of,
                       poses={i: record.poses[i] for i in session_of},
                       files={i: record.files[i] for i in session_of})


@dataclass(frozen=True, slots=True, eq=False)
class Resume:
    """What a stream goes on from; ValueError where checkpoint and tail are of two streams."""

    checkpoint: Optional[Checkpoint]        # None: the map begins anew
    tail: Tail

    def __post_init__(self):
        if self.checkpoint is None:
            return
        if self.checkpoint.first_stamp_ns != self.tail.first_stamp_ns:
            raise ValueError('checkpoint: is of a stream that began at '
                             f'{self.checkpoint.first_stamp_ns} ns, the tail of one that began '
                             f'at {self.tail.first_stamp_ns} ns')
        if len(self.checkpoint.T_odom_submap) > self.tail.n_windows:
            raise ValueError(f'checkpoint: holds {len(self.checkpoint.T_odom_submap)} windows, '
                             f'the tail has seen {self.tail.n_windows}')


class ContinuedLoops(Loops):
    """The graph of a stream that goes on: what it had learnt of its session is there again.

    The first new submap is tied to the last one of the checkpoint by where both lie in odom.
    Without a checkpoint the session begins where `Step.T_previous_submap` of its first step says.
    """

    def __init__(self, closer: LoopCloser, drift: DriftConfig, graph: Optional[PoseGraph] = None,
                 sessions: Optional[Mapping[int, int]] = None, located: Iterable[int] = (0,),
                 remember: bool = True, own: Optional[Checkpoint] = None):
        super().__init__(closer, drift, graph, sessions, located, remember)
        if own is None:
            return
        at = {i: T[:3, 3] for i, T in own.T_odom_submap.items()}
        self._ways.update(_lengths(at))
        if own.closures:
            self._closed_at[own.session] = self._ways[own.closures[-1].source_id]
        self._n_own = sum(self._sessions[i] == own.session for i in closer.submap_ids)

    def _append(self, step: Step) -> None:
        super()._append(step)
        if step.previous_id is None and step.T_previous_submap is not None:
            self._poses[step.submap_id] = step.T_previous_submap
            self._graph.move({step.submap_id: step.T_previous_submap})

    def _sigma(self, step: Step) -> np.ndarray:
        # windows that died with their process lie in between, and each has drifted
        return np.sqrt(step.submap_id - step.previous_id) * super()._sigma(step)


def _lengths(places: Mapping[int, np.ndarray]) -> Dict[int, float]:
    """Return the way from the first place to each, along all."""
    steps = np.diff(np.stack(list(places.values())), axis=0)
    ways = np.concatenate([[0.0], np.cumsum(np.linalg.norm(steps, axis=1))])
    return dict(zip(places, ways.tolist()))


class _Mapper(Protocol):
    """What a `Checkpointer` must know of a map."""

    @property
    def atlas(self) -> Any:
        """The submaps."""


class _Stream(Protocol):
    """What a `Checkpointer` must know of a pipeline."""

    @property
    def mapper(self) -> _Mapper:
        """The map; another object for another stream."""

    def checkpoint(self) -> Optional[Checkpoint]:
        """Return the state of the map; None before the first window."""


class Checkpointer:
    """Writes checkpoints of one pipeline into a folder of their own.

    A save writes the submaps that are new, and tables that grow with the map by a few kilobytes a
    window. A kill at any moment leaves the checkpoint before or the new one.
    """

    def __init__(self, folder: Path):
        self._folder = Path(folder)
        self._files: Dict[int, Path] = {}
        self._mapper: Optional[weakref.ref] = None

    def save(self, pipeline: _Stream) -> float:
        """Write a checkpoint; return what it took, ms. Before the first window nothing is done.

        Waits for closures that are being searched. For the thread that registers windows. Raises
        InputError where it cannot be written: then the one before is still there.
        """
        start_s = time.perf_counter()
        checkpoint = pipeline.checkpoint()
        if checkpoint is not None:
            mapper = pipeline.mapper
            if self._mapper is None or self._mapper() is not mapper:
                # another stream, whose submaps have the same numbers
                self._mapper, self._files = weakref.ref(mapper), {}
            record = replace(checkpoint.record,
                             files={**checkpoint.record.files, **self._files})

            def submap(i: int) -> Submap:
                return mapper.atlas.submap(i)
            self._files = save_map(self._folder, record, submap, {_PART: _arrays(checkpoint)})
        return 1e3 * (time.perf_counter() - start_s)

    def clear(self) -> None:
        """Remove the checkpoint; the next stream must not go on from it."""
        self._files = {}
        remove_map(self._folder)


def load_checkpoint(folder: Path) -> Optional[Checkpoint]:
    """Return the checkpoint of a folder, None if there is none; its submaps stay in their files.

    All checksums are compared. Raises InputError where it is damaged, newer, or a map that is no
    checkpoint. The files must stay while a stream goes on from it; a `Checkpointer` of the same
    folder takes care of that.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        return None
    record, parts = load_map_with(folder)
    if _PART not in parts:
        raise InputError(f'{folder}: holds a map and no checkpoint: choose another folder')
    try:
        return _checkpoint(record, parts[_PART])
    except (KeyError, ValueError) as error:
        raise InputError(f'{folder}: the checkpoint is damaged ({error}); remove it') from None


def _arrays(checkpoint: Checkpoint) -> Dict[str, np.ndarray]:
    closures, T = checkpoint.closures, checkpoint.T_odom_submap
    transforms = [c.T_target_source for c in closures]
    return {
        'session': np.int64(checkpoint.session), 'n_bends': np.int64(checkpoint.n_bends),
        'first_stamp_ns': np.int64(checkpoint.first_stamp_ns),
        'submap_ids': np.array(list(T), np.int64),
        'T_odom_submap': np.array(list(T.values())).reshape(-1, 4, 4),
        'ends': np.array([(c.target_id, c.source_id) for c in closures], np.int64).reshape(-1, 2),
        'scale': np.array([S.scale for S in transforms]),
        'R': np.array([S.R for S in transforms]).reshape(-1, 3, 3),
        't': np.array([S.t for S in transforms]).reshape(-1, 3),
        'n_inliers': np.array([c.n_inliers for c in closures], np.int64),
        'sigma': np.array([c.sigma for c in closures]),
        **{f'log_{name}': value for name, value in checkpoint.poses.items()}}


def _checkpoint(record: MapRecord, arrays: Mapping[str, np.ndarray]) -> Checkpoint:
    poses = {name.removeprefix('log_'): value for name, value in arrays.items()
             if name.startswith('log_')}
    T = dict(zip(arrays['submap_ids'].tolist(), arrays['T_odom_submap']))
    session = int(arrays['session'])
    own = [i for i, s in record.session_of.items() if s == session]
    if not T or set(own) != set(T):
        raise ValueError(f'{len(own)} submaps of its session, {len(T)} poses')
    return Checkpoint(record, session, int(arrays['first_stamp_ns']), poses, T,
                      tuple(_closures(arrays)), int(arrays['n_bends']))


def _closures(arrays: Mapping[str, np.ndarray]) -> List[LoopClosure]:
    rows = zip(arrays['ends'].tolist(), arrays['scale'], arrays['R'], arrays['t'],
               arrays['n_inliers'].tolist(), arrays['sigma'].tolist())
    return [LoopClosure(target, source, Sim3(scale, R, t), n_inliers, sigma)
            for (target, source), scale, R, t, n_inliers, sigma in rows]
