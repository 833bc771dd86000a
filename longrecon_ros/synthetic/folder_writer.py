"""Synthetic recordings as folders of images with ground truth, as `io.folder` reads them."""

import json
from pathlib import Path
from typing import Callable, Optional

import cv2
import numpy as np

from ..atomic import atomic_folder, write_text
from ..io.timestamps import format_stamp
from ..io.trajectory_file import write_tum
from ..types import Trajectory
from .stream import Film

_MAX_DEPTH_MM = 65535


def write_folder(path: Path, film: Film, n_frames: int,
                 progress: Optional[Callable[[int], None]] = None) -> None:
    """Write ``rgb/``, ``depth/``, ``timestamps.txt``, ``gt_tum.txt`` and ``calib.json``.

    Depth is 16-bit PNG in millimetres, 0 where there is none or it is beyond 65.535 m. The
    folder appears when it is complete. ``progress`` is called with the number of frames done.
    Raises ``InputError`` when ``path`` is a file, not empty, or cannot be written.
    """
    with atomic_folder(path) as folder:
        (folder / 'rgb').mkdir()
        (folder / 'depth').mkdir()
        stamps, poses = [], []
        for index in range(n_frames):
            frame = film.frame(index)
            name = f'{index:06d}.png'
            _write_png(folder / 'rgb' / name, cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
            _write_png(folder / 'depth' / name, depth_to_mm(frame.depth))
            stamps.append(frame.stamp_ns)
            poses.append(frame.T_world_camera)
            if progress is not None:
                progress(index + 1)
        write_text(folder / 'timestamps.txt', ''.join(f'{format_stamp(s)}\n' for s in stamps))
        write_tum(folder / 'gt_tum.txt', Trajectory(np.array(stamps, np.int64), np.array(poses)))
        write_text(folder / 'calib.json', json.dumps(_calibration(film), indent=1) + '\n')


def depth_to_mm(depth_m: np.ndarray) -> np.ndarray:
    """Return (H, W) uint16 millimetres; 0 where there is no depth or it does not fit."""
    depth_mm = np.rint(1000 * depth_m)
    return np.where(depth_mm <= _MAX_DEPTH_MM, depth_mm, 0).astype(np.uint16)


def _write_png(path: Path, image: np.ndarray) -> None:
    path.write_bytes(cv2.imencode('.png', image)[1].tobytes())


def _calibration(film: Film) -> dict:
    camera = film.camera
    K = camera.K
    distortion = np.zeros(5) if camera.distortion is None else camera.distortion
    return {'fx': K[0, 0], 'fy': K[1, 1], 'cx': K[0, 2], 'cy': K[1, 2], 'width': camera.width,
            'height': camera.height, 'dist': distortion.tolist(), 'model': 'pinhole',
            'fps': film.fps, 'depth_scale': 1000.0}
