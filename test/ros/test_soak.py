"""Two minutes of images at camera rate: nothing grows, nothing is left behind."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')

from longrecon_ros.cli.tables import print_table
from longrecon_ros.ros.soak import run_soak, Soak

# old submaps leave memory within the time of the test
PARAMETERS = {'map.budget_mb': 20.0, 'map.points_per_frame': 500}


@pytest.fixture(scope='module')
def report():
    """Return what came of two minutes of 640x480 images, 30 a second."""
    report = run_soak(Soak(120.0, 30.0, (640, 480), n_images=60, parameters=PARAMETERS))
    print_table(('s', 'posed', 'p50 ms', 'p95 ms', 'node MB', 'worker MB', 'threads', 'files'),
                [tuple(f'{value:.0f}' for value in (
                    r.time_s, r.n_posed, r.p50_ms, r.p95_ms, r.node_mb, r.worker_mb, r.n_threads,
                    r.n_files)) for r in report.rows])
    return report


def test_it_ends_well_and_leaves_nothing(report):
    assert report.exit_code == 0
    assert report.left_processes == () and report.left_files == ()


def test_neither_threads_nor_files_become_more(report):
    half = report.rows[len(report.rows) // 2:]
    assert len({row.n_threads for row in half}) == 1, [row.n_threads for row in half]
    assert max(row.n_files for row in half) <= min(row.n_files for row in half) + 2


def test_memory_is_flat_once_the_map_has_its_budget(report):
    rows = report.rows[len(report.rows) // 2:]
    assert report.slope('node_mb') < 10.0
    # its growth a minute, over what it has
    assert report.slope('worker_mb') < 0.15 * np.median([row.worker_mb for row in rows])


def test_images_are_posed_and_do_not_come_later_and_later(report):
    rows = report.rows[1:]          # the first ones wait for the first window
    assert sum(row.n_posed for row in rows) > 0.5 * sum(row.n_sent for row in rows)
    first, second = rows[:len(rows) // 2], rows[len(rows) // 2:]
    medians = [np.median([row.p50_ms for row in part]) for part in (first, second)]
    assert medians[1] < 3 * medians[0] + 20
