"""Views and cloud as a COLMAP model in text form: cameras.txt, images.txt, points3D.txt.

The format: https://colmap.github.io/format.html#text-format.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..atomic import atomic_folder
from ..geometry import se3
from ..types import PointCloud, View
from .depth_maps import checked_views, pinhole, ViewExport, write_image, writing

_LINES_AT_ONCE = 50_000


def write_colmap(folder: Path, views: Iterable[View], cloud: PointCloud,
                 max_points: int = 200_000, model: str = '.',
                 force: bool = False) -> ViewExport:
    """Write a COLMAP model and images/ into a new or empty folder.

    ``View.T_submap_camera`` is taken as T_map_camera. The world is the map, lengths are in its
    unit. Poses are world to camera: quaternion w x y z, then t. COLMAP puts a pixel's *centre* at
    (0.5, 0.5), so its principal point is ours plus 0.5. Images with the same K share a PINHOLE
    camera. No image has observations and no point has a track, and the error of points is -1, not
    computed: the model starts the training of splats or NeRFs, bundle adjustment has nothing to
    work with. Of a larger cloud ``max_points`` are drawn, always the same. ``model`` is the
    subfolder of the three text files: training scripts of splats look in ``sparse/0``. With
    ``force`` the folder may hold files; those of the same names are replaced.

    Raises
    ------
    InputError
        There are no views, one is unusable, or the folder is not empty or cannot be written (a
        full disk). Nothing is left behind.

    """
    folder, cameras, n = Path(folder), {}, 0
    with writing(folder), atomic_folder(folder, force) as staging:
        text = staging / model
        text.mkdir(parents=True, exist_ok=True)
        (staging / 'images').mkdir()
        with (text / 'images.txt').open('w', encoding='ascii') as stream:
            stream.write('# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then POINTS2D[]: none\n')
            for n, view in enumerate(checked_views(views, folder), 1):
                name = f'{n - 1:06d}.png'
                write_image(staging / 'images' / name, view.rgb)
                camera = cameras.setdefault(_camera(view), len(cameras) + 1)
                stream.write(f'{n} {_pose(view)} {camera} {name}\n\n')
        with (text / 'cameras.txt').open('w', encoding='ascii') as stream:
            stream.write('# CAMERA_ID MODEL WIDTH HEIGHT FX FY CX CY\n')
            stream.writelines(f'{number} {camera}\n' for camera, number in cameras.items())
        _write_points(text / 'points3D.txt', cloud, max_points)
    return ViewExport(n)


def _camera(view: View) -> str:
    fx, fy, cx, cy = pinhole(view.K)
    height, width = view.depth.shape
    return f'PINHOLE {width} {height} {fx:.6f} {fy:.6f} {cx + 0.5:.6f} {cy + 0.5:.6f}'


def _pose(view: View) -> str:
    T_camera_map = se3.inverse(view.T_submap_camera)
    x, y, z, w = se3.quaternion_xyzw_from_rotation(T_camera_map[:3, :3])
    return ' '.join(f'{value:.12g}' for value in (w, x, y, z, *T_camera_map[:3, 3]))


def _write_points(path: Path, cloud: PointCloud, max_points: int) -> None:
    chosen = np.flatnonzero(np.isfinite(cloud.points).all(axis=1))
    if len(chosen) > max_points:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, max_points, replace=False))
    with path.open('w', encoding='ascii') as stream:
        stream.write('# POINT3D_ID X Y Z R G B ERROR TRACK[]: none\n')
        for first in range(0, len(chosen), _LINES_AT_ONCE):
            part = chosen[first:first + _LINES_AT_ONCE]
            rows = np.hstack([first + 1 + np.arange(len(part))[:, None], cloud.points[part],
                              cloud.colors[part]])
            stream.write('%d %.9g %.9g %.9g %d %d %d -1\n' * len(rows) % tuple(rows.ravel()))
