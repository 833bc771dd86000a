"""Chaining of windows: where one lies in odom, from the frames it shares with the last one."""

from typing import Callable, Dict, Optional

from ..errors import ConfigError
from .base import Aligner
from .camera import CameraAligner
from .continued import ContinuedAligner
from .depth_ratio import DepthRatioAligner
from .identity import IdentityAligner
from .layerwise import LayerwiseAligner, LayerwiseConfig, PublishedLayers
from .points import PointAligner
from .similarity import AnchorAligner

_ALIGNERS: Dict[str, Callable[..., Aligner]] = {
    'identity': IdentityAligner,
    'camera': CameraAligner,
    'se3_first': lambda **options: CameraAligner(shared='first', **options),
    'sim3': lambda **options: AnchorAligner(with_scale=True, **options),
    'se3': lambda **options: AnchorAligner(with_scale=False, **options),
    'sim3_points': lambda **options: PointAligner(with_scale=True, **options),
    'se3_points': lambda **options: PointAligner(with_scale=False, **options),
    'depth_ratio': DepthRatioAligner,
}
_PUBLISHED = ('sim3', 'se3', 'sim3_points', 'se3_points')


def available() -> tuple:
    """Return the names `make_aligner` knows."""
    return tuple(_ALIGNERS)


def make_aligner(name: str, layerwise: Optional[LayerwiseConfig] = None, **options) -> Aligner:
    """Return the aligner of that name; ConfigError for a name that is not there.

    ``identity``: the backbone speaks one frame. ``camera``: the last shared camera is made to
    coincide, nothing is fitted; ``se3_first``: the first one (LoGeR*). ``sim3``, ``se3``: scale
    from the depths of shared pixels, rotation and translation from shared cameras (LASER).
    ``sim3_points``, ``se3_points``: robust fit of the pointmaps of the shared frames (VGGT-Long).
    ``depth_ratio``: for sparse reconstructions, scale from landmarks. ``options`` are the fields
    of the aligner's class.
    ``layerwise`` wraps it, so that it gives each depth layer a scale of its own, too; if faithful,
    the aligner is as well, where its class has that option. Whatever it is, windows that the
    backbone puts into one frame (`Prediction.gauge`) stay in it.
    """
    if name not in _ALIGNERS:
        raise ConfigError(f'align: there is no {name!r}; choose auto or one of: '
                          + ', '.join(_ALIGNERS))
    if layerwise is None:
        return ContinuedAligner(_ALIGNERS[name](**options))
    if not layerwise.faithful:
        return LayerwiseAligner(ContinuedAligner(_ALIGNERS[name](**options)), layerwise)
    if name in _PUBLISHED:
        options = {'faithful': True, **options}
    return PublishedLayers(_ALIGNERS[name](**options), options.get('confident_share', 0.5))
