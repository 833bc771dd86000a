"""The real node in its own process, seen from outside over DDS."""

import json
import signal

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Transform, Vector3
from rig import CAMERA_FRAME, image_message, Rig
from sensor_msgs.msg import CompressedImage, PointField
from street import frames_of, street

from longrecon_ros.geometry import se3
from longrecon_ros.io.trajectory_file import read_tum
from longrecon_ros.ros.messages import header, matrix_of, stamp_ns
from longrecon_ros.ros.odometry import UNKNOWN_VARIANCE
from longrecon_ros.types import Frame

N = 36          # windows of 16 with 6 shared: after 16, 26 and 36 images


@pytest.fixture(scope='module')
def drive():
    """Return a short drive down a street: the production and its frames."""
    production = street(N)
    return production, frames_of(production)


@pytest.fixture(scope='module')
def frames(drive):
    """Return the frames of the drive."""
    return drive[1]


@pytest.fixture(scope='module')
def ran(drive, tmp_path_factory):
    """Return a rig after the whole drive with a mounted camera was sent and saved."""
    production, frames = drive
    folder = tmp_path_factory.mktemp('node')
    with Rig(folder, {'node.save_folder': str(folder / 'saved')}) as rig:
        rig.send_mounting(production.world.T_base_camera)
        rig.send_info(frames[0])
        rig.send(frames)
        rig.wait_processed(N)
        rig.saved = rig.call('save')
        rig.wait(lambda: len(rig.odometry) == N and rig.clouds and rig.paths
                 and len(rig.paths[-1].poses) == N and rig.transform('map', 'odom')
                 and len(rig.transform('odom', 'base_link')) == N)
        rig.folder = folder
        yield rig


def test_every_image_gives_one_odometry_with_its_stamp(ran, frames):
    assert [stamp_ns(m.header.stamp) for m in ran.odometry] == [f.stamp_ns for f in frames]
    assert {(m.header.frame_id, m.child_frame_id) for m in ran.odometry} == {('odom', 'base_link')}
    assert ran.status['images dropped'] == ran.status['images refused'] == '0'
    # nothing comes any more, and nothing else is wrong
    assert ran.status['findings'] in ('none', 'NO_IMAGES'), ran.message


def test_the_tree_of_transforms_is_complete_and_has_the_same_poses(ran, frames):
    odom_base, map_odom = ran.transform('odom', 'base_link'), ran.transform('map', 'odom')
    assert [stamp_ns(t.header.stamp) for t in odom_base] == [f.stamp_ns for f in frames]
    # map -> odom goes by the clock, not by images
    assert all(stamp_ns(t.header.stamp) >= frames[0].stamp_ns for t in map_odom)
    assert len({stamp_ns(t.header.stamp) for t in map_odom}) > 5
    for transform, odometry in zip(odom_base, ran.odometry):
        t, p = transform.transform.translation, odometry.pose.pose.position
        assert (t.x, t.y, t.z) == (p.x, p.y, p.z)


def test_forward_is_x_of_the_base_and_the_camera_is_right_up_to_scale(ran, drive):
    production, _ = drive
    T_odom_base = np.array([_pose(m) for m in ran.odometry])
    assert np.allclose(T_odom_base[0], np.eye(4))
    x, y, z = T_odom_base[-1, :3, 3]
    assert x > 0 and max(abs(y), abs(z)) < 0.1 * x
    E = production.world.T_base_camera
    T = se3.inverse(E) @ T_odom_base @ E
    world_camera = np.array([production.film.pose(i) for i in range(N)])
    truth = se3.relative(world_camera[0], world_camera)
    assert truth[-1, 2, 3] > 1.0, 'the drive goes forward'
    scale = truth[-1, 2, 3] / T[-1, 2, 3]
    assert np.abs(scale * T[:, :3, 3] - truth[:, :3, 3]).max() < 0.02 * truth[-1, 2, 3]
    assert se3.rotation_angle(np.swapaxes(truth[:, :3, :3], 1, 2) @ T[:, :3, :3]).max() < 0.01


def test_twist_is_the_motion_between_images_in_base_axes(ran):
    T = [_pose(m) for m in ran.odometry]
    for k in (5, 20, 35):
        dt_s = (stamp_ns(ran.odometry[k].header.stamp)
                - stamp_ns(ran.odometry[k - 1].header.stamp)) * 1e-9
        step = se3.relative(T[k], T[k - 1])[:3, 3]
        twist = ran.odometry[k].twist.twist.linear
        assert np.allclose([twist.x, twist.y, twist.z], -step / dt_s, atol=1e-6)
        assert twist.x > 0
    assert ran.odometry[0].twist.covariance[0] == UNKNOWN_VARIANCE
    position = [m.pose.covariance[0] for m in ran.odometry]
    assert 0 <= position[0] < position[-1] < 1 and min(position[1:]) > 0


def test_the_path_has_all_poses_in_map(ran):
    path = ran.paths[-1]
    assert path.header.frame_id == 'map'
    first, last = path.poses[0].pose.position, path.poses[-1].pose.position
    assert (first.x, first.y, first.z) == pytest.approx((0, 0, 0), abs=1e-9)
    assert last.x == pytest.approx(ran.odometry[-1].pose.pose.position.x, rel=0.05)


def test_the_cloud_is_xyz_rgb_in_odom_above_and_ahead(ran):
    cloud = ran.clouds[-1]
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        (name, 4 * i, PointField.FLOAT32, 1) for i, name in enumerate(('x', 'y', 'z', 'rgb'))]
    assert (cloud.point_step, cloud.height, cloud.header.frame_id) == (16, 1, 'map')
    assert len(cloud.data) == cloud.row_step == 16 * cloud.width
    points = np.frombuffer(cloud.data, np.float32).reshape(-1, 4)
    assert cloud.width > 1000 and np.isfinite(points[:, :3]).all()
    assert np.median(points[:, 0]) > 0, 'what the camera sees is in front of it'
    assert np.median(points[:, 1]) < np.quantile(points[:, 1], 0.99), 'and on both sides'
    colors = points[:, 3].copy().view(np.uint32)
    assert (colors >> 24 == 0).all() and len(np.unique(colors)) > 100


def test_save_writes_what_a_run_writes(ran, frames):
    assert ran.saved.success, ran.saved.message
    folder = ran.folder / 'saved'
    assert str(folder) in ran.saved.message and f'{N} poses' in ran.saved.message
    trajectory = read_tum(folder / 'trajectory.txt')
    assert trajectory.stamps_ns.tolist() == [frame.stamp_ns for frame in frames]
    summary = json.loads((folder / 'result.json').read_text())
    assert (summary['frames'], summary['poses'], summary['n_unlinked']) == (N, N, 0)
    assert (folder / 'map.ply').stat().st_size > 1000 and (folder / 'report.html').exists()


def test_reset_begins_a_new_odom_then_sigterm_ends_cleanly(ran, frames):
    n_before = len(ran.odometry)
    answer = ran.call('reset')
    assert answer.success
    ran.wait(lambda: ran.status['resets'] == '1' and not ran.paths[-1].poses)
    ran.send(frames[4:24])
    ran.wait_processed(N + 20)
    ran.wait(lambda: len(ran.odometry) >= n_before + 16)
    assert np.allclose(_pose(ran.odometry[n_before]), np.eye(4))
    assert ran.stop(signal.SIGTERM) == 0
    assert len(ran.odometry) == n_before + 20, 'the last, short window is flushed'


def test_compressed_images_under_a_namespace_without_mounting(frames, tmp_path):
    def jpeg(frame):
        message = CompressedImage(header=header(frame.stamp_ns, CAMERA_FRAME), format='jpeg')
        data = cv2.imencode('.jpg', np.ascontiguousarray(frame.image[..., ::-1]))[1]
        message.data.frombytes(data.tobytes())
        return message

    with Rig(tmp_path, {'node.extrinsic_wait_s': 0.0}, namespace='/robot',
             compressed=True) as rig:
        rig.send_info(frames[0])
        rig.send(frames[:16], jpeg)
        rig.wait(lambda: len(rig.odometry) == 16)
        x, y, _ = _pose(rig.odometry[-1])[:3, 3]
        assert x > 0 and abs(y) < 0.2 * x, 'the camera is taken to look ahead'
        assert rig.stop(signal.SIGINT) == 0
        complaints = rig.process.complaints()
    assert sum('no transform from base_link' in line for line in complaints) == 1
    assert [stamp_ns(m.header.stamp) for m in rig.odometry] == [f.stamp_ns for f in frames[:16]]


def test_nan_intrinsics_are_one_error_until_good_ones_come(frames, tmp_path):
    with Rig(tmp_path, {'node.use_extrinsic': 'none'}) as rig:
        broken = frames[0].K.copy()
        broken[0, 0] = np.nan
        for _ in range(3):
            rig.send_info(frames[0], broken)
        rig.send(frames[:4])
        rig.wait(lambda: rig.status['images lost before the node'] == '4')
        assert rig.level == DiagnosticStatus.ERROR and 'NaN' in rig.message
        rig.send_info(frames[0])
        rig.send(frames[4:20])
        rig.wait(lambda: len(rig.odometry) == 16)
        assert rig.level == DiagnosticStatus.OK
        errors = [line for line in rig.process.log.read_text().split('\n')
                  if line.startswith('[ERROR]')]
    assert len(errors) == 1 and 'camera_info' in errors[0]


def test_an_uncalibrated_camera_is_told_once_and_works(frames, tmp_path):
    with Rig(tmp_path, {'node.use_extrinsic': 'none'}) as rig:
        rig.send_info(frames[0], np.zeros((3, 3)))
        rig.send(frames[:16], lambda frame: image_message(frame, 'bgr8'))
        rig.wait_processed(16)
        assert rig.stop(signal.SIGINT) == 0
        assert len(rig.odometry) == 16
        complaints = rig.process.complaints()
    assert [c for c in complaints if 'K will be estimated' in c] == [
        'no calibration on /camera/camera_info: K will be estimated']


def test_bad_images_are_refused_and_the_stream_goes_on(frames, tmp_path):
    small = Frame(0, frames[8].stamp_ns, frames[8].image[::2, ::2])
    with Rig(tmp_path, {'node.use_extrinsic': 'none'}) as rig:
        rig.send_info(frames[0])
        rig.send([*frames[:8], frames[7], small, *frames[8:16]])
        rig.wait(lambda: len(rig.odometry) == 16)
        assert rig.status['images refused'] == '2'
        assert rig.level == DiagnosticStatus.WARN and '160x120' in rig.message


def test_a_recording_that_begins_again_begins_a_new_map(frames, tmp_path):
    with Rig(tmp_path, {'node.use_extrinsic': 'none'}) as rig:
        rig.send_info(frames[0])
        rig.send(frames[:16])
        rig.wait(lambda: len(rig.odometry) == 16)
        # three must agree that the stamps are right: the first two are refused
        rig.send(Frame(0, frame.stamp_ns - 10**10, frame.image) for frame in frames[:18])
        rig.wait(lambda: len(rig.odometry) == 32)
        assert np.allclose(_pose(rig.odometry[16]), np.eye(4))
        complaints = rig.process.complaints()
    assert any('a new map begins' in line for line in complaints)


def test_a_required_mounting_is_waited_for_and_the_images_with_it(drive, tmp_path):
    production, frames = drive
    with Rig(tmp_path, {'node.use_extrinsic': 'require'}) as rig:
        rig.send_info(frames[0])
        rig.send(frames[:4])
        rig.wait(lambda: 'NO_TF' in rig.status['findings'])
        assert rig.status['images taken'] == '0' and 'base_link' in rig.message
        rig.send_mounting(production.world.T_base_camera)
        rig.send(frames[4:16])
        rig.wait(lambda: len(rig.odometry) == 16)
        assert stamp_ns(rig.odometry[0].header.stamp) == frames[0].stamp_ns


def test_the_newest_images_win_when_there_is_too_little_time(frames, tmp_path):
    with Rig(tmp_path, {'node.use_extrinsic': 'none', 'node.queue_policy': 'latest',
                        'node.queue_size': 4}) as rig:
        rig.send_info(frames[0])
        for n, frame in enumerate(frames[:16], 1):
            rig.send([frame])
            rig.wait_processed(n)
        rig.wait(lambda: len(rig.odometry) == 16)       # from here on it tracks
        rig.send(frames[16:], is_patient=False)
        rig.wait(lambda: sum(int(rig.status[f'images {what}']) for what in (
            'taken', 'skipped', 'dropped', 'lost before the node')) == N)
        rig.wait(lambda: stamp_ns(rig.odometry[-1].header.stamp) == frames[-1].stamp_ns)
        assert int(rig.status['images taken']) < N
        assert rig.stop(signal.SIGINT) == 0
    assert 16 < len(rig.odometry) < N
    stamps_ns = [stamp_ns(message.header.stamp) for message in rig.odometry]
    assert all(a < b for a, b in zip(stamps_ns, stamps_ns[1:]))


def _pose(odometry):
    pose = odometry.pose.pose
    position = Vector3(x=pose.position.x, y=pose.position.y, z=pose.position.z)
    return matrix_of(Transform(translation=position, rotation=pose.orientation))
