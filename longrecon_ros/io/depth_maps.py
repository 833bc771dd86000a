"""Views as files: images, depth maps, poses, intrinsics; and what all exports of views share."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import json
import math
from pathlib import Path

import cv2
import numpy as np

from ..atomic import atomic_folder, write_text
from ..errors import InputError
from ..types import Trajectory, View
from .timestamps import format_stamp
from .trajectory_file import write_tum

MM = 1000.0                     # counts a metre in depth images that are in millimetres

_MAX_COUNT = 65535
_FINE_COUNTS = 200              # counts of the usual depth: rounding is 0.25 % of it at most
_REACH = 3                      # times the usual depth that must fit in 16 bits
_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class ViewExport:
    """What was exported, and what a user should know about it."""

    n_views: int
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return '; '.join([f'{self.n_views} images', *self.warnings])


class DepthCoder:
    """Depth maps to 16-bit images; counts what does not fit.

    ``scale`` is the number of counts a unit of length: 1000, millimetres, wherever the unit is
    metres. Any other unit may be far too large or small for that; then the first map decides
    between powers of ten.
    """

    def __init__(self, is_metric: bool):
        self.scale = MM
        self._is_fixed = is_metric
        self._n_pixels = self._n_views = 0

    def encode(self, depth: np.ndarray) -> np.ndarray:
        """Return the (H, W) uint16 image of a depth map; 0 where undefined or beyond its reach."""
        depth = defined_depth(depth)
        if not self._is_fixed and depth.any():
            self.scale = _fitting_scale(float(np.median(depth[depth > 0])))
            self._is_fixed = True
        counts = np.rint(depth * self.scale)
        is_beyond = counts > _MAX_COUNT
        self._n_pixels += int(is_beyond.sum())
        self._n_views += bool(is_beyond.any())
        return np.where(is_beyond, 0, counts).astype(np.uint16)

    def warnings(self) -> tuple[str, ...]:
        """Return what to tell about pixels that did not fit."""
        if not self._n_pixels:
            return ()
        return (f'{self._n_pixels} pixels of {self._n_views} depth maps are further away than '
                f'{_MAX_COUNT / self.scale:g} and are left undefined: 16 bits hold no more',)


def write_depth_maps(folder: Path, views: Iterable[View], is_metric: bool,
                     use_npy: bool = False, force: bool = False) -> ViewExport:
    """Write the images, depth maps, poses and intrinsics of views into a new or empty folder.

    ``View.T_submap_camera`` is taken as T_map_camera. Files are numbered in the order of time; of
    views of one time only the first is taken::

        rgb/000000.png ...      images
        depth/000000.png ...    16 bit, counts of 1 / depth_scale, 0: undefined; or with
                                ``use_npy`` .npy, float32 in the map's unit
        timestamps.txt          one time in seconds an image
        gt_tum.txt              poses, camera to map; ``poses_tum.txt`` unless metric
        calib.json              fx fy cx cy (medians over the views), width, height
        intrinsics.txt          fx fy cx cy of each image, px, (0, 0) is a pixel's centre
        info.json               unit, depth_scale, frame_ids

    If the unit is metres, depth_scale is 1000 and `io.folder` reads it all back. With ``force``
    the folder may hold files; those of the same names are replaced.

    Raises
    ------
    InputError
        There are no views, one is unusable, sizes differ, or the folder is not empty or cannot be
        written (a full disk). Nothing is left behind.

    """
    folder, coder, log = Path(folder), DepthCoder(is_metric), _Log()
    poses, other = ('gt_tum.txt', 'poses_tum.txt')[::1 if is_metric else -1]
    with writing(folder):
        with atomic_folder(folder, force) as staging:
            (staging / 'rgb').mkdir()
            (staging / 'depth').mkdir()
            for view in checked_views(views, folder):
                i = log.add(view, folder)
                if i is None:
                    continue
                write_image(staging / 'rgb' / f'{i:06d}.png', view.rgb)
                if use_npy:
                    np.save(staging / 'depth' / f'{i:06d}.npy', defined_depth(view.depth))
                else:
                    write_image(staging / 'depth' / f'{i:06d}.png', coder.encode(view.depth))
            log.write(staging, poses)
            write_json(staging / 'info.json', {
                'unit': unit_name(is_metric), 'poses': poses,
                'depth_scale': 1.0 if use_npy else coder.scale, 'frame_ids': log.frame_ids})
        (folder / other).unlink(missing_ok=True)        # of an earlier export
    return ViewExport(len(log.frame_ids), (*coder.warnings(), *log.warnings()))


def checked_views(views: Iterable[View], path: Path) -> Iterator[View]:
    """Yield views one by one; raises InputError at the first unusable one, or if there is none.

    A pose must be finite and rigid, K finite with positive focal lengths and no skew. ``path`` is
    what is being written, for the message.
    """
    is_empty = True
    for view in views:
        is_empty, problem = False, _problem(view)
        if problem:
            raise InputError(f'{path}: not written: image {view.frame_id} has {problem}; run the '
                             'map again or leave that view out')
        yield view
    if is_empty:
        raise InputError(f'{path}: not written: the map has no views (images with depth); a map '
                         'keeps one from each window that it could track')


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError (full disk, no rights) into an InputError that names the path."""
    try:
        yield
    except OSError as error:
        raise InputError(f'{path}: cannot be written ({error.strerror or error}): make room, or '
                         'choose another place') from None


def defined_depth(depth: np.ndarray) -> np.ndarray:
    """Return depth (H, W) f32, contiguous, with 0 for all that is no finite number above 0."""
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB or (H, W) uint16 in the format of the suffix (PNG, JPEG).

    Not by `cv2.imwrite`, which says nothing of a full disk.
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def write_json(path: Path, content: dict) -> None:
    """Write an object as JSON."""
    write_text(path, json.dumps(content, indent=1) + '\n')


def unit_name(is_metric: bool) -> str:
    """Return what files call the unit of length."""
    return 'm' if is_metric else 'odom unit (scale unknown)'


def pinhole(K: np.ndarray) -> tuple[float, float, float, float]:
    """Return fx, fy, cx, cy in px of K (3, 3)."""
    return float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])


class _Log:
    """What the text files tell of all views."""

    def __init__(self):
        self._views: dict[int, tuple] = {}              # by stamp: frame id, pose, pinhole
        self._shape: tuple = ()
        self._n_repeated = 0

    def add(self, view: View, folder: Path) -> int | None:
        """Return the number of a view, None if there is one of its time."""
        if self._shape and view.depth.shape != self._shape:
            raise InputError(f'{folder}: not written: image {view.frame_id} is of '
                             f'{view.depth.shape}, those before are of {self._shape} (rows, '
                             'columns); export them separately')
        self._shape = view.depth.shape
        if view.stamp_ns in self._views:
            self._n_repeated += 1
            return None
        self._views[view.stamp_ns] = view.frame_id, view.T_submap_camera, pinhole(view.K)
        return len(self._views) - 1

    @property
    def frame_ids(self) -> list[int]:
        """Frame ids in the order of time."""
        return [self._views[stamp][0] for stamp in sorted(self._views)]

    def warnings(self) -> tuple[str, ...]:
        """Return what to tell about views that are left out."""
        return (f'{self._n_repeated} images repeat a time and are left out',) * \
            (self._n_repeated > 0)

    def write(self, folder: Path, poses: str) -> None:
        """Write the text files, and bring rgb/ and depth/ into the order of time."""
        given, stamps = list(self._views), sorted(self._views)
        if given != stamps:
            # sessions of a map may have been recorded in another order than they went into it
            for name in ('rgb', 'depth'):
                _renumber(folder / name, [given.index(stamp) for stamp in stamps])
        _, T_map_camera, pinholes = zip(*[self._views[stamp] for stamp in stamps])
        write_text(folder / 'timestamps.txt', ''.join(f'{format_stamp(s)}\n' for s in stamps))
        write_tum(folder / poses, Trajectory(np.array(stamps), np.array(T_map_camera)))
        lines = [' '.join(f'{value:.6f}' for value in row) for row in pinholes]
        write_text(folder / 'intrinsics.txt', '\n'.join(['# fx fy cx cy [px]', *lines]) + '\n')
        names = dict(zip(('fx', 'fy', 'cx', 'cy'), np.median(pinholes, axis=0).tolist()))
        height, width = self._shape
        write_json(folder / 'calib.json', {**names, 'width': width, 'height': height, 'dist': []})


def _renumber(folder: Path, order: list[int]) -> None:
    """Give file order[i] of a folder the number i."""
    old = folder.rename(folder.with_name(folder.name + '.unsorted'))
    folder.mkdir()
    files = sorted(old.iterdir())
    for i, number in enumerate(order):
        files[number].rename(folder / f'{i:06d}{files[number].suffix}')
    old.rmdir()


def _problem(view: View) -> str:
    """Return what is wrong with a view, '' if nothing."""
    T, K = view.T_submap_camera, view.K
    if not np.isfinite(T).all():
        return 'a pose that is not finite'
    R = T[:3, :3]
    is_rigid = (np.abs(R @ R.T - np.eye(3)).max() < _ROTATION_TOLERANCE
                and np.linalg.det(R) > 0 and (T[3] == (0, 0, 0, 1)).all())
    if not is_rigid:
        return 'a pose that is not rigid'
    if not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
        return 'intrinsics K that are not finite with positive focal lengths'
    if abs(K[0, 1]) > _ROTATION_TOLERANCE * K[0, 0]:
        return 'skew in its intrinsics K, which no export can express'
    return ''


def _fitting_scale(usual: float) -> float:
    """Return the counts a unit for which a usual depth has enough of them and room above."""
    if _FINE_COUNTS <= MM * usual <= _MAX_COUNT / _REACH:
        return MM
    return 10.0 ** math.floor(math.log10(_MAX_COUNT / (_REACH * usual)))
