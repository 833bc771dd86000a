"""The scale of every pixel of a window over that of the last one: measured, carried, per layer."""

from dataclasses import dataclass
from typing import Dict, List, Optional

import numpy as np

from ..types import Prediction
from .layer_grid import LayerGrid
from .layer_scales import combine, fill, handed_on, LogScales, measure
from .segments import means

_STEP = 3e-3                # deviation added from one frame to the next
_REACH = 2                  # frames on either side that confirm what a shared frame measures
_LIMIT = 0.3                # log: no layer is so wrong; it is an outlier


@dataclass(frozen=True, slots=True, eq=False)
class LayerField:
    """Layers and their log scales of one frame."""

    labels: np.ndarray                      # (h, w) int32 on the grid
    scales: LogScales                       # of the n layers
    log_depths: np.ndarray                  # (n,) f64, mean of each layer

    @property
    def pixels(self) -> np.ndarray:
        """(n,) i64, size of the layers, px of the grid."""
        return np.bincount(self.labels.ravel(), minlength=len(self.log_depths))

    def completed(self, expected: float) -> np.ndarray:
        """Return a log scale (n,) for every layer; see `layer_scales.fill`."""
        return fill(self.scales, self.log_depths, self.pixels, expected)

    def known(self) -> np.ndarray:
        """Return the log scale (h, w) f32 of the pixels, NaN where it is not known."""
        value = np.where(self.scales.is_known, self.scales.value, np.nan).astype(np.float32)
        return value[self.labels]

    def variance(self) -> np.ndarray:
        """Return the variance (h, w) f32 of the pixels."""
        return self.scales.variance.astype(np.float32)[self.labels]


def layer_fields(grid: LayerGrid, previous: Prediction, rows: Dict[int, int],
                 log_scale: float) -> List[LayerField]:
    """Return layers and scales of every frame of a window.

    ``rows`` gives the row of a shared frame in ``previous``; ``log_scale`` is that of the window:
    layers are measured against it.
    """
    measured = _measured(grid, previous, rows, log_scale)
    fields: List[LayerField] = []
    for t in range(len(grid.views)):
        if t in measured:
            weights = grid.confidence(t, previous, rows[t])
            field = _seen_before(grid, t, fields[-1] if fields else None, measured[t], weights)
        elif fields:
            labels, origin = grid.continued(t, fields[-1].labels)
            field = _field(grid, t, labels, handed_on(fields[-1].scales, origin, _STEP))
        else:
            labels = grid.layers(t, np.full_like(grid.views[t].log_depth, np.nan))
            field = _field(grid, t, labels, LogScales.unknown(int(labels.max()) + 1))
        fields.append(field)
    return fields


def _field(grid: LayerGrid, t: int, labels: np.ndarray, scales: LogScales) -> LayerField:
    return LayerField(labels, scales, means(np.nan_to_num(grid.views[t].log_depth), labels))


def _seen_before(grid: LayerGrid, t: int, before: Optional[LayerField], measured: np.ndarray,
                 weights: np.ndarray) -> LayerField:
    """Return the layers of a shared frame: measured here, confirmed by the frame before."""
    labels = grid.layers(t, measured)
    n, least = int(labels.max()) + 1, max(5, labels.size // 2000)
    scales = measure(measured, weights, labels, n, least)
    if before is not None:
        carried = grid.find_again(t, t - 1)
        value, variance = carried.carry(before.known()), carried.carry(before.variance())
        scales = combine(scales, _remeasured(value, variance, labels, n, least))
    return _field(grid, t, labels, _without_outliers(scales))


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


def _remeasured(values: np.ndarray, variance: np.ndarray, labels: np.ndarray, n: int,
                least: int) -> LogScales:
    """Return what new layers take over from pixels that the frame before has judged."""
    known = np.isfinite(values)
    scales = measure(values, known.astype(np.float32), labels, n, least)
    own = np.bincount(labels.ravel(), np.where(known, variance, 0).ravel(), minlength=n)
    count = np.maximum(np.bincount(labels.ravel(), known.ravel(), minlength=n), 1)
    return LogScales(scales.value, scales.variance + own / count + _STEP**2, scales.spread)


def _without_outliers(scales: LogScales) -> LogScales:
    bad = np.abs(scales.value) > _LIMIT
    return LogScales(scales.value, np.where(bad, np.inf, scales.variance), scales.spread)
