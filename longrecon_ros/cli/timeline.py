"""A picture in text of when the windows of a run were inferred and registered."""

from typing import Any

N_ROWS = 24
_WIDTH = 80
_INFER, _REGISTER = '=', '#'


def print_timeline(timeline: dict[str, Any] | None) -> None:
    """Print the ``timeline`` of ``result.json``; see `report.timeline.timeline_of`."""
    print('\n'.join(timeline_lines(timeline)))


def timeline_lines(timeline: dict[str, Any] | None, n_rows: int = N_ROWS,
                   width: int = _WIDTH) -> list[str]:
    """Return one line for each of the last ``n_rows`` windows, between a header and a summary.

    All lines share one axis of time, ``width`` columns wide; a span takes one column at least.
    """
    if timeline is None:
        return ['timeline: no window was processed']
    infer, register = timeline['backbone_s'][-n_rows:], timeline['register_s'][-n_rows:]
    start_s, end_s = infer[0][0], max(register[-1][1], infer[-1][1])
    column_s = (end_s - start_s) / width or 1.0
    first = timeline['first_window'] + len(timeline['backbone_s']) - len(infer)
    lines = [f'timeline of windows {first} to {first + len(infer) - 1}, {start_s:.2f} to '
             f'{end_s:.2f} s after the first frame, {1e3 * column_s:.3g} ms a column: '
             f'{_INFER} inference, {_REGISTER} registration']
    for row, (infer_s, register_s) in enumerate(zip(infer, register)):
        bars = [' '] * width
        _draw(bars, register_s, start_s, column_s, _REGISTER)
        _draw(bars, infer_s, start_s, column_s, _INFER)
        lines.append(f'{first + row:6} |{"".join(bars)}|')
    return [*lines, _share(timeline)]


def _draw(bars: list[str], span_s: list[float], start_s: float, column_s: float,
          mark: str) -> None:
    begin = min(int((span_s[0] - start_s) / column_s), len(bars) - 1)
    end = min(max(round((span_s[1] - start_s) / column_s), begin + 1), len(bars))
    bars[begin:end] = mark * (end - begin)


def _share(timeline: dict[str, Any]) -> str:
    spent_s = sum(end - start for start, end in timeline['register_s'])
    share = timeline['hidden_share']
    hidden = 'an unknown part' if share is None else f'{100 * share:.0f} %'
    return (f'registration took {spent_s:.2f} s in {len(timeline["register_s"])} windows, '
            f'{hidden} of it beside the inference of other windows (the rest while frames were '
            'read, or at the end)')
