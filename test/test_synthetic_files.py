"""Synthetic recordings on disk: read back, everything is as it was filmed."""

import json

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from longrecon_ros.errors import ConfigError, InputError
from longrecon_ros.geometry import se3
from longrecon_ros.io.bag import BagSource
from longrecon_ros.io.folder import FolderSource
from longrecon_ros.synthetic import bag_writer
from longrecon_ros.synthetic.bag_writer import BagFormat, write_bag
from longrecon_ros.synthetic.effects import Effects
from longrecon_ros.synthetic.folder_writer import depth_to_mm, write_folder
from longrecon_ros.synthetic.recipe import Production, Recipe

N_FRAMES = 4
DISTORTION = (-0.2, 0.04, 0.001, -0.0005)


@pytest.fixture(scope='module')
def production() -> Production:
    return Production.of(Recipe('indoor', N_FRAMES, (80, 60), fps=100.0, seed=1,
                                distortion=DISTORTION, effects=Effects(noise=2.0)))


def write(path, production, **options):
    write_bag(path, production.film, production.world.T_base_camera, production.n_frames,
              BagFormat(**options), notes={'scene': 'indoor'})
    return path


def messages(bag, topic):
    with AnyReader([bag]) as reader:
        connections = [c for c in reader.connections if c.topic == topic]
        return [] if not connections else [(stamp, reader.deserialize(raw, c.msgtype))
                for c, stamp, raw in reader.messages(connections)]


def check_frames(source, production, tolerance):
    frames = list(source)
    assert len(frames) == len(source) == N_FRAMES
    for index, frame in enumerate(frames):
        true = production.film.frame(index)
        assert frame.stamp_ns == true.stamp_ns
        np.testing.assert_allclose(frame.K, true.K, rtol=1e-12)
        np.testing.assert_allclose(frame.distortion[:4], DISTORTION)
        assert np.abs(frame.image.astype(int) - true.image).mean() <= tolerance
    truth = source.groundtruth()
    assert list(truth.stamps_ns) == [production.film.stamp_ns(i) for i in range(N_FRAMES)]
    for index, pose in enumerate(truth.T_map_camera):
        np.testing.assert_allclose(pose, production.film.pose(index), atol=2e-8)


def test_folder_round_trip(tmp_path, production):
    done = []
    write_folder(tmp_path / 'new' / 'clip', production.film, N_FRAMES, done.append)
    source = FolderSource(tmp_path / 'new' / 'clip')
    check_frames(source, production, tolerance=0)
    assert done == [1, 2, 3, 4] and source.warnings == []
    for index in range(N_FRAMES):
        np.testing.assert_allclose(source.depth(index), production.film.depth(index), atol=6e-4)
    assert sorted(p.name for p in (tmp_path / 'new' / 'clip').iterdir()) == [
        'calib.json', 'depth', 'gt_tum.txt', 'rgb', 'timestamps.txt']


def test_depth_beyond_16_bit_millimetres_is_unknown_not_wrapped():
    depth = np.array([[0.0, 1.2345, 65.535, 65.54, 300.0]])
    assert depth_to_mm(depth).tolist() == [[0, 1234, 65535, 0, 0]]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('images, tolerance', [('raw', 0), ('png', 0), ('jpeg', 6)])
def test_bag_round_trip(tmp_path, production, storage, images, tolerance):
    bag = write(tmp_path / 'bag', production, storage=storage, images=images)
    source = BagSource(bag)
    check_frames(source, production, tolerance)
    assert source.warnings == []


def test_bag_says_what_ros_expects(tmp_path, production):
    bag = write(tmp_path / 'bag', production)
    stamps = [production.film.stamp_ns(i) for i in range(N_FRAMES)]
    images = messages(bag, bag_writer.IMAGE_TOPIC)
    infos = messages(bag, bag_writer.INFO_TOPIC)
    assert [stamp for stamp, _ in images] == [stamp for stamp, _ in infos] == stamps
    for stamp, message in images + infos:
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp
        assert message.header.frame_id == 'camera_optical_frame'
    assert images[0][1].encoding == 'rgb8' and images[0][1].step == 240
    info = infos[0][1]
    assert (info.width, info.height, info.distortion_model) == (80, 60, 'plumb_bob')
    assert info.p.reshape(3, 4)[:, :3].tolist() == info.k.reshape(3, 3).tolist()


def test_base_link_has_rep_103_axes_and_its_motion_is_forward(tmp_path, production):
    bag = write(tmp_path / 'bag', production)
    transform = messages(bag, '/tf_static')[0][1].transforms[0]
    assert transform.header.frame_id == 'base_link'
    assert transform.child_frame_id == 'camera_optical_frame'
    q = transform.transform.rotation
    R = se3.rotation_from_quaternion_xyzw([q.x, q.y, q.z, q.w])
    np.testing.assert_allclose(R @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(R @ [0, 1, 0], [0, 0, -1], atol=1e-12)
    odometry = messages(bag, bag_writer.TRUTH_TOPIC)
    assert odometry[0][1].header.frame_id == 'map'
    assert odometry[0][1].child_frame_id == 'base_link'
    twist = odometry[1][1].twist.twist
    assert twist.linear.x > 0.5 and abs(twist.linear.y) < 0.25
    before, after = (odometry[i][1].pose.pose.position for i in (0, 2))
    speed = np.linalg.norm([after.x - before.x, after.y - before.y, after.z - before.z]) / 0.02
    assert abs(speed - np.linalg.norm([twist.linear.x, twist.linear.y, twist.linear.z])) < 0.01


def test_true_tf_uses_frames_of_its_own(tmp_path, production):
    with_tf = write(tmp_path / 'with', production, use_truth_tf=True)
    transforms = [message.transforms[0] for _, message in messages(with_tf, '/tf')]
    assert len(transforms) == N_FRAMES
    assert {t.header.frame_id for t in transforms} == {'ground_truth_map'}
    assert {t.child_frame_id for t in transforms} == {'ground_truth_base_link'}
    assert messages(write(tmp_path / 'without', production), '/tf') == []


def test_notes_are_in_the_metadata(tmp_path, production):
    bag = write(tmp_path / 'bag', production)
    text = (bag / 'metadata.yaml').read_text()
    assert bag_writer.CUSTOM_DATA_KEY in text and json.dumps({'scene': 'indoor'}) in text


def test_nothing_is_left_of_a_recording_that_fails(tmp_path, production, monkeypatch):
    def fail(index):
        raise KeyboardInterrupt
    for writer in (lambda p: write(p, production), lambda p: write_folder(p, production.film, 3)):
        with monkeypatch.context() as patch:
            patch.setattr(type(production.film), 'frame', lambda self, index: fail(index))
            with pytest.raises(KeyboardInterrupt):
                writer(tmp_path / 'out')
        assert list(tmp_path.iterdir()) == []


def test_outputs_are_never_overwritten(tmp_path, production):
    (tmp_path / 'used').mkdir()
    (tmp_path / 'used' / 'precious.txt').write_text('keep')
    for writer in (lambda p: write(p, production), lambda p: write_folder(p, production.film, 1)):
        with pytest.raises(InputError, match='not empty'):
            writer(tmp_path / 'used')
    assert [p.name for p in tmp_path.rglob('*') if p.is_file()] == ['precious.txt']
    (tmp_path / 'empty').mkdir()
    assert list(write(tmp_path / 'empty', production).glob('*.mcap'))


def test_bag_formats_are_checked():
    for bad in ({'storage': 'zip'}, {'images': 'gif'}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            BagFormat(**bad)


def test_recipes_that_cannot_be_filmed_are_refused():
    for bad, word in (({'size': (4, 4)}, 'size'), ({'n_frames': 0}, 'frames'),
                      ({'fps': float('nan')}, 'second'), ({'hfov_deg': 179.0}, 'view'),
                      ({'seed': -1}, 'seed')):
        with pytest.raises(ConfigError, match=word):
            Recipe('indoor', **bad)
    with pytest.raises(ConfigError, match='folds over'):
        Production.of(Recipe('indoor', 1, (80, 60), hfov_deg=120.0, distortion=(-0.9, 0, 0, 0)))
    with pytest.raises(ConfigError, match='unknown scene'):
        Production.of(Recipe('moon', 1))


def test_a_recipe_without_a_number_of_frames_is_one_lap():
    production = Production.of(Recipe('eight', None, (32, 24), fps=2.0))
    first, last = (production.film.pose(i)[:3, 3] for i in (0, production.n_frames - 1))
    assert np.linalg.norm(first - last) < 1.2 / 2.0


def test_colours_are_in_order_on_disk(tmp_path, production):
    write_folder(tmp_path / 'clip', production.film, 1)
    bgr = cv2.imread(str(tmp_path / 'clip' / 'rgb' / '000000.png'))
    assert (bgr[..., ::-1] == production.film.frame(0).image).all()
