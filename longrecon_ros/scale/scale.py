"""The front of the estimate of scale."""

from typing import Callable, Dict, Optional, Sequence

import numpy as np

from .depth import DepthSource
from .filter import ScaleFilter
from .height import HeightSource
from .records import Measurement, ScaleEstimate, WindowEvidence
from .settings import ScaleConfig
from .sources import ScaleSource
from .wheel import WheelSource

_SOURCES: Dict[str, Callable[[ScaleConfig], ScaleSource]] = {
    'wheel': WheelSource, 'depth': DepthSource, 'height': HeightSource}


class Scale:
    """Takes evidence, of which the configured source uses its own, and holds the estimate.

    Deterministic: the same calls in the same order give the same estimate. Not for use by several
    threads at once.
    """

    def __init__(self, config: ScaleConfig):
        self._config = config
        self.reset()

    @property
    def is_fixed(self) -> bool:
        """Whether the source needs no evidence: then there is no use in gathering any."""
        return _fixed(self._config) is not None

    def reset(self) -> None:
        """Forget everything: odom has another unit from now on."""
        config = self._config
        self._source = _SOURCES.get(config.source, lambda _: ScaleSource())(config)
        self._filter = ScaleFilter(config)

    def add_wheel(self, stamp_ns: int, T_wheelodom_base: np.ndarray) -> None:
        """Take a pose (4, 4) of the base from its wheels, m; what is no rigid pose is left out."""
        self._take(self._source.add_wheel(stamp_ns, T_wheelodom_base))

    def add_depth(self, stamp_ns: int, depth_m: np.ndarray) -> None:
        """Take a depth image (H, W), m, that covers what the camera's image covers.

        0 and NaN are undefined. Raises ValueError for another shape, where depth is the source.
        """
        self._take(self._source.add_depth(stamp_ns, depth_m))

    def add_window(self, window: WindowEvidence) -> None:
        """Take what a window left; windows come in the order of their time."""
        self._take(self._source.add_window(window))

    def estimate(self) -> ScaleEstimate:
        """Return what is known by now."""
        fixed = _fixed(self._config)
        return self._filter.estimate() if fixed is None else fixed

    def _take(self, measurements: Sequence[Measurement]) -> None:
        for measurement in measurements:
            self._filter.add(measurement)


def _fixed(config: ScaleConfig) -> Optional[ScaleEstimate]:
    """Return the estimate of a source that needs no evidence, None for others."""
    if config.source == 'none':
        return ScaleEstimate()
    if config.source not in ('constant', 'metric'):
        return None
    value = config.metres_per_unit if config.source == 'constant' else 1.0
    is_metric = config.constant_sigma <= config.metric_sigma
    return ScaleEstimate(value, config.constant_sigma, 'metric' if is_metric else 'estimated',
                         config.source)
