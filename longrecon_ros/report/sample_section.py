"""The part of the page that shows depth and confidence beside their images."""

from ..evaluation import Evaluation
from ..types import FrameState
from .pictures import (
    confidence_legend,
    confidence_picture,
    data_uri,
    depth_legend,
    depth_picture,
    depth_range,
    error_legend,
    error_picture,
)
from .record import RunRecord, Sample


def render(record: RunRecord, evaluation: Evaluation | None) -> list[str]:
    """Return the section as HTML; none when no pixel has a depth."""
    samples = record.statistics.samples
    limits = depth_range(samples)
    if limits is None:
        return []
    scale, unit = 1.0, 'm' if record.is_metric else 'units'
    if evaluation is not None:
        scale, unit = evaluation.scale, 'm'
    elif record.statistics.depth is not None and record.statistics.depth.n_confident:
        scale, unit = record.statistics.depth.median_scale, 'm'
    has_truth = any(sample.true_depth is not None for sample in samples)
    legends = [('depth', *depth_legend(limits, scale, unit)),
               ('confidence', *confidence_legend())]
    if has_truth:
        legends.append(('error of depth against the truth', *error_legend()))
    columns = 3 + has_truth
    start_ns = record.trajectory.stamps_ns[0]
    figures = ''.join(_row(sample, limits, scale, columns, start_ns) for sample in samples)
    bars = ''.join(_legend(*entry) for entry in legends)
    return [f'<section><h2>Depth and confidence</h2><div class="bars">{bars}</div>{figures}'
            '</section>']


def _row(sample: Sample, limits: tuple[float, float], scale: float, columns: int,
         start_ns: int) -> str:
    pictures = [('image', sample.rgb), ('depth', depth_picture(sample, limits)),
                ('confidence', confidence_picture(sample))]
    if sample.true_depth is not None:
        pictures.append(('error', error_picture(sample, scale)))
    images = ''.join(f'<img src="{data_uri(picture)}" alt="{name}" title="{name}">'
                     for name, picture in pictures)
    state = FrameState(sample.state)
    remark = '' if state == FrameState.TRACKED else f', {state.name.lower().replace("_", " ")}'
    return (f'<figure class="samples" style="grid-template-columns: repeat({columns}, 1fr)">'
            f'<figcaption>frame {sample.frame_id}, {(sample.stamp_ns - start_ns) / 1e9:.2f} s'
            f'{remark}</figcaption>{images}</figure>')


def _legend(name: str, bar: str, labels: list[str]) -> str:
    marks = ''.join(f'<span>{label}</span>' for label in labels)
    return f'<div>{name}<img src="{bar}" alt=""><p>{marks}</p></div>'
