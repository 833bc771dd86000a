"""Errors of a net on sequences far longer than those it was trained on, in rooms it has not seen.

Two ways to join the windows of a stream: `plain` takes the poses as they are, as if all windows
lived in one frame (nothing in `losses` asks for that); `chained` puts the first shared camera of
each window where the window before has it (SE(3), as LoGeR* does). Both are compared with the
truth after one Sim(3).
"""

from dataclasses import dataclass
from typing import Dict, List

import numpy as np
import torch

from ..alignment.base import apply
from ..alignment.camera import CameraAligner
from ..evaluation.association import path_length
from ..evaluation.trajectory import rpe
from ..geometry import se3
from ..geometry.umeyama import umeyama
from ..nets.pi3 import Pi3Output
from ..types import Prediction
from .data import Batch, Laps
from .stream import StreamNet
from .variants import Setting
from .windows import windows_of

_CHAIN = CameraAligner('first')


@dataclass(frozen=True)
class StreamErrors:
    """Means over the sequences of one length."""

    n_windows: int
    n_frames: int
    path_m: float
    blind_m: float
    """ATE of an answer that is always the middle of the track: what nothing known amounts to."""
    ate_plain_m: float
    ate_chained_m: float
    drift_m: float
    """Error of the chained motion over as many frames as the longest training sequence has (or
    this one, if shorter); unlike the ATE it does not end at the size of the track."""
    drift_deg: float
    turn_deg: float
    """Error of the turn from the first to the last frame of a window."""
    shift_percent: float
    """Error of the shift from the first to the last frame of a window, over its length."""
    scale_spread: float
    """Deviation of the logarithms of the windows' scales inside a sequence."""
    depth_percent: float
    """Mean error of depth over depth, as it is, without a scale fitted."""


@torch.inference_mode()
def evaluate(net: StreamNet, laps: Laps, setting: Setting, n_windows: int, n_sequences: int,
             seed: int = 0, reset_every: int = 0) -> StreamErrors:
    """Return the errors on sequences that depend on the seed alone."""
    batch = laps.draw(np.random.default_rng([seed, 11]), n_sequences,
                      setting.frames_of(n_windows), setting.steps, setting.dark)
    device = next(net.parameters()).device
    outputs, _ = net.stream(torch.from_numpy(batch.images).to(device), setting.window,
                            setting.overlap, reset_every=reset_every)
    windows = windows_of(batch.images.shape[1], setting.window, setting.overlap)
    rows = [_errors(_predictions(outputs, windows, i), batch, i,
                    min(setting.frames_of(setting.longest), batch.images.shape[1]) - 1)
            for i in range(n_sequences)]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return StreamErrors(n_windows, batch.images.shape[1], **means)


def _predictions(outputs: List[Pi3Output], windows: List[slice], i: int) -> List[Prediction]:
    """Return the windows of sequence ``i``."""
    found = []
    for out, frames in zip(outputs, windows):
        points = out.local_points[i].cpu().numpy()
        found.append(Prediction(
            np.arange(frames.start, frames.stop), _rigid(out.T_world_camera[i]), points,
            out.confidence[i, ..., 0].sigmoid().cpu().numpy(), np.zeros(points.shape, np.uint8)))
    return found


def _rigid(T: torch.Tensor) -> np.ndarray:
    """Return poses (N, 4, 4) f64 whose rotations are exact to double precision."""
    T = T.cpu().numpy().astype(np.float64)
    return se3.from_parts(se3.nearest_rotation(T[:, :3, :3]), T[:, :3, 3])


def _errors(windows: List[Prediction], batch: Batch, i: int, delta: int) -> Dict[str, float]:
    """Return the errors of one sequence, by the names in `StreamErrors`."""
    true = batch.T_world_camera[i].astype(np.float64)
    depth, places = batch.depth[i], true[:, :3, 3]
    chained = _chained(windows)
    drift = rpe(_poses(chained), true, delta)
    turns, shifts, scales, depths = [], [], [], []
    for window in windows:
        ids = window.frame_ids
        moved = se3.relative(window.T_window_camera[0], window.T_window_camera[-1])
        wanted = se3.relative(true[ids[0]], true[ids[-1]])
        length = np.linalg.norm(wanted[:3, 3])
        turns.append(se3.rotation_angle(wanted[:3, :3].T @ moved[:3, :3]))
        shifts.append(np.linalg.norm(moved[:3, 3] - wanted[:3, 3]) / length)
        scales.append(np.linalg.norm(moved[:3, 3]) / length)
        is_known = depth[ids] > 0
        if is_known.any():
            depths.append(np.mean(np.abs(window.depth[is_known] / depth[ids][is_known] - 1)))
    return {'path_m': path_length(places), 'blind_m': _rms(places - places.mean(0)),
            'ate_plain_m': _ate(windows, places),
            'ate_chained_m': _ate(chained, places),
            'drift_m': drift.translation_m.rmse, 'drift_deg': drift.rotation_deg.rmse,
            'turn_deg': float(np.degrees(np.mean(turns))),
            'shift_percent': 100 * float(np.mean(shifts)),
            'scale_spread': float(np.std(np.log(np.maximum(scales, 1e-6)))),
            'depth_percent': 100 * float(np.mean(depths))}


def _chained(windows: List[Prediction]) -> List[Prediction]:
    """Return the windows in odom, the frame of the first."""
    found = windows[:1]
    for window in windows[1:]:
        found.append(apply(_CHAIN.align(found[-1], window), window))
    return found


def _ate(windows: List[Prediction], places: np.ndarray) -> float:
    """Return the ATE, m, after Sim(3)."""
    found = _poses(windows)[:, :3, 3]
    return _rms(umeyama(found, places).apply(found) - places)


def _poses(windows: List[Prediction]) -> np.ndarray:
    """Return the poses (N, 4, 4) of all frames; of a shared frame the newer one counts."""
    found = np.zeros((windows[-1].frame_ids[-1] + 1, 4, 4))
    for window in windows:
        found[window.frame_ids] = window.T_window_camera
    return found


def _rms(offsets: np.ndarray) -> float:
    return float(np.sqrt((offsets**2).sum(1).mean()))
