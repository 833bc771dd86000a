import sys

import numpy as np
import pytest

pytest.importorskip('rosbags', reason='reading bags needs rosbags')

from bag_files import Messages, STORE1, STORE2, write_bag  # noqa: E402

from longrecon_ros.errors import BagError, InputError, MissingDependency  # noqa: E402
from longrecon_ros.geometry import se3  # noqa: E402
from longrecon_ros.io.source import open_source  # noqa: E402

START_NS = 1_700_000_000_123_456_789
STEP_NS = 100_000_000
K = np.array([[50., 0, 16], [0, 51, 12], [0, 0, 1]])
ROS2 = Messages(STORE2)


def _pixels(index):
    return np.random.default_rng(index).integers(0, 256, (24, 32, 3)).astype(np.uint8)


def _stamp(index):
    return START_NS + index * STEP_NS


def _images(messages=ROS2, n=4, compressed=False, topic='/cam/image_raw'):
    make = messages.compressed if compressed else messages.image
    topic += '/compressed' if compressed else ''
    return [(topic, make(_pixels(i), _stamp(i)), _stamp(i) + 5_000_000) for i in range(n)]


def _info(messages=ROS2, topic='/cam/camera_info', **fields):
    return (topic, messages.camera_info(fields.pop('K', K), (32, 24), _stamp(0), **fields),
            _stamp(0))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3', 'ros1'])
@pytest.mark.parametrize('compressed', [False, True])
def test_images_stamps_and_calibration(tmp_path, storage, compressed):
    messages = Messages(STORE1) if storage == 'ros1' else ROS2
    bag = write_bag(tmp_path / ('a.bag' if storage == 'ros1' else 'a'),
                    [_info(messages, D=[.1, 0, 0, 0, 0])] + _images(messages, 4, compressed),
                    storage)
    source = open_source(bag)
    frames = list(source)
    assert len(source) == 4
    assert [f.index for f in frames] == [0, 1, 2, 3]
    assert [f.stamp_ns for f in frames] == [_stamp(i) for i in range(4)]
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, _pixels(i)[..., ::-1])
        np.testing.assert_array_equal(frame.K, K)
        assert frame.distortion.tolist() == [.1, 0, 0, 0, 0]


@pytest.mark.parametrize('storage, suffix', [('mcap', '.mcap'), ('sqlite3', '.db3')])
def test_bare_files_and_a_lost_metadata_file(tmp_path, storage, suffix):
    bag = write_bag(tmp_path / 'a', _images(), storage)
    assert len(list(open_source(next(bag.glob('*' + suffix))))) == 4
    (bag / 'metadata.yaml').unlink()
    assert len(list(open_source(bag))) == 4


def test_several_cameras_are_listed(tmp_path):
    bag = write_bag(tmp_path / 'a', _images(topic='/left/image') + _images(topic='/right/image'))
    with pytest.raises(BagError, match=r'2 image topics, choose one with --topic: /left/image '
                                       r'\(sensor_msgs/msg/Image, 4 messages\), /right/image'):
        open_source(bag)
    assert len(list(open_source(bag, topic='right/image'))) == 4


def test_raw_goes_before_compressed_and_depth_is_no_candidate(tmp_path):
    depth = ('/cam/depth/image', ROS2.image(np.zeros((24, 32), np.uint16), _stamp(0), '16UC1'), 0)
    bag = write_bag(tmp_path / 'a', [depth] + _images() + _images(compressed=True))
    source = open_source(bag)
    assert 'topic /cam/image_raw' in source.describe()
    assert len(list(source)) == 4


def test_compressed_is_found_by_the_base_name(tmp_path):
    bag = write_bag(tmp_path / 'a', _images(compressed=True))
    assert len(list(open_source(bag, topic='/cam/image_raw'))) == 4


@pytest.mark.parametrize('topic, message', [
    ('/none', r'no topic /none; image topics are: /cam/image_raw \(sensor_msgs/msg/Image, 4'),
    ('/cam/camera_info', '/cam/camera_info holds sensor_msgs/msg/CameraInfo, not images')])
def test_wrong_topic(tmp_path, topic, message):
    bag = write_bag(tmp_path / 'a', [_info()] + _images())
    with pytest.raises(BagError, match=message):
        open_source(bag, topic=topic)


def test_no_images(tmp_path):
    bag = write_bag(tmp_path / 'a', [_info()])
    with pytest.raises(BagError, match='no image topic.*topics are: /cam/camera_info'):
        open_source(bag)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3', 'ros1'])
def test_empty_bag(tmp_path, storage):
    bag = write_bag(tmp_path / ('a.bag' if storage == 'ros1' else 'a'), [], storage)
    with pytest.raises(BagError, match='(is empty|cannot be read)'):
        open_source(bag)


@pytest.mark.parametrize('storage, pattern', [
    ('mcap', '*.mcap'), ('sqlite3', '*.db3'), ('ros1', '*.bag')])
@pytest.mark.parametrize('share', [0, 0.1, 0.5, 0.8])
def test_bag_cut_short(tmp_path, storage, pattern, share):
    messages = Messages(STORE1) if storage == 'ros1' else ROS2
    bag = write_bag(tmp_path / ('a.bag' if storage == 'ros1' else 'a'),
                    _images(messages, 12), storage)
    file = next(tmp_path.rglob(pattern))
    data = file.read_bytes()
    file.write_bytes(data[:int(len(data) * share)])
    with pytest.raises(BagError, match='cannot be read') as caught:
        list(open_source(bag))
    assert '\n' not in str(caught.value)


def test_fewer_images_than_the_bag_says(tmp_path):
    bag = write_bag(tmp_path / 'a', _images(), 'sqlite3')
    metadata = bag / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('message_count: 4', 'message_count: 6'))
    with pytest.raises(BagError, match='breaks off: 4 of 6 images'):
        list(open_source(bag))
    source = open_source(bag, allow_truncated=True)
    assert len(list(source)) == 4
    assert source.warnings == ['The bag breaks off: 4 of 6 images can be read.']


def test_metadata_that_is_no_metadata(tmp_path):
    bag = write_bag(tmp_path / 'a', _images())
    (bag / 'metadata.yaml').write_text('[1, 2\n  3: :')
    with pytest.raises(BagError, match='cannot be read'):
        open_source(bag)


def test_two_sizes(tmp_path):
    entries = _images() + [('/cam/image_raw', ROS2.image(np.zeros((20, 30, 3), np.uint8),
                                                         _stamp(9)), _stamp(9))]
    source = open_source(write_bag(tmp_path / 'a', entries))
    with pytest.raises(InputError, match='image 4 is 30x20 px, but .*image 0 is 32x24 px'):
        list(source)


def test_nan_intrinsics(tmp_path):
    bag = write_bag(tmp_path / 'a', [_info(K=K * np.nan)] + _images())
    with pytest.raises(InputError, match='topic /cam/camera_info: the intrinsics hold NaN'):
        open_source(bag)


def test_uncalibrated_camera(tmp_path):
    source = open_source(write_bag(tmp_path / 'a', [_info(K=K * 0)] + _images()))
    assert next(iter(source)).K is None
    assert 'not calibrated' in source.warnings[0]


def test_damaged_image_names_topic_and_number(tmp_path):
    entries = _images(compressed=True)
    entries[2][1].data = entries[2][1].data[:200]
    source = open_source(write_bag(tmp_path / 'a', entries))
    with pytest.raises(InputError, match=r'/cam/image_raw/compressed, image 2 .*cut short'):
        list(source)


def test_stamps_that_do_not_ascend_are_left_out(tmp_path):
    entries = _images(n=4) + [('/cam/image_raw', ROS2.image(_pixels(9), _stamp(1)), _stamp(5))]
    source = open_source(write_bag(tmp_path / 'a', entries))
    assert len(list(source)) == 4
    assert source.warnings == ['1 images on /cam/image_raw repeat a stamp or go back in time; '
                               'they are left out.']


def test_without_stamps_the_time_of_recording_counts(tmp_path):
    entries = [('/cam/image_raw', ROS2.image(_pixels(i), 0), _stamp(i)) for i in range(3)]
    source = open_source(write_bag(tmp_path / 'a', entries))
    assert [f.stamp_ns for f in source] == [_stamp(i) for i in range(3)]
    assert 'carry no stamps' in source.warnings[0]


def _odometry(child='base_link', topic='/ground_truth/odom'):
    rng = np.random.default_rng(3)
    T = se3.exp(rng.normal(size=(5, 6)))
    q = se3.quaternion_xyzw_from_rotation(T[:, :3, :3])
    return T, [(topic, ROS2.odometry(T[i, :3, 3], q[i], _stamp(i), child), _stamp(i))
               for i in range(5)]


def test_ground_truth_of_base_link_becomes_that_of_the_camera(tmp_path):
    T, odometry = _odometry()
    T_base_mast, T_camera_mast = se3.exp(np.random.default_rng(5).normal(size=(2, 6)))
    tf = []
    for parent, child, T_parent_child in (('base_link', 'mast', T_base_mast),
                                          ('camera_optical', 'mast', T_camera_mast)):
        q = se3.quaternion_xyzw_from_rotation(T_parent_child[:3, :3])
        tf.append(('/tf_static', ROS2.static_tf(parent, child, T_parent_child[:3, 3], q),
                   _stamp(0)))
    source = open_source(write_bag(tmp_path / 'a', tf + _images() + odometry))
    truth = source.groundtruth()
    expected = T @ T_base_mast @ se3.inverse(T_camera_mast)
    np.testing.assert_allclose(truth.T_map_camera, expected, atol=1e-12)
    assert truth.stamps_ns.tolist() == [_stamp(i) for i in range(5)]
    assert source.warnings == []


def test_ground_truth_that_is_not_connected_is_taken_with_a_warning(tmp_path):
    T, odometry = _odometry()
    source = open_source(write_bag(tmp_path / 'a', _images() + odometry))
    np.testing.assert_allclose(source.groundtruth().T_map_camera, T, atol=1e-12)
    assert 'no static transform from base_link to "camera_optical"' in source.warnings[0]


def test_ground_truth_of_the_camera_itself(tmp_path):
    T, odometry = _odometry('camera_optical', '/odom')
    bag = write_bag(tmp_path / 'a', _images() + odometry)
    assert open_source(bag).groundtruth() is None
    truth = open_source(bag, gt_topic='/odom').groundtruth()
    np.testing.assert_allclose(truth.T_map_camera, T, atol=1e-12)
    with pytest.raises(BagError, match=r'/cam/image_raw is no topic of poses.*: /odom \(nav_msgs'):
        open_source(bag, gt_topic='/cam/image_raw')


def test_without_rosbags_the_install_line_is_told(tmp_path, monkeypatch):
    bag = write_bag(tmp_path / 'a', _images())
    monkeypatch.setitem(sys.modules, 'rosbags.highlevel', None)
    with pytest.raises(MissingDependency, match='pip install rosbags'):
        open_source(bag)
