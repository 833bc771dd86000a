"""``pi3x``: pi3 with finer points and lengths in about metres; needs weights.

The successor of pi3 by the same authors, without its optional inputs (depth, rays, poses):
`nets.pi3x`. Its unit is the metre as far as one image sequence can tell, window by window: the
odometry keeps that of the first window. Images are scaled as for pi3.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Tuple

from ..types import Prediction, Window
from ._network_config import Definition, feedforward, NetworkConfig, PATCH, TINY
from .base import BackboneSpec, ExportableBackbone, WeightsFile


@dataclass(frozen=True, slots=True)
class Pi3XConfig(NetworkConfig):
    """Parameters of the ``pi3x`` backbone; ``config/default.yaml`` explains them."""

    max_pixels: int = 255_000


class Pi3XBackbone(ExportableBackbone):
    """Window reconstruction by pi3x; see the module's docstring."""

    spec = BackboneSpec(
        name='pi3x', patch=PATCH, max_pixels=255_000, gauge='window', scale='metric', feed='all',
        align='sim3', enlarge=True, interpolation='lanczos', layerwise=True,
        weights=(WeightsFile('pi3x', 'yyfz233/Pi3X', 'model.safetensors', 5_440_300_000,
                             'CC BY-NC 4.0 (non-commercial)', 'BSD-3-Clause'),))
    Config = Pi3XConfig
    tiny = TINY

    def __init__(self, config: Pi3XConfig = Pi3XConfig()):
        self.spec = config.limits(self.spec)
        self._use_pinhole = config.pinhole
        self._nets = feedforward(self.spec.name)
        self._network = self._nets.Network(self.spec, config, _definition(config.size))
        self.is_untrained = self._network.is_untrained

    def init(self) -> Any:
        """Return the memory of a stream that has seen nothing."""
        return self._nets.Memory()

    def step(self, state: Any, window: Window) -> Tuple[Any, Prediction]:
        """Predict one window; frames of the last one are not encoded again."""
        memory, result = self._network.run(state, window)
        return self._nets.from_pointmaps(memory, window, result, self._use_pinhole)

    def export_net(self) -> Tuple[Any, str]:
        """Return the torch module, in float32 on the CPU, and which weights it has, in words."""
        return self._network.export_net()

    @classmethod
    def check_weights(cls, path: Path) -> None:
        """Raise WeightsError unless a file holds all tensors of the net, and none besides."""
        feedforward(cls.spec.name).check_weights(_definition('large'), path, cls.spec.name)


def _definition(size: str) -> Definition:
    from ..nets import pi3, pi3x
    make = partial(pi3x.Pi3XNet, pi3.TINY if size == 'tiny' else pi3.LARGE)
    return Definition(make, pi3.Pi3Output, pi3x.OPTIONAL_INPUTS)


BACKBONE = Pi3XBackbone
