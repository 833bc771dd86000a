"""Windows of LoGeR put together by our aligners, as the original puts them together."""

from typing import Dict, Mapping, Sequence

import numpy as np
import torch

from longrecon_ros.alignment.base import Alignment, apply
from longrecon_ros.alignment.camera import CameraAligner
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.types import Prediction

_SIM3 = {'median': ('median', 'one'), 'median_all': ('median', 'all'),
         'trimmed_mean': ('trimmed_mean', 'one'), 'trimmed_mean_all': ('trimmed_mean', 'all'),
         'sim3_avg1': ('half_median', 'one')}
_ALIGNERS = {
    'se3': CameraAligner('first'), 'se3_reset': CameraAligner('first'),
    'se3_resetflag_only': CameraAligner('first'), 'sim3': CameraAligner('first', 'median'),
    **{f'sim3_{name}': CameraAligner('first', *how) for name, how in _SIM3.items()}}


def merged(arrays: Mapping[str, np.ndarray], call: Mapping, modes: Sequence[str] = ()
           ) -> Dict[str, torch.Tensor]:
    """Return what the original calls ``MODE_camera_poses``, ``MODE_points`` and so on.

    ``arrays`` holds win{i}_camera_poses (1, n, 4, 4), win{i}_local_points (1, n, h, w, 3) and, if
    there is any, win{i}_conf. All modes unless ``modes`` names some.
    """
    windows = _windows(arrays, call)
    found = {}
    for mode in modes or ('none', *_ALIGNERS):
        has_blocks = call['reset_every'] and ('conf' in windows[0] and mode == 'none'
                                              or mode == 'se3_reset')
        aligner = _ALIGNERS.get(mode) or (_ALIGNERS['se3'] if has_blocks else None)
        placed = _place(windows, aligner, call['reset_every'] if has_blocks else 1)
        found.update({f'{mode}_{name}': torch.from_numpy(np.asarray(value))
                      for name, value in _joined(placed, windows, call['overlap_size']).items()})
    return found


def _windows(arrays: Mapping[str, np.ndarray], call: Mapping) -> list:
    windows, start = [], 0
    while f'win{len(windows)}_camera_poses' in arrays:
        name = f'win{len(windows)}_'
        points = arrays[f'{name}local_points'][0]
        n = len(points)
        window = {'prediction': Prediction(
            np.arange(start, start + n), arrays[f'{name}camera_poses'][0], points,
            np.ones(points.shape[:3], np.float32), np.zeros(points.shape, np.uint8))}
        if f'{name}conf' in arrays:
            window['conf'] = arrays[f'{name}conf'][0]
        windows.append(window)
        start += call['window_size'] - call['overlap_size']
    return windows


def _place(windows: list, aligner, every: int) -> list:
    """Return alignments and aligned predictions; a new one at every so many windows."""
    placed, alignment = [], Alignment(Sim3.identity())
    for k, window in enumerate(windows):
        if k and aligner is not None and k % every == 0:
            alignment = aligner.align(placed[-1][1], window['prediction'])
        placed.append((alignment, apply(alignment, window['prediction'])))
    return placed


def _joined(placed: list, windows: list, overlap: int) -> Dict[str, np.ndarray]:
    """Return the stream: every window but the last gives up the frames that the next one has."""
    def join(parts):
        kept = [part[:len(part) - overlap] for part in parts[:-1]] + [parts[-1]]
        return np.concatenate(kept)[None]
    T = join([aligned.T_window_camera for _, aligned in placed]).astype(np.float32)
    local = join([aligned.local_points for _, aligned in placed])
    world = np.stack([se3.apply(pose, points) for pose, points in zip(T[0], local[0])])[None]
    transforms = [alignment.T_odom_window for alignment, _ in placed]
    rigid = np.stack([se3.from_parts(T.R, T.t) for T in transforms])[None].astype(np.float32)
    found = {'camera_poses': T, 'local_points': local, 'points': world.astype(np.float32),
             'chunk_se3_poses': rigid, 'chunk_sim3_poses': rigid,
             'chunk_sim3_scales': np.array([[T.scale for T in transforms]], np.float32)}
    if 'conf' in windows[0]:
        found['conf'] = join([window['conf'] for window in windows])
    return found
