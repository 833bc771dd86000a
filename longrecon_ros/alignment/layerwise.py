"""Layer-wise scale alignment: what LASER adds to the similarity between two windows.

A network gives near and far things of one window scales that differ by some percent, and differ
otherwise in the next window. So each depth layer of a window gets a scale of its own: measured
where the shared frames see the layer, handed on from frame to frame along the motion, applied
along the ray. The previous window comes with its own layer scales applied, so that they chain.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..types import Prediction
from . import published_layers
from .base import Aligner, Alignment, common_frames
from .gauge import believed, estimate_gauge, rescaled, scale_of_centres
from .layer_field import layer_fields
from .layer_grid import LayerGrid
from .similarity import original_mask
from .surfaces import SurfaceConfig


@dataclass(frozen=True, slots=True)
class LayerwiseConfig:
    """Parameters of layer-wise alignment; ``config/default.yaml`` explains them."""

    use: Literal['auto', 'always', 'never'] = 'auto'
    faithful: bool = False
    shared_intrinsics: bool = True
    jump: float = 0.04
    min_share: float = 0.002
    work_pixels: int = 16000

    def __post_init__(self):
        if not 0 < self.jump < 1:
            raise ValueError(f'jump: expected above 0 and below 1, got {self.jump}')
        if not 0 <= self.min_share < 1:
            raise ValueError(f'min_share: expected 0 or more and below 1, got {self.min_share}')
        if self.work_pixels < 100:
            raise ValueError(f'work_pixels: expected 100 or more, got {self.work_pixels}')

    @property
    def surfaces(self) -> SurfaceConfig:
        """What counts as a layer."""
        return SurfaceConfig(self.work_pixels, self.jump, self.min_share)


@dataclass(frozen=True, slots=True)
class LayerwiseAligner:
    """Wraps an aligner and adds a factor for every depth layer; needs no unit of depth."""

    aligner: Aligner
    config: LayerwiseConfig = LayerwiseConfig()

    def align(self, previous: Prediction, current: Prediction) -> Alignment:
        """Return the alignment of the wrapped aligner with a factor for every pixel.

        Raises AlignmentError where the wrapped aligner does, and for nothing else.
        """
        alignment = self.aligner.align(previous, current)
        grid = LayerGrid.of(current, self.config.surfaces)
        i, j = common_frames(previous, current)
        fields = layer_fields(grid, previous, dict(zip(j.tolist(), i.tolist())),
                              float(np.log(alignment.T_odom_window.scale)))
        shared = [fields[t] for t in j]
        gauge = estimate_gauge([f.scales for f in shared], [f.pixels for f in shared],
                               scale_of_centres(alignment, previous, current, i, j))
        correction = gauge.credibility * gauge.value
        alignment = rescaled(alignment, current, j, correction)
        depth_scale = np.empty(current.confidence.shape, np.float32)
        layers = np.empty(current.confidence.shape, np.int16)
        variance = np.zeros((len(fields), max(len(f.log_depths) for f in fields)), np.float32)
        for t, field in enumerate(fields):
            layers[t] = grid.full_size(t, field.labels)
            value, of_layers = believed(field.scales, field.log_depths, field.pixels, gauge)
            factor = np.exp(gauge.credibility * value - correction)
            depth_scale[t] = factor.astype(np.float32)[layers[t]]
            variance[t, :len(of_layers)] = of_layers
        return replace(alignment, depth_scale=depth_scale, layers=layers, layer_variance=variance)


@dataclass(frozen=True, slots=True)
class PublishedLayers:
    """Wraps an aligner and adds the layer scales of LASER's code, with its faults."""

    aligner: Aligner
    confident_share: float = 0.5            # of the pixels of each window

    def align(self, previous: Prediction, current: Prediction) -> Alignment:
        """Return the alignment of the wrapped aligner with a factor for every pixel."""
        alignment = self.aligner.align(previous, current)
        i, j = common_frames(previous, current)
        share = self.confident_share
        depth = current.depth * np.float32(alignment.T_odom_window.scale)
        layers = published_layers.depth_layers(depth, original_mask(current, share))
        before = previous.layers
        if before is None:
            before = published_layers.depth_layers(previous.depth, original_mask(previous, share))
        scales = published_layers.layer_scales(previous.depth[i], before[i], depth, layers)
        return replace(alignment, depth_scale=published_layers.scale_map(layers, scales),
                       layers=layers)
