"""Exports of a map: what other programs read out of the files is what is true of a known room."""

from contextlib import contextmanager
import json
import resource
import weakref

import cv2
import numpy as np
import pytest
import yaml

from longrecon_ros.errors import ConfigError, InputError, MissingDependency
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import pixel_grid, project, unproject
from longrecon_ros.io.colmap import write_colmap
from longrecon_ros.io.depth_maps import write_depth_maps
from longrecon_ros.io.folder import FolderSource
from longrecon_ros.io.mesh import write_mesh
from longrecon_ros.io.nerf import write_transforms
from longrecon_ros.io.occupancy import FREE, OCCUPIED, UNKNOWN, write_occupancy
from longrecon_ros.io.pcd import read_pcd, write_pcd
from longrecon_ros.io.ply import read_ply, write_ply
from longrecon_ros.types import PointCloud, Trajectory, View

SIZE = 160, 120
# the principal point is not in the middle: a mistake of half a pixel, or of sign, is seen
K = np.array([[100.0, 0, 82.0], [0, 105.0, 57.0], [0, 0, 1]])
R_BASE_CAMERA = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
ROOM = np.array([[-2.0, -1.5, 0], [4.0, 2.5, 2.4]])         # corners, m; x ahead, y left, z up
BOX = np.array([[1.5, -0.5, 0], [2.3, 0.5, 0.7]])           # stands in it
HEIGHT = 1.1


def _pose(x, y, yaw_deg=0.0, pitch_deg=0.0, height=HEIGHT):
    """Return T_room_camera (4, 4); pitch is downwards."""
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    R = se3.so3_exp(np.array([0, 0, yaw])) @ se3.so3_exp(np.array([0, pitch, 0]))
    return se3.from_parts(R @ R_BASE_CAMERA, np.array([x, y, height]))


def _cast(origin, rays, boxes):
    """Return how many rays (n, 3) it takes to the walls or boxes, (n,), and which surface."""
    with np.errstate(divide='ignore'):
        low, high = (ROOM[0] - origin) / rays, (ROOM[1] - origin) / rays
    exits = np.maximum(low, high)
    distance, surface = exits.min(axis=1), exits.argmin(axis=1) + 1
    for box in boxes:
        with np.errstate(divide='ignore'):
            a, b = (box[0] - origin) / rays, (box[1] - origin) / rays
        near, far = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
        is_hit = (near < far) & (near > 0) & (near < distance)
        distance, surface = np.where(is_hit, near, distance), np.where(is_hit, 0, surface)
    return distance, surface


COLORS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [120, 110, 100]], np.uint8)


def _views(poses, boxes=(BOX,), unit_m=1.0):
    """Yield exact views of the room from poses (T_room_camera); the map is at the first one."""
    for i, T in enumerate(poses):
        rays = unproject(pixel_grid(SIZE), np.ones(SIZE[::-1]), K).reshape(-1, 3)
        depth, surface = _cast(T[:3, 3], rays @ T[:3, :3].T, boxes)
        T_map_camera = se3.relative(poses[0], T)
        T_map_camera[:3, 3] /= unit_m
        shape = SIZE[::-1]
        yield View(10 * i, 10**9 + 10**8 * i, T_map_camera, K, COLORS[surface].reshape(*shape, 3),
                   depth.reshape(shape) / unit_m)


def _tour(pitch_deg=0.0):
    """Look all round from five places in the room."""
    places = [(0, 0), (-1.2, 1.5), (3.2, 1.6), (3.2, -0.8), (0, -0.9)]
    return [_pose(x, y, yaw, pitch_deg) for x, y in places for yaw in range(0, 360, 40)]


@contextmanager
def _files_of_at_most(n_bytes):
    """Let larger files fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _open3d():
    try:
        import open3d
    except ImportError as error:
        pytest.skip(f'a mesh needs Open3D: {error}')
    return open3d


def _cloud(n, use_normals=False):
    rng = np.random.default_rng(0)
    return PointCloud(rng.normal(size=(n, 3)), rng.integers(0, 256, (n, 3)),
                      rng.normal(size=(n, 3)) if use_normals else None)


def _mesh(path, views):
    _open3d()
    return write_mesh(path, views, 0.1)


EXPORTS = {
    'depth': lambda path, views: write_depth_maps(path, views, True),
    'nerf': lambda path, views: write_transforms(path, views, True, _cloud(5)),
    'colmap': lambda path, views: write_colmap(path, views, _cloud(5)),
    'occupancy': lambda path, views: write_occupancy(path, views, 0.1, True),
    'mesh': lambda path, views: _mesh(path.with_suffix('.ply'), views)}

each_export = pytest.mark.parametrize('export', EXPORTS.values(), ids=EXPORTS.keys())


def _with_pose(T):
    view = next(_views([_pose(0, 0)]))
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
    with _files_of_at_most(200), pytest.raises(InputError, match='out.* cannot be written'):
        export(tmp_path / 'out', _views([_pose(0, 0), _pose(0, 0, 40)]))
    assert [path.name for path in tmp_path.rglob('*')] == ['out']


@each_export
def test_views_are_not_held(tmp_path, export):
    alive = []

    def watched():
        for view in _views([_pose(0, 0, yaw) for yaw in range(0, 120, 20)]):
            image = np.array(view.rgb)
            alive.append(weakref.ref(image))
            assert sum(ref() is not None for ref in alive) <= 2
            yield View(view.frame_id, view.stamp_ns, view.T_submap_camera, K, image, view.depth)
            del image
    export(tmp_path / 'out', watched())
    assert len(alive) == 6


# ---- PCD


@pytest.mark.parametrize('use_normals', [False, True])
@pytest.mark.parametrize('n', [0, 1, 1000])
def test_pcd_round_trip_is_exact(tmp_path, n, use_normals):
    cloud = _cloud(n, use_normals)
    write_pcd(tmp_path / 'a.pcd', cloud)
    back = read_pcd(tmp_path / 'a.pcd')
    np.testing.assert_array_equal(back.points, cloud.points)
    np.testing.assert_array_equal(back.colors, cloud.colors)
    if use_normals:
        np.testing.assert_array_equal(back.normals, cloud.normals)
    else:
        assert back.normals is None


def test_pcd_bytes(tmp_path):
    write_pcd(tmp_path / 'a.pcd', PointCloud([[1, 2, 3]], [[0x12, 0x34, 0x56]], [[0, 0, 1]]))
    assert (tmp_path / 'a.pcd').read_bytes() == (
        b'# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\n'
        b'FIELDS x y z rgb normal_x normal_y normal_z\nSIZE 4 4 4 4 4 4 4\nTYPE F F F F F F F\n'
        b'COUNT 1 1 1 1 1 1 1\nWIDTH 1\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 1\n'
        b'DATA binary\n' + np.array([1, 2, 3], '<f4').tobytes() + b'\x56\x34\x12\x00'
        + np.array([0, 0, 1], '<f4').tobytes())


def test_open3d_reads_clouds_as_we_wrote_them(tmp_path):
    open3d, cloud = _open3d(), _cloud(100, use_normals=True)
    for write, name in ((write_pcd, 'a.pcd'), (write_ply, 'a.ply')):
        write(tmp_path / name, cloud)
        back = open3d.io.read_point_cloud(str(tmp_path / name))
        np.testing.assert_array_equal(np.asarray(back.points), cloud.points)
        np.testing.assert_allclose(255 * np.asarray(back.colors), cloud.colors, atol=1e-4)
        np.testing.assert_array_equal(np.asarray(back.normals), cloud.normals)


def _pcd(fields, sizes, types, n, data, counts=None):
    counts = counts or ' '.join('1' for _ in sizes.split())
    return (f'VERSION 0.7\nFIELDS {fields}\nSIZE {sizes}\nTYPE {types}\nCOUNT {counts}\n'
            f'WIDTH {n}\nHEIGHT 1\nPOINTS {n}\nDATA {data}')


def test_pcd_of_others(tmp_path):
    (tmp_path / 'a.pcd').write_text(
        _pcd('x y z rgba', '4 4 4 4', 'F F F U', 2, 'ascii\n1 2 3 1193046\n4 5 6 255\n'))
    cloud = read_pcd(tmp_path / 'a.pcd')
    np.testing.assert_array_equal(cloud.points, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(cloud.colors, [[0x12, 0x34, 0x56], [0, 0, 255]])
    row = np.array([(1, 2, 3, (9, 9, 9, 9), 5)],
                   [('x', '<f8'), ('y', '<f8'), ('z', '<f8'), ('_', 'u1', 4), ('i', '<u2')])
    (tmp_path / 'b.pcd').write_bytes(_pcd('x y z _ intensity', '8 8 8 1 2', 'F F F U U', 1,
                                          'binary\n', '1 1 1 4 1').encode() + row.tobytes())
    cloud = read_pcd(tmp_path / 'b.pcd')
    np.testing.assert_array_equal(cloud.points, [[1, 2, 3]])
    assert (cloud.colors == 128).all()


@pytest.mark.parametrize('content, words', [
    ('ply\n', 'not a PCD file'),
    (_pcd('x y z', '4 4 4', 'F F F', 9, 'binary_compressed\n'), 'pcl_convert_pcd_ascii_binary'),
    (_pcd('x y z', '4 4 4', 'F F F', 2, 'binary\n0123456789ABxy'), 'promises 2 points, 1 are'),
    (_pcd('x y z', '4 4 4', 'F F F', 2, 'ascii\n1 2 3\n'), 'promises 2 points, 1 are'),
    (_pcd('x y z', '4 4 4', 'F F F', 1, 'ascii\n1 two 3\n'), 'damaged ASCII'),
    (_pcd('x y z', '4 4 3', 'F F F', 1, 'binary\n'), 'header is damaged'),
    (_pcd('x y', '4 4', 'F F', 1, 'binary\n'), 'no x, y and z'),
    (_pcd('x y z', '4 4 4', 'F F F', -1, 'binary\n'), 'header is damaged')])
def test_pcd_damaged(tmp_path, content, words):
    (tmp_path / 'a.pcd').write_text(content)
    with pytest.raises(InputError, match=words):
        read_pcd(tmp_path / 'a.pcd')


def test_pcd_missing_or_not_writable(tmp_path):
    with pytest.raises(InputError, match='cannot be read'):
        read_pcd(tmp_path / 'a.pcd')
    with _files_of_at_most(100), pytest.raises(InputError, match='make room'):
        write_pcd(tmp_path / 'a.pcd', _cloud(100))
    assert list(tmp_path.iterdir()) == []


# ---- depth maps and poses


def test_depth_maps_are_a_recording(tmp_path):
    poses = [_pose(0, 0), _pose(0.3, 0.1, 20), _pose(0.6, 0.1, 40, 10)]
    done = write_depth_maps(tmp_path / 'out', _views(poses), is_metric=True)
    assert done.n_views == 3 and done.warnings == ()
    source = FolderSource(tmp_path / 'out')
    views = list(_views(poses))
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
    write_depth_maps(tmp_path / 'out', _views(_tour()[:9], unit_m=unit_m), is_metric=False)
    scale = json.loads((tmp_path / 'out' / 'info.json').read_text())['depth_scale']
    assert (scale == 1000) == (unit_m == 1)
    view = next(_views(_tour()[:1], unit_m=unit_m))
    counts = cv2.imread(str(tmp_path / 'out' / 'depth' / '000000.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(counts / scale, view.depth, rtol=0.003)
    # it is no ground truth in metres
    assert FolderSource(tmp_path / 'out').groundtruth() is None


def test_depth_beyond_16_bits_is_told(tmp_path):
    view = next(_views([_pose(0, 0)]))
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
    views = list(_views(_tour()[:4]))
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
    first, second = _views([_pose(0, 0), _pose(0, 0, 20)])
    small = View(5, 5 * 10**9, second.T_submap_camera, K, first.rgb[:60], first.depth[:60])
    with pytest.raises(InputError, match='image 5 is of'):
        write_depth_maps(tmp_path / 'out', [first, small], True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('export', [
    lambda path, views, **force: write_depth_maps(path, views, False, **force),
    lambda path, views, **force: write_transforms(path, views, False, **force),
    lambda path, views, **force: write_colmap(path, views, _cloud(5), **force)],
    ids=['depth', 'nerf', 'colmap'])
def test_a_folder_is_replaced_on_demand(tmp_path, export):
    write_depth_maps(tmp_path / 'out', _views(_tour()[:4]), True)
    (tmp_path / 'out' / 'notes').touch()
    with pytest.raises(InputError, match='not empty'):
        export(tmp_path / 'out', _views(_tour()[:2]))
    export(tmp_path / 'out', _views(_tour()[:2]), force=True)
    export(tmp_path / 'out', _views(_tour()[:3]), force=True)
    assert (tmp_path / 'out' / 'notes').exists()
    folder = 'images' if (tmp_path / 'out' / 'images').exists() else 'rgb'
    assert len(list((tmp_path / 'out' / folder).iterdir())) == 3


def test_no_truth_is_left_of_an_earlier_export(tmp_path):
    write_depth_maps(tmp_path / 'out', _views(_tour()[:2]), True)
    write_depth_maps(tmp_path / 'out', _views(_tour()[:2]), False, force=True)
    assert FolderSource(tmp_path / 'out').groundtruth() is None


# ---- NeRF and COLMAP: a point of the map is projected as the programs do it


POSES = [_pose(0, 0), _pose(0.4, 0.2, 25, 5), _pose(-0.5, -0.3, -100, -8)]


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_transforms_project_right(tmp_path, suffix):
    done = write_transforms(tmp_path / 'out', _views(POSES), True, _cloud(9), suffix)
    content = json.loads((tmp_path / 'out' / 'transforms.json').read_text())
    assert done.n_views == len(content['frames']) == 3
    assert content['depth_unit_scale_factor'] == 0.001
    assert len(read_ply(tmp_path / 'out' / content['ply_file_path'])) == 9
    for frame, view in zip(content['frames'], _views(POSES)):
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
    done = write_transforms(tmp_path / 'out', _views(POSES, unit_m=1000.0), False)
    content = json.loads((tmp_path / 'out' / 'transforms.json').read_text())
    factor = content['depth_unit_scale_factor']
    assert f'--depth-unit-scale-factor {factor:g}' in done.warnings[0]
    counts = cv2.imread(str(tmp_path / 'out' / 'depth' / '000000.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(counts * factor, next(_views(POSES, unit_m=1000.0)).depth,
                               rtol=0.003)
    assert 'ply_file_path' not in content
    with pytest.raises(ConfigError, match='choose .png or .jpg'):
        write_transforms(tmp_path / 'b', _views(POSES), True, suffix='.gif')


def _colmap_table(path):
    return [line.split() for line in path.read_text().splitlines() if not line.startswith('#')]


def test_colmap_projects_right(tmp_path):
    write_colmap(tmp_path / 'out', _views(POSES), _cloud(30))
    (camera,) = _colmap_table(tmp_path / 'out' / 'cameras.txt')
    assert camera[:4] == ['1', 'PINHOLE', '160', '120']
    fx, fy, cx, cy = map(float, camera[4:])
    rows = _colmap_table(tmp_path / 'out' / 'images.txt')
    assert rows[1::2] == [[]] * 3                       # no observations
    for row, view in zip(rows[::2], _views(POSES)):
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
    np.testing.assert_allclose(table[:, 1:4], _cloud(30).points, rtol=1e-7)
    np.testing.assert_array_equal(table[:, 4:7], _cloud(30).colors)
    assert (table[:, 7] == -1).all() and table.shape[1] == 8


def test_colmap_for_splats(tmp_path):
    cloud = _cloud(100)
    points = np.array(cloud.points)
    points[3] = np.nan
    cloud = PointCloud(points, cloud.colors)
    views = [view for view in _views(POSES)]
    views[1] = View(1, 1, views[1].T_submap_camera, 1.1 * K, views[1].rgb, views[1].depth)
    write_colmap(tmp_path / 'out', views, cloud, max_points=40, model='sparse/0')
    model = tmp_path / 'out' / 'sparse' / '0'
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['images', 'sparse']
    assert [row[8] for row in _colmap_table(model / 'images.txt')[::2]] == ['1', '2', '1']
    assert len(_colmap_table(model / 'cameras.txt')) == 2
    table = np.array(_colmap_table(model / 'points3D.txt'), float)
    assert len(table) == 40 and np.isfinite(table).all()


# ---- mesh


def _off_surface(points):
    """Return how far points (n, 3) in room axes are from the nearest wall or side of the box."""
    to_walls = np.abs(points[:, None] - ROOM).min(axis=(1, 2))
    outside = np.maximum(np.maximum(BOX[0] - points, points - BOX[1]), 0)
    inside = np.minimum(points - BOX[0], BOX[1] - points).min(axis=1)
    to_box = np.where(inside > 0, inside, np.linalg.norm(outside, axis=1))
    return np.minimum(to_walls, to_box)


def test_mesh_lies_on_the_surfaces(tmp_path):
    _open3d()
    poses = _tour()[:27]
    n_vertices, n_triangles = write_mesh(tmp_path / 'a.ply', _views(poses), 0.05)
    assert n_triangles > n_vertices > 10_000
    cloud = read_ply(tmp_path / 'a.ply')
    assert len(cloud) == n_vertices
    points = se3.apply(poses[0], cloud.points)
    distance = _off_surface(points)
    assert np.quantile(distance, 0.5) < 0.002
    assert np.quantile(distance, 0.95) < 0.015
    # far from edges, where the colour and normal are those of one surface
    floor = (points[:, 2] < 0.02) & (_off_surface(points * (1, 1, 0) + (0, 0, 0.3)) > 0.2)
    assert floor.sum() > 1000
    normals = cloud.normals[floor] @ poses[0][:3, :3].T
    assert np.median(normals[:, 2]) > 0.99 and np.quantile(normals[:, 2], 0.02) > 0.9
    assert (np.abs(cloud.colors[floor].astype(int) - COLORS[3]) <= 2).mean() > 0.98


def _glb_content(data):
    assert data[:4] == b'glTF' and np.frombuffer(data[4:12], '<u4').tolist() == [2, len(data)]
    size = int(np.frombuffer(data[12:16], '<u4')[0])
    assert data[16:20] == b'JSON' and data[24 + size:28 + size] == b'BIN\x00'
    content, binary = json.loads(data[20:20 + size]), data[28 + size:]
    assert len(binary) == content['buffers'][0]['byteLength']
    arrays = []
    for accessor in content['accessors']:
        view = content['bufferViews'][accessor['bufferView']]
        dtype = {5126: '<f4', 5125: '<u4', 5123: '<u2'}[accessor['componentType']]
        width = {'SCALAR': 1, 'VEC3': 3, 'VEC4': 4}[accessor['type']]
        assert view['byteOffset'] % 4 == 0
        arrays.append(np.frombuffer(binary, dtype, accessor['count'] * width,
                                    view['byteOffset']).reshape(-1, width))
    return content, arrays


def test_meshes_are_the_same_in_each_form(tmp_path):
    _open3d()
    for suffix in ('ply', 'obj', 'glb', 'stl'):
        n_vertices, n_triangles = write_mesh(tmp_path / f'a.{suffix}', _views(_tour()[:5]), 0.1)
    cloud = read_ply(tmp_path / 'a.ply')
    faces = np.frombuffer((tmp_path / 'a.ply').read_bytes()[-13 * n_triangles:],
                          [('n', 'u1'), ('indices', '<i4', 3)])
    assert (faces['n'] == 3).all()
    a, b, c = np.moveaxis(cloud.points[faces['indices']], 1, 0)
    turn = (np.cross(b - a, c - a) * cloud.normals[faces['indices'][:, 0]]).sum(axis=1)
    assert (turn > 0).mean() > 0.95                     # anticlockwise as seen from the cameras

    rows = {}
    for line in (tmp_path / 'a.obj').read_text().splitlines():
        kind, *words = line.split()
        rows.setdefault(kind, []).append([float(word.split('/')[0]) for word in words
                                          if kind != '#'])
    np.testing.assert_allclose(rows['v'], np.hstack([cloud.points, cloud.colors / 255]), atol=1e-4)
    np.testing.assert_allclose(rows['vn'], cloud.normals, atol=1e-4)
    np.testing.assert_array_equal(np.array(rows['f']) - 1, faces['indices'])

    content, (points, normals, colors, indices) = _glb_content((tmp_path / 'a.glb').read_bytes())
    np.testing.assert_array_equal(points, cloud.points)
    np.testing.assert_array_equal(normals, cloud.normals)
    np.testing.assert_array_equal(indices.reshape(-1, 3), faces['indices'])
    linear = colors[:, :3] / 65535
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear**(1 / 2.4) - 0.055)
    np.testing.assert_allclose(255 * srgb, cloud.colors, atol=0.05)
    rows = np.frombuffer((tmp_path / 'a.stl').read_bytes()[84:],
                         [('normal', '<f4', 3), ('corners', '<f4', (3, 3)), ('_', '<u2')])
    np.testing.assert_array_equal(rows['corners'], cloud.points[faces['indices']])
    assert ((rows['normal'] * cloud.normals[faces['indices'][:, 0]]).sum(axis=1) > 0).mean() > 0.95
    assert content['nodes'][0]['rotation'] == [1, 0, 0, 0]      # half a turn about x
    np.testing.assert_allclose(content['accessors'][0]['max'], cloud.points.max(axis=0))


def test_mesh_leaves_out_what_is_far(tmp_path):
    _open3d()
    write_mesh(tmp_path / 'a.ply', _views([_pose(0, 0)], boxes=()), 0.05, depth_limit_m=3.0)
    assert read_ply(tmp_path / 'a.ply').points[:, 2].max() < 3.1


def test_mesh_refuses(tmp_path):
    with pytest.raises(ConfigError, match='.ply, .obj, .glb'):
        write_mesh(tmp_path / 'a.dae', _views(POSES), 0.05)
    with pytest.raises(ConfigError, match='voxel_m must be a length above 0'):
        write_mesh(tmp_path / 'a.ply', _views(POSES), 0.0)
    _open3d()
    view = next(_views(POSES))
    empty = View(0, 0, view.T_submap_camera, K, view.rgb, np.zeros(SIZE[::-1]))
    with pytest.raises(InputError, match='no surface'):
        write_mesh(tmp_path / 'a.ply', [empty, empty], 0.05)
    assert list(tmp_path.iterdir()) == []


def test_mesh_that_fills_the_memory(tmp_path, monkeypatch):
    _open3d()
    monkeypatch.setattr('longrecon_ros.io.mesh._MAX_BLOCKS', 100)
    with pytest.raises(InputError, match='voxels of 0.02 fill the memory.*use larger ones'):
        write_mesh(tmp_path / 'a.ply', _views(POSES), 0.02)


def test_mesh_without_open3d(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'open3d', None)
    with pytest.raises(MissingDependency, match='pip install open3d'):
        write_mesh(tmp_path / 'a.ply', _views(POSES), 0.05)


# ---- occupancy


def _read_map(folder):
    """Return cells (n,) as Nav2's map server has them (100, 0, -1), and their centres (n, 2)."""
    entries = yaml.safe_load((folder / 'map.yaml').read_text())
    assert entries['mode'] == 'trinary' and entries['negate'] == 0 and entries['origin'][2] == 0
    pixels = cv2.imread(str(folder / entries['image']), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(pixels)) <= {OCCUPIED, FREE, UNKNOWN}
    occupied = 1 - pixels[::-1] / 255                   # the map server counts rows from below
    cells = np.where(occupied > entries['occupied_thresh'], 100,
                     np.where(occupied < entries['free_thresh'], 0, -1))
    row, column = np.indices(cells.shape)
    centres = (np.stack([column, row], axis=-1) + 0.5) * entries['resolution']
    return cells.ravel(), (centres + entries['origin'][:2]).reshape(-1, 2), entries


def _inside(points, box, margin):
    return ((points > box[0, :2] - margin) & (points < box[1, :2] + margin)).all(axis=1)


def _check_room(cells, xy):
    """Check cells at xy (n, 2), room axes, of 0.05 m."""
    is_room, is_box = _inside(xy, ROOM, -0.08), _inside(xy, BOX, 0.08)
    assert not (cells[is_room & ~is_box] == 100).any()
    assert (cells[is_room & ~is_box] == 0).mean() > 0.97
    assert (cells[~_inside(xy, ROOM, 0.08)] == -1).all()
    assert not (cells[_inside(xy, BOX, -0.08)] == 0).any()
    for box in (ROOM, BOX):
        for axis in (0, 1):
            for side in box[:, axis]:
                along = np.arange(box[0, 1 - axis] + 0.1, box[1, 1 - axis] - 0.1, 0.05)
                wall = np.insert(along[:, None], axis, side, axis=1)
                near = np.abs(wall[:, None] - xy[cells == 100]).max(axis=2).min(axis=1)
                assert (near < 0.06).mean() > 0.98, (axis, side)


def test_occupancy_of_a_room(tmp_path):
    done = write_occupancy(tmp_path / 'out', _views(_tour()), 0.05, is_metric=True)
    cells, xy, entries = _read_map(tmp_path / 'out')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['map.pgm', 'map.yaml']
    _check_room(cells, xy)                              # the first camera is at the room's origin
    assert entries['resolution'] == done.resolution_m == 0.05
    assert tuple(entries['origin'][:2]) == done.origin_m
    np.testing.assert_allclose(done.origin_m, ROOM[0, :2], atol=0.2)
    assert np.prod(done.size) == len(cells)
    assert done.known_share == (cells >= 0).mean()
    assert done.occupied_share == (cells == 100).mean()
    assert done.warnings == () and '1.10 m above the ground' in str(done)
    np.testing.assert_allclose(done.camera_height_m, HEIGHT, atol=1e-3)
    np.testing.assert_allclose(done.T_grid_map, _pose(0, 0), atol=1e-3)
    np.testing.assert_allclose(done.ground.normal, [0, -1, 0], atol=1e-3)


@pytest.mark.parametrize('use_up', [False, True])
def test_ground_below_a_camera_that_looks_down(tmp_path, use_up):
    # ahead only: on average these cameras are not level
    poses = [_pose(0.1 * i - 1, 0, 0, 10) for i in range(9)]
    up = poses[0][:3, :3].T @ (0, 0, 1.0)
    done = write_occupancy(tmp_path / 'a.yaml', _views(poses), 0.05, True,
                           up=3 * up if use_up else None)
    assert np.degrees(np.arccos(min(done.ground.normal @ up, 1))) < 0.1
    np.testing.assert_allclose(done.camera_height_m, HEIGHT, atol=2e-3)
    np.testing.assert_allclose(done.T_grid_map, _pose(0, 0, 0, 10), atol=2e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.pgm', 'a.yaml']


def test_occupancy_of_looking_down_and_turning(tmp_path):
    write_occupancy(tmp_path / 'out', _views(_tour(pitch_deg=10)), 0.05, True)
    _check_room(*_read_map(tmp_path / 'out')[:2])


def test_a_large_table_is_not_the_ground(tmp_path):
    table = np.array([[0.6, -1.4, 0], [3.9, 1.4, 0.75]])
    done = write_occupancy(tmp_path / 'out', _views([_pose(x, 0.5) for x in (-1.8, -1.5, -1.2)],
                                                    boxes=(table,)), 0.05, True)
    np.testing.assert_allclose(done.camera_height_m, HEIGHT, atol=5e-3)


def test_occupancy_with_noise_and_drift(tmp_path):
    rng = np.random.default_rng(0)
    poses = [_pose(0.04 * i - 1.5, 1.2, 15 * i) for i in range(48)]

    def drifting():
        for i, view in enumerate(_views(poses)):
            T = view.T_submap_camera.copy()
            T[1, 3] += 0.012 * i                        # down, 0.56 m in all
            noise = 1 + 0.015 * rng.normal(size=view.depth.shape)
            yield View(i, i, T, K, view.rgb, view.depth * noise)
    write_occupancy(tmp_path / 'out', drifting(), 0.05, True)
    cells, xy, _ = _read_map(tmp_path / 'out')
    xy = xy + poses[0][:2, 3]
    is_open = _inside(xy, ROOM, -0.4) & ~_inside(xy, BOX, 0.4)
    assert (cells[is_open] == 100).mean() < 0.005
    assert (cells[is_open] == 0).mean() > 0.65         # the rest is hidden, or below the image


def test_scale_of_the_grid(tmp_path):
    with pytest.raises(ConfigError, match='scale of this map is unknown: give metres_per_unit'):
        write_occupancy(tmp_path / 'no', _views(_tour()), 0.05, is_metric=False)
    assert list(tmp_path.iterdir()) == []
    write_occupancy(tmp_path / 'out', _views(_tour(), unit_m=20.0), 0.05, False,
                    metres_per_unit=20.0)
    _check_room(*_read_map(tmp_path / 'out')[:2])
    done = write_occupancy(tmp_path / 'twice', _views(_tour()), 0.1, False, metres_per_unit=2.0,
                           height_range_m=(0.2, 3.0), max_range_m=20.0)
    cells, xy, _ = _read_map(tmp_path / 'twice')
    _check_room(cells, xy / 2)
    np.testing.assert_allclose(done.origin_m, 2 * ROOM[0, :2], atol=0.4)
    np.testing.assert_allclose(done.camera_height_m, 2 * HEIGHT, atol=2e-3)


def test_what_is_below_the_image_stays_unknown(tmp_path):
    # 1.1 m high, 57 rows below the middle at 105 px: the floor begins 1.84 m ahead
    write_occupancy(tmp_path / 'out', _views([_pose(-1, 0)], boxes=()), 0.05, True)
    cells, xy, _ = _read_map(tmp_path / 'out')
    ahead = (np.abs(xy[:, 1]) < 0.06) & (xy[:, 0] > 0.25)
    assert (cells[ahead & (xy[:, 0] < 1.6)] == -1).all()
    assert (cells[ahead & (xy[:, 0] > 1.95) & (xy[:, 0] < 4.9)] == 0).all()
    assert (cells[ahead & (xy[:, 0] > 4.97) & (xy[:, 0] < 5.03)] == 100).all()
    assert (cells[(xy**2).sum(axis=1) < 0.15**2] == 0).all()    # the camera is there

    path = Trajectory([0, 1], [np.eye(4), se3.from_parts(np.eye(3), np.array([0, 0, 1.0]))])
    write_occupancy(tmp_path / 'b', _views([_pose(-1, 0)], boxes=()), 0.05, True, trajectory=path)
    cells, xy, _ = _read_map(tmp_path / 'b')
    assert (cells[((xy - (1, 0))**2).sum(axis=1) < 0.15**2] == 0).all()


def test_max_range_and_heights(tmp_path):
    write_occupancy(tmp_path / 'out', _views(_tour()[:9], boxes=()), 0.05, True,
                    max_range_m=2.2)
    cells, xy, _ = _read_map(tmp_path / 'out')
    assert np.hypot(*xy[cells == 100].T).max() < 2.3
    assert np.hypot(*xy[cells == 0].T).max() < 2.3
    write_occupancy(tmp_path / 'high', _views(_tour()), 0.05, True, height_range_m=(0.8, 1.5))
    cells, xy, _ = _read_map(tmp_path / 'high')
    assert not (cells[_inside(xy, BOX, 0.0)] == 100).any()      # it is lower


def test_occupancy_says_what_is_odd(tmp_path):
    def without_floor():
        for view in _views(_tour()[:9], boxes=()):
            depth = np.array(view.depth)
            depth[int(K[1, 2]) + 5:] = 0
            yield View(0, 0, view.T_submap_camera, K, view.rgb, depth)
    done = write_occupancy(tmp_path / 'a', without_floor(), 0.05, True)
    assert any('no floor was found' in text and 'give up' in text for text in done.warnings)
    done = write_occupancy(tmp_path / 'b', _views(_tour()[:9]), 0.5, False, metres_per_unit=10.0,
                           max_range_m=100)
    assert 'is metres_per_unit right?' in done.warnings[0]


@pytest.mark.parametrize('options, words', [
    ({'metres_per_unit': -1.0}, 'metres_per_unit must be above 0'),
    ({'height_range_m': (1.0, 0.5)}, 'height_range_m must be above 0 and ascend'),
    ({'up': np.zeros(3)}, 'up: expected a direction')])
def test_occupancy_refuses(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        write_occupancy(tmp_path / 'out', _views(POSES), 0.05, True, **options)
    assert list(tmp_path.iterdir()) == []


def test_occupancy_too_large(tmp_path):
    far = next(_views([_pose(0, 0)]))
    T = se3.from_parts(np.eye(3), np.array([0, 0, 1e5]))
    far = [far, View(1, 1, T, K, far.rgb, far.depth)]
    with pytest.raises(InputError, match='cells are too many; use a coarser resolution'):
        write_occupancy(tmp_path / 'out', far, 0.01, True)
    assert list(tmp_path.iterdir()) == []
