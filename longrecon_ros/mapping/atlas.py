"""The map: submaps whose points never move, and where each of them lies.

A closure changes poses only. Submaps in memory take no more than a budget of bytes: beyond it the
ones that were not used for longest are thinned, then written to a folder, from where they come
back when they are asked for (viewed, matched, saved).
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
import functools
from pathlib import Path
import shutil
import tempfile
import threading
from typing import Dict, Iterator, List, Mapping, Optional
import weakref

import numpy as np

from ..errors import InputError
from ..geometry.sim3 import Sim3
from ..types import PointCloud, Submap, View
from .submap_file import read_submap, write_submap


def _locked(method):
    """Let one thread at a time be inside."""
    @functools.wraps(method)
    def call(self, *arguments, **options):
        with self._lock:
            return method(self, *arguments, **options)
    return call


@dataclass(frozen=True, slots=True)
class AtlasStatus:
    """How much there is, and where."""

    n_submaps: int
    n_thinned: int
    n_on_disk: int
    n_bytes: int                            # in memory
    n_disk_bytes: int


class Atlas:
    """Submaps and their poses ``T_map_submap``, within ``budget_bytes`` of memory.

    ``thin_share`` of the points stay in a submap that is thinned, evenly spread over it.
    ``folder`` is where submaps go that do not fit: it is made when it is needed, and what was put
    there goes with `close`; None: a temporary one. Raises InputError where the disk is full: the
    submap then stays in memory. May be used from several threads.
    """

    _KEPT = 2                               # newest submaps, which are neither thinned nor moved

    def __init__(self, budget_bytes: int, thin_share: float = 0.25,
                 folder: Optional[Path] = None):
        if budget_bytes < 1:
            raise ValueError(f'budget_bytes: expected 1 or more, got {budget_bytes}')
        if not 0 < thin_share <= 1:
            raise ValueError(f'thin_share: expected above 0 and at most 1, got {thin_share}')
        self._budget, self._thin_share, self._wanted_folder = budget_bytes, thin_share, folder
        self._folder: Optional[Path] = None
        self._poses: Dict[int, Sim3] = {}
        self._memory: 'OrderedDict[int, Submap]' = OrderedDict()    # least recently used first
        self._thinned: set = set()
        self._files: Dict[int, Path] = {}   # of submaps that are on disk as they are now
        self._n_bytes = 0
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._poses)

    @property
    def ids(self) -> List[int]:
        """Numbers of all submaps, in the order in which they came."""
        return list(self._poses)

    @_locked
    def add(self, submap: Submap, T_map_submap: Sim3, file: Optional[Path] = None) -> None:
        """Take a submap; raises ValueError for a number that is taken.

        ``file`` is one that holds it already, which must stay: then it can leave memory at no
        cost.
        """
        if submap.id in self._poses:
            raise ValueError(f'submap.id: {submap.id} is taken')
        self._poses[submap.id] = T_map_submap
        if file is not None:
            self._files[submap.id] = Path(file)
        self._put(submap)
        self._make_room()

    @_locked
    def add_file(self, submap_id: int, T_map_submap: Sim3, file: Path) -> None:
        """Take a submap that is in a file, which must stay; it is read when it is asked for."""
        if submap_id in self._poses:
            raise ValueError(f'submap_id: {submap_id} is taken')
        self._poses[submap_id], self._files[submap_id] = T_map_submap, Path(file)

    def pose(self, submap_id: int) -> Sim3:
        """Return T_map_submap."""
        return self._poses[submap_id]

    @_locked
    def poses(self) -> Dict[int, Sim3]:
        """Return T_map_submap of all submaps, by number."""
        return dict(self._poses)

    @_locked
    def move(self, poses: Mapping[int, Sim3]) -> None:
        """Give submaps other poses; raises KeyError for a number that is not there."""
        unknown = [i for i in poses if i not in self._poses]
        if unknown:
            raise KeyError(f'poses: there is no submap {unknown[0]}')
        self._poses.update(poses)

    @_locked
    def submap(self, submap_id: int) -> Submap:
        """Return a submap, from the disk if it is there; raises InputError where it is damaged."""
        if submap_id in self._memory:
            self._memory.move_to_end(submap_id)
            return self._memory[submap_id]
        submap = read_submap(self._files[submap_id])
        self._put(submap)
        self._make_room(keep=submap_id)
        return submap

    def submaps(self) -> Iterator[Submap]:
        """Yield all submaps in their order; those on disk take no place in memory."""
        for submap_id in self.ids:
            with self._lock:
                known = self._memory.get(submap_id)
            yield read_submap(self._files[submap_id]) if known is None else known

    def cloud_of(self, submap: Submap) -> PointCloud:
        """Return the points of a submap in the map."""
        return PointCloud(self._poses[submap.id].apply(submap.points), submap.colors)

    def views(self) -> Iterator[View]:
        """Yield all views in the map: their ``T_submap_camera`` is T_map_camera here.

        Depths are scaled along with the submap.
        """
        for submap in self.submaps():
            yield from self._placed(submap)

    def views_of(self, submap_id: int) -> List[View]:
        """Return the views of one submap; see `views`."""
        return list(self._placed(self.submap(submap_id)))

    def _placed(self, submap: Submap) -> Iterator[View]:
        T = self._poses[submap.id]
        for view in submap.views:
            yield replace(view, T_submap_camera=T.apply_to_poses(view.T_submap_camera),
                          depth=view.depth * np.float32(T.scale))

    @_locked
    def status(self) -> AtlasStatus:
        """Return how much there is, and where."""
        on_disk = [i for i in self._poses if i not in self._memory]
        own = [path for path in self._files.values() if path.parent == self._folder]
        return AtlasStatus(len(self._poses), len(self._thinned), len(on_disk), self._n_bytes,
                           sum(path.stat().st_size for path in own if path.exists()))

    @_locked
    def close(self) -> None:
        """Remove what was put on disk; the atlas is not to be used any more."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def _put(self, submap: Submap) -> None:
        self._memory[submap.id] = submap
        self._n_bytes += submap.n_bytes

    def _make_room(self, keep: Optional[int] = None) -> None:
        """Thin, then move to disk, until the budget is kept or nothing is left to be done."""
        if self._n_bytes <= self._budget:
            return
        newest = set(list(self._poses)[-self._KEPT:]) | {keep}
        old = [i for i in self._memory if i not in newest]
        for submap_id in old:
            # a file that is there holds all points: to leave memory loses none
            if submap_id not in self._thinned and submap_id not in self._files:
                self._thin(submap_id)
                if self._n_bytes <= self._budget:
                    return
        for submap_id in old:
            self._move_out(submap_id)
            if self._n_bytes <= self._budget:
                return

    def _thin(self, submap_id: int) -> None:
        submap = self._memory[submap_id]
        n = len(submap.points)
        chosen = np.linspace(0, n - 1, max(1, round(self._thin_share * n))).astype(int) \
            if n else np.zeros(0, int)
        # copies: a view of an array would keep all of it
        thinned = replace(submap, points=submap.points[chosen].copy(),
                          colors=submap.colors[chosen].copy(),
                          weights=None if submap.weights is None
                          else submap.weights[chosen].copy())
        self._n_bytes += thinned.n_bytes - submap.n_bytes
        self._memory[submap_id] = thinned
        self._thinned.add(submap_id)

    def _move_out(self, submap_id: int) -> None:
        submap = self._memory[submap_id]
        if submap_id not in self._files:
            path = self._own_folder() / f'submap{submap_id:06d}.npz'
            try:
                write_submap(path, submap)
            except OSError as error:
                raise InputError(f'{path}: the map does not fit into its budget of memory, and '
                                 f'cannot be written ({error.strerror}): make room on the disk, '
                                 'or raise map.budget_mb') from None
            self._files[submap_id] = path
        del self._memory[submap_id]
        self._n_bytes -= submap.n_bytes

    def _own_folder(self) -> Path:
        if self._folder is None:
            parent = self._wanted_folder
            if parent is not None:
                Path(parent).mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix='longrecon_map_', dir=parent))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder
