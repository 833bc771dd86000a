"""The files that a run leaves behind; the command line and the ROS node write the same ones.

A caller makes a `RunRecorder`, gives it every `Update`, and at the end puts what it knows into a
`RunRecord` for `write_run`.
"""

import json
import logging
from pathlib import Path
import shutil
from typing import Any

from .atomic import atomic_folder, write_text
from .errors import InputError
from .evaluation import evaluate, Evaluation
from .io.ply import write_ply
from .io.trajectory_file import write_tum
from .map_store import save_map
from .report.findings import findings
from .report.page import render_page
from .report.record import RunRecord
from .report.recorder import RunRecorder
from .report.summary import summarise

__all__ = ['FILES', 'RunRecord', 'RunRecorder', 'write_run']

FILES = ('trajectory.txt', 'odometry.txt', 'map.ply', 'map', 'result.json', 'report.html')

_log = logging.getLogger(__name__)


def write_run(folder: Path, record: RunRecord, use_report: bool = True,
              force: bool = False) -> dict[str, Any]:
    """Write the results of a run into a folder and return the figures of ``result.json``.

    ``trajectory.txt`` (TUM, camera to map), ``odometry.txt`` (the same before closures),
    ``map.ply`` and ``map`` (`map_store`) are in odom units. A new folder appears with all files
    at once; in one that exists (``force``) the files are replaced, others stay. Ground truth that
    cannot be compared is a warning in the results, not an error. Raises ``InputError`` when the
    folder holds files and ``force`` is False, or when it cannot be written (a full disk).
    """
    evaluation, problem = _evaluate(record)
    before = _evaluate_odometry(record)
    warnings = findings(record, evaluation, problem)
    summary = summarise(record, evaluation, warnings, before)
    page = render_page(record, evaluation, summary) if use_report else None
    try:
        with atomic_folder(folder, force) as staging:
            write_tum(staging / 'trajectory.txt', record.trajectory)
            if record.odometry is not None:
                write_tum(staging / 'odometry.txt', record.odometry)
            write_ply(staging / 'map.ply', record.cloud)
            if record.saved_map is not None:
                save_map(staging / 'map', *record.saved_map)
            write_text(staging / 'result.json', json.dumps(summary, indent=2) + '\n')
            if page is not None:
                write_text(staging / 'report.html', page)
        # what an earlier run left would not go with the new files
        if page is None:
            (Path(folder) / 'report.html').unlink(missing_ok=True)
        if record.saved_map is None:
            shutil.rmtree(Path(folder) / 'map', ignore_errors=True)
    except OSError as error:
        raise InputError(f'{folder}: the results cannot be written ({error.strerror})') from None
    return summary


def _evaluate_odometry(record: RunRecord) -> Evaluation | None:
    """Return the evaluation of the trajectory before closures, if there are any."""
    if record.groundtruth is None or record.odometry is None or not len(record.loops):
        return None
    try:
        return evaluate(record.odometry, record.groundtruth)
    except InputError:
        return None                         # said for the trajectory already


def _evaluate(record: RunRecord) -> tuple[Evaluation | None, str | None]:
    """Return the evaluation, or None and the reason if there is ground truth all the same."""
    if record.groundtruth is None:
        return None, None
    try:
        return evaluate(record.trajectory, record.groundtruth), None
    except InputError as error:
        _log.warning('no evaluation: %s', error)
        return None, str(error)
