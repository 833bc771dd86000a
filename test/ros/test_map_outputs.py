"""The map as the real node publishes it: tiles, their poses and the cloud, over DDS."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from managed import ManagedRig
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rig import LATCHED
from sensor_msgs.msg import PointCloud2
from street import frames_of, street
from tf2_msgs.msg import TFMessage

from longrecon_ros.geometry import se3
from longrecon_ros.ros.messages import matrix_of
from longrecon_ros.types import Frame

N = 28
TILE_POINTS = 4000
MANY = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE,
                  durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Listener:
    """Keeps the newest message of each frame of ~/tiles, and of ~/tile_poses."""

    def __init__(self, rig):
        self.tiles, self.poses, self.clouds, self.n_messages = {}, {}, [], 0
        for kind, name, take, qos in (
                (PointCloud2, 'tiles', self._take_tile, MANY),
                (TFMessage, 'tile_poses', self._take_poses, LATCHED),
                (PointCloud2, 'cloud', self.clouds.append, LATCHED)):
            rig.node.create_subscription(kind, f'/longrecon/{name}', take, qos)

    def _take_tile(self, message):
        self.n_messages += 1
        self.tiles[message.header.frame_id] = message

    def _take_poses(self, message):
        self.parents = {t.header.frame_id for t in message.transforms}
        self.poses = {t.child_frame_id: matrix_of(t.transform) for t in message.transforms}

    def is_whole(self):
        """Say whether there is a tile for each pose."""
        return self.poses and set(self.poses) <= set(self.tiles)

    def points(self):
        """Return the points (P, 3) of all tiles in the map."""
        return np.concatenate([se3.apply(T, points_of(self.tiles[frame]))
                               for frame, T in self.poses.items()])


def points_of(message):
    """Return the points (P, 3) of a cloud."""
    return np.frombuffer(message.data, np.float32).reshape(-1, 4)[:, :3].astype(float)


@pytest.fixture(scope='module')
def frames():
    """Return the frames of a short drive down a street."""
    return frames_of(street(N))


class QuietRig(ManagedRig):
    """A rig that listens to no map."""

    def __enter__(self):
        super().__enter__()
        for subscription in list(self.node.subscriptions):
            if subscription.topic_name.endswith(('/cloud', '/path')):
                self.node.destroy_subscription(subscription)
        return self


@pytest.fixture(scope='module')
def ran(frames, tmp_path_factory):
    """Return a rig after the drive, to which nobody has listened, and two late listeners."""
    folder = tmp_path_factory.mktemp('map')
    with QuietRig(folder, {'node.tile_points': TILE_POINTS}) as rig:
        rig.wait_active()
        rig.send_info(frames[0])
        rig.send(frames)
        rig.wait(lambda: len(rig.odometry) == N)
        assert rig.call('save').success
        rig.wait(lambda: int(rig.parts['map']['submaps']) >= 5)
        rig.n_tiles_before = int(rig.parts['map']['tiles'])
        rig.listeners = [Listener(rig)]
        rig.wait(lambda: rig.listeners[0].is_whole() and rig.listeners[0].clouds)
        yield rig


def test_no_tile_is_made_for_nobody(ran):
    assert ran.n_tiles_before == 0 and not ran.clouds


def test_a_late_listener_gets_all_tiles(ran):
    first = ran.listeners[0]
    assert len(first.poses) >= 2 and first.parents == {'map'}
    for frame in first.poses:
        assert frame.startswith('longrecon_tile_') and frame.endswith('_0')
    second = Listener(ran)
    ran.wait(second.is_whole)
    assert set(second.poses) == set(first.poses)
    assert len(second.points()) == len(first.points()) > 1000


def test_a_tile_has_at_most_so_many_points(ran):
    for message in ran.listeners[0].tiles.values():
        assert 0 < message.width <= TILE_POINTS and message.height == 1


def test_tiles_placed_by_their_poses_are_the_cloud(ran):
    tiles, cloud = ran.listeners[0].points(), points_of(ran.listeners[0].clouds[-1])
    spacing = np.median(cKDTree(cloud).query(cloud, k=2)[0][:, 1])
    assert np.quantile(cKDTree(cloud).query(tiles)[0], 0.99) < 2 * spacing
    # a full tile leaves some points out
    share = len(tiles) / len(cloud)
    assert 0.8 < share <= 1.01
    assert np.quantile(cKDTree(tiles).query(cloud)[0], 0.95 * share) < 2 * spacing


def test_a_growing_map_sends_new_tiles_only(ran, frames):
    first = ran.listeners[0]
    before = dict(first.poses)
    # who came second had all sent again
    ran.wait(lambda: first.n_messages >= len(first.tiles) + len(before))
    n_before = first.n_messages
    again = [Frame(f.index, f.stamp_ns + 2 * 10**9, f.image, f.K) for f in frames[20:28]]
    ran.send(again)
    ran.wait(lambda: len(ran.odometry) == N + 8)
    assert ran.call('save').success
    ran.wait(lambda: len(first.poses) >= len(before) + 2 and first.is_whole())
    assert 2 <= first.n_messages - n_before < len(before), 'not all of them again'
