"""Images resampled as Pillow does it, digit for digit: what the published networks were fed.

A filter whose support grows with the reduction (antialiasing), at pixel centres, cut off at the
borders and normalised a pixel; first along rows, then along columns, rounded to bytes between.
(Pillow turns the passes round for images over a hundred times as high as wide; this does not.)
Weights are whole multiples of 2^-22, so that sums in float64 are exact in any order: results are
the same on every machine and with any number of threads.
"""

from functools import lru_cache
from typing import Callable, Dict, Literal, NamedTuple, Tuple

import numpy as np

Kind = Literal['bicubic', 'lanczos']

_BLOCK = 16         # outputs a product of matrices: few enough that most of its weights are not 0
_ROWS = 128         # at a time, so that they stay in the processor's cache
_WEIGHT_UNIT = 2.0**-22


class _Block(NamedTuple):
    """Neighbouring outputs of a pass, and the weights (outputs, inputs) f64 of their inputs."""

    outputs: slice
    inputs: slice
    weights: np.ndarray


def resample(image: np.ndarray, size: Tuple[int, int], kind: Kind) -> np.ndarray:
    """Return an image (H, W, 3) uint8 at ``size`` (width, height); itself if it has that size.

    Outer corners map to outer corners. Raises ValueError for another shape or type, a size below
    1 px, or an unknown kind.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f'image: expected (H, W, 3) uint8, got {image.shape} {image.dtype}')
    if min(size) < 1:
        raise ValueError(f'size: expected at least 1x1 px, got {size}')
    if kind not in _FILTERS:
        raise ValueError(f'kind: expected one of {", ".join(_FILTERS)}, got {kind!r}')
    (h_in, w_in), (w, h) = image.shape[:2], size
    if (w, h) == (w_in, h_in):
        return image
    across, down = _blocks(w_in, w, kind), _blocks(h_in, h, kind)
    narrow, result = np.empty((h_in, w)), np.empty((h, w, 3), np.uint8)
    for channel in range(3):
        for top in range(0, h_in, _ROWS):
            rows = np.s_[top:top + _ROWS]
            _pass_across(image[rows, :, channel].astype(np.float64), across, narrow[rows])
        _pass_down(narrow, down, result[..., channel])
    return result


def _pass_across(rows: np.ndarray, blocks: Tuple[_Block, ...], out: np.ndarray) -> None:
    for outputs, inputs, weights in blocks:
        np.matmul(rows[:, inputs], weights.T, out=out[:, outputs])
    np.floor(_half_up(out), out=out)


def _pass_down(image: np.ndarray, blocks: Tuple[_Block, ...], out: np.ndarray) -> None:
    for outputs, inputs, weights in blocks:
        out[outputs] = _half_up(weights @ image[inputs])


def _half_up(values: np.ndarray) -> np.ndarray:
    """Change values so that cutting off their fraction rounds them to a byte; return them."""
    values += 0.5
    return np.clip(values, 0, 255, out=values)


@lru_cache(maxsize=16)
def _blocks(n_in: int, n_out: int, kind: Kind) -> Tuple[_Block, ...]:
    """Return the passes' weights in blocks, of which each is a small dense matrix."""
    first, end, weights = _weights(n_in, n_out, kind)
    blocks = []
    for start in range(0, n_out, _BLOCK):
        stop = min(start + _BLOCK, n_out)
        left, right = first[start], end[stop - 1]
        dense = np.zeros((stop - start, right - left))
        for i in range(start, stop):
            dense[i - start, first[i] - left:end[i] - left] = weights[i, :end[i] - first[i]]
        blocks.append(_Block(slice(start, stop), slice(left, right), dense))
    return tuple(blocks)


def _weights(n_in: int, n_out: int, kind: Kind) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first and end of the inputs (n_out,) of each output, and their weights (n_out, k)."""
    filter_of, support = _FILTERS[kind]
    step = n_in / n_out
    stretch = max(step, 1.0)
    centre = (np.arange(n_out) + 0.5) * step
    first = np.maximum((centre - support * stretch + 0.5).astype(int), 0)
    end = np.minimum((centre + support * stretch + 0.5).astype(int), n_in)
    k = np.arange((end - first).max())
    weights = filter_of((k + first[:, None] - centre[:, None] + 0.5) / stretch)
    weights[k >= (end - first)[:, None]] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    # halves away from 0, as Pillow's fixed point has it
    weights = np.trunc(weights / _WEIGHT_UNIT + np.copysign(0.5, weights)) * _WEIGHT_UNIT
    return first, end, weights


def _bicubic(x: np.ndarray) -> np.ndarray:
    """Return Keys' cubic with a = -0.5 (OpenCV's has -0.75)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


_FILTERS: Dict[str, Tuple[Callable, float]] = {'bicubic': (_bicubic, 2.0),
                                               'lanczos': (_lanczos, 3.0)}
