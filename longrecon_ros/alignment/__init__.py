"""Chaining of windows: where one lies in odom, from the frames it shares with the last one."""

from typing import Callable, Dict

from ..errors import ConfigError
from .base import Aligner
from .depth_ratio import DepthRatioAligner
from .identity import IdentityAligner
from .similarity import PointAligner

_ALIGNERS: Dict[str, Callable[..., Aligner]] = {
    'identity': IdentityAligner,
    'sim3': lambda **options: PointAligner(with_scale=True, **options),
    'se3': lambda **options: PointAligner(with_scale=False, **options),
    'depth_ratio': DepthRatioAligner,
}


def available() -> tuple:
    """Return the names `make_aligner` knows."""
    return tuple(_ALIGNERS)


def make_aligner(name: str, **options) -> Aligner:
    """Return the aligner of that name; ConfigError for a name that is not there.

    ``identity``: the backbone speaks one frame. ``sim3``, ``se3``: robust Umeyama over the
    pointmaps of the shared frames. ``depth_ratio``: rotation from poses, scale from depths,
    translation from camera centres. ``options`` are the fields of the aligner's class.
    """
    if name not in _ALIGNERS:
        raise ConfigError(f'align: there is no {name!r}; choose auto or one of: '
                          + ', '.join(_ALIGNERS))
    return _ALIGNERS[name](**options)
