import numpy as np
import pytest

from longrecon_ros.errors import InputError
from longrecon_ros.io.ply import read_ply, write_ply
from longrecon_ros.types import PointCloud


def _cloud(n, use_normals=False):
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(n, 3)).astype(np.float32) if use_normals else None
    return PointCloud(rng.normal(size=(n, 3)).astype(np.float32),
                      rng.integers(0, 256, (n, 3)).astype(np.uint8), normals)


@pytest.mark.parametrize('n', [0, 1, 1000])
def test_round_trip_is_exact(tmp_path, n):
    cloud = _cloud(n)
    write_ply(tmp_path / 'a.ply', cloud)
    back = read_ply(tmp_path / 'a.ply')
    np.testing.assert_array_equal(back.points, cloud.points)
    np.testing.assert_array_equal(back.colors, cloud.colors)
    assert back.normals is None


@pytest.mark.parametrize('n', [0, 1, 1000])
def test_round_trip_with_normals(tmp_path, n):
    cloud = _cloud(n, use_normals=True)
    write_ply(tmp_path / 'a.ply', cloud)
    back = read_ply(tmp_path / 'a.ply')
    for name in ('points', 'colors', 'normals'):
        np.testing.assert_array_equal(getattr(back, name), getattr(cloud, name))


def test_normals_lie_between_points_and_colours(tmp_path):
    write_ply(tmp_path / 'a.ply', _cloud(2, use_normals=True))
    header, _, data = (tmp_path / 'a.ply').read_bytes().partition(b'end_header\n')
    assert [line.split()[-1] for line in header.decode().splitlines()
            if line.startswith('property')] == 'x y z nx ny nz red green blue'.split()
    assert len(data) == 27 * 2


def test_size_is_15_bytes_a_point(tmp_path):
    write_ply(tmp_path / 'a.ply', _cloud(1000))
    data = (tmp_path / 'a.ply').read_bytes()
    assert len(data) - data.index(b'end_header\n') - len(b'end_header\n') == 15 * 1000


def test_reads_ascii_without_colour(tmp_path):
    (tmp_path / 'a.ply').write_text(
        'ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\n'
        'property double z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n'
        '1 2 3\n4 5 6\n3 0 1 1\n')
    cloud = read_ply(tmp_path / 'a.ply')
    np.testing.assert_array_equal(cloud.points, [[1, 2, 3], [4, 5, 6]])
    assert (cloud.colors == 128).all()


def test_reads_big_endian(tmp_path):
    header = (b'ply\nformat binary_big_endian 1.0\nelement vertex 1\nproperty float x\n'
              b'property float y\nproperty float z\nend_header\n')
    (tmp_path / 'a.ply').write_bytes(header + np.array([1, 2, 3], '>f4').tobytes())
    np.testing.assert_array_equal(read_ply(tmp_path / 'a.ply').points, [[1, 2, 3]])


def test_cut_short(tmp_path):
    write_ply(tmp_path / 'a.ply', _cloud(10))
    data = (tmp_path / 'a.ply').read_bytes()
    (tmp_path / 'a.ply').write_bytes(data[:-20])
    with pytest.raises(InputError, match='promises 10 points, 8 are there'):
        read_ply(tmp_path / 'a.ply')


@pytest.mark.parametrize('content, message', [
    (b'plx\n', 'not a PLY'),
    (b'ply\nformat\nend_header\n', 'expected vertices'),
    (b'ply\nformat ascii 1.0\n', 'has no end'),
    (b'ply\nformat odd 1.0\nelement vertex 0\nproperty float x\nproperty float y\n'
     b'property float z\nend_header\n', '"odd" is not known')])
def test_damaged_headers(tmp_path, content, message):
    (tmp_path / 'a.ply').write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_ply(tmp_path / 'a.ply')
