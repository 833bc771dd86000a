"""What a net is trained for: relative poses, points, confidence (pi3's losses, in metres)."""

from types import MappingProxyType
from typing import Dict, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn import functional

from ..nets.pi3 import Pi3Output

_WEIGHTS = MappingProxyType({
    'turn': 2.0, 'shift': 1.0, 'depth': 1.0, 'rays': 1.0, 'confidence': 0.05})
_ROUND = 0.02           # rad or m, below which an error counts as its square
_GOOD = 0.05            # of depth: what confidence is to tell
_LEAST_DEPTH_M = 0.05


class Target(NamedTuple):
    """What is true of B sequences of N frames."""

    depth: Tensor                           # (B, N, H, W) m; 0: unknown
    T_world_camera: Tensor                  # (B, N, 4, 4) m
    rays: Tensor                            # (H, W, 3), z is 1


def stream_loss(outputs: Sequence[Pi3Output], truth: Target,
                windows: Sequence[slice]) -> Tuple[Tensor, Dict[str, Tensor]]:
    """Return the loss of windows of B sequences, and its parts.

    ``windows`` are the frames of ``truth`` that each output is about. Poses are judged relative to
    each other inside each window, since no frame of reference is given (pi3): the same for nets
    with and without memory. Errors cost in proportion to their size, not to its square, so that
    what cannot be known does not drown the rest.
    """
    found = [_window_loss(output, truth, frames) for output, frames in zip(outputs, windows)]
    parts = {name: torch.stack([part[name] for part in found]).mean() for name in found[0]}
    total = sum(_WEIGHTS[name] * part for name, part in parts.items())
    return total, {name: part.detach() for name, part in parts.items()}


def _window_loss(output: Pi3Output, truth: Target, frames: slice) -> Dict[str, Tensor]:
    turn, shift = pair_errors(output.T_world_camera, truth.T_world_camera[:, frames])
    return {'turn': turn.mean(), 'shift': shift.mean(),
            **_points(output, truth.depth[:, frames], truth.rays)}


def pair_errors(poses: Tensor, true: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the errors of the motions between all pairs of M poses (B, M, 4, 4), (B, M, M) each.

    Of rotations it is the chord (about the angle, rad), of translations the distance in m, both
    rounded off near zero.
    """
    (R, t), (R_true, t_true) = (_pairs(T) for T in (poses, true))
    return _rounded((R - R_true).flatten(-2)) / 2**0.5, _rounded(t - t_true)


def _pairs(T: Tensor) -> Tuple[Tensor, Tensor]:
    """Return R (B, M, M, 3, 3) and t (B, M, M, 3) of T_i^-1 T_j."""
    R, t = T[..., :3, :3], T[..., :3, 3]
    return (torch.einsum('bikl,bjkm->bijlm', R, R),
            torch.einsum('bikl,bijk->bijl', R, t[:, None] - t[:, :, None]))


def _rounded(error: Tensor) -> Tensor:
    return (error.square().sum(-1) + _ROUND**2).sqrt() - _ROUND


def _points(output: Pi3Output, depth: Tensor, rays: Tensor) -> Dict[str, Tensor]:
    """Return the losses of the points of one window, ``depth`` (B, N, H, W) being the truth."""
    points, is_known = output.local_points, depth > 0
    off = (points[..., 2].log() - depth.clamp(min=_LEAST_DEPTH_M).log()) * is_known
    aside = (points[..., :2] / points[..., 2:] - rays[..., :2]).abs().mean()
    is_good = ((off.detach().abs() < _GOOD) & is_known).to(off.dtype)
    confidence = functional.binary_cross_entropy_with_logits(output.confidence[..., 0], is_good)
    return {'depth': off.abs().sum() / is_known.sum().clamp(min=1), 'rays': aside,
            'confidence': confidence}
