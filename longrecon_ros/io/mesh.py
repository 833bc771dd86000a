"""A surface out of views: a truncated signed distance field, and its triangles as a file.

Curless and Levoy, A volumetric method for building complex models from range images, SIGGRAPH
1996, in blocks of voxels near surfaces only (Dong et al., ASH, TPAMI 2022), by Open3D. Of its two
volumes this is the newer one: ``ScalableTSDFVolume`` gives no surface in Open3D 0.20. The files
are written here: Open3D reports success on a full disk, and cannot read the GLB that it writes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_file
from ..errors import ConfigError, InputError, MissingDependency
from ..geometry import se3
from ..types import PointCloud, View
from .depth_maps import checked_views, defined_depth, writing
from .ply import vertices

_TRUNCATION_VOXELS = 4.0
_BLOCK = 16                     # voxels a side of what is allocated at once
_FIRST_BLOCKS = 1000            # room at the beginning; it grows
_MAX_BLOCKS = 40_000            # of 82 kB, and of 66 kB more for their triangles: 6 GB
_MIN_WEIGHT = 0.5               # views that must have seen a voxel: one
_FAR = float(np.finfo(np.float32).max)
_LINES_AT_ONCE = 50_000
_GLB_FLOAT, _GLB_UINT, _GLB_USHORT = 5126, 5125, 5123
_GLB_VERTICES, _GLB_INDICES = 34962, 34963


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    vertices: np.ndarray        # (V, 3) f32 m, map
    normals: np.ndarray         # (V, 3) f32, towards the cameras
    colors: np.ndarray          # (V, 3) uint8 RGB
    triangles: np.ndarray       # (T, 3) i32


def write_mesh(path: Path, views: Iterable[View], voxel_m: float,
               truncation_m: float | None = None,
               depth_limit_m: float | None = None) -> tuple[int, int]:
    """Fuse views and write the surface; return the numbers of vertices and triangles.

    ``View.T_submap_camera`` is taken as T_map_camera; all lengths are in the map's unit. Depth
    beyond ``depth_limit_m`` is left out. ``truncation_m`` (4 voxels when None) should exceed the
    errors of depth: larger closes more, and rounds what is thin. The suffix decides the form, with
    normals and colours: ``.ply`` (binary), ``.obj`` (colours behind the vertices) or ``.glb``
    (turned half about x, so that viewers show the first camera upright); ``.stl`` (binary) has no
    colours. The file appears when it is complete; the same views give the same bytes.

    Raises
    ------
    ConfigError
        The suffix is another one, or a length is not above 0.
    InputError
        There are no views, one is unusable, they hold no surface, the voxels are too small for
        the memory, or the file cannot be written (a full disk).
    MissingDependency
        Open3D is not installed, or a library that it needs.

    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise ConfigError(f'{path}: a mesh is written as {", ".join(_WRITERS)}; choose one of '
                          'these suffixes')
    truncation_m = _TRUNCATION_VOXELS * voxel_m if truncation_m is None else truncation_m
    for name, value in (('voxel_m', voxel_m), ('truncation_m', truncation_m),
                        ('depth_limit_m', 1.0 if depth_limit_m is None else depth_limit_m)):
        if not 0 < value < np.inf:
            raise ConfigError(f'{name} must be a length above 0, got {value}')
    limit_m = np.inf if depth_limit_m is None else depth_limit_m
    surface = _extract(_fuse(checked_views(views, path), path, voxel_m, truncation_m, limit_m))
    if not len(surface.triangles):
        raise InputError(f'{path}: not written: the depth maps give no surface with voxels of '
                         f'{voxel_m:g}; use smaller ones, or a larger depth limit')
    with writing(path), atomic_file(path) as stream:
        stream.writelines(write(surface))
    return len(surface.vertices), len(surface.triangles)


def _open3d() -> Any:
    try:
        import open3d
    except ImportError as error:
        # a shared library of the system may be what is missing, too
        raise MissingDependency(f'a mesh needs Open3D ({error}): pip install open3d; where a '
                                'library is missing: apt install libusb-1.0-0 libgl1 libgomp1 '
                                'libx11-6') from None
    return open3d


def _fuse(views: Iterator[View], path: Path, voxel_m: float, truncation_m: float,
          limit_m: float) -> Any:
    """Return the voxels of Open3D with all views in them."""
    o3d = _open3d()
    f32, tensor, image = o3d.core.float32, o3d.core.Tensor, o3d.t.geometry.Image
    grid = o3d.t.geometry.VoxelBlockGrid(('tsdf', 'weight', 'color'), (f32, f32, f32),
                                         (1, 1, 3), voxel_m, _BLOCK, _FIRST_BLOCKS)
    for view in views:
        depth = defined_depth(view.depth)
        depth[depth > limit_m] = 0
        if not depth.any():
            continue
        camera = (tensor(_truncating(view.K)), tensor(se3.inverse(view.T_submap_camera)))
        how = (1.0, _FAR, truncation_m / voxel_m)
        depth_image = image(tensor(depth))
        blocks = grid.compute_unique_block_coordinates(depth_image, *camera, *how)
        grid.integrate(blocks, depth_image, image(tensor(view.rgb.astype(np.float32))), *camera,
                       *how)
        if grid.hashmap().size() > _MAX_BLOCKS:
            raise InputError(f'{path}: not written: voxels of {voxel_m:g} fill the memory (more '
                             f'than {_MAX_BLOCKS} blocks of {_BLOCK}^3); use larger ones, or a '
                             'smaller depth limit')
    return grid


def _truncating(K: np.ndarray) -> np.ndarray:
    """Return K for Open3D, which takes the pixel below a projected point, not the nearest."""
    return K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def _extract(grid: Any) -> _Surface:
    if not grid.hashmap().size():
        return _Surface(*(np.zeros((0, 3), kind) for kind in ('f4', 'f4', 'u1', 'i4')))
    mesh = grid.extract_triangle_mesh(weight_threshold=_MIN_WEIGHT)
    vertices, triangles = mesh.vertex.positions.numpy(), mesh.triangle.indices.numpy()
    colors = np.rint(np.clip(mesh.vertex.colors.numpy(), 0, 255)).astype(np.uint8)
    # Open3D gives another order each time; the same views shall give the same file
    order = np.lexsort(np.hstack([colors, vertices]).T)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    vertices, colors, triangles = vertices[order], colors[order], place[triangles]
    first = triangles.argmin(axis=1)[:, None]
    triangles = np.take_along_axis(triangles, (first + np.arange(3)) % 3, axis=1)
    triangles = triangles[np.lexsort(triangles.T)]
    return _Surface(vertices, _normals(vertices, triangles), colors, triangles)


def _normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the normals (V, 3) of vertices: the mean of their triangles', weighted by area."""
    a, b, c = np.moveaxis(vertices[triangles].astype(np.float64), 1, 0)
    twice_area = np.cross(b - a, c - a)
    total = np.stack([np.bincount(triangles.ravel(), np.repeat(twice_area[:, axis], 3),
                                  len(vertices)) for axis in range(3)], axis=1)
    total[~total.any(axis=1)] = (0, 0, -1)      # only triangles without area
    return (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32)


def _ply(surface: _Surface) -> Iterator[bytes]:
    header, rows = vertices(PointCloud(surface.vertices, surface.colors, surface.normals), 'mesh')
    header += [f'element face {len(surface.triangles)}',
               'property list uchar int vertex_indices', 'end_header']
    yield ('\n'.join(header) + '\n').encode('ascii')
    yield rows
    faces = np.empty(len(surface.triangles), [('n', 'u1'), ('indices', '<i4', 3)])
    faces['n'], faces['indices'] = 3, surface.triangles
    yield faces.tobytes()


def _obj(surface: _Surface) -> Iterator[bytes]:
    yield b'# longrecon_ros mesh: v x y z r g b\n'
    yield from _lines('v %.7g %.7g %.7g %.4g %.4g %.4g\n', surface.vertices, surface.colors / 255)
    yield from _lines('vn %.4f %.4f %.4f\n', surface.normals)
    yield from _lines('f %d//%d %d//%d %d//%d\n', np.repeat(surface.triangles + 1, 2, axis=1))


def _lines(form: str, *columns: np.ndarray) -> Iterator[bytes]:
    rows = np.hstack(columns)
    for first in range(0, len(rows), _LINES_AT_ONCE):
        part = rows[first:first + _LINES_AT_ONCE]
        yield (form * len(part) % tuple(part.ravel().tolist())).encode('ascii')


def _stl(surface: _Surface) -> Iterator[bytes]:
    rows = np.zeros(len(surface.triangles),
                    [('normal', '<f4', 3), ('corners', '<f4', (3, 3)), ('attribute', '<u2')])
    rows['corners'] = surface.vertices[surface.triangles]
    a, b, c = np.moveaxis(rows['corners'], 1, 0)
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    rows['normal'] = normal / np.where(length > 0, length, 1)
    yield b'longrecon_ros mesh'.ljust(80) + np.array([len(rows)], '<u4').tobytes()
    yield rows.tobytes()


def _glb(surface: _Surface) -> Iterator[bytes]:
    """Yield glTF 2.0 in its binary form; its colours are linear, 16 bit, with an alpha.

    https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
    """
    n = len(surface.vertices)
    colors = np.full((n, 4), 65535, '<u2')
    colors[:, :3] = _LINEAR_OF_SRGB[surface.colors]
    parts = [(surface.vertices.astype('<f4'), _GLB_FLOAT, 'VEC3', _GLB_VERTICES),
             (surface.normals.astype('<f4'), _GLB_FLOAT, 'VEC3', _GLB_VERTICES),
             (colors, _GLB_USHORT, 'VEC4', _GLB_VERTICES),
             (surface.triangles.astype('<u4').reshape(-1), _GLB_UINT, 'SCALAR', _GLB_INDICES)]
    views, accessors, offset = [], [], 0
    for i, (values, component, kind, target) in enumerate(parts):
        views.append({'buffer': 0, 'byteOffset': offset, 'byteLength': values.nbytes,
                      'target': target})
        accessors.append({'bufferView': i, 'componentType': component, 'type': kind,
                          'count': len(values)})
        offset += values.nbytes
    accessors[0].update(min=surface.vertices.min(axis=0).tolist(),
                        max=surface.vertices.max(axis=0).tolist())
    accessors[2]['normalized'] = True
    scene = json.dumps(_glb_scene(views, accessors, offset)).encode('ascii')
    scene += b' ' * (-len(scene) % 4)
    # every part is a multiple of 4 bytes long, as the format wants its chunks
    yield b'glTF' + np.array([2, 12 + 8 + len(scene) + 8 + offset], '<u4').tobytes()
    yield np.array([len(scene)], '<u4').tobytes() + b'JSON' + scene
    yield np.array([offset], '<u4').tobytes() + b'BIN\x00'
    for values, *_ in parts:
        yield values.tobytes()


def _glb_scene(views: list, accessors: list, n_bytes: int) -> dict:
    mesh = {'attributes': {'POSITION': 0, 'NORMAL': 1, 'COLOR_0': 2}, 'indices': 3, 'material': 0}
    # light is in the colours already
    material = {'pbrMetallicRoughness': {'metallicFactor': 0.0}, 'doubleSided': True,
                'extensions': {'KHR_materials_unlit': {}}}
    return {'asset': {'version': '2.0', 'generator': 'longrecon_ros'},
            'extensionsUsed': ['KHR_materials_unlit'], 'scene': 0, 'scenes': [{'nodes': [0]}],
            'nodes': [{'mesh': 0, 'rotation': [1.0, 0.0, 0.0, 0.0]}],
            'meshes': [{'primitives': [mesh]}], 'materials': [material],
            'buffers': [{'byteLength': n_bytes}], 'bufferViews': views, 'accessors': accessors}


def _linear_of_srgb() -> np.ndarray:
    """Return (256,) uint16 linear intensities of sRGB values (IEC 61966-2-1)."""
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055)**2.4)
    return np.rint(65535 * linear).astype(np.uint16)


_LINEAR_OF_SRGB = _linear_of_srgb()
_WRITERS = {'.ply': _ply, '.obj': _obj, '.glb': _glb, '.stl': _stl}
