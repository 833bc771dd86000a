"""``vggt``: depth, cameras and confidence of a window at once, by a network; needs weights.

VGGT (Wang et al., CVPR 2025), `nets.vggt`. The first frame of a window is its reference; each
window has a scale of its own. Points are depth along the rays of the camera: its calibration, or
the field of view that the net sees in each frame; the net's own world points are not used, since
nothing ties their scale to that of the poses. The longer side of images is scaled to 518 px; the
authors crop tall images instead, which would leave pixels without a depth.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Tuple

from ..types import Prediction, Window
from ._network_config import Definition, NetworkConfig, PATCH, TINY
from .base import BackboneSpec, NetworkBackbone, WeightsFile


@dataclass(frozen=True, slots=True)
class VggtConfig(NetworkConfig):
    """Parameters of the ``vggt`` backbone; ``config/default.yaml`` explains them."""

    max_side_px: int = 518


class VggtBackbone(NetworkBackbone):
    """Window reconstruction by VGGT; see the module's docstring."""

    spec = BackboneSpec(
        name='vggt', patch=PATCH, max_pixels=None, max_side=518, gauge='window', scale='relative',
        feed='all', align='sim3', enlarge=True, interpolation='bicubic', layerwise=True,
        weights=(WeightsFile('vggt', 'facebook/VGGT-1B', 'model.safetensors', 5_026_900_000,
                             'CC BY-NC 4.0 (non-commercial)', 'VGGT licence (Meta)'),
                 WeightsFile('vggt_commercial', 'facebook/VGGT-1B-Commercial',
                             'vggt_1B_commercial.pt', 5_026_900_000,
                             'VGGT commercial licence (Meta; no military use)',
                             'VGGT licence (Meta)', is_gated=True)))
    Config = VggtConfig
    tiny = TINY

    @staticmethod
    def definition(size: str) -> Definition:
        """Return the network of a size, and what its checkpoints hold."""
        from ..nets import vggt
        make = partial(vggt.VggtNet, vggt.TINY if size == 'tiny' else vggt.LARGE)
        return Definition(make, vggt.VggtOutput, ('track_head.*',))

    def predict(self, memory: Any, window: Window, result: Any) -> Tuple[Any, Prediction]:
        """Return the memory after a window, and its depths and cameras as a prediction."""
        return memory, self._nets.from_encodings(window, *self._nets.measured(result),
                                                 self._config.pinhole)


BACKBONE = VggtBackbone
