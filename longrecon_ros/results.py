"""The files that a run leaves behind; the command line and the ROS node write the same ones.

A caller makes a `RunRecorder`, gives it every `Update`, and at the end puts what it knows into a
`RunRecord` for `write_run`.
"""

import json
import logging
from pathlib import Path
from typing import Any

from .atomic import atomic_folder, write_text
from .errors import InputError
from .evaluation import evaluate, Evaluation
from .io.ply import write_ply
from .io.trajectory_file import write_tum
from .report.findings import findings
from .report.page import render_page
from .report.record import RunRecord
from .report.recorder import RunRecorder
from .report.summary import summarise

__all__ = ['FILES', 'RunRecord', 'RunRecorder', 'write_run']

FILES = ('trajectory.txt', 'map.ply', 'result.json', 'report.html')

_log = logging.getLogger(__name__)


def write_run(folder: Path, record: RunRecord, use_report: bool = True,
              force: bool = False) -> dict[str, Any]:
    """Write the results of a run into a folder and return the figures of ``result.json``.

    ``trajectory.txt`` (TUM) and ``map.ply`` are in odom units. A new folder appears with all files
    at once; in one that exists (``force``) the files are replaced, others stay. Ground truth that
    cannot be compared is a warning in the results, not an error. Raises ``InputError`` when the
    folder holds files and ``force`` is False, or when it cannot be written (a full disk).
    """
    evaluation, problem = _evaluate(record)
    warnings = findings(record, evaluation, problem)
    summary = summarise(record, evaluation, warnings)
    page = render_page(record, evaluation, summary) if use_report else None
    try:
        with atomic_folder(folder, force) as staging:
            write_tum(staging / 'trajectory.txt', record.trajectory)
            write_ply(staging / 'map.ply', record.cloud)
            write_text(staging / 'result.json', json.dumps(summary, indent=2) + '\n')
            if page is not None:
                write_text(staging / 'report.html', page)
        if page is None:
            # that of an earlier run would not go with the new files
            (Path(folder) / 'report.html').unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f'{folder}: the results cannot be written ({error.strerror})') from None
    return summary


def _evaluate(record: RunRecord) -> tuple[Evaluation | None, str | None]:
    """Return the evaluation, or None and the reason if there is ground truth all the same."""
    if record.groundtruth is None:
        return None, None
    try:
        return evaluate(record.trajectory, record.groundtruth), None
    except InputError as error:
        _log.warning('no evaluation: %s', error)
        return None, str(error)
