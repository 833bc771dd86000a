"""Painting of seeded textures: multi-scale, coloured, band-limited, never repeating.

A `Canvas` is one face of a world, in metres from its upper left corner. What is painted on it is
smoothed to the band limit at the end, so that bilinear sampling does not alias.
"""

from typing import Callable, Tuple

import cv2
import numpy as np

Color = Tuple[float, float, float]

_BAND_LIMIT_TEXELS = 0.7


def fractal_noise(rng: np.random.Generator, height: int, width: int, coarsest_px: int = 128,
                  persistence: float = 0.8) -> np.ndarray:
    """Return (height, width) f32 noise of about unit deviation, one octave a factor of two.

    Octaves reach from about ``coarsest_px`` down to a grid of 2 px; each is ``persistence`` times
    as strong as the next coarser one.
    """
    spacing = 2 ** max(1, round(np.log2(coarsest_px)))
    rows, cols = -(-height // spacing) + 1, -(-width // spacing) + 1
    noise = rng.standard_normal((rows, cols), dtype=np.float32)
    amplitude, power = 1.0, 1.0
    while spacing > 2:
        spacing //= 2
        amplitude *= persistence
        power += amplitude * amplitude
        rows, cols = 2 * rows, 2 * cols
        noise = cv2.resize(noise, (cols, rows), interpolation=cv2.INTER_LINEAR)
        rows, cols = min(rows, -(-height // spacing) + 1), min(cols, -(-width // spacing) + 1)
        noise = noise[:rows, :cols] + amplitude * rng.standard_normal(
            (rows, cols), dtype=np.float32)
    noise = cv2.resize(np.ascontiguousarray(noise), (2 * cols, 2 * rows),
                       interpolation=cv2.INTER_LINEAR)
    return noise[:height, :width] / np.float32(np.sqrt(power))


class Canvas:
    """One face to paint on: ``image`` is (h, w, 3) f32 RGB in 0..255."""

    def __init__(self, rng: np.random.Generator, width_m: float, height_m: float,
                 texel_m: float):
        self.rng = rng
        self.width_m, self.height_m = width_m, height_m
        self.w = max(4, round(width_m / texel_m))
        self.h = max(4, round(height_m / texel_m))
        self.image = np.zeros((self.h, self.w, 3), np.float32)

    def px(self, x_m: float, y_m: float) -> Tuple[int, int]:
        """Return the texel (column, row) at a place in metres."""
        return round(x_m / self.width_m * self.w), round(y_m / self.height_m * self.h)

    def fill(self, color: Color) -> None:
        """Paint everything."""
        self.image[:] = color

    def rect(self, x_m: float, y_m: float, width_m: float, height_m: float,
             color: Color) -> None:
        """Paint a rectangle given by its upper left corner and size."""
        (c0, r0), (c1, r1) = self.px(x_m, y_m), self.px(x_m + width_m, y_m + height_m)
        self.image[max(r0, 0):max(r1, 0), max(c0, 0):max(c1, 0)] = color

    def line(self, start_m, end_m, width_m: float, color: Color) -> None:
        """Paint a straight line between two places."""
        thickness = max(1, round(width_m / self.width_m * self.w))
        cv2.line(self.image, self.px(*start_m), self.px(*end_m), color, thickness)

    def disc(self, x_m: float, y_m: float, radius_m: float, color: Color) -> None:
        """Paint a filled circle."""
        radius = max(1, round(radius_m / self.width_m * self.w))
        cv2.circle(self.image, self.px(x_m, y_m), radius, color, -1)

    def scatter(self, x_m: np.ndarray, y_m: np.ndarray, radius_m: np.ndarray,
                colors: np.ndarray) -> None:
        """Paint many filled circles: (n,) places and radii, (n, 3) colours."""
        columns = np.rint(x_m / self.width_m * self.w).astype(int).tolist()
        rows = np.rint(y_m / self.height_m * self.h).astype(int).tolist()
        radii = np.maximum(1, np.rint(radius_m / self.width_m * self.w)).astype(int).tolist()
        for column, row, radius, color in zip(columns, rows, radii, colors.tolist()):
            cv2.circle(self.image, (column, row), radius, color, -1)

    def grain(self, contrast: float, coarsest_m: float = 1.0, persistence: float = 0.8,
              chroma: float = 0.25) -> None:
        """Multiply by fractal noise; ``contrast`` is its relative deviation.

        ``chroma`` is the share of it that differs between the colour channels.
        """
        coarsest_px = max(4, round(coarsest_m / self.width_m * self.w))
        noise = fractal_noise(self.rng, self.h, self.w, coarsest_px, persistence)
        for channel in range(3):
            tint = fractal_noise(self.rng, -(-self.h // 4), -(-self.w // 4),
                                 max(4, coarsest_px // 4), persistence)
            tint = cv2.resize(tint, (self.w, self.h), interpolation=cv2.INTER_LINEAR)
            self.image[..., channel] *= np.exp(
                contrast * ((1 - chroma) * noise + chroma * tint))

    def shade_down(self, strength: float, reach_m: float) -> None:
        """Darken towards the lower edge, as where a wall meets the floor."""
        to_floor_m = self.height_m * (1 - (np.arange(self.h) + 0.5) / self.h)
        factor = 1 - strength * np.exp(-to_floor_m / reach_m)
        self.image *= factor.astype(np.float32)[:, None, None]

    def finish(self) -> np.ndarray:
        """Return the band-limited (h, w, 3) uint8 texture."""
        smooth = cv2.GaussianBlur(self.image, (0, 0), _BAND_LIMIT_TEXELS,
                                  borderType=cv2.BORDER_REPLICATE)
        return np.clip(np.rint(smooth), 0, 255).astype(np.uint8)


Paint = Callable[[Canvas], None]
"""What covers a face: a function that paints a whole `Canvas`."""
