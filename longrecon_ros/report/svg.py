"""Line plots as SVG text; colours are CSS classes, so that pages can be light or dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
import math

import numpy as np

WIDTH = 720
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 14, 12, 40
_MAX_POINTS = 1500


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One curve: (P, 2) points, its CSS class, and its name in the legend; NaN breaks it."""

    points: np.ndarray
    css: str
    name: str = ''
    is_dots: bool = False


def plot(lines: Sequence[Line], x_label: str, y_label: str, height: int = 240,
         y_from_zero: bool = False) -> str:
    """Return a plot that fills its width, each axis with its own scale."""
    low, high = _bounds(lines)
    if y_from_zero:
        low[1] = min(0.0, low[1])
    pad = 0.05 * (high[1] - low[1])
    high[1] += pad
    low[1] -= 0 if y_from_zero and low[1] == 0 else pad
    return _figure(lines, low, high, height, x_label, y_label)


def map_plot(lines: Sequence[Line], x_label: str, y_label: str, max_height: int = 560) -> str:
    """Return a plot with one scale on both axes, as high as the data want."""
    low, high = _bounds(lines)
    low, high = low - 0.04 * (high - low).max(), high + 0.04 * (high - low).max()
    inner = WIDTH - _LEFT - _RIGHT
    per_px = max((high[0] - low[0]) / inner, (high[1] - low[1]) / (max_height - _TOP - _BOTTOM))
    shown = np.array([inner, max((high[1] - low[1]) / per_px, 90.0)]) * per_px
    centre = (low + high) / 2
    return _figure(lines, centre - shown / 2, centre + shown / 2,
                   round(shown[1] / per_px) + _TOP + _BOTTOM, x_label, y_label)


def legend(lines: Sequence[Line]) -> str:
    """Return the names of curves with their colours, as HTML."""
    items = (f'<span class="key {line.css}">{escape(line.name)}</span>'
             for line in lines if line.name)
    return f'<p class="legend">{"".join(items)}</p>'


def ticks(low: float, high: float, n: int) -> list[float]:
    """Return about ``n`` round numbers between two bounds."""
    raw = (high - low) / max(1, n)
    if not raw > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(math.log(factor * power / raw)))
    first = math.ceil(low / step - 1e-9)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _bounds(lines: Sequence[Line]) -> tuple[np.ndarray, np.ndarray]:
    everything = np.concatenate([np.asarray(line.points, float) for line in lines])
    everything = everything[np.isfinite(everything).all(axis=1)]
    if not len(everything):
        return np.zeros(2), np.ones(2)
    low, high = everything.min(axis=0), everything.max(axis=0)
    is_flat = high - low < 1e-9 * np.maximum(1, np.abs(high))
    return low - 0.5 * is_flat, high + 0.5 * is_flat


def _figure(lines: Sequence[Line], low: np.ndarray, high: np.ndarray, height: int, x_label: str,
            y_label: str) -> str:
    inner = np.array([WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM])
    scale = inner / (high - low)

    def to_px(points: np.ndarray) -> np.ndarray:
        return np.stack([_LEFT + scale[0] * (points[:, 0] - low[0]),
                         _TOP + inner[1] - scale[1] * (points[:, 1] - low[1])], axis=1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" '
             f'aria-label="{escape(y_label)} over {escape(x_label)}">']
    bottom = _TOP + inner[1]
    for value in ticks(low[0], high[0], 8):
        x = _LEFT + scale[0] * (value - low[0])
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>'
                     f'<text x="{x:.1f}" y="{bottom + 16}" class="mid">{_number(value)}</text>')
    for value in ticks(low[1], high[1], max(2, inner[1] // 45)):
        y = bottom - scale[1] * (value - low[1])
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_LEFT + inner[0]}"/>'
                     f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="end">{_number(value)}</text>')
    parts.append(f'<text x="{_LEFT + inner[0] / 2}" y="{height - 4}" class="mid axis">'
                 f'{escape(x_label)}</text><text class="mid axis" '
                 f'transform="translate(14 {_TOP + inner[1] / 2}) rotate(-90)">'
                 f'{escape(y_label)}</text>')
    parts += [_curve(line, to_px(_thinned(np.asarray(line.points, float)))) for line in lines]
    return ''.join(parts) + '</svg>'


def _curve(line: Line, xy: np.ndarray) -> str:
    title = f'<title>{escape(line.name)}</title>' if line.name else ''
    is_finite = np.isfinite(xy).all(axis=1)
    if line.is_dots:
        xy = xy[is_finite]
        marks = ''.join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in xy)
        return f'<g class="dots {line.css}">{title}{marks}</g>'
    # a line is broken where points are not finite
    pieces = [piece[np.isfinite(piece).all(axis=1)]
              for piece in np.split(xy, np.flatnonzero(~is_finite))]
    path = 'M'.join('L'.join(f'{x:.1f} {y:.1f}' for x, y in piece) for piece in pieces
                    if len(piece))
    return f'<path class="line {line.css}" d="M{path}">{title}</path>' if path else ''


def _thinned(points: np.ndarray) -> np.ndarray:
    """Return at most so many points that the page stays small, first and last among them."""
    if len(points) <= _MAX_POINTS:
        return points
    return points[np.linspace(0, len(points) - 1, _MAX_POINTS).round().astype(int)]


def _number(value: float) -> str:
    return f'{value:.6g}' if abs(value) > 1e-12 else '0'
