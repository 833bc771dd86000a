"""Trajectories as text: the formats of the TUM RGB-D and the KITTI odometry benchmarks."""

import logging
from pathlib import Path

import numpy as np

from ..atomic import write_text
from ..errors import InputError
from ..geometry import se3
from ..types import Trajectory
from .timestamps import format_stamp, parse_stamp_ns

_log = logging.getLogger(__name__)

_N_TUM, _N_KITTI = 8, 12
_ROTATION_TOLERANCE = 1e-2      # files with few digits are not exactly orthonormal
_KITTI_STEP_NS = 10**9


def read_tum(path: Path) -> Trajectory:
    """Read ``stamp tx ty tz qx qy qz qw`` lines (s, m; camera to world).

    Lines are sorted by time; of several with one time the first counts (a warning is logged).

    Raises
    ------
    InputError
        The file is missing or empty, or a line has not eight finite numbers with a quaternion of
        a length near 1; the line is named.

    """
    path = Path(path)
    stamps, values = [], []
    for number, words in _lines(path):
        if len(words) != _N_TUM:
            hint = ' (is it a KITTI file?)' if len(words) == _N_KITTI else ''
            raise InputError(f'{path}:{number}: expected 8 numbers (stamp tx ty tz qx qy qz qw), '
                             f'got {len(words)}{hint}')
        try:
            stamps.append(parse_stamp_ns(words[0]))
        except ValueError as error:
            raise InputError(f'{path}:{number}: {error}') from None
        values.append(_numbers(path, number, words[1:]))
        if abs(np.linalg.norm(values[-1][3:]) - 1) > 0.1:
            raise InputError(f'{path}:{number}: the last four numbers (qx qy qz qw) are no unit '
                             'quaternion')
    table = np.array(values)
    T = se3.from_parts(se3.rotation_from_quaternion_xyzw(table[:, 3:]), table[:, :3])
    return _ordered(path, np.array(stamps, np.int64), T)


def write_tum(path: Path, trajectory: Trajectory) -> None:
    """Write a trajectory in TUM form atomically: nine decimals, times exact to the nanosecond."""
    T = trajectory.T_map_camera
    quaternions = se3.quaternion_xyzw_from_rotation(T[:, :3, :3])
    rows = np.concatenate([trajectory.positions, quaternions], axis=1)
    lines = ['# stamp_s tx ty tz qx qy qz qw (camera to map; x right, y down, z forward)']
    lines += [' '.join([format_stamp(stamp), *(f'{value:.9f}' for value in row)])
              for stamp, row in zip(trajectory.stamps_ns, rows.tolist())]
    write_text(path, '\n'.join(lines) + '\n')


def read_kitti(path: Path, stamps_ns: np.ndarray | None = None) -> Trajectory:
    """Read lines of 12 numbers, the upper 3x4 of camera-to-world, row by row (m).

    The format has no times: ``stamps_ns`` (K,) gives them, else line k is at k seconds.
    Raises ``InputError`` as `read_tum` does, and when the number of lines is not that of stamps.
    """
    path = Path(path)
    rows = []
    for number, words in _lines(path):
        if len(words) != _N_KITTI:
            hint = ' (is it a TUM file?)' if len(words) == _N_TUM else ''
            raise InputError(f'{path}:{number}: expected 12 numbers (a 3x4 matrix), '
                             f'got {len(words)}{hint}')
        row = _numbers(path, number, words)
        R = np.reshape(row, (3, 4))[:, :3]
        if np.abs(R @ R.T - np.eye(3)).max() > _ROTATION_TOLERANCE or np.linalg.det(R) < 0:
            raise InputError(f'{path}:{number}: the matrix holds no rotation')
        rows.append(row)
    table = np.reshape(rows, (-1, 3, 4))
    if stamps_ns is None:
        stamps_ns = np.arange(len(table), dtype=np.int64) * _KITTI_STEP_NS
    if len(stamps_ns) != len(table):
        raise InputError(f'{path}: {len(table)} poses for {len(stamps_ns)} times')
    T = se3.from_parts(se3.nearest_rotation(table[:, :, :3]), table[:, :, 3])
    return _ordered(path, np.asarray(stamps_ns, np.int64), T)


def write_kitti(path: Path, trajectory: Trajectory) -> None:
    """Write a trajectory in KITTI form atomically, twelve numbers a line; times are dropped."""
    rows = trajectory.T_map_camera[:, :3, :].reshape(-1, _N_KITTI).tolist()
    write_text(path, ''.join(' '.join(f'{value:.12g}' for value in row) + '\n' for row in rows))


def read_trajectory(path: Path) -> Trajectory:
    """Read a TUM or a KITTI file, told apart by the number of columns; see `read_tum`."""
    return read_kitti(path) if is_kitti(path) else read_tum(path)


def is_kitti(path: Path) -> bool:
    """Tell if the first line that holds data has twelve columns."""
    return len(_lines(Path(path))[0][1]) == _N_KITTI


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, words) of the lines that hold data; there is at least one."""
    try:
        text = path.read_text(encoding='utf-8', errors='replace')
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror})') from None
    split = ((number, line.partition('#')[0].replace(',', ' ').split())
             for number, line in enumerate(text.splitlines(), 1))
    lines = [(number, words) for number, words in split if words]
    if not lines:
        raise InputError(f'{path}: there are no poses in this file')
    return lines


def _numbers(path: Path, number: int, words: list[str]) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise InputError(f'{path}:{number}: {error}') from None
    if not np.isfinite(values).all():
        raise InputError(f'{path}:{number}: NaN or infinity in a pose; remove the line')
    return values


def _ordered(path: Path, stamps_ns: np.ndarray, T: np.ndarray) -> Trajectory:
    unique, first = np.unique(stamps_ns, return_index=True)
    if len(unique) < len(stamps_ns):
        _log.warning('%s: %d poses repeat a time and are left out', path,
                     len(stamps_ns) - len(unique))
    return Trajectory(unique, T[first])
