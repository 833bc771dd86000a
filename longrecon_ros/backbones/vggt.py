"""``vggt``: depth, cameras and confidence of a window at once, by a network; needs weights.

VGGT (Wang et al., CVPR 2025), `nets.vggt`. The first frame of a window is its reference; each
window has a scale of its own. Points are depth along the rays of the camera: its calibration, or
the field of view that the net sees in each frame; the net's own world points are not used, since
nothing ties their scale to that of the poses. The longer side of images is scaled to 518 px; the
authors crop tall images instead, which would leave pixels without a depth.
"""

from dataclasses import dataclass
from functools import partial
import math
from pathlib import Path
from typing import Any, Tuple

import numpy as np

from ..geometry import se3
from ..geometry.camera import pointmap_from_depth
from ..types import Prediction, Window
from ._network_config import Definition, feedforward, NetworkConfig, PATCH, TINY
from .base import BackboneSpec, ExportableBackbone, WeightsFile

_MIN_FOV, _MAX_FOV = math.radians(2), math.radians(175)
"""The net may say 0, which no camera has."""


@dataclass(frozen=True, slots=True)
class VggtConfig(NetworkConfig):
    """Parameters of the ``vggt`` backbone; ``config/default.yaml`` explains them."""

    max_side_px: int = 518


class VggtBackbone(ExportableBackbone):
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

    def __init__(self, config: VggtConfig = VggtConfig()):
        self.spec = config.limits(self.spec)
        self._use_calibration = config.pinhole
        self._nets = feedforward(self.spec.name)
        self._network = self._nets.Network(self.spec, config, _definition(config.size))
        self.is_untrained = self._network.is_untrained

    def init(self) -> Any:
        """Return the memory of a stream that has seen nothing."""
        return self._nets.Memory()

    def step(self, state: Any, window: Window) -> Tuple[Any, Prediction]:
        """Predict one window; frames of the last one are not encoded again."""
        memory, result = self._network.run(state, window)
        encoding, depth, confidence = self._nets.to_host(
            result.encoding[0], result.depth[0, ..., 0], 1 - 1 / result.depth_confidence[0])
        K = window.frames[0].K
        if K is None or not self._use_calibration:
            K = intrinsics(encoding, window.frames[0].size)
        T_window_camera = poses(encoding)
        return memory, self._nets.assemble(window, T_window_camera, pointmap_from_depth(depth, K),
                                           confidence, K)

    def export_net(self) -> Tuple[Any, str]:
        """Return the torch module, in float32 on the CPU, and which weights it has, in words."""
        return self._network.export_net()

    @classmethod
    def check_weights(cls, path: Path) -> None:
        """Raise WeightsError unless a file holds all tensors of the net, and none besides."""
        feedforward(cls.spec.name).check_weights(_definition('large'), path, cls.spec.name)


def poses(encoding: np.ndarray) -> np.ndarray:
    """Return T_window_camera (N, 4, 4) of encodings (N, 9), world to camera; nan for nonsense."""
    q, t = encoding[:, 3:7].astype(np.float64), encoding[:, :3].astype(np.float64)
    norm = np.linalg.norm(q, axis=1, keepdims=True)
    R = se3.rotation_from_quaternion_xyzw(np.where(norm > 1e-6, q / np.maximum(norm, 1e-6),
                                                   [0, 0, 0, 1]))
    T = se3.inverse(se3.from_parts(R, t))
    T[~(norm[:, 0] > 1e-6)] = np.nan
    return T


def intrinsics(encoding: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Return K (N, 3, 3), px, of encodings (N, 9) for images of ``size`` (width, height).

    The principal point is (w / 2, h / 2), as in the original (its pixels are whole numbers).
    """
    fov = np.clip(np.nan_to_num(encoding[:, 7:].astype(np.float64)), _MIN_FOV, _MAX_FOV)
    centre = np.array(size) / 2
    K = np.zeros((len(encoding), 3, 3))
    K[:, 0, 0], K[:, 1, 1] = (centre / np.tan(fov[:, ::-1] / 2)).T
    K[:, :2, 2], K[:, 2, 2] = centre, 1
    return K


def _definition(size: str) -> Definition:
    from ..nets import vggt
    make = partial(vggt.VggtNet, vggt.TINY if size == 'tiny' else vggt.LARGE)
    return Definition(make, vggt.VggtOutput, ('track_head.*',))


BACKBONE = VggtBackbone
