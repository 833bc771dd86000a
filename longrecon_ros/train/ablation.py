"""The four memories compared: trained alike, tested on ever longer sequences, over seeds."""

from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from .data import Laps
from .evaluate import evaluate, StreamErrors
from .stream import StreamNet
from .variants import Setting, VARIANTS

LENGTHS = MappingProxyType({1: 64, 4: 32, 16: 12})
"""Lengths of the tests, in lengths of the longest training sequence, and how many sequences."""
_COLUMNS = ('ate_plain_m', 'ate_chained_m', 'drift_m', 'drift_deg',
            'turn_deg', 'shift_percent', 'scale_spread', 'depth_percent')
_TITLES = ('ATE plain [m]', 'ATE chained [m]', 'drift [m]', 'drift [deg]',
           'turn [deg]', 'shift [%]', 'scale spread', 'depth [%]')


@dataclass(frozen=True)
class Run:
    """One training and its tests."""

    variant: str
    seed: int
    n_steps: int
    n_parameters: int
    train_s: float
    tests: Tuple[StreamErrors, ...]         # fast weights are never reset
    tests_reset: Tuple[StreamErrors, ...]   # reset after as many windows as were trained on;
                                            # empty where there are none

    @classmethod
    def from_dict(cls, values: Dict[str, Any]) -> 'Run':
        """Return what `dataclasses.asdict` took apart."""
        tests = {name: tuple(StreamErrors(**test) for test in values[name])
                 for name in ('tests', 'tests_reset')}
        return cls(**{**values, **tests})


def test_all(net: StreamNet, laps: Laps, setting: Setting,
             reset_every: int = 0) -> Tuple[StreamErrors, ...]:
    """Return the errors at all lengths; every net gets the same sequences."""
    return tuple(evaluate(net, laps, setting, length * setting.longest, n,
                          reset_every=reset_every) for length, n in LENGTHS.items())


def as_dict(runs: Sequence[Run], about: Dict[str, Any]) -> Dict[str, Any]:
    """Return everything as plain values."""
    return {**about, 'runs': [asdict(run) for run in runs]}


def as_markdown(runs: Sequence[Run], about: Dict[str, Any]) -> str:
    """Return the tables: means over seeds, and from the lowest to the highest."""
    lines = ['# LoGeR in small: what its memories do on long sequences', '']
    lines += [f'* {name}: {value}' for name, value in about.items()] + ['']
    for name, title in (('tests', 'Memory carried throughout'),
                        ('tests_reset', 'Fast weights reset after as many windows as were '
                                        'trained on')):
        for k in range(len(LENGTHS)):
            # what has no fast weights is the same with and without resets
            rows = [(run, (getattr(run, name) or run.tests)[k]) for run in runs]
            lines += _table(rows, title)
    lines += ['Plain: poses as the net gives them. Chained: each window is put where the window '
              'before has the first shared camera. Both after one Sim(3). Drift: of the '
              'chained motion over as many frames as the longest training sequence has. Turn and '
              'shift: from first to last frame of a window.', '']
    return '\n'.join(lines)


def _table(rows: List[Tuple[Run, StreamErrors]], title: str) -> List[str]:
    test = rows[0][1]
    lines = [f'## {title}: {test.n_windows} windows, {test.n_frames} frames', '',
             f'The middle of the track as the only answer: {test.blind_m:.2f} m. '
             f'Path: {test.path_m:.0f} m.', '',
             f'| memory | seeds | {" | ".join(_TITLES)} |', '|---' * (2 + len(_TITLES)) + '|']
    for variant, name in VARIANTS.items():
        found = [test for run, test in rows if run.variant == variant]
        if found:
            cells = [_cell([getattr(test, column) for test in found]) for column in _COLUMNS]
            lines.append(f'| {name} | {len(found)} | {" | ".join(cells)} |')
    return lines + ['']


def _cell(values: List[float]) -> str:
    mean = f'{np.mean(values):.3g}'
    return mean if len(values) == 1 else f'{mean} ({min(values):.3g}..{max(values):.3g})'
