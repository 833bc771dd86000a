"""The figures of a run as plain values, for ``result.json`` and the page."""

from dataclasses import asdict
import math
from typing import Any

import numpy as np

from ..config import as_flat_dict
from ..evaluation import DepthScore, Evaluation, link_scales, path_length
from ..types import FrameState
from .record import RunRecord, RunStatistics
from .timeline import timeline_of
from .versions import versions


def summarise(record: RunRecord, evaluation: Evaluation | None, warnings: list[str],
              before: Evaluation | None = None) -> dict[str, Any]:
    """Return all figures of a run; those that could not be measured are None.

    ``before`` is the evaluation of the trajectory before closures.

    Lengths are in metres if the backbone knows them or if there is ground truth (then scaled by
    the Sim(3) to it), else in odom units: ``length_unit`` says which.
    """
    scale = evaluation.scale if evaluation and not record.is_metric else 1.0
    summary = {
        'source': record.source,
        'backbone': record.config.backbone,
        'simulated': record.is_simulated,
        'untrained': record.is_untrained,
        'align': record.config.align,
        'frames': record.n_frames,
        'poses': len(record.trajectory),
        'path_length_m': scale * path_length(record.trajectory.positions),
        'length_unit': length_unit(record, evaluation),
        'elapsed_s': record.elapsed_s,
        'fps': record.n_frames / record.elapsed_s if record.elapsed_s > 0 else None,
        'image_size_px': record.statistics.size,
        'map_points': len(record.cloud),
        'n_closures': 0 if record.loops is None else len(record.loops),
        'ate_sim3_before_closures_m': before and before.ate_sim3_m.rmse,
        **_states(record.states),
        **_links(record.statistics, evaluation),
        **_trajectory_errors(evaluation),
        **_depth_errors(record.statistics, evaluation),
        'timings_ms': _timings(record),
        'timeline': timeline_of(record.statistics),
        'warnings': warnings,
        'evaluation': evaluation and evaluation_as_dict(evaluation),
        'config': as_flat_dict(record.config),
        'versions': versions(),
    }
    return _plain(summary)


def length_unit(record: RunRecord, evaluation: Evaluation | None) -> str:
    """Return the unit of lengths in the summary: ``m``, ``m (by ground truth)`` or ``odom``."""
    if record.is_metric:
        return 'm'
    return 'm (by ground truth)' if evaluation else 'odom'


def evaluation_as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return the errors of a trajectory as plain values (m, deg, %)."""
    e = evaluation
    return _plain({
        'align': e.align, 'n_pairs': len(e.pairs), 'n_poses': e.n_poses,
        'path_length_m': e.path_length_m, 'scale': e.scale,
        'ate_sim3_m': asdict(e.ate_sim3_m), 'ate_se3_m': asdict(e.ate_se3_m),
        'rpe_frame': asdict(e.rpe_frame), 'rpe_metre': e.rpe_metre and asdict(e.rpe_metre),
        'drift': asdict(e.drift)})


def _states(states: np.ndarray) -> dict[str, int]:
    counts = np.bincount(states, minlength=len(FrameState))
    return {f'n_{state.name.lower()}': int(counts[state]) for state in FrameState}


def _links(statistics: RunStatistics, evaluation: Evaluation | None) -> dict[str, Any]:
    """Return counts of links, and how their scales err (%; only with ground truth).

    ``link_log_scale_*`` is about the gauges of the windows, not about errors.
    """
    errors = evaluation and link_scales([window.centres for window in statistics.windows],
                                        evaluation.pairs)
    log_scales = [window.log_scale for window in statistics.windows[1:] if window.is_linked]
    return {
        'n_windows': len(statistics.windows),
        'n_unlinked': sum(not window.is_linked for window in statistics.windows),
        'link_log_scale_mean': float(np.mean(log_scales)) if log_scales else None,
        'link_log_scale_std': float(np.std(log_scales)) if log_scales else None,
        'n_links_measured': len(errors.log_ratios) if errors else 0,
        'link_scale_bias_percent': errors and errors.bias_percent,
        'link_scale_spread_percent': errors and errors.spread_percent}


def _trajectory_errors(evaluation: Evaluation | None) -> dict[str, Any]:
    e = evaluation
    return {
        'ate_sim3_m': e and e.ate_sim3_m.rmse,
        'ate_sim3_percent': e and 100 * e.ate_sim3_m.rmse / e.path_length_m,
        'ate_se3_m': e and e.ate_se3_m.rmse,
        'drift_percent': e and e.drift.percent,
        'drift_deg_per_m': e and e.drift.deg_per_m,
        'gt_path_length_m': e and e.path_length_m,
        'scale_m_per_odom': e and e.scale}


def _depth_errors(statistics: RunStatistics, evaluation: Evaluation | None) -> dict[str, Any]:
    """Return coverage and, where there is true depth, errors with one scale for the run."""
    scores = statistics.depth
    if scores is None:
        share = statistics.n_confident / statistics.n_pixels if statistics.n_pixels else None
        return {'coverage': share, 'coverage_of': 'all pixels', **_score_as_dict(None),
                'depth_good_share': None, 'depth_scale_from': None,
                'depth_per_frame_scale': None}
    scale = evaluation.scale if evaluation else scores.median_scale
    score = scores.with_scale(scale)
    return {'coverage': scores.coverage, 'coverage_of': 'pixels with true depth',
            **_score_as_dict(score),
            'depth_good_share': score and score.within_10_percent * scores.coverage,
            'depth_scale_from': 'trajectory' if evaluation else 'median depth',
            'depth_per_frame_scale': _score_as_dict(scores.per_frame_scale())}


def _score_as_dict(score: DepthScore | None) -> dict[str, Any]:
    return {'depth_absrel': score and score.absrel, 'depth_median': score and score.median,
            'depth_within_10_percent': score and score.within_10_percent,
            'depth_within_factor_1_25': score and score.within_factor_1_25}


def _timings(record: RunRecord) -> dict[str, dict[str, float]]:
    stages = record.statistics.stage_ms
    total = sum(stages.values()) or 1.0
    return {stage: {'total': ms, 'per_frame': ms / max(1, record.n_frames), 'share': ms / total}
            for stage, ms in stages.items()}


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: no numpy types, no NaN, no tuples."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
