"""``simulated``: SIMULATED predictions, from ground truth with artificial faults; no network.

Its results say how a set-up or an aligner copes with such faults; they are no result of any
network. Frames must carry their truth (``needs_truth``), which `io.truth` attaches.

The truth of each window is put into a gauge of its own (a rigid pose, a scale), and gets: one
scale error a depth layer (`_simulated_layers`), drawn anew in each window; a smooth warp of the
depth; pixel noise; blobs of outliers; mixed depths at occlusion edges; pose noise that grows from
the middle of the window; and a confidence that knows only part of all this. Where the true depth
has holes, it is filled with the nearest depth, and the confidence is low. Every fault has a
parameter that switches it off. Faults derive from the seed, the number of the window and the kind
of fault, so a stream that is cut into the same windows gets the same predictions, bit by bit.

The first window has no layer errors by default: nothing in a stream could tell that window's own
errors, since its layers define those of the map, so that they would add one constant amount to
the errors of every method. ``first_window_exact: false`` gives it layer errors like all others.
"""

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from ..errors import InputError
from ..geometry.camera import pixel_grid, unproject
from ..types import Prediction, Window
from . import _simulated_faults as faults
from ._simulated_faults import Purpose
from ._simulated_layers import find_layers, Layers
from ._simulated_parts import fill
from .base import Backbone, BackboneSpec

_CONFIDENCE = 0.9
_HOLE_CONFIDENCE = 0.1
"""Factor where the true depth is not known."""


@dataclass(frozen=True, slots=True)
class SimulatedConfig:
    """Parameters of the ``simulated`` backbone; ``config/default.yaml`` explains them."""

    seed: int = 0
    random_pose: bool = True
    scale_sigma: float = 0.25
    layer_sigma: float = 0.1
    layer_own_share: float = 0.75
    layer_step: float = 0.04
    layer_contact: float = 0.25
    first_window_exact: bool = True
    warp_sigma: float = 0.01
    pose_translation: float = 0.002
    pose_rotation_deg: float = 0.05
    depth_noise: float = 0.005
    outlier_share: float = 0.02
    edge_px: int = 1
    confidence_noise: float = 0.1

    def __post_init__(self):
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f'{name}: expected {low} to {high}, got {getattr(self, name)}')


_RANGES = {
    'seed': (0, 2**31 - 1), 'scale_sigma': (0, 2), 'layer_sigma': (0, 1),
    'layer_own_share': (0, 1), 'layer_step': (0.01, 1),
    'layer_contact': (0, 10), 'warp_sigma': (0, 0.5), 'pose_translation': (0, 0.5),
    'pose_rotation_deg': (0, 20), 'depth_noise': (0, 0.5), 'outlier_share': (0, 0.3),
    'edge_px': (0, 5), 'confidence_noise': (0, 1)}


class SimulatedBackbone(Backbone):
    """Truth in, the faults of networks out; see the module's docstring."""

    spec = BackboneSpec(name='simulated', patch=14, max_pixels=518 * 294, gauge='window',
                        scale='relative', feed='all', align='sim3', layerwise=True,
                        needs_truth=True)
    Config = SimulatedConfig

    def __init__(self, config: SimulatedConfig = SimulatedConfig()):
        self._config = config

    def init(self) -> int:
        """Return the number of windows predicted so far."""
        return 0

    def step(self, state: int, window: Window) -> Tuple[int, Prediction]:
        """Predict one window from the truth of its frames.

        Raises InputError for frames without truth or without intrinsics.
        """
        _check(window)
        maps, masks = zip(*(fill(frame.truth.depth) for frame in window.frames))
        true_depth, is_measured = np.stack(maps), np.stack(masks)
        poses = np.stack([frame.truth.T_world_camera for frame in window.frames])
        K = np.stack([frame.K for frame in window.frames])
        rays = _rays(K[0], true_depth.shape[1:])
        layers = find_layers(true_depth, rays, K[0], poses, self._config.layer_step,
                             self._config.layer_contact)
        log_error, confidence = self._depth_faults(state, true_depth, is_measured, layers)
        middle_m = float(np.median(true_depth[:, ::4, ::4][is_measured[:, ::4, ::4]])) \
            if is_measured[:, ::4, ::4].any() else 1.0
        gauge, T_window_camera = self._place(state, poses, middle_m)
        depth = true_depth * np.exp(log_error) * np.float32(gauge.scale)
        rgb = np.stack([frame.image for frame in window.frames])
        return state + 1, Prediction(window.frame_ids, T_window_camera, rays * depth[..., None],
                                     confidence, rgb, K)

    def _rng(self, n_before: int, purpose: Purpose) -> np.random.Generator:
        return np.random.default_rng([self._config.seed, n_before, purpose])

    def _place(self, n_before: int, poses: np.ndarray, middle_m: float):
        """Return T_window_world, and the noisy poses (N, 4, 4) in the window."""
        c = self._config
        noise = faults.pose_noise(self._rng(n_before, Purpose.POSES), len(poses),
                                  c.pose_translation * middle_m, c.pose_rotation_deg)
        gauge = faults.gauge(self._rng(n_before, Purpose.GAUGE), poses[0], middle_m,
                             c.scale_sigma, c.random_pose)
        return gauge, gauge.apply_to_poses(poses @ noise)

    def _depth_faults(self, n_before: int, depth: np.ndarray, is_measured: np.ndarray,
                      layers: Layers) -> Tuple[np.ndarray, np.ndarray]:
        """Return the log of the depth's error and the confidence, both (N, H, W) f32."""
        c, shape = self._config, depth.shape
        noise = faults.noise(self._rng(n_before, Purpose.NOISE), shape, c.depth_noise)
        blobs = faults.outliers(self._rng(n_before, Purpose.OUTLIERS), shape, c.outlier_share)
        edges = faults.flicker(self._rng(n_before, Purpose.EDGES), depth, layers.is_edge,
                               c.edge_px)
        log_error = noise.log_error + blobs.log_error + edges.log_error
        log_error += faults.warp(self._rng(n_before, Purpose.WARP), shape, c.warp_sigma)
        log_error += self._layer_errors(n_before, layers, depth)[layers.labels]
        rng = self._rng(n_before, Purpose.CONFIDENCE)
        mood = np.float32(c.confidence_noise) * (faults.smooth(rng, shape)
                                                 + rng.standard_normal(shape, np.float32))
        confidence = _CONFIDENCE * np.exp(mood - noise.doubt - blobs.doubt - edges.doubt)
        confidence = np.clip(confidence, 0.01, 1.0) * np.where(is_measured, 1, _HOLE_CONFIDENCE)
        confidence[~is_measured.any(axis=(1, 2))] = 0
        return log_error, confidence

    def _layer_errors(self, n_before: int, layers: Layers, depth: np.ndarray) -> np.ndarray:
        """Return the log of the scale error of every layer of the window (n,) f32."""
        c = self._config
        if n_before == 0 and c.first_window_exact:
            return np.zeros(layers.n_layers, np.float32)
        return faults.layer_errors(self._rng(n_before, Purpose.LAYERS), layers.log_depths(depth),
                                   c.layer_sigma, c.layer_own_share)


def _check(window: Window) -> None:
    for frame in window.frames:
        if frame.truth is None:
            raise InputError(
                f'simulated needs true depth and poses with the images, and frame {frame.index} '
                'has none: run it on a folder with depth/ and gt_tum.txt, such as '
                '"longrecon synth" makes')
        if frame.K is None:
            raise InputError(f'simulated needs the intrinsics of the camera, and frame '
                             f'{frame.index} has none: give a calib.json')
        if frame.truth.depth.shape != frame.image.shape[:2]:
            raise ValueError(f'Frame.truth: expected depth of the size of the image '
                             f'{frame.image.shape[:2]}, got {frame.truth.depth.shape}')


def _rays(K: np.ndarray, shape: Tuple[int, int]) -> np.ndarray:
    """Return the viewing rays (H, W, 3) f32 of all pixels, z = 1."""
    grid = pixel_grid((shape[1], shape[0]))
    return unproject(grid, np.ones(shape), K).astype(np.float32)


BACKBONE = SimulatedBackbone
