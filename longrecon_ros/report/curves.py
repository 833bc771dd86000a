"""Curves over frames with a logarithmic axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Color, FAINT, INK, RULE, text_width

_LABEL_PX = 11
_MAX_POINTS = 400


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Values (F,) of all frames, above 0; NaN leaves a gap."""

    name: str
    values: np.ndarray
    color: Color
    is_dashed: bool = False                 # shows what it covers


def draw_curves(canvas: Canvas, left: int, top: int, width: int, height: int,
                curves: Sequence[Curve], marked: int | None = None) -> None:
    """Draw curves, percent over the number of the frame, with axes and a legend.

    ``marked`` is a frame that gets a vertical line.
    """
    values = np.concatenate([curve.values for curve in curves])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = log_limits(values)
    n = max(len(curve.values) for curve in curves)
    top += 26
    height -= 26

    def x_of(frame):
        return left + width * np.asarray(frame, np.float64) / max(n - 1, 1)

    def y_of(value):
        share = np.log(np.asarray(value, np.float64) / low) / np.log(high / low)
        return top + height * (1 - np.clip(share, 0, 1))

    for tick in log_ticks(low, high):
        y = float(y_of(tick))
        canvas.line(np.array([[left, y], [left + width, y]]), RULE)
        canvas.text(left - 10, y + 5, f'{tick:g} %', _LABEL_PX, FAINT, 'right')
    for tick in linear_ticks(n):
        x = float(x_of(tick))
        canvas.line(np.array([[x, top + height], [x, top + height + 5]]), FAINT)
        canvas.text(x, top + height + 22, str(tick), _LABEL_PX, FAINT, 'middle')
    canvas.text(left + width, top + height + 42, 'frame', _LABEL_PX, FAINT, 'right')
    canvas.line(np.array([[left, top + height], [left + width, top + height]]), FAINT)
    if marked is not None:
        x = float(x_of(marked))
        canvas.line(np.array([[x, top], [x, top + height]]), INK)
    for curve in curves:
        frames, thinned = thin_curve(curve.values)
        with np.errstate(divide='ignore', invalid='ignore'):
            y = np.where(np.isfinite(thinned), y_of(np.maximum(thinned, low)), np.nan)
        points = np.stack([x_of(frames), y], axis=1)
        for piece in dashes(points) if curve.is_dashed else [points]:
            canvas.line(piece, curve.color, 2.5)
    _draw_legend(canvas, left, top - 14, curves)


def log_limits(values: np.ndarray) -> tuple[float, float]:
    """Return limits of a logarithmic axis for values (P,) above 0: the whole range, rounded."""
    if not len(values):
        return 0.1, 10.0
    low, high = float(values.min()), float(values.max())
    steps = [m * 10.0**e for e in range(-6, 7) for m in (1, 2, 5)]
    below = max((s for s in steps if s <= low), default=steps[0])
    above = min((s for s in steps if s >= high), default=steps[-1])
    return below, above if above > below else 10 * below


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2, 5, 10, ... within the limits; powers of ten only when there are many."""
    fine = [m * 10.0**e for e in range(-6, 7) for m in (1, 2, 5)
            if 0.999 * low <= m * 10.0**e <= 1.001 * high]
    coarse = [tick for tick in fine if abs(np.log10(tick) - round(np.log10(tick))) < 1e-9]
    return coarse if len(fine) > 9 and len(coarse) > 1 else fine


def linear_ticks(n: int) -> list[int]:
    """Return at most about ten round frame numbers from 0 to n - 1."""
    step = next(m * 10**e for e in range(9) for m in (1, 2, 5) if n <= 10 * m * 10**e)
    return list(range(0, n, step))


def thin_curve(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frame numbers and values; where there are more than 400, medians of pieces."""
    if len(values) <= _MAX_POINTS:
        return np.arange(len(values)), values
    pieces = np.array_split(np.arange(len(values)), _MAX_POINTS)
    medians = [np.median(known) if len(known := values[piece][np.isfinite(values[piece])])
               else np.nan for piece in pieces]
    return np.array([piece.mean() for piece in pieces]), np.array(medians)


def dashes(points: np.ndarray, length_px: float = 12.0) -> list[np.ndarray]:
    """Return the pieces of a line through (P, 2) points that dashes cover; gaps are as long."""
    steps = np.nan_to_num(np.linalg.norm(np.diff(points, axis=0), axis=1))
    walked = np.concatenate([[0.0], np.cumsum(steps)])
    pieces = []
    for start in np.arange(0.0, walked[-1], 2 * length_px):
        inside = walked[(walked > start) & (walked < start + length_px)]
        at = np.concatenate([[start], inside, [min(start + length_px, walked[-1])]])
        pieces.append(np.stack([np.interp(at, walked, axis) for axis in points.T], axis=1))
    return pieces


def _draw_legend(canvas: Canvas, left: int, y: int, curves: Sequence[Curve]) -> None:
    x = float(left)
    for curve in curves:
        swatch = np.array([[x, y - 5], [x + 28, y - 5]])
        for piece in dashes(swatch) if curve.is_dashed else [swatch]:
            canvas.line(piece, curve.color, 3.5)
        canvas.text(x + 38, y, curve.name, 12)
        x += 38 + text_width(curve.name, 12) + 34
