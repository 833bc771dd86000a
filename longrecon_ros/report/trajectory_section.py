"""The parts of the page about the trajectory: its shape, its error and its states over time."""

from html import escape
from typing import Any

import numpy as np

from ..evaluation import Evaluation, link_scales, LinkScales
from ..types import FrameState
from .record import RunRecord
from .svg import legend, Line, map_plot, plot
from .views import path_axes

_MOST_LOOPS = 400           # drawn
_LOCAL_SHARE = 0.05         # of the path, over which the local scale is measured
_STATE_NAMES = {FrameState.TRACKED: 'tracked', FrameState.STATIONARY: 'standing still',
                FrameState.ROTATION_ONLY: 'turning on the spot', FrameState.LOST: 'lost'}


def render(record: RunRecord, evaluation: Evaluation | None,
           summary: dict[str, Any]) -> list[str]:
    """Return the sections as HTML."""
    unit = 'odom units' if summary['length_unit'] == 'odom' else 'm'
    if not len(record.trajectory):
        return []
    plots = [_paths(record, evaluation, unit)]
    if evaluation is not None:
        plots += [_error_over_time(record, evaluation), _local_scale(evaluation)]
    plots += [_links(record, evaluation), _durations(record)]
    return [f'<div class="columns">{"".join(plots)}</div>', _states_over_time(record)]


def _paths(record: RunRecord, evaluation: Evaluation | None, unit: str) -> str:
    """Return the trajectory from above and from the side, over the truth if there is one."""
    T, truth = record.trajectory.T_map_camera, None
    has_loops = record.loops is not None and len(record.loops) > 0
    before = record.odometry.T_map_camera if has_loops and record.odometry is not None else None
    if evaluation is not None:
        T, truth = evaluation.T_gt_est.apply_to_poses(T), evaluation.pairs.T_gt
        # as it was where the stream began: odom and map are one there
        before = None if before is None else evaluation.T_gt_est.apply_to_poses(before)
    axes = path_axes(T if truth is None else truth)
    origin = (T if truth is None else truth)[0, :3, 3]
    positions = (T[:, :3, 3] - origin) @ axes.T
    lost = positions[record.states == FrameState.LOST]
    figures = []
    for name, y, label in (('From above', 1, 'left'), ('From the side', 2, 'up')):
        columns = [0, y]
        lines = [Line(positions[:, columns], 'estimate', 'estimate')]
        if truth is not None:
            true_positions = (truth[:, :3, 3] - origin) @ axes.T
            lines.insert(0, Line(true_positions[:, columns], 'truth', 'ground truth'))
        if before is not None:
            drifted = (before[:, :3, 3] - origin) @ axes.T
            lines.insert(0, Line(drifted[:, columns], 'before', 'before closures'))
            shown = record.loops[:: 1 + len(record.loops) // _MOST_LOOPS]
            ties = np.full((3 * len(shown), 2), np.nan)
            for end in (0, 1):
                ties[end::3] = positions[shown[:, end]][:, columns]
            lines.append(Line(ties, 'loop', 'closures'))
        if len(lost):
            lines.append(Line(lost[:, columns], 'lost', 'lost', is_dots=True))
        lines.append(Line(positions[:1, columns], 'start', 'start', is_dots=True))
        figures.append(f'<section><h2>{name}</h2>'
                       f'{map_plot(lines, f"forward, {unit}", f"{label}, {unit}", 480)}'
                       f'{legend(lines)}</section>')
    return ''.join(figures)


def _error_over_time(record: RunRecord, evaluation: Evaluation) -> str:
    time_s = _seconds(evaluation.pairs.stamps_ns, record.trajectory.stamps_ns[0])
    rmse = evaluation.ate_sim3_m.rmse
    level = np.array([[time_s[0], rmse], [time_s[-1], rmse]])
    lines = [Line(level, 'level', f'rmse {rmse:.3g} m'),
             Line(np.stack([time_s, evaluation.errors_m], axis=1), 'error', 'position error')]
    return (f'<section><h2>Error over time</h2>{plot(lines, "time, s", "error, m", 240, True)}'
            f'{legend(lines)}</section>')


def _local_scale(evaluation: Evaluation) -> str:
    """Return how far the scale of each stretch of the path is from that of the whole, in %."""
    T_est, T_gt = evaluation.T_gt_camera, evaluation.pairs.T_gt
    walked_est, walked_gt = _walked(T_est), _walked(T_gt)
    stretch = _LOCAL_SHARE * walked_gt[-1]
    last = np.searchsorted(walked_gt, walked_gt + stretch)
    first = np.flatnonzero(last < len(walked_gt))
    last = last[first]
    ratio = (walked_est[last] - walked_est[first]) / (walked_gt[last] - walked_gt[first])
    stamps = evaluation.pairs.stamps_ns
    time_s = (_seconds(stamps[first], stamps[0]) + _seconds(stamps[last], stamps[0])) / 2
    if len(time_s) < 2:
        return ''
    lines = [Line(np.array([[time_s[0], 0.0], [time_s[-1], 0.0]]), 'level', 'scale of the whole'),
             Line(np.stack([time_s, 100 * (ratio - 1)], axis=1), 'estimate', 'local scale')]
    return (f'<section><h2>Scale over time</h2>{plot(lines, "time, s", "off by, %", 240)}'
            f'{legend(lines)}<p class="hint">Estimated over true length of stretches of '
            f'{stretch:.2g} m. A slope is scale drift.</p></section>')


def _states_over_time(record: RunRecord) -> str:
    states = record.states
    starts = np.flatnonzero(np.diff(states, prepend=255))
    lengths = np.diff(np.append(starts, len(states)))
    strip = ''.join(
        f'<i class="{_css(state)}" style="flex:{length}" title="{_STATE_NAMES[state]}: '
        f'{length} frames from {start}"></i>'
        for start, length, state in zip(starts.tolist(), lengths.tolist(),
                                        map(FrameState, states[starts].tolist())))
    keys = ''.join(
        f'<span class="key {_css(state)}">{escape(name)}: {np.count_nonzero(states == state)}'
        '</span>' for state, name in _STATE_NAMES.items())
    return (f'<section><h2>What each frame told</h2><div class="strip">{strip}</div>'
            f'<p class="legend">{keys}</p></section>')


def _links(record: RunRecord, evaluation: Evaluation | None) -> str:
    """Return the scale of each link between windows: its error if there is a truth."""
    errors = evaluation and link_scales(
        [window.centres for window in record.statistics.windows], evaluation.pairs)
    return _link_errors(errors, record) if errors else _link_log_scales(record)


def _link_errors(errors: LinkScales, record: RunRecord) -> str:
    """Return the error of the scale of each link, and the cut where one does not hold."""
    start_ns = record.trajectory.stamps_ns[0]
    table = np.stack([_seconds(errors.stamps_ns, start_ns), 100 * errors.log_ratios], axis=1)
    bias = np.stack([table[[0, -1], 0], np.full(2, errors.bias_percent)], axis=1)
    lines = [Line(bias, 'level', 'mean'),
             Line(table, 'estimate', 'scale error of a link', is_dots=True)]
    cuts = np.array([_seconds(window.stamp_ns, start_ns)
                     for window in record.statistics.windows[1:] if not window.is_linked])
    if len(cuts):
        lines.append(Line(np.stack([cuts, np.zeros(len(cuts))], axis=1), 'lost', 'not linked',
                          is_dots=True))
    return ('<section><h2>Links between windows</h2>'
            f'{plot(lines, "time, s", "scale error, %", 190)}{legend(lines)}<p class="hint">'
            'Change of true metres an odom unit from window to window, over '
            f'{len(errors.log_ratios)} links: bias {errors.bias_percent:+.2f} %, spread '
            f'{errors.spread_percent:.2f} %. The bias adds up to scale drift.</p></section>')


def _link_log_scales(record: RunRecord) -> str:
    """Return the log scale of each link, which is mostly that of the windows' own gauges."""
    windows = record.statistics.windows[1:]
    if len(windows) < 2:
        return ''
    start_ns = record.trajectory.stamps_ns[0]
    table = np.array([[_seconds(w.stamp_ns, start_ns), 100 * w.log_scale] for w in windows])
    is_linked = np.array([w.is_linked for w in windows])
    lines = [Line(table[is_linked], 'estimate', 'ln of the scale over that of the window before'),
             Line(table[is_linked], 'estimate', is_dots=True)]
    if not is_linked.all():
        lines.append(Line(table[~is_linked], 'lost', 'not linked', is_dots=True))
    return ('<section><h2>Links between windows</h2>'
            f'{plot(lines, "time, s", "ln scale, %", 190)}{legend(lines)}</section>')


def _durations(record: RunRecord) -> str:
    """Return how long each window took, a new frame."""
    windows = record.statistics.windows
    if len(windows) < 3:
        return ''
    start_ns = record.trajectory.stamps_ns[0]
    table = np.array([[_seconds(w.stamp_ns, start_ns), w.total_ms / w.n_new] for w in windows])
    lines = [Line(table, 'duration', 'time of a window over its new frames')]
    return (f'<section><h2>Speed</h2>{plot(lines, "time, s", "ms a frame", 200, True)}'
            f'{legend(lines)}</section>')


def _css(state: FrameState) -> str:
    return state.name.lower()


def _seconds(stamps_ns, start_ns):
    return (stamps_ns - start_ns) / 1e9


def _walked(T: np.ndarray) -> np.ndarray:
    steps = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])
