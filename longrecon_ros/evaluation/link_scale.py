"""The error of the scale from one window to the next, measured against the truth.

The log scale of an `Update` cannot show it: windows are solved in gauges of their own, so that it
is large where the link is perfect. Here each window is judged where it ended up, in odom.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry.umeyama import similarity_scale
from .association import Pairs, path_length

_MIN_FRAMES = 4
_STANDING = 0.01            # of the median window's true path


@dataclass(frozen=True, slots=True, eq=False)
class WindowCentres:
    """Where one aligned window puts its cameras; frames that are lost are left out."""

    stamps_ns: np.ndarray                   # (N,) i64
    centres: np.ndarray                     # (N, 3) f64, odom units
    is_linked: bool                         # to the window before


@dataclass(frozen=True, slots=True, eq=False)
class LinkScales:
    """L measured links between consecutive windows, in the order of time; L is at least 1."""

    stamps_ns: np.ndarray                   # (L,) i64, of the first frame of the later window
    log_ratios: np.ndarray                  # (L,) f64, ln of true metres an odom unit, later
                                            # window over earlier: above 0, the map shrinks

    @property
    def bias_percent(self) -> float:
        """Mean error of the scale a link: what adds up to scale drift."""
        return 100 * float(self.log_ratios.mean())

    @property
    def spread_percent(self) -> float:
        """Standard deviation of the errors of single links."""
        return 100 * float(self.log_ratios.std())


def link_scales(windows: Sequence[WindowCentres], pairs: Pairs) -> LinkScales | None:
    """Return the scale errors of all links that can be measured; None when there are none.

    The scale of a window is that of the Sim(3) of its camera centres onto the true ones (Umeyama
    1991, eq. 42). Windows of fewer than four frames with a true pose, and those whose true path
    is below 1 % of the median window's (the camera stands), have none. A link counts if it holds
    and both its windows have a scale.
    """
    true_centres = [_true_centres(window, pairs) for window in windows]
    lengths_m = [0.0 if true is None else path_length(true[1]) for true in true_centres]
    moving_m = [length_m for length_m in lengths_m if length_m > 0]
    if not moving_m:
        return None
    least_m = _STANDING * float(np.median(moving_m))
    scales = np.array([similarity_scale(*true) if length_m >= least_m else np.nan
                       for true, length_m in zip(true_centres, lengths_m)])
    is_linked = np.array([window.is_linked for window in windows[1:]], bool)
    with np.errstate(divide='ignore'):
        log_ratios = np.diff(np.log(scales))
    is_measured = is_linked & np.isfinite(log_ratios)
    if not is_measured.any():
        return None
    starts_ns = np.array([window.stamps_ns[0] if len(window.stamps_ns) else 0
                          for window in windows[1:]], np.int64)
    return LinkScales(starts_ns[is_measured], log_ratios[is_measured])


def _true_centres(window: WindowCentres,
                  pairs: Pairs) -> tuple[np.ndarray, np.ndarray] | None:
    """Return estimated and true centres (M, 3) where there are both; None for too few."""
    rows = np.searchsorted(pairs.stamps_ns, window.stamps_ns).clip(0, len(pairs) - 1)
    is_known = pairs.stamps_ns[rows] == window.stamps_ns
    if np.count_nonzero(is_known) < _MIN_FRAMES:
        return None
    return window.centres[is_known], pairs.T_gt[rows[is_known], :3, 3]
