"""The map in tiles: together they are the map, and only what changed is given again."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.mapping.atlas import Atlas
from longrecon_ros.mapping.tiles import MOST_POINTS, Tiles
from longrecon_ros.mapping.voxel_map import VoxelMap
from longrecon_ros.types import PointCloud, Submap, View

VOXEL_M = 0.1


def wall(number, n_points=800, width=2.0):
    """Return a submap whose points are on a wall, beside those of the submaps around it."""
    rng = np.random.default_rng(number)
    points = np.stack([rng.uniform(0, width, n_points), rng.uniform(-1, 1, n_points),
                       np.full(n_points, 3.0)], axis=1)
    colors = np.full((n_points, 3), number % 256)
    return Submap(number, [number], [number], np.eye(4)[None], points, colors)


def place(number):
    return Sim3(1.0, se3.so3_exp([0, 0.05 * number, 0]), [1.5 * number, 0.0, 0.02 * number])


def add(atlas, *numbers):
    for i in numbers:
        atlas.add(wall(i), place(i))


def make_atlas(n):
    atlas = Atlas(10**9)
    add(atlas, *range(n))
    return atlas


def in_map(tile, T_map_tile=None):
    T = tile.T_map_tile if T_map_tile is None else T_map_tile
    return se3.apply(T, tile.cloud.points)


def whole(atlas):
    """Return the cloud of all submaps, not thinned."""
    return np.concatenate([atlas.cloud_of(submap).points for submap in atlas.submaps()])


def assert_covers(points, atlas, voxel_m=VOXEL_M):
    """Both clouds have a point in each other's reach, which is a voxel's diagonal."""
    reach, others = np.sqrt(3) * voxel_m, whole(atlas)
    assert cKDTree(points).query(others)[0].max() <= reach
    assert cKDTree(others).query(points)[0].max() <= reach


def test_the_sum_of_tiles_is_the_map():
    atlas, tiles = make_atlas(12), Tiles(1100)
    found = tiles.changes(atlas, VOXEL_M)
    assert list(found.poses) == [tile.id for tile in found.contents] and len(tiles) > 3
    assert [tile.revision for tile in found.contents] == [0] * len(tiles)
    assert_covers(np.concatenate([in_map(tile) for tile in found.contents]), atlas)
    for tile in found.contents:
        np.testing.assert_array_equal(found.poses[tile.id], tile.T_map_tile)
        # in the axes of the first submap, thinned
        T = atlas.pose(tile.id)
        np.testing.assert_allclose(tile.T_map_tile, se3.from_parts(T.R, T.t))
        cells = np.floor(tile.cloud.points.astype(np.float64) / VOXEL_M)
        assert len(np.unique(cells, axis=0)) > 0.95 * len(cells)
        assert set(tile.cloud.colors[:, 0]) <= set(range(tile.id, 12))
    voxels = VoxelMap(VOXEL_M, 10**6)
    voxels.insert(PointCloud(whole(atlas), np.zeros((len(whole(atlas)), 3))))
    n = sum(len(tile.cloud) for tile in found.contents)
    # other axes cut a wall into other voxels
    assert 0.6 * len(voxels) < n < 1.4 * len(voxels)


@pytest.mark.parametrize('max_points', [100, 500, 5000])
def test_sizes_are_bounded(max_points):
    tiles = Tiles(max_points)
    found = tiles.changes(make_atlas(8), VOXEL_M)
    sizes = [len(tile.cloud) for tile in found.contents]
    assert 0 < max(sizes) <= max_points
    # a submap that is too large alone is a tile, thinned evenly
    assert len(tiles) == {100: 8, 500: 8, 5000: 1}[max_points]
    if max_points == 100:
        for tile in found.contents:
            assert len(tile.cloud) == 100 and np.ptp(tile.cloud.points[:, 0]) > 1.5


def test_nothing_new_gives_poses_only():
    atlas, tiles = make_atlas(7), Tiles(1100)
    first = tiles.changes(atlas, VOXEL_M)
    again = tiles.changes(atlas, VOXEL_M)
    assert again.contents == () and list(again.poses) == list(first.poses)


def test_a_rigid_bend_changes_poses_only():
    atlas, tiles = make_atlas(9), Tiles(1100)
    first = tiles.changes(atlas, VOXEL_M)
    bend = Sim3.from_rigid(se3.exp(np.array([3.0, 1.0, -2.0, 0.2, 0.5, -0.3])))
    atlas.move({i: bend @ pose for i, pose in atlas.poses().items()})
    then = tiles.changes(atlas, VOXEL_M)
    assert then.contents == ()
    for tile in first.contents:
        np.testing.assert_allclose(then.poses[tile.id], bend.as_matrix() @ tile.T_map_tile)
    assert_covers(np.concatenate([in_map(tile, then.poses[tile.id]) for tile in first.contents]),
                  atlas)


def test_tiles_that_move_apart_change_poses_only():
    # what a closure does: each tile as a whole, its submaps by less than half a voxel
    atlas, tiles = make_atlas(9), Tiles(1100)
    first = tiles.changes(atlas, VOXEL_M)
    starts = list(first.poses)
    moved = {}
    for i, pose in atlas.poses().items():
        k = np.searchsorted(starts, i, 'right')
        shift = Sim3(1.0, np.eye(3), [0.5 * k, 0.0, 0.01 * (i % 3)])
        moved[i] = shift @ pose
    atlas.move(moved)
    then = tiles.changes(atlas, VOXEL_M)
    assert then.contents == () and list(then.poses) == starts
    assert_covers(np.concatenate([in_map(tile, then.poses[tile.id]) for tile in first.contents]),
                  atlas, 1.5 * VOXEL_M)


def test_a_bend_of_scale_gives_points_anew():
    atlas, tiles = make_atlas(9), Tiles(1100)
    first = tiles.changes(atlas, VOXEL_M)
    ids = list(first.poses)
    moved = [i for i in atlas.ids if ids[1] <= i < ids[2]]
    atlas.move({i: atlas.pose(i) @ Sim3(1.04, np.eye(3), np.zeros(3)) for i in moved})
    then = tiles.changes(atlas, VOXEL_M)
    assert [(tile.id, tile.revision) for tile in then.contents] == [(ids[1], 1)]
    np.testing.assert_allclose(then.poses[ids[1]][:3, :3] @ then.poses[ids[1]][:3, :3].T,
                               np.eye(3), atol=1e-12)
    parts = {tile.id: tile for tile in (*first.contents, *then.contents)}
    assert_covers(np.concatenate([in_map(tile) for tile in parts.values()]), atlas)
    assert tiles.changes(atlas, VOXEL_M).contents == ()


def test_small_moves_add_up():
    atlas, tiles = make_atlas(3), Tiles(5000)
    tiles.changes(atlas, VOXEL_M)
    counts = []
    for _ in range(12):
        # 0.3 of half a voxel at the farthest corner
        atlas.move({2: atlas.pose(2) @ Sim3(1.0, np.eye(3), [0.015, 0, 0])})
        counts.append(len(tiles.changes(atlas, VOXEL_M).contents))
    assert counts == [0, 0, 0, 1] * 3


def test_the_newest_tile_grows_and_ids_stay():
    atlas, tiles, latest = make_atlas(1), Tiles(1100), {}
    for n in range(1, 9):
        found = tiles.changes(atlas, VOXEL_M)
        assert len(found.contents) == 1 and set(latest) <= set(found.poses)
        tile = found.contents[0]
        assert tile.id == max(found.poses) and tile.revision == latest.get(tile.id, -1) + 1
        latest[tile.id] = tile.revision
        add(atlas, n)
    assert max(latest.values()) >= 1 and len(latest) > 2
    # many at once: the one that grew is given once
    add(atlas, 9, 10, 11, 12)
    found = tiles.changes(atlas, VOXEL_M)
    ids = [tile.id for tile in found.contents]
    assert len(ids) == len(set(ids)) and set(ids) >= set(found.poses) - set(latest)
    # the same submaps in the same order make the same tiles
    assert list(found.poses) == list(Tiles(1100).changes(atlas, VOXEL_M).poses)


def test_late_joiners_get_all_of_it():
    atlas, tiles = make_atlas(9), Tiles(1100)
    assert list(tiles.all(atlas, VOXEL_M)) == []
    given = {tile.id: tile for tile in tiles.changes(atlas, VOXEL_M).contents}
    atlas.move({i: pose @ Sim3(1.1, np.eye(3), np.zeros(3)) for i, pose in atlas.poses().items()})
    given.update((tile.id, tile) for tile in tiles.changes(atlas, VOXEL_M).contents)
    found = list(tiles.all(atlas, VOXEL_M))
    assert [tile.id for tile in found] == list(given)
    for tile in found:
        assert tile.revision == given[tile.id].revision == 1
        np.testing.assert_array_equal(tile.cloud.points, given[tile.id].cloud.points)
        np.testing.assert_array_equal(tile.T_map_tile, given[tile.id].T_map_tile)


def test_contents_come_in_portions():
    atlas, tiles = make_atlas(12), Tiles(1100)
    seen = []
    for _ in range(9):
        found = tiles.changes(atlas, VOXEL_M, max_contents=2)
        assert len(found.contents) <= 2 and len(found.poses) == len(tiles)
        seen += [tile.id for tile in found.contents]
    assert sorted(seen) == list(found.poses)
    # while the newest one grows, the others are not forgotten
    atlas.move({i: pose @ Sim3(1.2, np.eye(3), np.zeros(3)) for i, pose in atlas.poses().items()})
    seen = []
    for n in range(12, 24):
        add(atlas, n)
        seen += [tile.id for tile in tiles.changes(atlas, VOXEL_M, max_contents=2).contents]
    assert set(seen) == set(tiles.changes(atlas, VOXEL_M).poses)


def test_points_that_views_contradict_stay_out():
    # a view of the wall, and points that float before it
    K = np.array([[50.0, 0, 49.5], [0, 50, 49.5], [0, 0, 1]])
    view = View(0, 0, np.eye(4), K, np.zeros((100, 100, 3)), np.full((100, 100), 3.0))
    submap = wall(0)
    points = np.concatenate([submap.points, submap.points[:200] * np.float32(0.5)])
    atlas = Atlas(10**9)
    atlas.add(Submap(0, [0], [0], np.eye(4)[None], points, np.zeros((1000, 3)), views=(view,)),
              place(1))
    z = Tiles(use_views=False).changes(atlas, VOXEL_M).contents[0].cloud.points[:, 2]
    assert set(np.round(z, 1)) == {1.5, 3.0}
    z = Tiles().changes(atlas, VOXEL_M).contents[0].cloud.points[:, 2]
    assert set(np.round(z, 1)) == {3.0}


def test_submaps_without_points_are_no_trouble():
    atlas, tiles = Atlas(10**9), Tiles()
    assert tiles.changes(atlas, VOXEL_M).poses == {}
    for i in range(3):
        atlas.add(wall(i, n_points=0), place(i))
    found = tiles.changes(atlas, VOXEL_M)
    assert [len(tile.cloud) for tile in found.contents] == [0] and list(found.poses) == [0]


@pytest.mark.parametrize('max_points', [0, MOST_POINTS + 1])
def test_impossible_sizes_are_refused(max_points):
    with pytest.raises(ValueError, match='max_points'):
        Tiles(max_points)


def test_misuse_is_named():
    atlas, tiles = make_atlas(1), Tiles()
    with pytest.raises(ValueError, match='voxel_m'):
        tiles.changes(atlas, 0.0)
    with pytest.raises(ValueError, match='max_contents'):
        tiles.changes(atlas, VOXEL_M, max_contents=1)
