"""The single faults of a simulated prediction, each from its own random numbers.

Errors of depth are given as logarithms of factors, (N, H, W) f32, so that they add up.
"""

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from ..geometry import se3
from ..geometry.sim3 import Sim3

_VARYING_SHARE = 0.3
"""Part of the smooth warp that changes over the frames of a window, over the constant part."""
_N_WAVES = 3
_N_BLOBS = 3
_BLOB_LOG_DEPTH = np.log(1.3), np.log(2.0)
_LIKE_DEPTH = 0.5
"""Log depth over which the common part of the layer errors changes."""


class Purpose(IntEnum):
    """Every fault draws from a generator of its own, so that one switched off changes no other."""

    GAUGE = 0
    LAYERS = 1
    WARP = 2
    POSES = 3
    NOISE = 4
    OUTLIERS = 5
    EDGES = 6
    CONFIDENCE = 7


class DepthFault(NamedTuple):
    """A fault of the depth, and what the network is aware of it."""

    log_error: np.ndarray                   # (N, H, W) f32
    doubt: np.ndarray                       # (N, H, W) f32, 0 or more: lowers the log confidence


def gauge(rng: np.random.Generator, T_world_first: np.ndarray, median_depth_m: float,
          scale_sigma: float, is_pose_random: bool) -> Sim3:
    """Return T_window_world of one window; without chance the first camera is the window."""
    log_scale, rotation, translation = rng.normal(), rng.normal(size=3), rng.normal(size=3)
    scale = float(np.exp(scale_sigma * log_scale))
    T = se3.inverse(T_world_first)
    if is_pose_random:
        T = se3.from_parts(se3.so3_exp(rotation), translation * median_depth_m) @ T
    return Sim3(scale, T[:3, :3], scale * T[:3, 3])


def pose_noise(rng: np.random.Generator, n: int, translation_m: float,
               rotation_deg: float) -> np.ndarray:
    """Return (n, 4, 4) small motions of the cameras, twice as large at the ends as in the middle.

    The sizes are standard deviations an axis in the middle of the window.
    """
    middle = (n - 1) / 2
    growth = 1 + np.abs(np.arange(n) - middle)[:, None] / max(middle, 1)
    t = translation_m * growth * rng.normal(size=(n, 3))
    return se3.from_parts(se3.so3_exp(np.radians(rotation_deg) * growth * rng.normal(size=(n, 3))),
                          t)


def warp(rng: np.random.Generator, shape: tuple, sigma: float) -> np.ndarray:
    """Return the log of a smooth depth error: fixed over the window but for a small part."""
    n, h, w = shape
    waves = _waves(h, w)
    fixed, start, end = rng.normal(0, sigma / np.sqrt(len(waves)), (3, len(waves)))
    angle = np.linspace(0, np.pi / 2, n)[:, None]
    weights = fixed + _VARYING_SHARE * (np.cos(angle) * start + np.sin(angle) * end)
    return np.tensordot(weights.astype(np.float32), waves, 1)


def noise(rng: np.random.Generator, shape: tuple, sigma: float) -> DepthFault:
    """Return pixel noise whose strength varies smoothly over each image, and half the doubt of it.

    Its root mean square is ``sigma``.
    """
    n, h, w = shape
    strength = np.exp(0.5 * smooth(rng, shape))
    strength /= np.sqrt(np.mean(np.square(strength), axis=(1, 2), keepdims=True))
    log_error = rng.standard_normal(shape, np.float32)
    log_error *= strength
    log_error *= np.float32(sigma)
    return DepthFault(log_error, np.float32(10 * sigma) * strength)


def outliers(rng: np.random.Generator, shape: tuple, share: float) -> DepthFault:
    """Return a few blobs a frame that are off by a factor of 1.3 to 2 either way.

    They cover ``share`` of the pixels (a little less where they overlap). A blob's confidence
    falls by a random factor that may be close to 1.
    """
    log_error, doubt = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for error_of_frame, doubt_of_frame in zip(log_error, doubt):
        for _ in range(_N_BLOBS):
            mask = _blob(rng, shape[1:], share / _N_BLOBS)
            size, sign = rng.uniform(*_BLOB_LOG_DEPTH), rng.choice([-1, 1])
            lowered = -np.log(rng.uniform(0.3, 1.0))
            if share > 0:
                error_of_frame[mask], doubt_of_frame[mask] = sign * size, lowered
    return DepthFault(log_error, doubt)


def flicker(rng: np.random.Generator, depth: np.ndarray, is_edge: np.ndarray,
            radius_px: int) -> DepthFault:
    """Return pixels near occlusion edges that take a random mixture of the depths on both sides.

    ``depth`` (N, H, W) m has no holes; ``is_edge`` marks the pixels beside an edge; pixels within
    ``radius_px`` of an edge are concerned, none for 0.
    """
    log_error, doubt = np.zeros(depth.shape, np.float32), np.zeros(depth.shape, np.float32)
    mixture, awareness = rng.random((2, *depth.shape), np.float32)
    if radius_px == 0:
        return DepthFault(log_error, doubt)
    both = np.ones((2 * radius_px + 1,) * 2, np.uint8)
    wider = np.ones((2 * radius_px - 1,) * 2, np.uint8)
    for k, frame in enumerate(depth):
        is_near_edge = cv2.dilate(np.uint8(is_edge[k]), wider) > 0
        near, far = cv2.erode(frame, both), cv2.dilate(frame, both)
        mixed = near + mixture[k] * (far - near)
        log_error[k] = np.where(is_near_edge, np.log(mixed / frame), 0)
        doubt[k] = np.where(is_near_edge, -np.log(0.15 + 0.75 * awareness[k]), 0)
    return DepthFault(log_error, doubt)


def smooth(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Return smooth random images (N, H, W) f32 with mean 0 and mean square about 1."""
    n, h, w = shape
    waves = _waves(h, w)
    weights = rng.normal(0, 1 / np.sqrt(len(waves)), (n, len(waves)))
    return np.tensordot(weights.astype(np.float32), waves, 1)


@lru_cache(maxsize=4)
def _waves(h: int, w: int) -> np.ndarray:
    """Return products of low cosines (8, h, w) f32, each with mean 0 and mean square 1."""
    def along(n: int) -> np.ndarray:
        phase = np.pi * (np.arange(n) + 0.5) / n
        return np.stack([np.cos(k * phase) * (np.sqrt(2) if k else 1) for k in range(_N_WAVES)])
    waves = along(h)[:, None, :, None] * along(w)[None, :, None, :]
    waves = waves.reshape(-1, h, w)[1:].astype(np.float32)
    waves.flags.writeable = False
    return waves


def _blob(rng: np.random.Generator, size: tuple, share: float) -> np.ndarray:
    """Return an ellipse of so much of the image (h, w) bool, inside it."""
    h, w = size
    aspect, angle_deg = np.exp(rng.uniform(-0.7, 0.7)), rng.uniform(0, 180)
    axes = np.sqrt(share * h * w / np.pi) * np.array([np.sqrt(aspect), 1 / np.sqrt(aspect)])
    margin = np.minimum(axes.max(), [w / 2, h / 2])
    centre = rng.uniform(margin, np.array([w, h]) - margin)
    mask = np.zeros(size, np.uint8)
    cv2.ellipse(mask, (tuple(centre), tuple(2 * axes), angle_deg), 1, cv2.FILLED)
    return mask > 0


def layer_errors(rng: np.random.Generator, log_depths: np.ndarray, sigma: float,
                 own_share: float) -> np.ndarray:
    """Return the log of the scale errors (n,) f32 of layers at mean log depths (n,).

    Deviation ``sigma``. The share ``own_share`` of the variance is each layer's own; the rest is
    one smooth random function of depth (a Gaussian process), so that layers at like depths err
    alike, those near and far from the camera differently.
    """
    distance = (log_depths[:, None] - log_depths) / _LIKE_DEPTH
    covariance = (1 - own_share) * np.exp(-distance**2 / 2) + own_share * np.eye(len(log_depths))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    return (sigma * root @ rng.standard_normal(len(log_depths))).astype(np.float32)
