"""Views for NeRF and Gaussian splatting: transforms.json of nerfstudio and instant-ngp.

The format: https://docs.nerf.studio/quickstart/data_conventions.html.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..atomic import atomic_folder
from ..errors import ConfigError
from ..types import PointCloud, View
from .depth_maps import (
    checked_views,
    DepthCoder,
    MM,
    pinhole,
    unit_name,
    ViewExport,
    write_image,
    write_json,
    writing,
)
from .ply import write_ply

_AABB_SCALE = 32        # instant-ngp: side of the box in which it looks, as in its colmap2nerf
_SUFFIXES = ('.png', '.jpg')
_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def write_transforms(folder: Path, views: Iterable[View], is_metric: bool,
                     cloud: PointCloud | None = None, suffix: str = '.png',
                     force: bool = False) -> ViewExport:
    """Write transforms.json, images/, depth/ and points3D.ply into a new or empty folder.

    ``View.T_submap_camera`` is taken as T_map_camera. The world of the file is the map: lengths in
    its unit, no turn, no centring. ``transform_matrix`` is camera to world with OpenGL's camera
    axes (x right, y up, z backward). ``fl_x fl_y cx cy w h`` are given for each image, px; both
    programs put a pixel's *centre* at (0.5, 0.5), so cx and cy are ours plus 0.5. Depth images are
    16 bit; a count times ``depth_unit_scale_factor`` is the depth in the map's unit. That is 0.001
    if the unit is metres, and otherwise, too, unless such counts would be too coarse or too few:
    then give the factor to nerfstudio as its option of that name. ``points3D.ply`` is written if
    there is a cloud. ``suffix`` of the images is .png or .jpg. With ``force`` the folder may hold
    files; those of the same names are replaced.

    Raises
    ------
    ConfigError
        ``suffix`` is another one.
    InputError
        There are no views, one is unusable, or the folder is not empty or cannot be written (a
        full disk). Nothing is left behind.

    """
    if suffix not in _SUFFIXES:
        raise ConfigError(f'images cannot be "{suffix}": choose {" or ".join(_SUFFIXES)}')
    folder, coder, frames = Path(folder), DepthCoder(is_metric), []
    with writing(folder), atomic_folder(folder, force) as staging:
        (staging / 'images').mkdir()
        (staging / 'depth').mkdir()
        for i, view in enumerate(checked_views(views, folder)):
            image, depth = f'images/{i:06d}{suffix}', f'depth/{i:06d}.png'
            write_image(staging / image, view.rgb)
            write_image(staging / depth, coder.encode(view.depth))
            frames.append({'file_path': image, 'depth_file_path': depth, **_camera(view)})
        content = {'camera_model': 'OPENCV', 'aabb_scale': _AABB_SCALE,
                   'unit': unit_name(is_metric),
                   'depth_unit_scale_factor': 1 / coder.scale}
        if cloud is not None:
            write_ply(staging / 'points3D.ply', cloud)
            content['ply_file_path'] = 'points3D.ply'
        write_json(staging / 'transforms.json', {**content, 'frames': frames})
    return ViewExport(len(frames), _warnings(coder))


def _camera(view: View) -> dict:
    fx, fy, cx, cy = pinhole(view.K)
    height, width = view.depth.shape
    T_map_opengl = view.T_submap_camera @ _OPENGL_FROM_OPENCV
    return {'fl_x': fx, 'fl_y': fy, 'cx': cx + 0.5, 'cy': cy + 0.5, 'w': width, 'h': height,
            'transform_matrix': T_map_opengl.tolist(), 'frame_id': view.frame_id}


def _warnings(coder: DepthCoder) -> tuple[str, ...]:
    if coder.scale == MM:
        return coder.warnings()
    return (*coder.warnings(), f'a count of the depth images is {1 / coder.scale:g} units: give '
            f'nerfstudio --depth-unit-scale-factor {1 / coder.scale:g}')
