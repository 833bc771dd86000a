"""``pi3``: points, poses and confidence of a window at once, by a network; needs weights.

pi^3 (Wang et al., 2025): a transformer that treats all frames alike, so that none is the
reference; `nets.pi3`. Each window lies in a frame and a scale of its own. As the authors do,
images are scaled to at most 255,000 px, up as well as down.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Tuple

from ..types import Prediction, Window
from ._network_config import Definition, NetworkConfig, PATCH, TINY
from .base import BackboneSpec, NetworkBackbone, WeightsFile


@dataclass(frozen=True, slots=True)
class Pi3Config(NetworkConfig):
    """Parameters of the ``pi3`` backbone; ``config/default.yaml`` explains them."""

    max_pixels: int = 255_000


class Pi3Backbone(NetworkBackbone):
    """Window reconstruction by pi3; see the module's docstring."""

    spec = BackboneSpec(
        name='pi3', patch=PATCH, max_pixels=255_000, gauge='window', scale='relative', feed='all',
        align='sim3', enlarge=True, interpolation='lanczos', layerwise=True,
        weights=(WeightsFile('pi3', 'yyfz233/Pi3', 'model.safetensors', 3_834_900_000,
                             'CC BY-NC 4.0 (non-commercial)', 'BSD-3-Clause'),))
    Config = Pi3Config
    tiny = TINY

    @staticmethod
    def definition(size: str) -> Definition:
        """Return the network of a size, and what its checkpoints hold."""
        from ..nets import pi3
        make = partial(pi3.Pi3Net, pi3.TINY if size == 'tiny' else pi3.LARGE)
        return Definition(make, pi3.Pi3Output)

    def predict(self, memory: Any, window: Window, result: Any) -> Tuple[Any, Prediction]:
        """Return the memory after a window, and its pointmaps as a prediction."""
        return self._nets.from_pointmaps(memory, window, result, self._config.pinhole)


BACKBONE = Pi3Backbone
