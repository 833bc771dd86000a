"""Exports of views, and what all exports promise: others read of a known room what is true."""

import json
import weakref

import cv2
import numpy as np
import pytest
from room_views import (
    files_of_at_most,
    K,
    open3d_or_skip,
    pose_at,
    POSES,
    some_cloud,
    tour,
    views_at,
)

from longrecon_ros.errors import ConfigError, InputError
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import project
from longrecon_ros.io.colmap import write_colmap
from longrecon_ros.io.depth_maps import write_depth_maps
from longrecon_ros.io.folder import FolderSource
from longrecon_ros.io.mesh import write_mesh
from longrecon_ros.io.nerf import write_transforms
from longrecon_ros.io.occupancy import write_occupancy
from longrecon_ros.io.ply import read_ply
from longrecon_ros.types import PointCloud, View


def _mesh(path, views):
    open3d_or_skip()
    return write_mesh(path, views, 0.1)


EXPORTS = {
    'depth': lambda path, views: write_depth_maps(path, views, True),
    'nerf': lambda path, views: write_transforms(path, views, True, some_cloud(5)),
    'colmap': lambda path, views: write_colmap(path, views, some_cloud(5)),
    'occupancy': lambda path, views: write_occupancy(path, views, 0.1, True),
    'mesh': lambda path, views: _mesh(path.with_suffix('.ply'), views)}

each_export = pytest.mark.parametrize('export', EXPORTS.values(), ids=EXPORTS.keys())


def _with_pose(T):
    view = next(views_at([pose_at(0, 0)]))
    return View(7, view.stamp_ns, T, view.K, view.rgb, view.depth)


@each_export
@pytest.mark.parametrize('views, words', [
    ([], 'has no views'),
    ([_with_pose(np.full((4, 4), np.nan))], 'image 7 has a pose that is not finite'),
    ([_with_pose(np.diag([2.0, 2, 2, 1]))], 'image 7 has a pose that is not rigid')],
    ids=['none', 'nan', 'scaled'])
def test_bad_views_leave_nothing(tmp_path, export, views, words):
    with pytest.raises(InputError, match=words):
        export(tmp_path / 'out', iter(views))
    assert list(tmp_path.iterdir()) == []


@each_export
def test_a_full_disk_leaves_nothing(tmp_path, export):
    (tmp_path / 'out').mkdir()
    with files_of_at_most(200), pytest.raises(InputError, match='out.* cannot be written'):
        export(tmp_path / 'out', views_at([pose_at(0, 0), pose_at(0, 0, 40)]))
    assert [path.name for path in tmp_path.rglob('*')] == ['out']


@each_export
def test_views_are_not_held(tmp_path, export):
    alive = []

    def watched():
        for view in views_at([pose_at(0, 0, yaw) for yaw in range(0, 120, 20)]):
            image = np.array(view.rgb)
            alive.append(weakref.ref(image))
            assert sum(ref() is not None for ref in alive) <= 2
            yield View(view.frame_id, view.stamp_ns, view.T_submap_camera, K, image, view.depth)
            del image
    export(tmp_path / 'out', watched())
    assert len(alive) == 6


# ---- depth maps and poses


def test_depth_maps_are_a_recording(tmp_path):
    poses = [pose_at(0, 0), pose_at(0.3, 0.1, 20), pose_at(0.6, 0.1, 40, 10)]
    done = write_depth_maps(tmp_path / 'out', views_at(poses), is_metric=True)
    assert done.n_views == 3 and done.warnings == ()
    source = FolderSource(tmp_path / 'out')
    views = list(views_at(poses))
    np.testing.assert_allclose(source.groundtruth().T_map_camera,
                               [view.T_submap_camera for view in views], atol=1e-8)
    for i, (frame, view) in enumerate(zip(source, views)):
        np.testing.assert_array_equal(frame.image, view.rgb)
        assert frame.stamp_ns == view.stamp_ns
        np.testing.assert_allclose(frame.K, view.K)
        np.testing.assert_allclose(source.depth(i), view.depth, atol=0.000501)
    info = json.loads((tmp_path / 'out' / 'info.json').read_text())
    assert info == {'unit': 'm', 'poses': 'gt_tum.txt', 'depth_scale': 1000.0,
                    'frame_ids': [0, 10, 20]}
    np.testing.assert_allclose(np.loadtxt(tmp_path / 'out' / 'intrinsics.txt'),
                               [[100, 105, 82, 57]] * 3)


@pytest.mark.parametrize('unit_m', [1000.0, 1.0, 0.01])
def test_depth_maps_in_any_unit(tmp_path, unit_m):
    write_depth_maps(tmp_path / 'out', views_at(tour()[:9], unit_m=unit_m), is_metric=False)
    scale = json.loads((tmp_path / 'out' / 'info.json').read_text())['depth_scale']
    assert (scale == 1000) == (unit_m == 1)
    view = next(views_at(tour()[:1], unit_m=unit_m))
    counts = cv2.imread(str(tmp_path / 'out' / 'depth' / '000000.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(counts / scale, view.depth, rtol=0.003)
    # it is no ground truth in metres
    assert FolderSource(tmp_path / 'out').groundtruth() is None


def test_depth_beyond_16_bits_is_told(tmp_path):
    view = next(views_at([pose_at(0, 0)]))
    depth = np.array(view.depth)
    depth[:2], depth[2, 0], depth[3, 0] = 70.0, np.nan, -1
    view = View(0, 0, view.T_submap_camera, K, view.rgb, depth)
    done = write_depth_maps(tmp_path / 'a', [view], is_metric=True)
    assert '320 pixels of 1 depth maps are further away than 65.5' in done.warnings[0]
    counts = cv2.imread(str(tmp_path / 'a' / 'depth' / '000000.png'), cv2.IMREAD_UNCHANGED)
    assert (counts == 0).sum() == 322
    assert write_depth_maps(tmp_path / 'b', [view], True, use_npy=True).warnings == ()
    exact = np.load(tmp_path / 'b' / 'depth' / '000000.npy')
    assert (exact[:2] == 70).all() and exact[2, 0] == exact[3, 0] == 0
    np.testing.assert_array_equal(exact[4:], depth[4:])


def test_depth_maps_in_the_order_of_time(tmp_path):
    # sessions of a map go into it in any order, and may overlap
    views = list(views_at(tour()[:4]))
    given = [views[2], views[3], views[0], views[2], views[1]]
    done = write_depth_maps(tmp_path / 'out', given, True)
    assert str(done) == '4 images; 1 images repeat a time and are left out'
    source = FolderSource(tmp_path / 'out')
    for i, (frame, view) in enumerate(zip(source, views)):
        assert frame.stamp_ns == view.stamp_ns
        np.testing.assert_array_equal(frame.image, view.rgb)
        np.testing.assert_allclose(source.depth(i), view.depth, atol=0.000501)
    np.testing.assert_allclose(source.groundtruth().T_map_camera,
                               [view.T_submap_camera for view in views], atol=1e-8)
    assert json.loads((tmp_path / 'out' / 'info.json').read_text())['frame_ids'] == [0, 10, 20, 30]
    assert 'unsorted' not in ' '.join(path.name for path in (tmp_path / 'out').iterdir())


def test_depth_maps_refuse_other_sizes(tmp_path):
    first, second = views_at([pose_at(0, 0), pose_at(0, 0, 20)])
    small = View(5, 5 * 10**9, second.T_submap_camera, K, first.rgb[:60], first.depth[:60])
    with pytest.raises(InputError, match='image 5 is of'):
        write_depth_maps(tmp_path / 'out', [first, small], True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('export', [
    lambda path, views, **force: write_depth_maps(path, views, False, **force),
    lambda path, views, **force: write_transforms(path, views, False, **force),
    lambda path, views, **force: write_colmap(path, views, some_cloud(5), **force)],
    ids=['depth', 'nerf', 'colmap'])
def test_a_folder_is_replaced_on_demand(tmp_path, export):
    write_depth_maps(tmp_path / 'out', views_at(tour()[:4]), True)
    (tmp_path / 'out' / 'notes').touch()
    with pytest.raises(InputError, match='not empty'):
        export(tmp_path / 'out', views_at(tour()[:2]))
    export(tmp_path / 'out', views_at(tour()[:2]), force=True)
    export(tmp_path / 'out', views_at(tour()[:3]), force=True)
    assert (tmp_path / 'out' / 'notes').exists()
    folder = 'images' if (tmp_path / 'out' / 'images').exists() else 'rgb'
    assert len(list((tmp_path / 'out' / folder).iterdir())) == 3


def test_no_truth_is_left_of_an_earlier_export(tmp_path):
    write_depth_maps(tmp_path / 'out', views_at(tour()[:2]), True)
    write_depth_maps(tmp_path / 'out', views_at(tour()[:2]), False, force=True)
    assert FolderSource(tmp_path / 'out').groundtruth() is None


# ---- NeRF and COLMAP: a point of the map is projected as the programs do it


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_transforms_project_right(tmp_path, suffix):
    done = write_transforms(tmp_path / 'out', views_at(POSES), True, some_cloud(9), suffix)
    content = json.loads((tmp_path / 'out' / 'transforms.json').read_text())
    assert done.n_views == len(content['frames']) == 3
    assert content['depth_unit_scale_factor'] == 0.001
    assert len(read_ply(tmp_path / 'out' / content['ply_file_path'])) == 9
    for frame, view in zip(content['frames'], views_at(POSES)):
        camera = np.array([0.3, -0.2, 2.0])             # OpenCV axes
        world = se3.apply(view.T_submap_camera, camera)
        x, y, z = se3.apply(np.linalg.inv(frame['transform_matrix']), world)
        assert z < 0                                    # OpenGL: the camera looks along -z
        uv = frame['fl_x'] * x / -z + frame['cx'], frame['fl_y'] * -y / -z + frame['cy']
        np.testing.assert_allclose(uv, project(camera, K) + 0.5)
        image = cv2.imread(str(tmp_path / 'out' / frame['file_path']))[..., ::-1]
        assert image.shape == (frame['h'], frame['w'], 3)
        limit = 0 if suffix == '.png' else 4
        assert np.median(np.abs(image.astype(int) - view.rgb)) <= limit
        counts = cv2.imread(str(tmp_path / 'out' / frame['depth_file_path']),
                            cv2.IMREAD_UNCHANGED)
        np.testing.assert_allclose(counts * 0.001, view.depth, atol=0.000501)


def test_transforms_in_another_unit(tmp_path):
    done = write_transforms(tmp_path / 'out', views_at(POSES, unit_m=1000.0), False)
    content = json.loads((tmp_path / 'out' / 'transforms.json').read_text())
    factor = content['depth_unit_scale_factor']
    assert f'--depth-unit-scale-factor {factor:g}' in done.warnings[0]
    counts = cv2.imread(str(tmp_path / 'out' / 'depth' / '000000.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(counts * factor, next(views_at(POSES, unit_m=1000.0)).depth,
                               rtol=0.003)
    assert 'ply_file_path' not in content
    with pytest.raises(ConfigError, match='choose .png or .jpg'):
        write_transforms(tmp_path / 'b', views_at(POSES), True, suffix='.gif')


def _colmap_table(path):
    return [line.split() for line in path.read_text().splitlines() if not line.startswith('#')]


def test_colmap_projects_right(tmp_path):
    write_colmap(tmp_path / 'out', views_at(POSES), some_cloud(30))
    (camera,) = _colmap_table(tmp_path / 'out' / 'cameras.txt')
    assert camera[:4] == ['1', 'PINHOLE', '160', '120']
    fx, fy, cx, cy = map(float, camera[4:])
    rows = _colmap_table(tmp_path / 'out' / 'images.txt')
    assert rows[1::2] == [[]] * 3                       # no observations
    for row, view in zip(rows[::2], views_at(POSES)):
        qw, qx, qy, qz, *t = map(float, row[1:8])
        R = np.array([                                  # as COLMAP's documentation has it
            [1 - 2 * (qy**2 + qz**2), 2 * (qx * qy - qw * qz), 2 * (qx * qz + qw * qy)],
            [2 * (qx * qy + qw * qz), 1 - 2 * (qx**2 + qz**2), 2 * (qy * qz - qw * qx)],
            [2 * (qx * qz - qw * qy), 2 * (qy * qz + qw * qx), 1 - 2 * (qx**2 + qy**2)]])
        camera = np.array([0.3, -0.2, 2.0])
        x, y, z = R @ se3.apply(view.T_submap_camera, camera) + t
        np.testing.assert_allclose((fx * x / z + cx, fy * y / z + cy), project(camera, K) + 0.5)
        assert row[8] == '1'
        image = cv2.imread(str(tmp_path / 'out' / 'images' / row[9]))[..., ::-1]
        np.testing.assert_array_equal(image, view.rgb)
    table = np.array(_colmap_table(tmp_path / 'out' / 'points3D.txt'), float)
    np.testing.assert_array_equal(table[:, 0], 1 + np.arange(30))
    np.testing.assert_allclose(table[:, 1:4], some_cloud(30).points, rtol=1e-7)
    np.testing.assert_array_equal(table[:, 4:7], some_cloud(30).colors)
    assert (table[:, 7] == -1).all() and table.shape[1] == 8


def test_colmap_for_splats(tmp_path):
    cloud = some_cloud(100)
    points = np.array(cloud.points)
    points[3] = np.nan
    cloud = PointCloud(points, cloud.colors)
    views = list(views_at(POSES))
    views[1] = View(1, 1, views[1].T_submap_camera, 1.1 * K, views[1].rgb, views[1].depth)
    write_colmap(tmp_path / 'out', views, cloud, max_points=40, model='sparse/0')
    model = tmp_path / 'out' / 'sparse' / '0'
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['images', 'sparse']
    assert [row[8] for row in _colmap_table(model / 'images.txt')[::2]] == ['1', '2', '1']
    assert len(_colmap_table(model / 'cameras.txt')) == 2
    table = np.array(_colmap_table(model / 'points3D.txt'), float)
    assert len(table) == 40 and np.isfinite(table).all()
