"""A picture to draw on in whole pixels, smooth because it is drawn twice as large."""

from typing import Literal

import cv2
import numpy as np

Color = tuple[int, int, int]
"""RGB."""

INK: Color = (32, 36, 43)
FAINT: Color = (122, 128, 138)
RULE: Color = (222, 225, 230)

_FINE = 2
_FONT = cv2.FONT_HERSHEY_DUPLEX


class Canvas:
    """White paper; coordinates are px of the finished picture, y down."""

    def __init__(self, width: int, height: int):
        self._fine = np.full((_FINE * height, _FINE * width, 3), 255, np.uint8)

    def finished(self) -> np.ndarray:
        """Return the picture (height, width, 3) uint8 RGB."""
        h, w = self._fine.shape[:2]
        return cv2.resize(self._fine, (w // _FINE, h // _FINE), interpolation=cv2.INTER_AREA)

    def text(self, x: float, y: float, words: str, size_px: float = 15, color: Color = INK,
             anchor: Literal['left', 'middle', 'right'] = 'left',
             halo: Color | None = None) -> None:
        """Write one line of ASCII text; y is its base line, ``size_px`` the height of capitals.

        ``halo`` is the color of an outline that keeps text readable on a picture.
        """
        shift = {'left': 0.0, 'middle': 0.5, 'right': 1.0}[anchor] * text_width(words, size_px)
        at = self._point(x - shift, y)
        if halo is not None:
            cv2.putText(self._fine, words, at, _FONT, _FINE * _scale(size_px), halo,
                        5 * _FINE // 2, cv2.LINE_AA)
        cv2.putText(self._fine, words, at, _FONT, _FINE * _scale(size_px), color,
                    _weight(size_px), cv2.LINE_AA)

    def line(self, points: np.ndarray, color: Color, width_px: float = 1.0) -> None:
        """Draw a line through (P, 2) points; breaks at points that are not finite."""
        fine = np.asarray(points, np.float64) * _FINE
        is_finite = np.isfinite(fine).all(axis=1)
        for run in np.split(np.arange(len(fine)), np.flatnonzero(np.diff(is_finite)) + 1):
            if len(run) and is_finite[run[0]]:
                # four more bits keep slow curves smooth
                cv2.polylines(self._fine, [np.round(fine[run] * 16).astype(np.int32)], False,
                              color, max(1, round(_FINE * width_px)), cv2.LINE_AA, 4)

    def box(self, x: float, y: float, width: float, height: float, color: Color) -> None:
        """Fill a rectangle."""
        (left, top), (right, bottom) = self._point(x, y), self._point(x + width, y + height)
        self._fine[top:bottom, left:right] = color

    def picture(self, x: int, y: int, rgb: np.ndarray, width: int, height: int) -> None:
        """Put an RGB image there at the given size; pixels are not mixed when enlarged."""
        size = _FINE * width, _FINE * height
        way = cv2.INTER_NEAREST if rgb.shape[1] < size[0] else cv2.INTER_AREA
        left, top = self._point(x, y)
        self._fine[top:top + size[1], left:left + size[0]] = cv2.resize(
            np.ascontiguousarray(rgb), size, interpolation=way)

    def _point(self, x: float, y: float) -> tuple[int, int]:
        return round(_FINE * x), round(_FINE * y)


def text_width(words: str, size_px: float) -> float:
    """Return how wide a line of text is, px."""
    size = cv2.getTextSize(words, _FONT, _FINE * _scale(size_px), _weight(size_px))[0]
    return size[0] / _FINE


def fit_text(words: str, size_px: float, width_px: float) -> str:
    """Return the text, cut with dots at the end where it is too wide."""
    if text_width(words, size_px) <= width_px:
        return words
    while words and text_width(words + ' ...', size_px) > width_px:
        words = words[:-1]
    return words.rstrip() + ' ...'


def _scale(size_px: float) -> float:
    """Return the font scale whose capitals are ``size_px`` high."""
    return size_px / 21.0


def _weight(size_px: float) -> int:
    """Return the thickness of strokes, px of the fine picture."""
    return 1 if size_px < 12 else 2 if size_px < 18 else 3
