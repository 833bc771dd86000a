"""``pi3``: points, poses and confidence of a window at once, by a network; needs weights.

pi^3 (Wang et al., 2025): a transformer that treats all frames alike, so that none is the
reference; `nets.pi3`. Each window lies in a frame and a scale of its own. As the authors do,
images are scaled to at most 255,000 px, up as well as down.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Tuple

from ..types import Prediction, Window
from ._network_config import Definition, feedforward, NetworkConfig, PATCH, TINY
from .base import BackboneSpec, ExportableBackbone, WeightsFile


@dataclass(frozen=True, slots=True)
class Pi3Config(NetworkConfig):
    """Parameters of the ``pi3`` backbone; ``config/default.yaml`` explains them."""

    max_pixels: int = 255_000


class Pi3Backbone(ExportableBackbone):
    """Window reconstruction by pi3; see the module's docstring."""

    spec = BackboneSpec(
        name='pi3', patch=PATCH, max_pixels=255_000, gauge='window', scale='relative', feed='all',
        align='sim3', enlarge=True, interpolation='lanczos', layerwise=True,
        weights=(WeightsFile('pi3', 'yyfz233/Pi3', 'model.safetensors', 3_834_900_000,
                             'CC BY-NC 4.0 (non-commercial)', 'BSD-3-Clause'),))
    Config = Pi3Config
    tiny = TINY

    def __init__(self, config: Pi3Config = Pi3Config()):
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
    from ..nets import pi3
    make = partial(pi3.Pi3Net, pi3.TINY if size == 'tiny' else pi3.LARGE)
    return Definition(make, pi3.Pi3Output)


BACKBONE = Pi3Backbone
