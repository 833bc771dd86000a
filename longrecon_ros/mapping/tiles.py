"""The map in pieces that can be sent: most of what a closure changes is where they lie.

Submaps that follow each other are one tile. Its points are given in its own axes, those of its
first submap, at the map's scale; its pose is rigid. Where a closure bends the map, tiles move as
wholes as long as their submaps keep their places in them, so that poses are all there is to send.
"""

from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from ..geometry import se3
from ..geometry.sim3 import Sim3
from ..types import PointCloud, Submap, View
from .atlas import Atlas
from .free_space import Evidence
from .voxel_map import VoxelMap

MOST_POINTS = 500_000
_NEAR = 2                                   # submaps to each side whose views tell of a submap


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A piece of the map."""

    id: int                                 # number of its first submap
    revision: int                           # goes up by 1 whenever its points change
    T_map_tile: np.ndarray                  # (4, 4) f64 rigid
    cloud: PointCloud                       # tile axes, map units


@dataclass(frozen=True, slots=True, eq=False)
class TileChanges:
    """What became of the map since the last time."""

    poses: Mapping[int, np.ndarray]         # T_map_tile (4, 4) of all tiles, by number
    contents: Tuple[Tile, ...]              # those whose points are new


class _Group:
    """A tile without its points: a few hundred bytes a submap."""

    def __init__(self):
        self.ids: List[int] = []
        self.corners: List[np.ndarray] = []     # (8, 3) f64 of each submap's points, its frame
        self.n_points = 0                       # voxels of its submaps, each for itself
        self.revision = -1                      # of the points that were given last
        self.turn = 0                           # call that gave them
        self.given: List[Sim3] = []             # T_tile_submap in these
        self.seen: List[Sim3] = []              # T_map_submap when last compared

    def T_map_tile(self, poses: Mapping[int, Sim3]) -> np.ndarray:
        first = poses[self.ids[0]]
        return se3.from_parts(first.R, first.t)

    def places(self, poses: Mapping[int, Sim3]) -> List[Sim3]:
        """Return T_tile_submap of the submaps."""
        T = Sim3.from_rigid(se3.inverse(self.T_map_tile(poses)))
        return [T @ poses[i] for i in self.ids]

    def is_stale(self, poses: Mapping[int, Sim3], limit_m: float) -> bool:
        """Tell whether submaps came, or points moved in the tile by more than a limit."""
        if len(self.given) != len(self.ids):
            return True
        now = [poses[i] for i in self.ids]
        if len(now) == len(self.seen) and all(a is b for a, b in zip(now, self.seen)):
            return False
        # a difference of similarities is largest at a corner of what it acts on
        moved = max(np.linalg.norm(a.apply(box) - b.apply(box), axis=1).max()
                    for a, b, box in zip(self.places(poses), self.given, self.corners))
        if moved <= limit_m:
            self.seen = now
        return bool(moved > limit_m)


class Tiles:
    """Groups the submaps of one atlas into tiles, and tells which of them changed.

    A tile has ``max_points`` at most, one a voxel. With ``use_views`` points that views of the
    same or a near submap contradict stay out. Nothing of the points is kept here. For one thread;
    the atlas may get submaps and poses from another.
    """

    def __init__(self, max_points: int = 200_000, use_views: bool = True):
        if not 1 <= max_points <= MOST_POINTS:
            raise ValueError(f'max_points: expected 1 to {MOST_POINTS}, got {max_points}')
        self._max_points, self._use_views = max_points, use_views
        self._groups: List[_Group] = []
        self._n_known = 0                   # submaps that are in tiles
        self._n_calls = 0                   # of `changes`

    def __len__(self) -> int:
        return len(self._groups)

    def changes(self, atlas: Atlas, voxel_m: float,
                max_contents: Optional[int] = None) -> TileChanges:
        """Take in what is new in the atlas; return all poses, and the tiles whose points changed.

        These are tiles that are new or have grown, which only the newest one can, and tiles whose
        points moved in them by more than half a voxel since they were given last. Beyond
        ``max_contents`` (2 or more; None: no limit) they wait for the next call, the newest one
        not. Raises ValueError for a voxel that is not above 0.
        """
        if not 0 < voxel_m < np.inf:
            raise ValueError(f'voxel_m: expected a finite number above 0, got {voxel_m}')
        if max_contents is not None and max_contents < 2:
            raise ValueError(f'max_contents: expected 2 or more, got {max_contents}')
        poses = atlas.poses()
        self._take_in(atlas, list(poses), voxel_m)
        stale = [group for group in self._groups if group.is_stale(poses, voxel_m / 2)]
        if max_contents is not None and len(stale) > max_contents:
            # those that wait for longest, and the newest one, which has grown
            stale = sorted(stale[:-1], key=lambda g: g.turn)[:max_contents - 1] + stale[-1:]
        self._n_calls += 1
        contents = []
        for group in stale:
            group.given, group.revision = group.places(poses), group.revision + 1
            group.seen, group.turn = [poses[i] for i in group.ids], self._n_calls
            contents.append(self._content(atlas, group, poses, voxel_m))
        return TileChanges({g.ids[0]: g.T_map_tile(poses) for g in self._groups}, tuple(contents))

    def all(self, atlas: Atlas, voxel_m: float) -> Iterator[Tile]:
        """Yield all tiles that `changes` has given, one at a time, with their points of now.

        For those who come late, or have lost something.
        """
        for group in list(self._groups):
            if group.revision >= 0:
                yield self._content(atlas, group, atlas.poses(), voxel_m)

    def _take_in(self, atlas: Atlas, ids: List[int], voxel_m: float) -> None:
        """Put new submaps into the newest tile, or into a new one where that is full."""
        for i in ids[self._n_known:]:
            submap = atlas.submap(i)
            n = _n_voxels(submap.points * atlas.pose(i).scale, voxel_m)
            if not self._groups or self._groups[-1].n_points + n > self._max_points:
                self._groups.append(_Group())
            group = self._groups[-1]
            group.ids.append(i)
            group.n_points += n
            group.corners.append(_corners(submap.points))
        self._n_known = len(ids)

    def _content(self, atlas: Atlas, group: _Group, poses: Mapping[int, Sim3],
                 voxel_m: float) -> Tile:
        voxels = VoxelMap(voxel_m, 4 * MOST_POINTS)
        near: Dict[int, List[View]] = {}
        for i, T in zip(list(group.ids), group.places(poses)):
            submap = atlas.submap(i)
            keep = believed(atlas, submap, near) if self._use_views else slice(None)
            weights = None if submap.weights is None else submap.weights[keep]
            voxels.insert(PointCloud(T.apply(submap.points[keep]), submap.colors[keep]), weights)
        return Tile(group.ids[0], group.revision, group.T_map_tile(poses),
                    _at_most(voxels.cloud(), self._max_points))


def believed(atlas: Atlas, submap: Submap, near: Dict[int, List[View]]) -> np.ndarray:
    """Return (P,) bool, False for points of a submap that views of it or near ones contradict.

    ``near`` keeps the views for the next submap; it holds those of a few.
    """
    ids = atlas.ids
    position = ids.index(submap.id)
    around = ids[max(0, position - _NEAR):position + _NEAR + 1]
    found = {i: near.get(i) or atlas.views_of(i) for i in around}
    near.clear()
    near.update(found)
    evidence = Evidence(atlas.cloud_of(submap).points)
    for view in (view for views in near.values() for view in views):
        evidence.add(view.T_submap_camera, view.K, view.depth)
    return ~evidence.is_contradicted()


def _n_voxels(points: np.ndarray, voxel_m: float) -> int:
    return len(np.unique(np.floor(points / voxel_m), axis=0)) if len(points) else 0


def _corners(points: np.ndarray) -> np.ndarray:
    """Return the corners (8, 3) of the box around points; the origin if there are none."""
    ends = (np.stack([points.min(axis=0), points.max(axis=0)]).astype(np.float64) if len(points)
            else np.zeros((2, 3)))
    return ends[np.indices((2, 2, 2)).reshape(3, 8).T, np.arange(3)]


def _at_most(cloud: PointCloud, n: int) -> PointCloud:
    """Return the cloud, or ``n`` of its points, evenly spread over their order."""
    if len(cloud) <= n:
        return cloud
    chosen = np.linspace(0, len(cloud) - 1, n).astype(int)
    return PointCloud(cloud.points[chosen], cloud.colors[chosen])
