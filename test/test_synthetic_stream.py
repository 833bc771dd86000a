"""Frames of a world: determinism, independence, effects, and the frame source."""

from itertools import islice

import numpy as np
import pytest

from longrecon_ros.errors import ConfigError
from longrecon_ros.synthetic.camera import SyntheticCamera
from longrecon_ros.synthetic.effects import Effects, exposure_gain, row_gain, shutter_times
from longrecon_ros.synthetic.motion import Still, Turning
from longrecon_ros.synthetic.stream import Film, generate, START_NS, SyntheticSource
from longrecon_ros.synthetic.worlds import DESCRIPTIONS, make_world

CAMERA = SyntheticCamera.from_fov(96, 64)
EVERYTHING = Effects(noise=3, exposure=0.5, blur=0.5, rolling=0.1, blur_samples=3)


@pytest.fixture(scope='module')
def world():
    return make_world('indoor', seed=1)


def film(world, effects=Effects(), seed=0, motion=None, fps=20.0) -> Film:
    return Film(world.scene, motion or world.motion, CAMERA, effects, seed, fps)


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(world, wet_paint):
    wet_paint()
    again = make_world('indoor', seed=1)
    assert again.scene is not world.scene
    one, two = (film(w, EVERYTHING, seed=4).frame(5) for w in (world, again))
    assert (one.image == two.image).all() and (one.depth == two.depth).all()
    other = film(make_world('indoor', seed=2), EVERYTHING, seed=4).frame(5)
    assert (one.image != other.image).any(axis=2).mean() > 0.5
    assert (film(world, EVERYTHING, seed=5).frame(5).image != one.image).mean() > 0.5


def test_a_frame_does_not_depend_on_how_many_are_asked_for(world):
    def frames(n):
        return generate(world.scene, world.motion, CAMERA, EVERYTHING, seed=3, n_frames=n)
    few, many = list(frames(2)), list(islice(frames(None), 4))
    assert len(few) == 2 and len(many) == 4
    for a, b in zip(few, many):
        assert (a.image == b.image).all() and a.stamp_ns == b.stamp_ns
    alone = film(world, EVERYTHING, seed=3).frame(3)
    assert (alone.image == many[3].image).all()


def test_stamps_are_rounded_once_not_summed(world):
    stamps = [film(world, fps=30.0).stamp_ns(i) for i in (0, 1, 2, 3000)]
    assert stamps == [START_NS, START_NS + 33333333, START_NS + 66666667,
                      START_NS + 100_000_000_000]


def test_effects_off_leave_the_rendering_alone(world):
    sharp = film(world)._renderer.render(film(world).pose(7)).color
    assert np.abs(film(world).frame(7).image - sharp).max() <= 0.5


def test_noise_has_the_asked_deviation_and_differs_from_frame_to_frame(world):
    still = Still(world.motion.pose(0.0))
    noisy = film(world, Effects(noise=4.0), motion=still)
    clean = film(world, motion=still).frame(0).image.astype(float)
    first, second = noisy.frame(0).image, noisy.frame(1).image
    middle = (clean > 20) & (clean < 235)
    assert 3.8 < (first - clean)[middle].std() < 4.2
    assert abs((first - clean)[middle].mean()) < 0.15
    assert np.corrcoef((first - clean)[middle], (second - clean)[middle])[0, 1] < 0.05


def test_exposure_scales_the_whole_image_smoothly(world):
    effects = Effects(exposure=1.0)
    gains = np.array([exposure_gain(effects, 0, t) for t in np.arange(0, 30, 0.05)])
    assert 0.5 <= gains.min() < 0.8 and 1.25 < gains.max() <= 2.0
    assert np.abs(np.diff(np.log2(gains))).max() < 0.1
    still = Still(world.motion.pose(0.0))
    t = int(np.argmin(gains))
    dark = film(world, effects, motion=still).frame(t).image.astype(float)
    clean = film(world, motion=still).frame(t).image
    np.testing.assert_allclose(dark, clean * gains[t], atol=1.0)


def test_rolling_bands_change_rows_and_not_columns(world):
    effects = Effects(rolling=0.2)
    gain = row_gain(effects, 0, 0.0, 64)
    assert gain.min() < 0.85 and gain.max() > 1.15
    still = Still(world.motion.pose(0.0))
    banded = film(world, effects, motion=still).frame(0).image.astype(float)
    clean = film(world, motion=still).frame(0).image.astype(float)
    expected = np.clip(clean * gain[:, None, None], 0, 255)
    np.testing.assert_allclose(banded, expected, atol=1.5)
    assert np.abs(row_gain(effects, 0, 0.35, 64) - gain).max() > 0.1


def test_blur_averages_over_the_shutter_time_and_needs_motion(world):
    effects = Effects(blur=0.8, blur_samples=4)
    times = shutter_times(effects, 1.0, 0.05)
    assert len(times) == 4 and np.isclose(times.mean(), 1.0) and np.ptp(times) < 0.8 * 0.05
    still = Still(world.motion.pose(3.0))
    same = film(world, effects, motion=still).frame(2).image.astype(int)
    assert np.abs(same - film(world, motion=still).frame(2).image).max() <= 1
    turning = Turning(world.motion.pose(3.0), rate_rad_s=3.0)
    sharp = film(world, motion=turning).frame(2)
    blurred = film(world, Effects(blur=1.0), motion=turning).frame(2)
    assert sharpness(blurred.image) < 0.8 * sharpness(sharp.image)
    assert (blurred.depth == sharp.depth).all()


def sharpness(image) -> float:
    return float(np.abs(np.diff(image.astype(float), axis=1)).mean())


def test_impossible_effects_are_refused():
    for bad in ({'noise': -1}, {'exposure': 9}, {'blur': 1.5}, {'rolling': -0.1},
                {'blur_samples': 1}, {'noise': float('nan')}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Effects(**bad)


def test_source_is_a_frame_source_with_truth(world):
    source = SyntheticSource(film(world), 3, 'indoor')
    frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2] and len(source) == 3
    assert all((a.image == b.image).all() for a, b in zip(frames, source))
    truth = source.groundtruth()
    assert list(truth.stamps_ns) == [frame.stamp_ns for frame in frames]
    np.testing.assert_array_equal(truth.T_map_camera[1], world.motion.pose(0.05))
    assert (source.depth(2) == film(world).frame(2).depth).all()
    assert '3 frames of 96x64' in source.describe() and source.warnings == []
    with pytest.raises(ValueError, match='index'):
        source.depth(3)


def test_distortion_reaches_the_frame(world):
    distortion = np.array([-0.2, 0.05, 0, 0])
    camera = SyntheticCamera.from_fov(96, 64, 75.0, distortion)
    frame = Film(world.scene, world.motion, camera).frame(0).to_frame()
    np.testing.assert_array_equal(frame.distortion, distortion)
    assert frame.distortion_model == 'plumb_bob'
    np.testing.assert_array_equal(frame.K, camera.K)


@pytest.mark.parametrize('name', ['indoor', 'street', 'eight'])
def test_worlds_are_textured_clear_of_obstacles_and_closed(name):
    world = make_world(name, seed=7)
    step_s = world.lap_s / 40
    lap = Film(world.scene, world.motion, SyntheticCamera.from_fov(64, 48), fps=1 / step_s)
    for index in range(40):
        frame = lap.frame(index)
        assert frame.depth[frame.depth > 0].min() > 0.3, f'something in the way in {index}'
        assert frame.image.std() > 12
    np.testing.assert_allclose(lap.pose(40), lap.pose(0), atol=1e-9)
    n = world.frames_a_lap(20.0)
    end, start = world.motion.pose((n - 1) / 20.0), world.motion.pose(0.0)
    assert np.linalg.norm(end[:3, 3] - start[:3, 3]) < 0.3


def test_the_wall_is_blank_in_the_middle_only():
    world = make_world('wall')
    lap = Film(world.scene, world.motion, CAMERA)
    textured, blank = lap.frame(40), lap.frame(int(11.0 / 0.8 * 20))
    assert blank.image.reshape(-1, 3).std(axis=0).max() == 0
    assert textured.image.std() > 15
    assert (blank.depth > 0).all()


def test_every_world_is_described():
    assert set(DESCRIPTIONS) == {'indoor', 'street', 'eight', 'wall', 'corridor'}


def test_unknown_worlds_and_impossible_speeds_are_refused():
    with pytest.raises(ConfigError, match='moon.*indoor, street, eight, wall'):
        make_world('moon')
    for speed in (0.0, -1.0, float('nan'), 1000.0):
        with pytest.raises(ConfigError, match='speed'):
            make_world('indoor', 0, speed)
