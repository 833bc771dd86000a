"""Statistics of the links between windows: their mean shows scale drift."""

import math


class LinkStatistics:
    """Counts links and keeps mean and deviation of their log scales (Welford 1962)."""

    def __init__(self):
        self.n_linked = 0
        self.n_unlinked = 0
        self.mean_log_scale = 0.0
        self._sum_squares = 0.0

    def add(self, log_scale: float) -> None:
        """Count one link and its log scale."""
        self.n_linked += 1
        delta = log_scale - self.mean_log_scale
        self.mean_log_scale += delta / self.n_linked
        self._sum_squares += delta * (log_scale - self.mean_log_scale)

    def add_unlinked(self) -> None:
        """Count one window that could not be linked."""
        self.n_unlinked += 1

    @property
    def std_log_scale(self) -> float:
        """Sample standard deviation of the log scales; 0 below two links."""
        return math.sqrt(self._sum_squares / (self.n_linked - 1)) if self.n_linked > 1 else 0.0
