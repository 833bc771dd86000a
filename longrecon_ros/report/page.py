"""The result page: one HTML file that needs nothing else."""

from html import escape
from importlib import resources
from typing import Any

from ..evaluation import Evaluation
from . import map_section, sample_section, table_section, trajectory_section
from .findings import labels
from .record import RunRecord


def render_page(record: RunRecord, evaluation: Evaluation | None,
                summary: dict[str, Any]) -> str:
    """Return the page of a run as HTML; ``summary`` is that of `summary.summarise`."""
    style = resources.files(__package__).joinpath('page.css').read_text(encoding='utf-8')
    title = f'longrecon: {record.source}'
    parts = [
        f'<h1>{_headline(summary)}</h1>',
        f'<p class="sub">{escape(record.source)}</p>',
        _cards(summary),
        _notes(summary['warnings']),
        *trajectory_section.render(record, evaluation, summary),
        *map_section.render(record),
        *sample_section.render(record, evaluation),
        *table_section.render(record, summary),
    ]
    body = '\n'.join(part for part in parts if part)
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(title)}</title><style>\n{style}</style></head>\n'
            f'<body><main>\n{body}\n</main></body></html>\n')


def _headline(summary: dict[str, Any]) -> str:
    length = f'{summary["path_length_m"]:.4g} {unit_name(summary)}'
    kind = ''.join(f'{label}: ' for label in labels(summary))
    return f'{kind}{summary["poses"]} poses over {length}'


def _cards(summary: dict[str, Any]) -> str:
    unit = unit_name(summary)
    cards = [(f'{summary["frames"]}', 'frames', f'{summary["fps"] or 0:.1f} a second'),
             (f'{summary["path_length_m"]:.4g} {unit}', 'path length', _true_length(summary))]
    if summary['ate_sim3_m'] is not None:
        cards += [(f'{summary["ate_sim3_m"]:.3g} m', 'trajectory error (ATE, rmse)',
                   f'{summary["ate_sim3_percent"]:.2f} % of the path, after Sim(3)'),
                  (f'{summary["drift_percent"]:.2f} %', 'drift',
                   f'{summary["drift_deg_per_m"]:.3g}° a metre')]
    if summary['coverage'] is not None:
        cards.append((f'{100 * summary["coverage"]:.0f} %', 'coverage',
                      f'confidence over 0.5, of {summary["coverage_of"]}'))
    if summary['depth_absrel'] is not None:
        cards.append((f'{100 * summary["depth_absrel"]:.1f} %', 'depth error (abs rel)',
                      f'{100 * summary["depth_within_10_percent"]:.0f} % of pixels within 10 %'))
    cards += [(f'{summary["n_lost"]}', 'frames lost',
               f'{summary["n_unlinked"]} of {summary["n_windows"]} windows unlinked'),
              (f'{summary["map_points"]:,}'.replace(',', ' '), 'points in the map', '')]
    return '<div class="cards">' + ''.join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span>'
        f'<small>{escape(remark)}</small></div>' for value, name, remark in cards) + '</div>'


def _true_length(summary: dict[str, Any]) -> str:
    true_m = summary['gt_path_length_m']
    return '' if true_m is None else f'{true_m:.4g} m by ground truth'


def _notes(warnings: list[str]) -> str:
    if not warnings:
        return ''
    return '<ul class="notes">' + ''.join(f'<li>{escape(w)}</li>' for w in warnings) + '</ul>'


def unit_name(summary: dict[str, Any]) -> str:
    """Return the unit of lengths on the page: ``m`` or ``units``."""
    return 'units' if summary['length_unit'] == 'odom' else 'm'
