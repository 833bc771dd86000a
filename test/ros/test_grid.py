"""~/grid: an occupancy grid for Nav2, in metres or not at all."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from geometry_msgs.msg import Transform, Vector3
from nav_msgs.msg import OccupancyGrid
from rig import LATCHED, Rig

from longrecon_ros.ros.messages import matrix_of
from longrecon_ros.synthetic.recipe import Production, Recipe

N = 26


@pytest.fixture(scope='module')
def drive():
    """Return a short drive down a street: the production and its frames."""
    production = Production.of(Recipe('street', n_frames=N, size=(320, 240), fps=10.0))
    return production, [production.film.frame(i).to_frame() for i in range(N)]


def run(rig, drive, until):
    """Drive with the mounted camera, subscribed to ~/grid; return the grids."""
    production, frames = drive
    grids = []
    rig.node.create_subscription(OccupancyGrid, 'longrecon/grid', grids.append, LATCHED)
    rig.send_mounting(production.world.T_base_camera)
    rig.send_info(frames[0])
    rig.send(frames)
    rig.wait_processed(N)
    rig.wait(lambda: until(grids))
    return grids


def test_with_a_metric_scale_there_is_one_in_the_axes_of_the_base(drive, tmp_path):
    with Rig(tmp_path, {'scale.source': 'constant', 'scale.metres_per_unit': 14.0,
                        'node.grid_resolution_m': 0.25}) as rig:
        grid = run(rig, drive, lambda grids: grids)[-1]
    cells = np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
    assert grid.header.frame_id == 'map' and grid.info.resolution == pytest.approx(0.25)
    assert set(np.unique(cells)) <= {-1, 0, 100} and (cells == 100).sum() > 20
    pose = grid.info.origin
    T = matrix_of(Transform(translation=Vector3(x=pose.position.x, y=pose.position.y,
                                                z=pose.position.z), rotation=pose.orientation))
    # level, turned with the base, ahead of where that was at the start and to both sides
    assert np.allclose(T[:3, 2], [0, 0, 1], atol=1e-6) and T[0, 0] > 0.999
    size = 0.25 * np.array([grid.info.width, grid.info.height])
    assert -2.0 < T[0, 3] < 12.0 and T[1, 3] < 0 < T[1, 3] + size[1]


def test_without_metres_there_is_no_grid(drive, tmp_path):
    with Rig(tmp_path) as rig:
        grids = run(rig, drive, lambda grids: len(rig.odometry) == N)
        rig.call('save')
        rig.spin(0.5)
    assert not grids
