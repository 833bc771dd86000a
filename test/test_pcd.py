"""PCD files: what we write, and what others do."""

import numpy as np
import pytest
from room_views import files_of_at_most, open3d_or_skip, some_cloud

from longrecon_ros.errors import InputError
from longrecon_ros.io.pcd import read_pcd, write_pcd
from longrecon_ros.io.ply import write_ply
from longrecon_ros.types import PointCloud


@pytest.mark.parametrize('use_normals', [False, True])
@pytest.mark.parametrize('n', [0, 1, 1000])
def test_pcd_round_trip_is_exact(tmp_path, n, use_normals):
    cloud = some_cloud(n, use_normals)
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
    open3d, cloud = open3d_or_skip(), some_cloud(100, use_normals=True)
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
    with files_of_at_most(100), pytest.raises(InputError, match='make room'):
        write_pcd(tmp_path / 'a.pcd', some_cloud(100))
    assert list(tmp_path.iterdir()) == []
