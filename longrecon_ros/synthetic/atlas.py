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

    Places on a texture are given in its texels, from its centre. ``charts[i * n_levels + level]``
    says where they are at one level of texture ``i``: (x of the centre, y of the centre, scale of
    x, scale of y) in texels of the atlas.
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
            full_h, full_w = textures[slot // self.n_levels].shape[:2]
            self.charts[slot] = (col + _GUTTER + (w - 1) / 2, row + _GUTTER + (h - 1) / 2,
                                 w / full_w, h / full_h)
        self.coarsest = np.array([len(levels) - 1 for levels in pyramids], np.float32)

    def sample(self, ids: np.ndarray, s: np.ndarray, t: np.ndarray, step_s: np.ndarray,
               step_t: np.ndarray, n_taps: int, level: np.ndarray) -> np.ndarray:
        """Return (n, 3) f32 colours, filtered along a line and between two mipmap levels.

        ``s, t`` (n,) are places on the textures ``ids``; ``n_taps`` samples are spread evenly
        over the segment ``step_s, step_t`` centred there; ``level`` is the fractional mipmap
        level.
        """
        coarsest = self.coarsest[ids]
        if (level > coarsest).any():
            # a texture smaller than the footprint: taps must not leave its gutter
            shrink = np.exp2(np.minimum(coarsest - level, 0))
            step_s, step_t = step_s * shrink, step_t * shrink
        level = np.clip(level, 0, coarsest)
        lower = level.astype(np.int32)
        slots = ids * self.n_levels + lower
        color = self._average(slots, s, t, step_s, step_t, n_taps)
        blend = level - lower
        between = np.flatnonzero(blend)
        if len(between):
            coarse = self._average(slots[between] + 1, *(
                v[between] for v in (s, t, step_s, step_t)), n_taps)
            fine = color[between]
            coarse -= fine
            coarse *= blend[between, None]
            coarse += fine
            color[between] = coarse
        return color

    def _average(self, slots, s, t, step_s, step_t, n_taps) -> np.ndarray:
        """Mean of bilinear samples along a segment of one mipmap level, (n, 3) f32."""
        n = len(slots)
        rows = -(-n // _ROW)
        total = np.zeros((rows, _ROW, 3), np.float32)
        xs, ys = np.zeros((2, rows * _ROW), np.float32)
        x0, y0, scale_x, scale_y = np.take(self.charts, slots, axis=0).T
        x, y = x0 + scale_x * s, y0 + scale_y * t
        step_x, step_y = scale_x * step_s, scale_y * step_t
        for tap in range(n_taps):
            along = np.float32((tap + 0.5) / n_taps - 0.5)
            np.add(x, along * step_x, out=xs[:n])
            np.add(y, along * step_y, out=ys[:n])
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
