"""Submaps as files: all arrays as they are, so that what comes back is what was written.

One file a submap, a zip of arrays (NumPy's npz). Images of views are PNG inside and depths are
float16 over the largest one, which is what `build_submap` rounds them to: nothing is lost.
"""

from pathlib import Path
from typing import Any, Dict, Tuple
import zipfile
import zlib

import cv2
import numpy as np

from ..atomic import atomic_file
from ..errors import InputError
from ..types import Keyframe, Submap, View

_FORMAT = 1


def rounded_depth(depth: np.ndarray) -> np.ndarray:
    """Return depths (H, W) f32 as they come back from a file: 11 bits, undefined ones 0."""
    codes, unit = _coded_depth(depth)
    return _depth_of(codes, unit)


def write_submap(path: Path, submap: Submap) -> None:
    """Write a submap, whole or not at all; OSError where that cannot be done."""
    arrays: Dict[str, Any] = {
        'format': np.int64(_FORMAT), 'id': np.int64(submap.id), 'frame_ids': submap.frame_ids,
        'stamps_ns': submap.stamps_ns, 'T_submap_camera': submap.T_submap_camera,
        'points': submap.points, 'colors': submap.colors,
        'n_views': np.int64(len(submap.views)), 'n_keyframes': np.int64(len(submap.keyframes))}
    if submap.weights is not None:
        arrays['weights'] = submap.weights
    for i, view in enumerate(submap.views):
        arrays.update((f'view{i}_{name}', value) for name, value in _view_arrays(view).items())
    for i, keyframe in enumerate(submap.keyframes):
        arrays.update((f'keyframe{i}_{name}', getattr(keyframe, name))
                      for name in Keyframe.__slots__ if getattr(keyframe, name) is not None)
    with atomic_file(path) as stream:
        np.savez(stream, **arrays)


def read_submap(path: Path) -> Submap:
    """Return the submap of a file; InputError where it is missing, damaged or newer."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file['format']) > _FORMAT:
                raise InputError(f'{path}: written by a newer version (format '
                                 f'{int(file["format"])}, known is {_FORMAT}); update '
                                 'longrecon_ros')
            return _submap(file)
    except FileNotFoundError:
        raise InputError(f'{path}: the file is missing; the map is not whole: take a copy of it'
                         ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error,
            cv2.error) as error:
        reason = (str(error).splitlines() or ['damaged'])[0]
        raise InputError(f'{path}: no submap, or damaged ({reason}); take a copy of the map'
                         ) from None


def _submap(file: Any) -> Submap:
    views = [_view(file, i) for i in range(int(file['n_views']))]
    keyframes = [_keyframe(file, i) for i in range(int(file['n_keyframes']))]
    return Submap(int(file['id']), file['frame_ids'], file['stamps_ns'], file['T_submap_camera'],
                  file['points'], file['colors'],
                  file['weights'] if 'weights' in file else None, tuple(views), tuple(keyframes))


def _view_arrays(view: View) -> Dict[str, Any]:
    is_fine, png = cv2.imencode('.png', view.rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not is_fine:
        raise OSError(f'the image of frame {view.frame_id} cannot be coded')
    codes, unit = _coded_depth(view.depth)
    return {'frame_id': np.int64(view.frame_id), 'stamp_ns': np.int64(view.stamp_ns),
            'T_submap_camera': view.T_submap_camera, 'K': view.K, 'png': png.ravel(),
            'depth': codes, 'unit': np.float32(unit)}


def _view(file: Any, i: int) -> View:
    def part(name: str) -> np.ndarray:
        return file[f'view{i}_{name}']
    bgr = cv2.imdecode(part('png'), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(f'the image of view {i} cannot be read')
    return View(int(part('frame_id')), int(part('stamp_ns')), part('T_submap_camera'), part('K'),
                np.ascontiguousarray(bgr[..., ::-1]), _depth_of(part('depth'), part('unit')))


def _keyframe(file: Any, i: int) -> Keyframe:
    name = f'keyframe{i}_'
    given = {key: file[name + key] for key in Keyframe.__slots__ if name + key in file}
    for key in ('frame_id', 'submap_id'):
        given[key] = int(given[key])
    return Keyframe(**given)


def _coded_depth(depth: np.ndarray) -> Tuple[np.ndarray, np.float32]:
    """Return depths (H, W) f16 over a unit: a power of two, so that coding twice changes none."""
    good = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
    largest = float(good.max(initial=0.0))
    unit = np.float32(2.0 ** np.ceil(np.log2(largest)) if largest > 0 else 1.0)
    return (good / unit).astype(np.float16), unit


def _depth_of(codes: np.ndarray, unit: np.float32) -> np.ndarray:
    return codes.astype(np.float32) * np.float32(unit)
