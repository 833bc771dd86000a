"""Meshes of a known room: where the surface lies, and what is in the files."""

import json

import numpy as np
import pytest
from room_views import BOX, COLORS, K, open3d_or_skip, pose_at, POSES, ROOM, SIZE, tour, views_at

from longrecon_ros.errors import ConfigError, InputError, MissingDependency
from longrecon_ros.geometry import se3
from longrecon_ros.io.mesh import write_mesh
from longrecon_ros.io.ply import read_ply
from longrecon_ros.types import View


def _off_surface(points):
    """Return how far points (n, 3) in room axes are from the nearest wall or side of the box."""
    to_walls = np.abs(points[:, None] - ROOM).min(axis=(1, 2))
    outside = np.maximum(np.maximum(BOX[0] - points, points - BOX[1]), 0)
    inside = np.minimum(points - BOX[0], BOX[1] - points).min(axis=1)
    to_box = np.where(inside > 0, inside, np.linalg.norm(outside, axis=1))
    return np.minimum(to_walls, to_box)


def test_mesh_lies_on_the_surfaces(tmp_path):
    open3d_or_skip()
    poses = tour()[:27]
    n_vertices, n_triangles = write_mesh(tmp_path / 'a.ply', views_at(poses), 0.05)
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
    open3d_or_skip()
    for suffix in ('ply', 'obj', 'glb', 'stl'):
        n_vertices, n_triangles = write_mesh(tmp_path / f'a.{suffix}', views_at(tour()[:5]), 0.1)
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
    open3d_or_skip()
    write_mesh(tmp_path / 'a.ply', views_at([pose_at(0, 0)], boxes=()), 0.05, depth_limit_m=3.0)
    assert read_ply(tmp_path / 'a.ply').points[:, 2].max() < 3.1


def test_mesh_refuses(tmp_path):
    with pytest.raises(ConfigError, match='.ply, .obj, .glb'):
        write_mesh(tmp_path / 'a.dae', views_at(POSES), 0.05)
    with pytest.raises(ConfigError, match='voxel_m must be a length above 0'):
        write_mesh(tmp_path / 'a.ply', views_at(POSES), 0.0)
    open3d_or_skip()
    view = next(views_at(POSES))
    empty = View(0, 0, view.T_submap_camera, K, view.rgb, np.zeros(SIZE[::-1]))
    with pytest.raises(InputError, match='no surface'):
        write_mesh(tmp_path / 'a.ply', [empty, empty], 0.05)
    assert list(tmp_path.iterdir()) == []


def test_mesh_that_fills_the_memory(tmp_path, monkeypatch):
    open3d_or_skip()
    monkeypatch.setattr('longrecon_ros.io.mesh._MAX_BLOCKS', 100)
    with pytest.raises(InputError, match='voxels of 0.02 fill the memory.*use larger ones'):
        write_mesh(tmp_path / 'a.ply', views_at(POSES), 0.02)


def test_mesh_without_open3d(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'open3d', None)
    with pytest.raises(MissingDependency, match='pip install open3d'):
        write_mesh(tmp_path / 'a.ply', views_at(POSES), 0.05)
