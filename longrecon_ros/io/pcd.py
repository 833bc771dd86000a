"""Coloured point clouds as PCD files, the format of the Point Cloud Library (PCL).

The header is that of version 0.7: https://pointclouds.org/documentation/tutorials/pcd_file_format.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..atomic import atomic_file
from ..errors import InputError
from ..types import PointCloud
from .depth_maps import writing
from .ply import cut_short

_NORMALS = ('normal_x', 'normal_y', 'normal_z')
_KINDS = {('F', 4): 'f4', ('F', 8): 'f8', **{('U', n): f'u{n}' for n in (1, 2, 4, 8)},
          **{('I', n): f'i{n}' for n in (1, 2, 4, 8)}}
_MAX_HEADER_LINES = 50


def write_pcd(path: Path, cloud: PointCloud) -> None:
    """Write a cloud atomically: binary, x y z and rgb as float32, unorganised (height 1).

    ``rgb`` holds the bits 0x00RRGGBB, as PCL packs colours. Where the cloud has normals,
    normal_x normal_y normal_z float32 follow. Raises ``InputError`` where it cannot be written.
    """
    names = ['x', 'y', 'z', 'rgb', *(_NORMALS if cloud.normals is not None else ())]
    rows = np.empty((len(cloud), len(names)), '<f4')
    rows[:, :3] = cloud.points
    r, g, b = cloud.colors.astype('<u4').T
    # as bits: as numbers they are denormal, and arithmetic may flush those to 0
    rows.view('<u4')[:, 3] = r << 16 | g << 8 | b
    if cloud.normals is not None:
        rows[:, 4:] = cloud.normals
    header = ['# .PCD v0.7 - Point Cloud Data file format', 'VERSION 0.7',
              'FIELDS ' + ' '.join(names), 'SIZE' + ' 4' * len(names),
              'TYPE' + ' F' * len(names), 'COUNT' + ' 1' * len(names),
              f'WIDTH {len(rows)}', 'HEIGHT 1', 'VIEWPOINT 0 0 0 1 0 0 0',
              f'POINTS {len(rows)}', 'DATA binary']
    with writing(path), atomic_file(path) as stream:
        stream.write(('\n'.join(header) + '\n').encode('ascii'))
        stream.write(rows.tobytes())


def read_pcd(path: Path) -> PointCloud:
    """Read a PCD file, ``DATA binary`` or ``DATA ascii``; organised clouds become a list.

    Without ``rgb`` or ``rgba`` the points are grey; without ``normal_x``, ``normal_y`` and
    ``normal_z`` the cloud has no normals. The viewpoint is not applied, as PCL does it.

    Raises
    ------
    InputError
        The file is missing, is no PCD, is compressed, is cut short, or has no x, y and z.

    """
    path = Path(path)
    try:
        with path.open('rb') as stream:
            dtype, n, form = _read_header(path, stream)
            rows = _read_ascii(path, stream, n, dtype) if form == 'ascii' else \
                _read_binary(path, stream, n, dtype)
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); check the path') from None
    points = np.stack([rows[name] for name in 'xyz'], axis=1).astype(np.float32)
    normals = None
    if set(_NORMALS) <= set(dtype.names):
        normals = np.stack([rows[name] for name in _NORMALS], axis=1).astype(np.float32)
    return PointCloud(points, _colors(rows), normals)


def _colors(rows: np.ndarray) -> np.ndarray:
    """Return the colours (n, 3) uint8 out of the four bytes of rgb or rgba."""
    name = next((name for name in ('rgb', 'rgba') if name in rows.dtype.names), None)
    if name is None or rows.dtype[name].itemsize != 4:
        return np.full((len(rows), 3), 128, np.uint8)
    packed = np.ascontiguousarray(rows[name]).view(np.uint32)
    return np.stack([packed >> shift & 255 for shift in (16, 8, 0)], axis=1).astype(np.uint8)


def _read_header(path: Path, stream: BinaryIO) -> tuple[np.dtype, int, str]:
    """Return the dtype of one point, the number of points and the form of the data."""
    entries: dict[str, list[str]] = {}
    for _ in range(_MAX_HEADER_LINES):
        keyword, *words = stream.readline().decode('ascii', 'replace').split() or ['#']
        entries[keyword] = words
        if keyword == 'DATA':
            break
    else:
        raise InputError(f'{path}: not a PCD file (its header has no line DATA)')
    form = ' '.join(entries['DATA'])
    if form not in ('binary', 'ascii'):
        raise InputError(f'{path}: PCD data of the form "{form}" cannot be read; convert them: '
                         'pcl_convert_pcd_ascii_binary IN.pcd OUT.pcd 1')
    try:
        dtype, n = _point_dtype(entries), int(entries['POINTS'][0])
        if n < 0:
            raise ValueError(f'{n} points')
        return dtype, n, form
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f'{path}: the PCD header is damaged ({error!r})') from None


def _point_dtype(entries: dict[str, list[str]]) -> np.dtype:
    """Return the dtype of one point; fields named ``_`` are padding."""
    names = entries['FIELDS']
    counts = [int(count) for count in entries.get('COUNT', ['1'] * len(names))]
    kinds = [_KINDS[kind, int(size)] for kind, size in zip(entries['TYPE'], entries['SIZE'])]
    if not len(names) == len(counts) == len(kinds):
        raise ValueError('FIELDS, SIZE, TYPE and COUNT differ in length')
    if not {'x', 'y', 'z'} <= set(names):
        raise ValueError('there is no x, y and z')
    unique = [f'_{i}' if name == '_' else name for i, name in enumerate(names)]
    return np.dtype([(name, '<' + kind) if count == 1 else (name, '<' + kind, (count,))
                     for name, kind, count in zip(unique, kinds, counts)])


def _read_binary(path: Path, stream: BinaryIO, n: int, dtype: np.dtype) -> np.ndarray:
    data = stream.read()        # not what the header promises: it may be damaged
    if len(data) < n * dtype.itemsize:
        raise cut_short(path, n, len(data) // dtype.itemsize)
    return np.frombuffer(data, dtype, n)


def _read_ascii(path: Path, stream: BinaryIO, n: int, dtype: np.dtype) -> np.ndarray:
    if any(dtype[name].shape for name in dtype.names):
        raise InputError(f'{path}: ASCII points with arrays in them cannot be read')
    try:
        rows = np.loadtxt(stream, dtype, max_rows=n, ndmin=1) if n else np.zeros(0, dtype)
    except ValueError as error:
        raise InputError(f'{path}: damaged ASCII points ({error})') from None
    if len(rows) < n:
        raise cut_short(path, n, len(rows))
    return rows
