"""The map: voxels against a plain dictionary, bounds, submaps, and the pose log."""

import dataclasses

from fakes import circle_pose, FakeBackbone, predict
from hypothesis import given, strategies as st
import numpy as np
import pytest

from longrecon_ros.alignment.base import Alignment, apply
from longrecon_ros.geometry import se3
from longrecon_ros.mapping.hash_index import HashIndex
from longrecon_ros.mapping.pose_log import PoseLog
from longrecon_ros.mapping.submap import build_submap, place
from longrecon_ros.mapping.voxel_map import VoxelMap
from longrecon_ros.types import FrameState, PointCloud


class PlainVoxels:
    """What the voxel map promises, slowly: a dictionary ordered by last touch."""

    def __init__(self, voxel_m, max_points):
        self.voxel_m, self.max_points, self.voxels = voxel_m, max_points, {}

    def insert(self, cloud, weights=None):
        weights = np.ones(len(cloud)) if weights is None else weights.astype(float)
        normals = np.zeros((len(cloud), 3)) if cloud.normals is None else cloud.normals
        touched = {}
        values = np.hstack([cloud.points, cloud.colors, normals]).astype(float)
        for value, weight in zip(values, weights):
            key = tuple(np.floor(value[:3] / self.voxel_m).astype(int))
            touched.setdefault(key, []).append((weight, value))
        for key in sorted(touched):
            self.voxels[key] = self.voxels.pop(key, []) + touched[key]
        for key in list(self.voxels)[:max(0, len(self.voxels) - self.max_points)]:
            del self.voxels[key]

    def means(self):
        """Return points, colours, and normals that are not of length 1 (n, 9)."""
        return np.array([np.average([v for _, v in voxel], axis=0, weights=[w for w, _ in voxel])
                         for voxel in self.voxels.values()]).reshape(-1, 9)


def random_cloud(rng, n, extent=4.0, centre=0.0, use_normals=False):
    normals = None
    if use_normals:
        normals = rng.normal(size=(n, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return PointCloud(rng.uniform(-extent, extent, size=(n, 3)) + centre,
                      rng.integers(0, 256, size=(n, 3)), normals)


@given(st.integers(0, 10**6), st.integers(1, 400), st.floats(0.3, 3.0), st.booleans(),
       st.booleans())
def test_voxels_equal_the_dictionary(seed, max_points, voxel_m, use_weights, use_normals):
    rng = np.random.default_rng(seed)
    fast, plain = VoxelMap(voxel_m, max_points), PlainVoxels(voxel_m, max_points)
    for step in range(5):
        n = int(rng.integers(0, 120))
        cloud = random_cloud(rng, n, centre=step, use_normals=use_normals and step > 1)
        weights = rng.uniform(0.1, 3, n).astype(np.float32) if use_weights else None
        fast.insert(cloud, weights)
        plain.insert(cloud, weights)
        assert len(fast) == len(plain.voxels) <= max_points
    got, means = fast.cloud(), plain.means()
    np.testing.assert_allclose(got.points, means[:, :3], atol=1e-5)
    assert np.abs(got.colors - means[:, 3:6]).max(initial=0) < 0.501
    assert (got.normals is not None) == use_normals
    if use_normals:
        length = np.linalg.norm(means[:, 6:], axis=1)
        clear = length > 0.01
        want = means[clear, 6:] / length[clear, None]
        np.testing.assert_allclose(got.normals[clear], want, atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(got.normals[clear], axis=1), 1, atol=1e-6)


def test_weighted_means_are_exact():
    voxels = VoxelMap(1.0, 10)
    voxels.insert(PointCloud([[0.25, 0.5, 0.5], [0.75, 0.5, 0.5]], [[0, 0, 0], [100, 200, 4]],
                             [[0, 0, -1], [0, -1, 0]]), np.array([3, 1], np.float32))
    got = voxels.cloud()
    assert got.points.tolist() == [[0.375, 0.5, 0.5]] and got.colors.tolist() == [[25, 50, 1]]
    np.testing.assert_allclose(got.normals, [[0, -0.1**0.5, -0.9**0.5]], rtol=1e-6)
    voxels.insert(PointCloud([[0.875, 0.5, 0.5]], [[125, 150, 201]]), np.array([4.0]))
    got = voxels.cloud()
    assert got.points.tolist() == [[0.625, 0.5, 0.5]] and got.colors.tolist() == [[75, 100, 101]]
    np.testing.assert_allclose(got.normals, [[0, -0.1**0.5, -0.9**0.5]], rtol=1e-6)


def test_the_unit_of_the_weights_does_not_matter():
    rng = np.random.default_rng(3)
    one, two = VoxelMap(0.7, 100), VoxelMap(0.7, 100)
    for _ in range(4):
        cloud, weights = random_cloud(rng, 300), rng.uniform(0.1, 1, 300)
        one.insert(cloud, weights)
        two.insert(cloud, 1024 * weights)
    np.testing.assert_allclose(one.cloud().points, two.cloud().points, atol=1e-6)
    np.testing.assert_array_equal(one.cloud().colors, two.cloud().colors)


def test_opposite_normals_cancel_to_none():
    voxels = VoxelMap(1.0, 10)
    voxels.insert(PointCloud(np.full((2, 3), 0.5), np.zeros((2, 3)), [[0, 0, 1], [0, 0, -1]]))
    assert voxels.cloud().normals.tolist() == [[0, 0, 0]]
    voxels.insert(PointCloud(np.full((1, 3), 5.5), np.zeros((1, 3))))
    assert voxels.cloud().normals.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_voxels_seen_too_little_are_left_out():
    voxels = VoxelMap(1.0, 10)
    for x, n, weight in ((0.5, 1, 5.0), (1.5, 2, 1.0), (2.5, 3, 0.5)):
        voxels.insert(PointCloud(np.full((n, 3), x), np.zeros((n, 3))), np.full(n, weight))
    assert voxels.cloud(min_count=2).points[:, 0].tolist() == [1.5, 2.5]
    assert voxels.cloud(min_weight=2.0).points[:, 0].tolist() == [0.5, 1.5]
    assert voxels.cloud(2, 2.0).points[:, 0].tolist() == [1.5]
    assert len(voxels) == 3 and len(voxels.cloud()) == 3


def test_the_same_inserts_give_the_same_bytes():
    def run():
        rng, voxels = np.random.default_rng(9), VoxelMap(0.3, 4000)
        for step in range(40):
            voxels.insert(random_cloud(rng, 500, centre=0.2 * step, use_normals=True),
                          rng.uniform(0, 1, 500).astype(np.float32))
        cloud = voxels.cloud()
        return cloud.points.tobytes() + cloud.colors.tobytes() + cloud.normals.tobytes()
    assert run() == run()


def test_memory_stays_flat_and_the_newest_stay():
    rng = np.random.default_rng(0)
    voxels = VoxelMap(0.1, 5000)
    sizes = set()
    for step in range(300):
        voxels.insert(random_cloud(rng, 700, extent=2.0, centre=0.5 * step))
        sizes.add(len(voxels._keys))
        assert len(voxels) <= 5000
    assert len(voxels) == 5000 and max(sizes) <= 2 * (5000 + 700)
    assert voxels.cloud().points.mean() > 140


def test_a_place_seen_again_is_not_old():
    voxels = VoxelMap(1.0, 3)
    points = np.arange(5)[:, None] + [0.5, 0.5, 0.5]
    for i in (0, 1, 2, 0, 3):
        voxels.insert(PointCloud(points[i:i + 1], np.full((1, 3), i)))
    assert voxels.cloud().colors[:, 0].tolist() == [2, 0, 3]


def test_far_and_undefined_points_are_left_out():
    voxels = VoxelMap(1.0, 10)
    points = [[0, 0, 0], [np.nan, 0, 0], [np.inf, 0, 0], [2e6, 0, 0], [-1048575.5, 0, 0]]
    voxels.insert(PointCloud(points, np.zeros((5, 3))))
    assert len(voxels) == 2
    voxels.insert(PointCloud.empty())
    assert len(voxels) == 2
    voxels.insert(PointCloud(np.arange(4)[:, None] + [9.5, 0, 0], np.zeros((4, 3))),
                  np.array([0, -1, np.nan, np.inf]))
    assert len(voxels) == 2


def test_voxel_map_misuse():
    for arguments, words in (((0.0, 5), 'voxel_m'), ((np.nan, 5), 'voxel_m'),
                             ((1.0, 0), 'max_points')):
        with pytest.raises(ValueError, match=words):
            VoxelMap(*arguments)
    with pytest.raises(ValueError, match=r'weights: expected shape \(2,\), got \(3,\)'):
        VoxelMap(1.0, 5).insert(PointCloud(np.zeros((2, 3)), np.zeros((2, 3))), np.ones(3))


@given(st.integers(0, 10**6), st.integers(1, 300))
def test_hash_index_equals_a_dictionary(seed, n):
    rng = np.random.default_rng(seed)
    index, plain = HashIndex(3 * n), {}
    for _ in range(3):
        keys = rng.permutation(10 * n)[:n] * np.int64(2**31)
        positions = rng.integers(0, 1000, size=n)
        index.put(keys, positions)
        plain.update(zip(keys.tolist(), positions.tolist()))
        asked = np.arange(10 * n) * np.int64(2**31)
        assert index.get(asked).tolist() == [plain.get(k, -1) for k in asked.tolist()]


def in_world(first=0, n=8, **faults):
    backbone = FakeBackbone(seed=2, **faults)
    return apply(Alignment(backbone.gauge(0).inverse()), predict(backbone, first, n, 0))


def test_submap_holds_the_new_frames_points():
    prediction = in_world()
    stamps = np.arange(8) * 100
    submap = build_submap(prediction, stamps, 3, 9, 0.5, 50)
    assert submap.id == 9 and submap.frame_ids.tolist() == [3, 4, 5, 6, 7]
    assert submap.stamps_ns.tolist() == [300, 400, 500, 600, 700]
    np.testing.assert_allclose(submap.T_submap_camera[0], np.eye(4), atol=1e-12)
    assert len(submap.points) == 5 * 50
    cloud = place(submap, prediction.T_window_camera[3])
    wall = np.abs(cloud.points / [6.0, 3.0, 7.0]).max(axis=1)
    np.testing.assert_allclose(wall, 1.0, atol=1e-4)
    assert set(cloud.colors[:, 0].tolist()) == {3, 4, 5, 6, 7}
    again = build_submap(prediction, stamps, 3, 9, 0.5, 50)
    np.testing.assert_array_equal(again.points, submap.points)
    whole = build_submap(prediction, stamps, 3, 9, 0.5, 10**6)
    assert len(whole.points) == 5 * 12 * 16


def test_submap_masks_by_confidence():
    lost = in_world(lost=[4, 5])
    submap = build_submap(lost, np.arange(8), 3, 0, 0.0, 10**6)
    assert set(submap.colors[:, 0].tolist()) == {3, 6, 7}
    assert len(build_submap(lost, np.arange(8), 3, 0, 0.95, 10).points) == 0


def test_pose_log_revises_the_second_half_of_the_overlap():
    log = PoseLog()
    log.add(in_world(0, 10), np.arange(10), is_revision=True)
    moved = in_world(6, 8)
    shift = se3.from_parts(np.eye(3), [1.0, 0, 0])
    moved = dataclasses.replace(moved,
                                T_window_camera=shift @ moved.T_window_camera)
    log.add(moved, np.arange(6, 14), is_revision=True)
    found = log.trajectory()
    assert len(log) == 14 and found.stamps_ns.tolist() == list(range(14))
    truth = np.stack([circle_pose(i) for i in range(14)])
    shifted = np.round(found.positions[:, 0] - truth[:, 0, 3], 6)
    assert shifted.tolist() == [0] * 8 + [1] * 6


def test_pose_log_keeps_what_was_measured():
    log = PoseLog()
    log.add(in_world(0, 8, lost=[4]), np.arange(8), is_revision=True)
    assert log.states().tolist() == [0, 0, 0, 0, FrameState.LOST, 0, 0, 0]
    log.add(in_world(4, 8, lost=[6, 7]), np.arange(4, 12), is_revision=True)
    assert log.states().tolist() == [0] * 12
    truth = np.stack([circle_pose(i) for i in range(12)])
    np.testing.assert_allclose(log.trajectory().T_map_camera, truth, atol=1e-9)
    assert len(PoseLog().trajectory()) == 0
