"""All textures of a world in one image, with their mipmaps, and filtered look-ups in it."""

from typing import List, Sequence, Tuple

import cv2
import numpy as np

_GUTTER = 2             # texels repeated round each level, so that bilinear taps stay inside
_ROW = 1024             # look-ups are done as images of this width
_MAX_SIDE = 32000       # cv2.remap addresses its source with 16-bit integers


def mipmaps(texture: np.ndarray) -> List[np.ndarray]:
    """Return the texture and its halvings, down to one texel on the longer side."""
    levels = [texture]
    while max(levels[-1].shape[:2]) > 1:
        h, w = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (max(1, w // 2), max(1, h // 2)),
                                 interpolation=cv2.INTER_AREA))
    return levels


class Atlas:
    """Mipmapped textures in one image.

    ``charts[i * n_levels + level]`` places a level of texture ``i``: it is (x of the
    centre, y of the centre, half width, half height) in atlas texels, so that chart coordinates
    in [-1, 1] span the texture at every level.
    """

    def __init__(self, textures: Sequence[np.ndarray]):
        pyramids = [mipmaps(texture) for texture in textures]
        self.n_levels = max(len(levels) for levels in pyramids)
        self.half_size = np.array([(t.shape[1] / 2, t.shape[0] / 2) for t in textures],
                                  np.float32).reshape(-1, 2)
        entries = [(i * self.n_levels + k, level) for i, levels in enumerate(pyramids)
                   for k, level in enumerate(levels)]
        places, shape = _pack([level.shape[:2] for _, level in entries])
        self.image = np.zeros((*shape, 3), np.uint8)
        self.charts = np.zeros((len(textures) * self.n_levels, 4), np.float32)
        for (slot, level), (row, col) in zip(entries, places):
            h, w = level.shape[:2]
            self.image[row:row + h + 2 * _GUTTER, col:col + w + 2 * _GUTTER] = cv2.copyMakeBorder(
                level, *(_GUTTER,) * 4, cv2.BORDER_REPLICATE)
            self.charts[slot] = (col + _GUTTER + (w - 1) / 2, row + _GUTTER + (h - 1) / 2,
                                 w / 2, h / 2)
        self.coarsest = np.array([len(levels) - 1 for levels in pyramids], np.float32)

    def sample(self, ids: np.ndarray, a: np.ndarray, b: np.ndarray, step_a: np.ndarray,
               step_b: np.ndarray, n_taps: int, level: np.ndarray) -> np.ndarray:
        """Return (n, 3) f32 colours, filtered along a line and between two mipmap levels.

        ``a, b`` (n,) are chart coordinates of texture ``ids``; ``n_taps`` samples are spread
        evenly over the segment of length ``step_a, step_b`` centred there; ``level`` is the
        fractional mipmap level.
        """
        level = np.clip(level, 0, self.coarsest[ids])
        lower = level.astype(np.int32)
        slots = ids * self.n_levels + lower
        color = self._average(slots, a, b, step_a, step_b, n_taps)
        blend = level - lower
        between = np.flatnonzero(blend)
        if len(between):
            coarse = self._average(slots[between] + 1, *(
                v[between] for v in (a, b, step_a, step_b)), n_taps)
            fine = color[between]
            coarse -= fine
            coarse *= blend[between, None]
            coarse += fine
            color[between] = coarse
        return color

    def _average(self, slots, a, b, step_a, step_b, n_taps) -> np.ndarray:
        """Mean of bilinear samples along a segment of one mipmap level, (n, 3) f32."""
        n = len(slots)
        rows = -(-n // _ROW)
        total = np.zeros((rows, _ROW, 3), np.float32)
        xs, ys = np.zeros((2, rows * _ROW), np.float32)
        chart = np.take(self.charts, slots, axis=0)
        for tap in range(n_taps):
            along = np.float32((tap + 0.5) / n_taps - 0.5)
            xs[:n] = chart[:, 0] + chart[:, 2] * np.clip(a + along * step_a, -1, 1)
            ys[:n] = chart[:, 1] + chart[:, 3] * np.clip(b + along * step_b, -1, 1)
            cv2.accumulate(cv2.remap(self.image, xs.reshape(rows, _ROW), ys.reshape(rows, _ROW),
                                     cv2.INTER_LINEAR), total)
        if n_taps > 1:
            total *= np.float32(1 / n_taps)
        return total.reshape(-1, 3)[:n]


def _pack(shapes: Sequence[Tuple[int, int]]) -> Tuple[List[Tuple[int, int]], Tuple[int, int]]:
    """Place rectangles with gutters on shelves; return (row, col) of each and the total shape.

    Raises ``ValueError`` when they do not fit the largest image that can be sampled.
    """
    padded = [(h + 2 * _GUTTER, w + 2 * _GUTTER) for h, w in shapes]
    area = sum(h * w for h, w in padded)
    width = max(max(w for _, w in padded), min(_MAX_SIDE, int(1.1 * area ** 0.5)))
    places: List[Tuple[int, int]] = [(0, 0)] * len(padded)
    row, col, shelf = 0, 0, 0
    for i in sorted(range(len(padded)), key=lambda i: padded[i], reverse=True):
        h, w = padded[i]
        if col + w > width:
            row, col, shelf = row + shelf, 0, 0
        places[i] = (row, col)
        col += w
        shelf = max(shelf, h)
    if max(width, row + shelf) > _MAX_SIDE:
        raise ValueError(f'Atlas: {len(shapes)} textures of {area} texels do not fit '
                         f'{_MAX_SIDE}x{_MAX_SIDE}; use a larger texel')
    return places, (row + shelf, width)
