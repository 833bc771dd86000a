"""What a reader of the results must know, in plain sentences."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..evaluation import Evaluation
from ..types import FrameState
from .record import RunRecord

SIMULATED = ('SIMULATED: predictions are made from ground truth with artificial faults; this is '
             'no result of a network.')
UNTRAINED = ('UNTRAINED: the weights of the network are random numbers; the results mean nothing, '
             'and only show that everything runs.')
CAVEATS = {'simulated': SIMULATED, 'untrained': UNTRAINED}
"""Key in ``result.json`` to what it means when it is true."""


def findings(record: RunRecord, evaluation: Evaluation | None, problem: str | None) -> list[str]:
    """Return warnings about a run, the most important first.

    ``problem`` says why there is no evaluation although there is ground truth.
    """
    return [*([SIMULATED] if record.is_simulated else []),
            *([UNTRAINED] if record.is_untrained else []), *_about_tracking(record),
            *_about_scale(record, evaluation), *_about_truth(record, evaluation, problem),
            *record.warnings]


def labels(summary: Mapping[str, Any]) -> list[str]:
    """Return what must stand beside the figures of ``result.json`` wherever they are shown."""
    return [key.upper() for key in CAVEATS if summary.get(key)]


def _about_tracking(record: RunRecord) -> list[str]:
    sentences = []
    n, n_lost = len(record.states), int(np.count_nonzero(record.states == FrameState.LOST))
    if n_lost:
        sentences.append(f'{n_lost} of {n} frames ({_percent(n_lost / n)}) are lost: their poses '
                         'are guesses, and they add nothing to the map.')
    n_unlinked = sum(not window.is_linked for window in record.statistics.windows)
    if n_unlinked:
        sentences.append(f'{n_unlinked} of {len(record.statistics.windows)} windows could not be '
                         'linked to the one before: position, heading and scale may jump there.')
    return sentences


def _about_scale(record: RunRecord, evaluation: Evaluation | None) -> list[str]:
    if record.is_metric:
        return []
    if evaluation is None:
        return ['Lengths are in odom units, not metres: one camera cannot know the scale. Only '
                'ratios of lengths mean something.']
    return [f'One camera cannot know the scale: 1 odom unit was {evaluation.scale:.4g} m by '
            'ground truth. Lengths here are in metres; trajectory.txt and map.ply are in odom '
            'units.']


def _about_truth(record: RunRecord, evaluation: Evaluation | None,
                 problem: str | None) -> list[str]:
    if problem:
        return [f'There is ground truth, but nothing was compared with it: {problem}.']
    if evaluation is None:
        return []
    sentences = []
    n, n_pairs = len(record.trajectory), len(evaluation.pairs)
    if n_pairs < 0.95 * n:
        sentences.append(f'Ground truth covers {n_pairs} of {n} poses '
                         f'({_percent(n_pairs / n)}); errors are about those.')
    if not evaluation.drift.is_standard:
        lengths = evaluation.drift.lengths_m
        sentences.append('The path is too short for the 100 to 800 m segments of the KITTI drift: '
                         f'they are {lengths[0]:.2g} to {lengths[-1]:.2g} m here.')
    return sentences


def _percent(share: float) -> str:
    return f'{100 * share:.0f} %' if share >= 0.01 else 'below 1 %'
