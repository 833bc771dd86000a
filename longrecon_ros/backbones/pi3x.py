"""``pi3x``: pi3 with finer points and lengths in about metres; needs weights.

The successor of pi3 by the same authors, without its optional inputs (depth, rays, poses):
`nets.pi3x`. Its unit is the metre as far as one image sequence can tell, window by window: the
odometry keeps that of the first window. Images are scaled as for pi3.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Tuple

from ..types import Prediction, Window
from ._network_config import Definition, NetworkConfig, PATCH, TINY
from .base import BackboneSpec, NetworkBackbone, WeightsFile


@dataclass(frozen=True, slots=True)
class Pi3XConfig(NetworkConfig):
    """Parameters of the ``pi3x`` backbone; ``config/default.yaml`` explains them."""

    max_pixels: int = 255_000


class Pi3XBackbone(NetworkBackbone):
    """Window reconstruction by pi3x; see the module's docstring."""

    spec = BackboneSpec(
        name='pi3x', patch=PATCH, max_pixels=255_000, gauge='window', scale='metric', feed='all',
        align='sim3', enlarge=True, interpolation='lanczos', layerwise=True,
        weights=(WeightsFile('pi3x', 'yyfz233/Pi3X', 'model.safetensors', 5_440_300_000,
                             'CC BY-NC 4.0 (non-commercial)', 'BSD-3-Clause'),))
    Config = Pi3XConfig
    tiny = TINY

    @staticmethod
    def definition(size: str) -> Definition:
        """Return the network of a size, and what its checkpoints hold."""
        from ..nets import pi3, pi3x
        make = partial(pi3x.Pi3XNet, pi3.TINY if size == 'tiny' else pi3.LARGE)
        return Definition(make, pi3.Pi3Output, pi3x.OPTIONAL_INPUTS)

    def predict(self, memory: Any, window: Window, result: Any) -> Tuple[Any, Prediction]:
        """Return the memory after a window, and its pointmaps as a prediction."""
        return self._nets.from_pointmaps(memory, window, result, self._config.pinhole)


BACKBONE = Pi3XBackbone
