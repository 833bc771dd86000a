"""The scale of every pixel of a window over that of the last one: measured, carried, per layer."""

from dataclasses import dataclass, replace
from typing import Dict, List

import numpy as np

from ..types import Prediction
from .layer_grid import LayerGrid
from .layer_scales import combine, handed_on, LogScales, measure
from .segments import means

_STEP = 3e-4                # deviation added from one frame to the next
_REACH = 2                  # frames on either side that confirm what a shared frame measures
_LIMIT = 0.3                # log: no layer is so wrong; it is an outlier


@dataclass(frozen=True, slots=True, eq=False)
class LayerField:
    """Layers and their log scales of one frame."""

    labels: np.ndarray                      # (h, w) int32 on the grid
    scales: LogScales                       # of the n layers, against the last window
    log_depths: np.ndarray                  # (n,) f64, mean of each layer

    @property
    def pixels(self) -> np.ndarray:
        """(n,) i64, size of the layers, px of the grid."""
        return np.bincount(self.labels.ravel(), minlength=len(self.log_depths))

    def of_pixels(self, values: np.ndarray) -> np.ndarray:
        """Return values (n,) of the layers as a map (h, w) f32, NaN where they are not known."""
        known = np.where(self.scales.is_known, values, np.nan)
        return known.astype(np.float32)[self.labels]


def layer_fields(grid: LayerGrid, previous: Prediction, rows: Dict[int, int],
                 log_scale: float) -> List[LayerField]:
    """Return layers and scales of every frame of a window.

    ``rows`` gives the row of a shared frame in ``previous``; ``log_scale`` is that of the window:
    layers are measured against it.
    """
    measured = _measured(grid, previous, rows, log_scale)
    fields: List[LayerField] = []
    for t in range(len(grid.views)):
        before = fields[-1] if fields else None
        if t in measured:
            labels = grid.layers(t, measured[t])
            scales = measure(measured[t], grid.weights(t, previous, rows[t]),
                             grid.inherited(previous, rows[t]), labels, int(labels.max()) + 1)
            if before is not None:
                scales = combine(scales, _remeasured(grid, t, before, labels))
            scales = _without_outliers(scales)
        elif before is not None:
            labels, *origin = grid.continued(t, before.labels)
            scales = handed_on(before.scales, *origin, _STEP)
        else:
            labels = grid.layers(t, np.full_like(grid.views[t].log_depth, np.nan))
            scales = LogScales.unknown(int(labels.max()) + 1)
        log_depths = means(np.nan_to_num(grid.views[t].log_depth), labels)
        fields.append(LayerField(labels, scales, log_depths))
    return fields


def _measured(grid: LayerGrid, previous: Prediction, rows: Dict[int, int],
              log_scale: float) -> Dict[int, np.ndarray]:
    """Return log scales (h, w) of the shared frames: medians of what near ones say of a pixel."""
    single = {t: grid.log_ratio(t, previous, row) - np.float32(log_scale)
              for t, row in rows.items()}
    result = {}
    for t in single:
        near = [s for s in single if 0 < abs(s - t) <= _REACH]
        seen = [single[t]] + [grid.find_again(t, s).carry(single[s]) for s in near]
        result[t] = _median(np.stack(seen)) if near else single[t]
    return result


def _median(maps: np.ndarray) -> np.ndarray:
    """Return the median (h, w) of maps (M, h, w) over what is no NaN."""
    ordered = np.sort(maps, axis=0)             # NaN last
    n = np.isfinite(maps).sum(axis=0)
    low, high = np.maximum(n - 1, 0) // 2, n // 2
    pick = [np.take_along_axis(ordered, k[None].clip(max=len(maps) - 1), 0)[0]
            for k in (low, high)]
    return np.where(n > 0, (pick[0] + pick[1]) / 2, np.float32(np.nan))


def _remeasured(grid: LayerGrid, t: int, before: LayerField, labels: np.ndarray) -> LogScales:
    """Return what the layers of frame t take over from pixels that the frame before has judged."""
    carried, scales = grid.find_again(t, t - 1), before.scales
    value, variance, inherited = (carried.carry(before.of_pixels(of_layers)) for of_layers in
                                  (scales.value, scales.variance, scales.inherited))
    known = np.isfinite(value).astype(np.float32)
    found = measure(value, known, inherited, labels, int(labels.max()) + 1)
    own = measure(variance, known, inherited, labels, len(found.value))
    return replace(found, variance=found.variance + own.value + _STEP**2)


def _without_outliers(scales: LogScales) -> LogScales:
    return replace(scales, variance=np.where(np.abs(scales.value) > _LIMIT, np.inf,
                                             scales.variance))
