"""Depth errors of single frames whose common scale is known only at the end of the run."""

from typing import List

import numpy as np

from ..alignment.sampling import evenly

_N_GROUPS = 64
_MAX_PIXELS = 16384


class FrameErrors:
    """Keeps what the AbsRel of each frame is made of: half a kilobyte a frame.

    AbsRel is the mean of ``|s r - 1|`` over the ratios r of predicted to true depth, for any
    scale s. Sorted ratios are kept as the means of 64 groups; only in the group that crosses
    ``1 / s`` does the mean stand for values on both sides, so that little is lost.
    """

    def __init__(self):
        self._means: List[np.ndarray] = []
        self._counts: List[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._means)

    def add(self, ratios: np.ndarray) -> None:
        """Take the ratios (P,) of one frame; P may be 0."""
        chosen = ratios[evenly(len(ratios), _MAX_PIXELS)]
        ordered = np.sort(np.asarray(chosen, np.float64))
        bounds = np.linspace(0, len(ordered), _N_GROUPS + 1).astype(int)
        sums = np.diff(np.concatenate([[0.0], np.cumsum(ordered)])[bounds])
        counts = np.diff(bounds)
        self._means.append((sums / np.maximum(counts, 1)).astype(np.float32))
        self._counts.append(counts.astype(np.float32))

    def absrel(self, scale: float) -> np.ndarray:
        """Return AbsRel (F,) f64 of all frames with predictions times ``scale``; NaN for none."""
        if not self._means:
            return np.zeros(0)
        means, counts = np.stack(self._means), np.stack(self._counts)
        total = counts.sum(axis=1, dtype=np.float64)
        error = (counts * np.abs(scale * means - 1)).sum(axis=1, dtype=np.float64)
        return np.divide(error, total, out=np.full(len(total), np.nan), where=total > 0)
