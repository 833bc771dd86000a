"""The tables of the page: time a stage, all errors, configuration, versions."""

from collections.abc import Iterable
from html import escape
from typing import Any

from .record import RunRecord


def render(record: RunRecord, summary: dict[str, Any]) -> list[str]:
    """Return the sections as HTML."""
    config = [(key, str(value)) for key, value in summary['config'].items()]
    versions = [(name, value or 'not installed') for name, value in summary['versions'].items()]
    return [
        f'<div class="columns">{_timings(record, summary)}{_errors(summary)}'
        f'{_section("Configuration", _facts(config))}{_section("Versions", _facts(versions))}'
        '</div>']


def _timings(record: RunRecord, summary: dict[str, Any]) -> str:
    rows = ''.join(
        f'<tr><td>{escape(stage)}</td><td>{t["total"] / 1e3:.2f}</td>'
        f'<td>{t["per_frame"]:.2f}</td><td class="share"><i style="width:{100 * t["share"]:.1f}%">'
        '</i></td></tr>' for stage, t in summary['timings_ms'].items())
    slowest = max((w.total_ms for w in record.statistics.windows), default=0.0)
    head = '<tr><th>stage</th><th>total, s</th><th>a frame, ms</th><th>share</th></tr>'
    return _section('Time', f'<table>{head}{rows}</table><p class="hint">{record.elapsed_s:.2f} s '
                    f'for {record.n_frames} frames; the slowest window took {slowest:.0f} ms.</p>')


def _errors(summary: dict[str, Any]) -> str:
    """Return the errors against ground truth; empty without."""
    e = summary['evaluation']
    tables = []
    if e:
        rows = [('ATE after Sim(3), m', e['ate_sim3_m']), ('ATE after SE(3), m', e['ate_se3_m']),
                ('RPE a frame, m', e['rpe_frame']['translation_m']),
                ('RPE a frame, °', e['rpe_frame']['rotation_deg'])]
        if e['rpe_metre']:
            rows += [('RPE a metre, m', e['rpe_metre']['translation_m']),
                     ('RPE a metre, °', e['rpe_metre']['rotation_deg'])]
        names = ('rmse', 'median', 'max')
        tables.append(_table(('', *names), (
            (name, *(f'{statistics[key]:.4g}' for key in names)) for name, statistics in rows)))
        drift = e['drift']
        tables.append(_table(('segments of, m', 'drift, %'), (
            (f'{length:.3g}', f'{percent:.3f}')
            for length, percent in zip(drift['lengths_m'], drift['percent_by_length']))))
    if summary['depth_absrel'] is not None:
        own = summary['depth_per_frame_scale']
        names = (('abs rel', 'depth_absrel'), ('median', 'depth_median'),
                 ('within 10 %', 'depth_within_10_percent'),
                 ('within factor 1.25', 'depth_within_factor_1_25'))
        tables.append(_table(('depth, %', 'one scale', 'scale a frame'), (
            (name, f'{100 * summary[key]:.1f}', f'{100 * own[key]:.1f}') for name, key in names)))
    return _section('Errors', '<br>'.join(tables)) if tables else ''


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = ''.join(f'<th>{escape(cell)}</th>' for cell in header)
    body = ''.join('<tr>' + ''.join(f'<td>{escape(cell)}</td>' for cell in row) + '</tr>'
                   for row in rows)
    return f'<table><tr>{head}</tr>{body}</table>'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = ''.join(f'<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>'
                   for name, value in facts)
    return f'<table class="plain">{rows}</table>'


def _section(title: str, content: str) -> str:
    return f'<section><h2>{title}</h2>{content}</section>'
