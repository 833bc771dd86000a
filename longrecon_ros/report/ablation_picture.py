"""One picture of an ablation: what layer-wise alignment mends in a frame, and over all frames."""

from pathlib import Path

import cv2
import numpy as np

from ..evaluation.ablation import AblationResult
from ..evaluation.frame_samples import FrameSample
from .ablation_table import AblationRecord
from .canvas import Canvas, Color, FAINT, fit_text, INK, text_width
from .curves import Curve, draw_curves

_PANEL, _GAP, _MARGIN = 620, 28, 56
_TITLE, _CAPTION, _LEGEND, _CURVES = 96, 34, 78, 330
_COLORS: dict[str, Color] = {'none': (96, 99, 106), 'se3': (92, 172, 226),
                             'sim3': (222, 120, 20), 'layers': (0, 134, 98),
                             'published': (178, 92, 150)}
_LAYER_COLORS: tuple[Color, ...] = (
    (88, 150, 222), (245, 170, 66), (110, 196, 120), (206, 110, 190), (232, 98, 92),
    (72, 196, 198), (240, 222, 96), (160, 130, 236), (178, 140, 100), (246, 160, 186))
_UNKNOWN: Color = (205, 208, 213)
_LOW, _MIDDLE, _HIGH = (33, 82, 163), (250, 249, 247), (178, 24, 38)
_LIMITS_PERCENT = (2, 5, 10, 15, 20, 30, 50, 100)
_N_FACTORS = 9
_ALARM: Color = (176, 32, 24)


def write_picture(path: Path, record: AblationRecord) -> None:
    """Write `draw` as PNG; raises OSError when it cannot be written."""
    data = cv2.imencode('.png', cv2.cvtColor(draw(record), cv2.COLOR_RGB2BGR))[1]
    path.write_bytes(data.tobytes())


def draw(record: AblationRecord) -> np.ndarray:
    """Return the picture (h, w, 3) uint8 RGB of the first run of the record."""
    run = record.runs[0]
    sample = choose_sample(run)
    panel_height = round(_PANEL * sample.rgb.shape[0] / sample.rgb.shape[1])
    width = 2 * _MARGIN + 2 * _PANEL + _GAP
    rows = _TITLE + 2 * (_CAPTION + panel_height + _GAP) + _LEGEND
    canvas = Canvas(width, rows + _CURVES + 100)
    _draw_title(canvas, record, sample, width)
    errors = {key: relative_error(run, sample, key) for key in ('sim3', 'layers')}
    limit = error_limit(errors['sim3'])
    y = _TITLE
    _panel(canvas, 0, y, panel_height, 'image', sample.rgb)
    _panel(canvas, 1, y, panel_height, 'depth layers, and what each was multiplied by',
           layer_picture(sample))
    _draw_factors(canvas, sample, _left(1), y + _CAPTION, panel_height)
    y += _CAPTION + panel_height + _GAP
    for column, (key, error) in enumerate(errors.items()):
        name = run.of(key).variant.name
        _panel(canvas, column, y, panel_height,
               f'{name}: depth error, mean {_mean_percent(error)}', error_picture(error, limit))
    y += _CAPTION + panel_height
    _draw_legend(canvas, y + 22, width, limit)
    y = rows
    canvas.text(_MARGIN, y, 'mean depth error of every frame (AbsRel), one scale for the run', 14)
    curves = [Curve(result.variant.name, 100 * result.absrel_by_frame,
                    _COLORS.get(result.variant.key, INK), result.variant.key == 'se3')
              for result in run.variants]
    draw_curves(canvas, _MARGIN + 34, y + 22, width - 2 * _MARGIN - 34, _CURVES, curves,
                sample.number)
    return canvas.finished()


def choose_sample(run: AblationResult) -> FrameSample:
    """Return the kept frame whose gain by layers is nearest the 75 % quantile of all frames.

    So the picture shows a gain that is clear and that every fourth frame exceeds. Frames without
    layers (those of the first window) are taken only when there is no other.
    """
    gain = run.of('sim3').absrel_by_frame - run.of('layers').absrel_by_frame
    wanted = np.nanquantile(gain, 0.75)
    usable = [sample for sample in run.samples if np.isfinite(gain[sample.number])]
    with_layers = [sample for sample in usable if sample.layers is not None]
    return min(with_layers or usable, key=lambda sample: abs(gain[sample.number] - wanted))


def relative_error(run: AblationResult, sample: FrameSample, key: str) -> np.ndarray:
    """Return predicted over true depth - 1 (h, w) f32 with the scale of the run; NaN unknown."""
    return np.float32(run.of(key).sequence_scale) * sample.ratios[key].astype(np.float32) - 1


def error_limit(error: np.ndarray) -> float:
    """Return the end of the color scale: a round number above 90 % of the errors."""
    known = np.abs(error[np.isfinite(error)])
    reach = 100 * float(np.quantile(known, 0.9)) if len(known) else 0.0
    return next((limit for limit in _LIMITS_PERCENT if limit >= reach),
                _LIMITS_PERCENT[-1]) / 100


def error_picture(error: np.ndarray, limit: float) -> np.ndarray:
    """Return signed errors in colors: blue too near, white right, red too far, grey unknown."""
    share = np.clip(np.nan_to_num(error) / limit, -1, 1)[..., None]
    ends = np.where(share < 0, np.array(_LOW, np.float32), np.array(_HIGH, np.float32))
    middle = np.array(_MIDDLE, np.float32)
    rgb = np.round(middle + np.abs(share) * (ends - middle)).astype(np.uint8)
    rgb[~np.isfinite(error)] = _UNKNOWN
    return rgb


def layer_picture(sample: FrameSample) -> np.ndarray:
    """Return the image in grey, every layer in a color of its own."""
    grey = cv2.cvtColor(sample.rgb, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    if sample.layers is None:
        return np.repeat(np.round(grey), 3, axis=-1).astype(np.uint8)
    _, number, counts = np.unique(sample.layers, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(-counts, kind='stable'))
    colors = np.array(_LAYER_COLORS, np.float32)[rank % len(_LAYER_COLORS)]
    mixed = colors[number.reshape(sample.layers.shape)] * (0.35 + 0.65 * grey / 255)
    return np.round(mixed).astype(np.uint8)


def place_factors(sample: FrameSample, width: int) -> list[tuple[float, float, str]]:
    """Return (x, y, factor) of the larger layers in a picture ``width`` px wide.

    Each is written where its layer has most room; one without room, or in the way of that of a
    larger layer, is left out.
    """
    labels, counts = np.unique(sample.layers, return_counts=True)
    scale = width / sample.layers.shape[1]
    placed: list[tuple[float, float, str]] = []
    for label in labels[np.argsort(-counts, kind='stable')][:_N_FACTORS]:
        mask = np.pad((sample.layers == label).astype(np.uint8), 1)
        room = cv2.distanceTransform(mask, cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = np.unravel_index(int(room.argmax()), room.shape)
        words = f'{float(sample.factors[row, column]):.3f}'
        half = text_width(words, 13) / 2 + 4
        x, y = min(max(scale * column, half), width - half), scale * row
        is_free = all(abs(x - other[0]) > 2 * half or abs(y - other[1]) > 20 for other in placed)
        if is_free and scale * room[row, column] > 11:
            placed.append((x, y, words))
    return placed


def _draw_factors(canvas: Canvas, sample: FrameSample, left: int, top: int, height: int) -> None:
    white = (255, 255, 255)
    if sample.layers is None:
        canvas.text(left + _PANEL / 2, top + height / 2, 'no layers in this frame', 16, white,
                    'middle', INK)
        return
    for x, y, words in place_factors(sample, _PANEL):
        canvas.text(left + x, top + y + 6, words, 13, white, 'middle', INK)


def _draw_title(canvas: Canvas, record: AblationRecord, sample: FrameSample, width: int) -> None:
    room = width - 2 * _MARGIN
    canvas.text(_MARGIN, 44, 'What a scale for every depth layer mends', 21)
    about = (f'frame {sample.number}, whose gain every fourth frame exceeds; {record.source}, '
             f'backbone {record.config.backbone}')
    canvas.text(_MARGIN, 74, fit_text(about, 12, room), 12, FAINT)
    if record.is_simulated:
        words = 'SIMULATED predictions: truth with artificial faults'
        canvas.text(width - _MARGIN, 44, words, 14, _ALARM, 'right')


def _panel(canvas: Canvas, column: int, y: int, height: int, caption: str,
           rgb: np.ndarray) -> None:
    canvas.text(_left(column), y + 22, fit_text(caption, 14, _PANEL), 14)
    canvas.picture(_left(column), y + _CAPTION, rgb, _PANEL, height)


def _left(column: int) -> int:
    return _MARGIN + column * (_PANEL + _GAP)


def _draw_legend(canvas: Canvas, y: int, width: int, limit: float) -> None:
    """Draw the color bar of the error pictures."""
    bar = 420
    left = (width - bar) // 2
    ramp = np.repeat(np.linspace(-limit, limit, 2 * bar, dtype=np.float32)[None], 14, axis=0)
    canvas.picture(left, y, error_picture(ramp, limit), bar, 14)
    for share, words in ((-1, f'-{100 * limit:g} %'), (-0.5, f'-{50 * limit:g} %'), (0, '0'),
                         (0.5, f'+{50 * limit:g} %'), (1, f'+{100 * limit:g} %')):
        canvas.text(left + bar * (1 + share) / 2, y + 32, words, 11, FAINT, 'middle')
    canvas.text(left - 48, y + 12, 'too near', 12, _LOW, 'right')
    canvas.text(left + bar + 48, y + 12, 'too far', 12, _HIGH)
    canvas.box(width - _MARGIN - 150, y, 14, 14, _UNKNOWN)
    canvas.text(width - _MARGIN - 128, y + 12, 'not compared', 12, FAINT)


def _mean_percent(error: np.ndarray) -> str:
    return f'{100 * np.nanmean(np.abs(error)):.1f} %'
