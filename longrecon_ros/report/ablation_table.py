"""The figures of an ablation as plain values, and as one table."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..config import as_flat_dict, Config
from ..evaluation.ablation import AblationResult
from ..evaluation.variant_run import VariantResult
from .findings import SIMULATED
from .versions import versions


@dataclass(frozen=True, slots=True, eq=False)
class AblationRecord:
    """What was compared: one run, or one a seed of the simulated faults."""

    source: str                             # one line
    config: Config
    is_simulated: bool
    runs: tuple[AblationResult, ...]        # at least one
    seeds: tuple[int, ...] = ()             # one a run; empty: the backbone has none


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a variant."""

    key: str
    title: str
    meaning: str
    of: Callable[[VariantResult], float | None]
    digits: int


COLUMNS = (
    Column('ate_m', 'ATE m', 'absolute trajectory error after Sim(3), rmse',
           lambda r: r.evaluation.ate_sim3_m.rmse, 4),
    Column('rpe_m', 'RPE m', 'relative pose error from frame to frame after Sim(3), rmse',
           lambda r: r.evaluation.rpe_frame.translation_m.rmse, 4),
    Column('rpe_deg', 'RPE deg', 'its rotation, rmse',
           lambda r: r.evaluation.rpe_frame.rotation_deg.rmse, 3),
    Column('absrel_percent', 'AbsRel %', 'mean relative depth error with one scale for the run, '
           'that of the median', lambda r: 100 * r.depth.absrel, 2),
    # the scale of the run hides depths that have left the scale of the poses; this one shows it
    Column('absrel_by_trajectory_percent', 'by traj %', 'AbsRel with the scale of the Sim(3) of '
           'the trajectory instead', lambda r: 100 * r.depth_by_trajectory.absrel, 2),
    Column('delta_percent', 'd<1.25 %', 'share of pixels whose depth is right within a factor '
           '1.25', lambda r: 100 * r.depth.within_factor_1_25, 1),
    Column('accuracy_m', 'acc m', 'mean distance from reconstructed points to true ones',
           lambda r: r.points and r.points.accuracy_mean_m, 4),
    Column('completeness_m', 'comp m', 'mean distance from true points to reconstructed ones',
           lambda r: r.points and r.points.completeness_mean_m, 4),
    Column('ms_per_frame', 'ms/frame', 'time of the alignment alone',
           lambda r: r.ms_per_frame, 1),
    Column('n_unlinked', 'unlinked', 'windows that could not be aligned',
           lambda r: float(r.n_unlinked), 0),
)


def header() -> list[str]:
    """Return the titles of the table's columns."""
    return ['variant', *(column.title for column in COLUMNS)]


def rows(record: AblationRecord,
         cell: Callable[[Sequence[float | None], int], str]) -> list[list[str]]:
    """Return the table, a row a variant; ``cell`` is `means`, `ranges` or `means_and_ranges`."""
    table = []
    for k, result in enumerate(record.runs[0].variants):
        cells = [[column.of(run.variants[k]) for run in record.runs] for column in COLUMNS]
        table.append([result.variant.name, *(cell(values, column.digits)
                                             for values, column in zip(cells, COLUMNS))])
    return table


def means(values: Sequence[float | None], digits: int) -> str:
    """Return the mean of a figure over the runs; a dash for none."""
    span = _span(values)
    return '-' if span is None else f'{span["mean"]:.{digits}f}'


def ranges(values: Sequence[float | None], digits: int) -> str:
    """Return the lowest and the highest of a figure over the runs; a dash for none."""
    span = _span(values)
    return '-' if span is None else f'{span["min"]:.{digits}f}..{span["max"]:.{digits}f}'


def means_and_ranges(values: Sequence[float | None], digits: int) -> str:
    """Return both in one cell, one number where there is one value only."""
    span = _span(values)
    if span is None or span['min'] == span['max']:
        return means(values, digits)
    return f'{means(values, digits)} ({ranges(values, digits)})'


def layer_gains(record: AblationRecord) -> list[float]:
    """Return AbsRel with layers over AbsRel of Sim(3), one a run whose Sim(3) has an error."""
    pairs = [(run.of('layers').depth.absrel, run.of('sim3').depth.absrel) for run in record.runs]
    return [layers / sim3 for layers, sim3 in pairs if sim3 > 0]


def gain_sentence(record: AblationRecord) -> str | None:
    """Return one sentence on `layer_gains`; None without any."""
    gains = layer_gains(record)
    if not gains:
        return None
    if len(gains) == 1:
        return f'AbsRel with layers is {gains[0]:.2f} times that of Sim(3) alone.'
    each = ', '.join(f'{gain:.2f}' for gain in gains)
    return (f'AbsRel with layers is {np.mean(gains):.2f} times that of Sim(3) alone in the mean '
            f'over {len(gains)} seeds ({each}).')


def as_markdown(record: AblationRecord) -> str:
    """Return the table with what it is about and what its columns mean."""
    run = record.runs[0]
    lines = ['# Alignment of windows: what each step adds', '']
    if record.is_simulated:
        lines += [f'**{SIMULATED}**', '']
    window = record.config.window
    lines += [f'{record.source}: {run.n_frames} frames in {run.n_windows} windows of '
              f'{window.size} that share {window.overlap}, backbone {record.config.backbone}; '
              f'{100 * run.coverage:.1f} % of the pixels with true depth are confident, and all '
              'variants are scored on these.', '']
    lines += [_row(header()), _row(['---'] + ['---:'] * len(COLUMNS)),
              *map(_row, rows(record, means_and_ranges)), '']
    if len(record.runs) > 1:
        lines += [f'Means over {len(record.runs)} seeds, and (lowest..highest).', '']
    sentence = gain_sentence(record)
    lines += [sentence, ''] if sentence else []
    lines += [f'- {column.title}: {column.meaning}' for column in COLUMNS]
    return '\n'.join(lines) + '\n'


def as_dict(record: AblationRecord) -> dict[str, Any]:
    """Return all figures as plain values, for ``ablation.json``."""
    names = [result.variant for result in record.runs[0].variants]
    return {
        'simulated': record.is_simulated,
        'note': SIMULATED if record.is_simulated else None,
        'source': record.source,
        'backbone': record.config.backbone,
        'frames': record.runs[0].n_frames,
        'windows': record.runs[0].n_windows,
        'coverage': record.runs[0].coverage,
        'seeds': record.seeds,
        'absrel_layers_over_sim3': layer_gains(record),
        'variants': [{'key': variant.key, 'name': variant.name,
                      **{column.key: _span([column.of(run.variants[k]) for run in record.runs])
                         for column in COLUMNS},
                      'runs': [_result(run.variants[k]) for run in record.runs]}
                     for k, variant in enumerate(names)],
        'config': as_flat_dict(record.config),
        'versions': versions()}


def _result(r: VariantResult) -> dict[str, Any]:
    e = r.evaluation
    return {
        'ate_m': asdict(e.ate_sim3_m), 'path_length_m': e.path_length_m,
        'rpe_translation_m': asdict(e.rpe_frame.translation_m),
        'rpe_rotation_deg': asdict(e.rpe_frame.rotation_deg),
        'depth_with_sequence_scale': {'scale': r.sequence_scale, **asdict(r.depth)},
        'depth_with_trajectory_scale': {'scale': e.scale, **asdict(r.depth_by_trajectory)},
        'absrel_mean_over_frames': float(np.nanmean(r.absrel_by_frame)),
        'absrel_by_frame': [None if np.isnan(value) else round(value, 6)
                            for value in r.absrel_by_frame.tolist()],
        'points': r.points and {
            **asdict(r.points),
            'accuracy_percent_of_extent': 100 * r.points.accuracy_mean_m / r.points.extent_m,
            'completeness_percent_of_extent':
                100 * r.points.completeness_mean_m / r.points.extent_m},
        'ms_per_frame': r.ms_per_frame, 'n_unlinked': r.n_unlinked}


def _span(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {'mean': float(np.mean(known)), 'min': min(known), 'max': max(known)}


def _row(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'
