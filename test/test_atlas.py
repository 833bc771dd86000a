"""The atlas and its files: a budget that is kept, and nothing lost on the way to the disk."""

import dataclasses

import numpy as np
import pytest

from longrecon_ros.errors import InputError
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.mapping.atlas import Atlas
from longrecon_ros.mapping.submap_file import read_submap, rounded_depth, write_submap
from longrecon_ros.types import Keyframe, Submap, View

N_POINTS = 2000


def make_submap(number, n_points=N_POINTS, has_views=True):
    rng = np.random.default_rng(number)
    T = np.stack([se3.exp(0.1 * rng.standard_normal(6)) for _ in range(3)])
    K = np.array([[50.0, 0, 19.5], [0, 50, 14.5], [0, 0, 1]])
    depth = rounded_depth(np.where(rng.random((30, 40)) < 0.1, 0, rng.uniform(0.5, 90, (30, 40))))
    view = View(10 * number, 10**9 * number, T[1], K,
                rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), depth)
    points = rng.standard_normal((20, 3))
    points[3] = np.nan
    keyframe = Keyframe(10 * number, number, T[1], K, rng.uniform(0, 30, (20, 2)),
                        rng.integers(0, 256, (20, 32), dtype=np.uint8), points,
                        rng.standard_normal(8) if number % 2 else None)
    return Submap(number, 10 * number + np.arange(3), 10**9 * number + np.arange(3), T,
                  rng.standard_normal((n_points, 3)),
                  rng.integers(0, 256, (n_points, 3), dtype=np.uint8), rng.random(n_points),
                  (view,) if has_views else (), (keyframe,) if has_views else ())


def assert_same(a, b):
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, tuple):
            assert len(x) == len(y)
            for p, q in zip(x, y):
                assert_same(p, q)
        elif isinstance(x, np.ndarray):
            np.testing.assert_array_equal(x, y)
            assert x.dtype == y.dtype
        else:
            assert x == y, field.name


def place(number):
    return Sim3(1 + 0.01 * number, np.eye(3), np.array([number, 0.0, 0.0]))


# --- files ---------------------------------------------------------------------------------------

@pytest.mark.parametrize('number, has_views', [(0, True), (1, True), (2, False)])
def test_a_submap_comes_back_as_it_was(tmp_path, number, has_views):
    submap = make_submap(number, has_views=has_views)
    write_submap(tmp_path / 'a.npz', submap)
    assert_same(submap, read_submap(tmp_path / 'a.npz'))
    empty = dataclasses.replace(submap, points=np.zeros((0, 3)), colors=np.zeros((0, 3)),
                                weights=None)
    write_submap(tmp_path / 'a.npz', empty)
    assert_same(empty, read_submap(tmp_path / 'a.npz'))


def test_depths_are_rounded_once():
    depth = np.float32([[0, 1e-7, 3.3], [123.4, np.nan, 1e5]])
    once = rounded_depth(depth)
    np.testing.assert_array_equal(rounded_depth(once), once)
    np.testing.assert_allclose(once[1, [0, 2]], [123.4, 1e5], rtol=1e-3)
    assert once[1, 1] == once[0, 0] == 0
    np.testing.assert_array_equal(rounded_depth(np.zeros((2, 2), np.float32)), np.zeros((2, 2)))


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / 'a.npz'
    with pytest.raises(InputError, match='missing'):
        read_submap(path)
    write_submap(path, make_submap(0))
    whole = path.read_bytes()
    for spoiled in (b'', whole[:-100], whole[:1000] + b'xxxx' + whole[1004:], b'PK\x03\x04junk'):
        path.write_bytes(spoiled)
        with pytest.raises(InputError, match='damaged'):
            read_submap(path)


# --- the atlas -----------------------------------------------------------------------------------

def test_memory_keeps_its_budget_and_everything_comes_back(tmp_path):
    originals = [make_submap(i) for i in range(30)]
    size = originals[0].n_bytes
    atlas = Atlas(8 * size, thin_share=0.25, folder=tmp_path / 'spill')
    for submap in originals:
        atlas.add(submap, place(submap.id))
        assert atlas.status().n_bytes <= 8 * size
    status = atlas.status()
    assert status.n_submaps == 30 and status.n_on_disk > 5 and status.n_thinned > status.n_on_disk
    for original, found in zip(originals, atlas.submaps(), strict=True):
        # thinned or not: what is left was there, and cameras, views and features are all there
        rows = {tuple(p) for p in original.points.tolist()}
        assert {tuple(p) for p in found.points.tolist()} <= rows
        assert len(found.points) in (N_POINTS, N_POINTS // 4)
        assert len(found.points) == len(found.colors) == len(found.weights)
        assert_same(original.views[0], found.views[0])
        assert_same(original.keyframes[0], found.keyframes[0])
    assert len(list(atlas.submaps())[-1].points) == N_POINTS, 'the newest is whole'
    back = atlas.submap(0)
    assert back.id == 0 and atlas.status().n_bytes <= 8 * size
    folder, = (tmp_path / 'spill').iterdir()
    atlas.close()
    assert not folder.exists()


def test_what_is_on_disk_anyway_is_not_thinned(tmp_path):
    atlas = Atlas(3 * make_submap(0).n_bytes)
    for i in range(8):
        submap = make_submap(i)
        write_submap(tmp_path / f'{i}.npz', submap)
        if i % 2:
            atlas.add_file(i, place(i), tmp_path / f'{i}.npz')
        else:
            atlas.add(submap, place(i), tmp_path / f'{i}.npz')
    for i in (1, 0, 5, 3, 7, 2):
        assert_same(make_submap(i), atlas.submap(i))
    assert atlas.status().n_thinned == 0 and atlas.status().n_disk_bytes == 0


def test_a_closure_moves_poses_only():
    atlas = Atlas(10**9)
    submap = make_submap(1)
    atlas.add(submap, place(1))
    before = atlas.submap(1)
    T = Sim3(2.0, se3.so3_exp(np.array([0, 0, 0.3])), np.array([1.0, 2, 3]))
    atlas.move({1: T})
    assert atlas.submap(1) is before and atlas.pose(1) is T
    np.testing.assert_allclose(atlas.cloud_of(before).points, T.apply(before.points), rtol=1e-5)
    view, = atlas.views()
    np.testing.assert_allclose(view.depth, 2 * submap.views[0].depth)
    np.testing.assert_allclose(view.T_submap_camera,
                               T.apply_to_poses(submap.views[0].T_submap_camera))


def test_misuse_is_told():
    atlas = Atlas(10**9)
    atlas.add(make_submap(1), place(1))
    with pytest.raises(ValueError, match='taken'):
        atlas.add(make_submap(1), place(1))
    with pytest.raises(KeyError, match='no submap 7'):
        atlas.move({7: place(7)})
    for arguments in ((0,), (10, 0.0), (10, 2.0)):
        with pytest.raises(ValueError, match='expected'):
            Atlas(*arguments)


def test_a_full_disk_is_told_and_loses_nothing(tmp_path, monkeypatch):
    def full(path, submap):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('longrecon_ros.mapping.atlas.write_submap', full)
    size = make_submap(0).n_bytes
    atlas = Atlas(2 * size, thin_share=1.0, folder=tmp_path)
    atlas.add(make_submap(0), place(0))
    atlas.add(make_submap(1), place(1))
    with pytest.raises(InputError, match='No space left.*raise map.budget_mb'):
        atlas.add(make_submap(2), place(2))
    for i in range(3):
        assert_same(make_submap(i), atlas.submap(i) if i else list(atlas.submaps())[0])
