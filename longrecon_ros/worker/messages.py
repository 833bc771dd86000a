"""What the worker says, as messages for `wire`, and how it is read."""

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from ..io.calibration import Calibration
from ..mapping.tiles import Tile
from ..tail import Tail
from ..types import Trajectory, Update
from .wire import array_of

OUT_OF_MEMORY = 77
"""Exit code of a worker that was short of memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What one window gave, in the worker's odom (arbitrary units unless metric)."""

    frame_ids: np.ndarray                   # (K,) i64, its new frames
    stamps_ns: np.ndarray                   # (K,) i64
    T_odom_camera: np.ndarray               # (K, 4, 4) f64
    covariance: np.ndarray                  # (K, 6, 6) f64, of Update
    states: np.ndarray                      # (K,) uint8 of FrameState
    T_map_odom: np.ndarray                  # (4, 4) f64 rigid
    is_linked: bool
    n_closures: int                         # that became sure with it
    timings_ms: Mapping[str, float]
    tail: Mapping[str, Any]                 # of checkpoint.Tail, as arrays
    map_figures: Mapping[str, Any]
    path: Optional[Tuple[np.ndarray, np.ndarray]]   # stamps and T_map_camera, after a closure

    @property
    def window_s(self) -> float:
        """What limits the rate of windows: inference, or registration beside it."""
        t = self.timings_ms
        infer = t.get('preprocess', 0.0) + t.get('backbone', 0.0)
        return 1e-3 * max(infer, t.get('align', 0.0) + t.get('map', 0.0))


def step_message(update: Update, tail: Tail) -> Dict[str, Any]:
    """Return an update as a message."""
    return {'kind': 'step', 'frame_ids': update.frame_ids, 'stamps_ns': update.stamps_ns,
            'T_odom_camera': update.T_odom_camera, 'covariance': update.covariance,
            'states': update.states, 'T_map_odom': update.T_map_odom,
            'is_linked': bool(update.linked), 'n_closures': len(update.closures),
            'timings_ms': dict(update.timings_ms), 'tail': tail.to_arrays()}


def read_step(message: Mapping[str, Any]) -> Step:
    """Return the record of a message of `step_message`."""
    path = message.get('path')
    return Step(
        message['frame_ids'], message['stamps_ns'], message['T_odom_camera'],
        message['covariance'], message['states'], message['T_map_odom'], message['is_linked'],
        message['n_closures'], message['timings_ms'], message['tail'], message['map'],
        None if path is None else (path['stamps_ns'], path['T_map_camera']))


def path_of(trajectory: Trajectory, n_poses: int) -> Dict[str, np.ndarray]:
    """Return a trajectory with at most ``n_poses`` poses, the newest among them."""
    n = len(trajectory)
    chosen = slice(None) if n <= n_poses else np.linspace(0, n - 1, n_poses).astype(np.intp)
    return {'stamps_ns': trajectory.stamps_ns[chosen],
            'T_map_camera': trajectory.T_map_camera[chosen]}


def tile_message(tile: Tile) -> Dict[str, Any]:
    """Return a tile of the map as a message."""
    return {'kind': 'tile', 'id': tile.id, 'revision': tile.revision,
            'T_map_tile': tile.T_map_tile, 'points': tile.cloud.points,
            'colors': tile.cloud.colors}


def tile_poses_message(poses: Mapping[int, np.ndarray]) -> Dict[str, Any]:
    """Return where all tiles lie as a message."""
    return {'kind': 'tile_poses', 'ids': np.array(list(poses), np.int64),
            'T_map_tile': np.array(list(poses.values()), np.float64).reshape(-1, 4, 4)}


def calibration_message(calibration: Optional[Calibration]) -> Optional[Dict[str, Any]]:
    """Return a calibration as part of a message."""
    return None if calibration is None else asdict(calibration)


def read_calibration(told: Optional[Dict[str, Any]]) -> Optional[Calibration]:
    """Return the record of `calibration_message`."""
    if told is None:
        return None
    size = told['size']
    return Calibration(array_of(told['K'], float), array_of(told['distortion'], float),
                       told['distortion_model'], None if size is None else tuple(size))
