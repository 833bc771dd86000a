import numpy as np
import pytest

from longrecon_ros.errors import InputError
from longrecon_ros.geometry import se3
from longrecon_ros.io.timestamps import format_stamp, parse_stamp_ns, read_timestamps
from longrecon_ros.io.trajectory_file import (
    read_kitti,
    read_trajectory,
    read_tum,
    write_kitti,
    write_tum,
)
from longrecon_ros.types import Trajectory


@pytest.fixture
def trajectory():
    rng = np.random.default_rng(1)
    stamps = 1_305_031_102_211_214_066 + np.cumsum(rng.integers(1, 10**8, 40))
    return Trajectory(stamps, se3.exp(rng.normal(size=(40, 6)) * 2))


def test_tum_round_trip_keeps_every_nanosecond(tmp_path, trajectory):
    write_tum(tmp_path / 'a.txt', trajectory)
    back = read_trajectory(tmp_path / 'a.txt')
    np.testing.assert_array_equal(back.stamps_ns, trajectory.stamps_ns)
    np.testing.assert_allclose(back.T_map_camera, trajectory.T_map_camera, atol=5e-9)


def test_kitti_round_trip(tmp_path, trajectory):
    write_kitti(tmp_path / 'a.txt', trajectory)
    back = read_kitti(tmp_path / 'a.txt', trajectory.stamps_ns)
    np.testing.assert_array_equal(back.stamps_ns, trajectory.stamps_ns)
    np.testing.assert_allclose(back.T_map_camera, trajectory.T_map_camera, atol=1e-10)
    assert read_trajectory(tmp_path / 'a.txt').stamps_ns[3] == 3_000_000_000


def test_tum_known_pose(tmp_path):
    (tmp_path / 'a.txt').write_text('# comment\n\n1.5, 1 2 3 0 0 0.70710678 0.70710678 # tail\n')
    T = read_tum(tmp_path / 'a.txt').T_map_camera[0]
    np.testing.assert_allclose(T[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-7)
    np.testing.assert_allclose(T[:3, 3], [1, 2, 3])


def test_tum_sorts_and_drops_repeated_times(tmp_path, caplog):
    (tmp_path / 'a.txt').write_text('2 2 0 0 0 0 0 1\n1 1 0 0 0 0 0 1\n2 9 0 0 0 0 0 1\n')
    back = read_tum(tmp_path / 'a.txt')
    assert back.positions[:, 0].tolist() == [1, 2]
    assert '1 poses repeat a time' in caplog.text


@pytest.mark.parametrize('content, message', [
    ('', 'there are no poses'),
    ('1 2 3\n', r'a.txt:1: expected 8 numbers .* got 3'),
    ('1 1 1 1 0 0 0 1\n2 1 x 1 0 0 0 1\n', 'a.txt:2: could not convert'),
    ('1 nan 1 1 0 0 0 1\n', 'a.txt:1: NaN'),
    ('1 1 1 1 0 0 0 0\n', 'a.txt:1: .*no unit quaternion'),
    ('nan 1 1 1 0 0 0 1\n', 'a.txt:1: "nan" is not a time'),
    ('1 0 0 0 0 1 0 0 0 0 1 0\n', 'KITTI')])
def test_tum_faults_name_the_line(tmp_path, content, message):
    (tmp_path / 'a.txt').write_text(content)
    with pytest.raises(InputError, match=message):
        read_tum(tmp_path / 'a.txt')


@pytest.mark.parametrize('content, message', [
    ('1 0 0 0 0 1 0 0 0 0 -1 0\n', 'a.txt:1: the matrix holds no rotation'),
    ('1 1 1 1 0 0 0 1\n', 'TUM')])
def test_kitti_faults_name_the_line(tmp_path, content, message):
    (tmp_path / 'a.txt').write_text(content)
    with pytest.raises(InputError, match=message):
        read_kitti(tmp_path / 'a.txt')


def test_kitti_counts_must_agree(tmp_path, trajectory):
    write_kitti(tmp_path / 'a.txt', trajectory)
    with pytest.raises(InputError, match='40 poses for 39 times'):
        read_kitti(tmp_path / 'a.txt', trajectory.stamps_ns[1:])


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match='none.txt: cannot be read'):
        read_trajectory(tmp_path / 'none.txt')


@pytest.mark.parametrize('text, stamp_ns', [
    ('1305031102.211214066', 1305031102211214066), ('0', 0), ('-0.5', -500_000_000),
    ('1.305031102e9', 1305031102 * 10**9), ('0.0000000016', 2)])
def test_stamps_are_parsed_exactly(text, stamp_ns):
    assert parse_stamp_ns(text) == stamp_ns
    assert parse_stamp_ns(format_stamp(stamp_ns)) == stamp_ns


@pytest.mark.parametrize('text', ['', 'abc', 'nan', 'inf', '1e999999', '99999999999'])
def test_text_that_is_no_stamp(text):
    with pytest.raises(ValueError, match='not a time'):
        parse_stamp_ns(text)


def test_timestamps_must_ascend(tmp_path):
    (tmp_path / 't.txt').write_text('# s\n1.0\n2.0\n2.0\n')
    with pytest.raises(InputError, match=r't.txt:4: the time 2.0 s is not after'):
        read_timestamps(tmp_path / 't.txt')
