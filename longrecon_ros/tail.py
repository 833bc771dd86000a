"""The end of a stream, which outlasts the process of its backbone and its map.

It is light to import: the process that keeps it does neither registration nor mapping.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Dict, Mapping, Optional

import numpy as np

from .types import Prediction

_KEPT = ('frame_ids', 'T_window_camera', 'local_points', 'confidence', 'K', 'states', 'layers',
         'layer_variance')
"""Fields of a prediction that aligners look at; landmarks and gauges are numbered anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """The end of a stream: the last frames of its last window, and what chained that.

    ``prediction`` is in odom units. It has no landmarks, gauge and tokens, whose numbers mean
    nothing to another backbone, and its images are black.
    """

    prediction: Prediction
    stamps_ns: np.ndarray                   # (n,) i64, of its frames
    n_windows: int                          # of the stream so far
    first_stamp_ns: int                     # of the stream: tells streams apart
    scale: float = 1.0                      # window to odom, of the last window
    is_linked: bool = True
    has_scale: bool = True                  # False: no window had any length yet
    K: Optional[np.ndarray] = None          # (3, 3) f64 px at H x W, that all windows share
    voxel_m: float = 0.0                    # of the cloud, odom units; 0: not known yet
    T_map_odom: np.ndarray = field(default_factory=lambda: np.eye(4))   # (4, 4) rigid
    is_located: bool = True                 # the stream lies in the map
    drift: Optional[np.ndarray] = None      # `DriftState.to_array`, of the covariance

    def to_arrays(self) -> Dict[str, Any]:
        """Return arrays and plain JSON values by name, from which `from_arrays` makes the same.

        The arrays are not copied. What is None is left out.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != 'prediction'}
        values.update((f'prediction.{name}', getattr(self.prediction, name)) for name in _KEPT)
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_arrays(cls, values: Mapping[str, Any]) -> 'Tail':
        """Return the tail of `to_arrays`; ValueError naming what is missing or misshapen."""
        try:
            kept = {name: values.get(f'prediction.{name}') for name in _KEPT}
            shape = np.shape(values['prediction.local_points'])
            # zeros of one byte, seen as images
            black = np.broadcast_to(np.zeros((), np.uint8), shape)
            given = {f.name: values[f.name] for f in fields(cls)
                     if f.name in values or f.name not in ('prediction', 'K', 'drift')}
        except KeyError as error:
            raise ValueError(f'values: {error} is missing') from None
        tail = cls(Prediction(rgb=black, **kept), **given)
        if np.shape(tail.stamps_ns) != (len(tail.prediction.frame_ids),):
            raise ValueError(f'values: expected stamps_ns of {len(tail.prediction.frame_ids)} '
                             f'frames, got shape {np.shape(tail.stamps_ns)}')
        if np.shape(tail.T_map_odom) != (4, 4):
            raise ValueError('values: expected T_map_odom of shape (4, 4), got '
                             f'{np.shape(tail.T_map_odom)}')
        return tail


def last_frames(prediction: Prediction, n: int) -> Prediction:
    """Return the last ``n`` frames of an aligned window, as a `Tail` keeps them: copies."""
    kept = {name: getattr(prediction, name) for name in _KEPT}
    kept = {name: None if value is None else value[-n:].copy() for name, value in kept.items()}
    black = np.broadcast_to(np.zeros((), np.uint8), kept['local_points'].shape)
    return Prediction(rgb=black, **kept)
