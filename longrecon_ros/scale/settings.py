"""The parameters of the estimate of scale."""

from dataclasses import dataclass
import math
from typing import get_args, Literal

Source = Literal['none', 'wheel', 'depth', 'height', 'metric', 'constant']
Mode = Literal['freeze', 'adapt']


@dataclass(frozen=True, slots=True)
class ScaleConfig:
    """Where metres come from, and when an estimate of them is good enough.

    Raises ValueError for a value out of its range, naming the field.
    """

    source: Source = 'none'
    mode: Mode = 'freeze'
    """freeze: once metric, the value stays; adapt: it goes on following the evidence."""
    metric_sigma: float = 0.05
    """Relative sigma at or below which an estimate counts as metric."""
    min_sigma: float = 0.01
    """What all measurements may be wrong by together, relative; an estimate is never surer."""
    min_measurements: int = 10
    """Fewer do not make an estimate metric."""
    memory: int = 50
    """The newest measurements that count."""
    adapt_rate: float = 0.01
    """Largest relative change a second once it was metric (mode adapt)."""
    metres_per_unit: float = 1.0
    """Of source constant."""
    constant_sigma: float = 0.02
    """Relative sigma of sources constant and metric."""
    camera_height_m: float = 0.0
    """Of the camera over the ground it drives on; needed by source height."""
    min_distance_m: float = 0.3
    """Length of a piece of the way that is measured by wheels."""
    wheel_sigma: float = 0.03
    """Expected relative error of the length of a piece, without slip."""
    min_depth_m: float = 0.2
    max_depth_m: float = 10.0
    """Depth images are trusted from the one to the other."""
    depth_tolerance_s: float = 0.02
    """Most time between an image and the depth image that belongs to it."""

    def __post_init__(self):
        _check_choice('source', self.source, get_args(Source))
        _check_choice('mode', self.mode, get_args(Mode))
        for name in ('metric_sigma', 'constant_sigma', 'wheel_sigma'):
            _check(name, 0 < getattr(self, name) <= 1, 'above 0 and at most 1',
                   getattr(self, name))
        _check('min_sigma', 0 < self.min_sigma <= self.metric_sigma,
               f'above 0 and at most {self.metric_sigma:g} (metric_sigma)', self.min_sigma)
        _check('min_measurements', 3 <= self.min_measurements <= 10000, '3 to 10000',
               self.min_measurements)
        _check('memory', self.min_measurements <= self.memory <= 10000,
               f'{self.min_measurements} (min_measurements) to 10000', self.memory)
        _check('adapt_rate', 0 < self.adapt_rate <= 1, 'above 0 and at most 1', self.adapt_rate)
        for name in ('metres_per_unit', 'min_distance_m', 'min_depth_m', 'max_depth_m'):
            value = getattr(self, name)
            _check(name, 0 < value and math.isfinite(value), 'a finite number above 0', value)
        _check('max_depth_m', self.max_depth_m > self.min_depth_m,
               f'more than {self.min_depth_m:g} (min_depth_m)', self.max_depth_m)
        _check('depth_tolerance_s', 0 <= self.depth_tolerance_s <= 1, '0 to 1',
               self.depth_tolerance_s)
        is_height = 0 <= self.camera_height_m < math.inf
        _check('camera_height_m', is_height, '0 (unknown) or more', self.camera_height_m)
        if self.source == 'height':
            _check('camera_height_m', self.camera_height_m > 0,
                   'a height above 0 for source height', self.camera_height_m)


def _check_choice(name: str, value: str, choices: tuple) -> None:
    _check(name, value in choices, 'one of ' + ', '.join(choices), value)


def _check(name: str, is_good: bool, expected: str, got) -> None:
    if not is_good:
        raise ValueError(f'{name}: expected {expected}, got {got}')
