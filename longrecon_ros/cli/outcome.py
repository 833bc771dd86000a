"""What a run prints at its end."""

from pathlib import Path
from typing import Any

from ..report.findings import labels
from .tables import print_facts, print_table

_BACK_END = ('align', 'map', 'loop')


def print_outcome(summary: dict[str, Any], out: Path, has_report: bool = True) -> None:
    """Print the figures of a run that a user wants to see first.

    ``summary`` is that of ``result.json``; ``out`` is the folder of the results.
    """
    unit = 'odom units' if summary['length_unit'] == 'odom' else 'm'
    facts = [('frames', f'{summary["frames"]} in {summary["elapsed_s"]:.1f} s, '
              f'{summary["fps"]:.1f} a second'),
             ('path', f'{summary["path_length_m"]:.4g} {unit}'),
             ('lost', f'{summary["n_lost"]} frames, {summary["n_unlinked"]} of '
              f'{summary["n_windows"]} windows unlinked'),
             ('map', f'{summary["map_points"]} points, coverage {_share(summary["coverage"])}'),
             *_closures(summary), *_against_truth(summary)]
    for label in labels(summary):
        facts.insert(0, ('backbone', f'{summary["backbone"]} ({label})'))
    facts += [('note', warning) for warning in summary['warnings']]
    facts.append(('results', str(out / 'report.html' if has_report else out)))
    print_facts(facts)


def print_profile(summary: dict[str, Any]) -> None:
    """Print what each stage took, ms a frame, and the back end: all but reading and inference."""
    stages = {stage: found['per_frame'] for stage, found in summary['timings_ms'].items()}
    rows = [(stage, f'{ms:.2f}') for stage, ms in stages.items()]
    back_end = sum(stages.get(stage, 0.0) for stage in _BACK_END)
    print()
    print_table(('stage', 'ms/frame'), [*rows, ('back end', f'{back_end:.2f}')])


def _closures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    n, before = summary['n_closures'], summary['ate_sim3_before_closures_m']
    if not n:
        return []
    said = '' if before is None else f'; ATE before: {before:.4g} m'
    return [('loops', f'{n} closure{"s" * (n != 1)}{said}')]


def _against_truth(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the errors that were measured."""
    facts = []
    if summary['ate_sim3_m'] is not None:
        facts += [('ATE', f'{summary["ate_sim3_m"]:.4g} m after Sim(3) '
                   f'({summary["ate_sim3_percent"]:.2f} % of the path), '
                   f'{summary["ate_se3_m"]:.4g} m after SE(3)'),
                  ('drift', f'{summary["drift_percent"]:.2f} %')]
    if summary['link_scale_bias_percent'] is not None:
        facts.append(('links', f'scale bias {summary["link_scale_bias_percent"]:+.2f} % a link, '
                      f'spread {summary["link_scale_spread_percent"]:.2f} %'))
    if summary['depth_absrel'] is not None:
        facts.append(('depth', f'abs rel {_share(summary["depth_absrel"])}, '
                      f'{_share(summary["depth_within_10_percent"])} of pixels within 10 %'))
    return facts


def _share(value: float | None) -> str:
    return 'unknown' if value is None else f'{100 * value:.1f} %'
