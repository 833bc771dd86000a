"""Coloured point clouds as PLY files."""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..atomic import atomic_file
from ..errors import InputError
from ..types import PointCloud

_COLORS, _NORMALS = ('red', 'green', 'blue'), ('nx', 'ny', 'nz')
_SCALARS = {
    'char': 'i1', 'int8': 'i1', 'uchar': 'u1', 'uint8': 'u1', 'short': 'i2', 'int16': 'i2',
    'ushort': 'u2', 'uint16': 'u2', 'int': 'i4', 'int32': 'i4', 'uint': 'u4', 'uint32': 'u4',
    'float': 'f4', 'float32': 'f4', 'double': 'f8', 'float64': 'f8'}
_MAX_HEADER_LINES = 200


def write_ply(path: Path, cloud: PointCloud) -> None:
    """Write a cloud atomically: binary little endian, x y z float32, red green blue uint8.

    Between the two are nx ny nz float32 where the cloud has normals.
    """
    header, rows = vertices(cloud, 'map')
    with atomic_file(path) as stream:
        stream.write(('\n'.join(header) + '\nend_header\n').encode('ascii'))
        stream.write(rows)


def vertices(cloud: PointCloud, what: str) -> tuple[list[str], bytes]:
    """Return the lines of a header that ends with vertices, and the vertices themselves."""
    names, reals = [*'xyz'], cloud.points
    if cloud.normals is not None:
        names, reals = [*names, *_NORMALS], np.hstack([cloud.points, cloud.normals])
    rows = np.empty(len(cloud), [('reals', '<f4', len(names)), ('colors', 'u1', 3)])
    rows['reals'], rows['colors'] = reals, cloud.colors
    header = ['ply', 'format binary_little_endian 1.0', f'comment longrecon_ros {what}, RGB',
              f'element vertex {len(rows)}']
    header += [f'property float {name}' for name in names]
    header += [f'property uchar {name}' for name in _COLORS]
    return header, rows.tobytes()


def read_ply(path: Path) -> PointCloud:
    """Read the vertices of a PLY file, binary (either byte order) or ASCII.

    Without ``red``, ``green`` and ``blue`` (uchar) the points are grey; without ``nx``, ``ny`` and
    ``nz`` the cloud has no normals.

    Raises
    ------
    InputError
        The file is missing, is no PLY, is cut short, or has no x, y and z.

    """
    path = Path(path)
    try:
        with path.open('rb') as stream:
            form, n, dtype = _read_header(path, stream)
            rows = _read_ascii(path, stream, n, dtype) if form == 'ascii' else \
                _read_binary(path, stream, n, dtype)
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); check the path') from None
    colors = _columns(rows, _COLORS, np.uint8)
    if colors is None:
        colors = np.full((n, 3), 128, np.uint8)
    return PointCloud(_columns(rows, 'xyz', np.float32), colors,
                      _columns(rows, _NORMALS, np.float32))


def _columns(rows: np.ndarray, names: Iterable[str], dtype) -> np.ndarray | None:
    """Return the named properties as one array (n, 3), None where the file lacks one of them."""
    if not set(names) <= set(rows.dtype.names):
        return None
    return np.stack([rows[name] for name in names], axis=1).astype(dtype)


def _read_header(path: Path, stream: BinaryIO) -> tuple[str, int, np.dtype]:
    """Return the format word, the number of vertices and the dtype of one vertex."""
    if stream.readline().strip() != b'ply':
        raise InputError(f'{path}: not a PLY file (the first line is not "ply")')
    form, counts, fields = '', [], []
    for _ in range(_MAX_HEADER_LINES):
        line = stream.readline().decode('ascii', 'replace').split()
        keyword, kind, name = (line + ['', '', ''])[:3]
        if keyword == 'end_header':
            break
        if keyword == 'format':
            form = kind
        elif keyword == 'element' and name.isdigit():
            counts.append((kind, int(name)))
        elif keyword == 'property' and len(counts) == 1:
            if kind not in _SCALARS:
                raise InputError(f'{path}: a vertex property of type {kind} is not supported')
            fields.append((name, _SCALARS[kind]))
    else:
        raise InputError(f'{path}: the PLY header has no end')
    if not counts or counts[0][0] != 'vertex' or not {'x', 'y', 'z'} <= dict(fields).keys():
        raise InputError(f'{path}: expected vertices with x, y and z as the first element')
    order = {'binary_little_endian': '<', 'binary_big_endian': '>', 'ascii': '='}.get(form)
    if order is None:
        raise InputError(f'{path}: PLY format "{form}" is not known')
    return form, counts[0][1], np.dtype([(name, order + kind) for name, kind in fields])


def _read_binary(path: Path, stream: BinaryIO, n: int, dtype: np.dtype) -> np.ndarray:
    data = stream.read(n * dtype.itemsize)
    if len(data) < n * dtype.itemsize:
        raise cut_short(path, n, len(data) // dtype.itemsize)
    return np.frombuffer(data, dtype)


def _read_ascii(path: Path, stream: BinaryIO, n: int, dtype: np.dtype) -> np.ndarray:
    try:
        table = np.loadtxt(stream, max_rows=n, ndmin=2, usecols=range(len(dtype.names)))
    except ValueError as error:
        raise InputError(f'{path}: damaged ASCII points ({error})') from None
    if len(table) < n:
        raise cut_short(path, n, len(table))
    rows = np.empty(n, dtype)
    for column, name in enumerate(dtype.names):
        rows[name] = table[:, column]
    return rows


def cut_short(path: Path, n: int, n_found: int) -> InputError:
    """Return the error for a file of ``n`` points of which only some are there."""
    return InputError(f'{path}: cut short: the header promises {n} points, {n_found} are there')
