"""What every backbone promises to the pipeline. A new file under backbones/ is tested for free.

A backbone whose default configuration is too heavy for a test says so itself, in ``tiny``.
"""

import copy
import dataclasses

import backbone_runs as runs
from backbone_runs import predict, tiny
from fakes import FakeBackbone
import numpy as np
import pytest
from sfm_films import film
from sfm_runs import stream

from longrecon_ros import alignment, backbones, config
from longrecon_ros.backbones.base import Backbone, LockstepBackbone
from longrecon_ros.errors import ConfigError, InputError
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.types import FrameState, Prediction

N, SIZE, OVERLAP = 19, 8, 3         # the last window is short
NAMES = backbones.available()


def make(name):
    """Return a backbone, as small as it can be; `fake` is the one the other tests rely on."""
    if name == 'fake':
        return FakeBackbone()
    return tiny(name)


def windows_of(backbone, pictures, n=N):
    """Return the windows the pipeline would give to this backbone."""
    frames = stream(pictures[:n], backbone.spec.needs_truth)
    return runs.windows_of(backbone, frames, SIZE, OVERLAP)


@pytest.fixture(scope='module', params=[*NAMES, 'fake'])
def one(request):
    """Return a backbone, windows of a stream, and what it says about them."""
    backbone = make(request.param)
    windows = windows_of(backbone, film('street', N))
    return backbone, windows, predict(backbone, windows)


def assert_equal(a: Prediction, b: Prediction):
    for field in dataclasses.fields(Prediction):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if field.name == 'landmarks' and x is not None:
            for part in dataclasses.fields(x):
                np.testing.assert_array_equal(getattr(x, part.name), getattr(y, part.name))
        else:
            np.testing.assert_array_equal(x, y)


def test_there_are_backbones_and_no_others_are_loaded():
    assert 'sfm' in NAMES and list(NAMES) == sorted(NAMES)
    with pytest.raises(ConfigError, match="there is no 'smf'; did you mean sfm"):
        backbones.load('smf')


@pytest.mark.parametrize('name', NAMES)
def test_spec_is_valid(name):
    spec = backbones.load(name).spec
    assert spec.name == name
    assert isinstance(spec.patch, int) and spec.patch >= 1
    assert spec.max_pixels is None or spec.max_pixels >= spec.patch**2
    assert spec.gauge in ('window', 'stream') and spec.scale in ('relative', 'metric')
    assert spec.feed in ('all', 'new') and spec.align in alignment.available()


@pytest.mark.parametrize('name', NAMES)
def test_a_backbone_is_final(name):
    chosen = backbones.load(name)
    assert issubclass(chosen, Backbone) and chosen.__subclasses__() == []
    assert all(base in (Backbone, LockstepBackbone) or base.__module__ in
               ('abc', 'builtins', Backbone.__module__) for base in chosen.__mro__[1:])


@pytest.mark.parametrize('name', NAMES)
def test_config_is_frozen_and_agrees_with_the_file(name):
    chosen = backbones.load(name)
    assert dataclasses.is_dataclass(chosen.Config)
    default = chosen.Config()
    for field in dataclasses.fields(default):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(default, field.name, getattr(default, field.name))
    with pytest.raises(ConfigError):
        config.build(chosen.Config, {'no_such_parameter': 1})
    options = config.load(overrides={'backbone': name}).backbone_options
    assert config.build(chosen.Config, options) == default
    assert set(options) == {field.name for field in dataclasses.fields(default)}


@pytest.mark.parametrize('name', NAMES)
def test_the_pipeline_takes_it(name):
    loaded = config.load(overrides={'backbone': name})
    pipeline = Pipeline.from_config(dataclasses.replace(
        loaded, backbone_options={**loaded.backbone_options, **backbones.load(name).tiny}))
    frames = stream(film('street', N), backbones.load(name).spec.needs_truth)
    updates = [u for u in [*map(pipeline.push, frames), pipeline.flush()] if u is not None]
    assert [i for u in updates for i in u.frame_ids] == list(range(N))
    assert len(pipeline.trajectory()) == N


def test_predictions_stay_as_they_are_while_later_windows_come(one):
    backbone, windows, _ = one
    state, predictions, copies = backbone.init(), [], []
    for window in windows:
        state, prediction = backbone.step(state, window)
        predictions.append(prediction)
        copies.append(copy.deepcopy(prediction))
    for prediction, as_given in zip(predictions, copies):
        assert_equal(prediction, as_given)


def test_predictions_hold_the_frames_of_their_window_in_order(one):
    _, windows, predictions = one
    for window, prediction in zip(windows, predictions):
        np.testing.assert_array_equal(prediction.frame_ids, window.frame_ids)
        assert (np.diff(prediction.frame_ids) > 0).all()


def test_shapes_and_types(one):
    _, windows, predictions = one
    sizes = set()
    for window, p in zip(windows, predictions):
        assert isinstance(p, Prediction)
        n = len(window.frames)
        h, w = p.confidence.shape[1:]
        sizes.add((h, w))
        assert p.local_points.shape == p.rgb.shape == (n, h, w, 3)
        assert p.T_window_camera.shape == (n, 4, 4) and p.states.shape == (n,)
        assert p.K is None or p.K.shape == (n, 3, 3)
        assert p.local_points.dtype == p.confidence.dtype == np.float32
        assert p.rgb.dtype == np.uint8 and p.T_window_camera.dtype == np.float64
    assert len(sizes) == 1, 'all predictions of a stream have one size'


def test_poses_are_rigid(one):
    for p in one[2]:
        R = p.T_window_camera[:, :3, :3]
        np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2),
                                   np.broadcast_to(np.eye(3), R.shape), atol=1e-6)
        np.testing.assert_allclose(np.linalg.det(R), 1.0, atol=1e-6)
        np.testing.assert_array_equal(p.T_window_camera[:, 3],
                                      np.broadcast_to([0, 0, 0, 1.0], (len(R), 4)))
        assert np.isfinite(p.T_window_camera).all()


def test_confidence_is_a_share_and_0_where_a_point_is_undefined(one):
    for p in one[2]:
        assert np.isfinite(p.confidence).all()
        assert p.confidence.min() >= 0 and p.confidence.max() <= 1
        undefined = ~np.isfinite(p.local_points).all(axis=3) | ~(p.depth > 0)
        assert not p.confidence[undefined].any()


def test_states_are_known_and_only_measured_frames_are_sure(one):
    for p in one[2]:
        assert np.isin(p.states, [s.value for s in FrameState]).all()
        assert not p.confidence[p.states == FrameState.LOST].any()


def test_points_lie_on_the_rays_of_their_pixels(one):
    for p in one[2]:
        if p.K is None:
            continue
        h, w = p.confidence.shape[1:]
        v, u = np.mgrid[:h, :w]
        for K, points, confidence in zip(p.K, p.local_points, p.confidence):
            used = confidence > 0
            seen = points[used] @ K.T
            found = seen[:, :2] / seen[:, 2:]
            np.testing.assert_allclose(found, np.column_stack([u[used], v[used]]), atol=0.05)


def test_landmarks_are_finite_and_have_their_own_ids(one):
    for p in one[2]:
        if p.landmarks is None:
            continue
        assert (np.diff(p.landmarks.ids) > 0).all()
        assert np.isfinite(p.landmarks.points).all()
        assert np.isfinite(p.landmarks.sigma_log_depth).all()
        assert (p.landmarks.sigma_log_depth > 0).all()


@pytest.mark.parametrize('one', NAMES, indirect=True)
def test_colours_are_those_of_the_image(one):
    _, windows, predictions = one
    for window, p in zip(windows, predictions):
        for frame, rgb in zip(window.frames, p.rgb):
            np.testing.assert_allclose(rgb.mean(axis=(0, 1)), frame.image.mean(axis=(0, 1)),
                                       atol=3)


def test_two_runs_are_equal(one):
    backbone, windows, predictions = one
    for a, b in zip(predictions, predict(backbone, windows)):
        assert_equal(a, b)


def test_state_is_passed_by_hand_two_streams_do_not_disturb_each_other(one):
    backbone, windows, alone = one
    other_windows = windows_of(backbone, film('indoor', N))
    other_alone = predict(make(backbone.spec.name), other_windows)
    states = [backbone.init(), backbone.init()]
    for k in range(len(windows)):
        for s, (stream_windows, expected) in enumerate(((windows, alone),
                                                        (other_windows, other_alone))):
            states[s], prediction = backbone.step(states[s], stream_windows[k])
            assert_equal(prediction, expected[k])


def test_what_was_predicted_does_not_change_later(one):
    backbone, windows, _ = one
    state = backbone.init()
    state, first = backbone.step(state, windows[0])
    kept = [np.array(getattr(first, name)) for name in
            ('T_window_camera', 'local_points', 'confidence', 'rgb', 'states')]
    images = [frame.image.copy() for frame in windows[0].frames]
    for window in windows[1:]:
        state, _ = backbone.step(state, window)
    for name, value in zip(('T_window_camera', 'local_points', 'confidence', 'rgb', 'states'),
                           kept):
        np.testing.assert_array_equal(getattr(first, name), value)
    for frame, image in zip(windows[0].frames, images):
        np.testing.assert_array_equal(frame.image, image)


@pytest.mark.parametrize('name', [*NAMES, 'fake'])
@pytest.mark.parametrize('n', [1, 2])
def test_a_stream_of_one_or_two_frames(name, n):
    backbone = make(name)
    predictions = predict(backbone, windows_of(backbone, film('street', N), n))
    assert len(predictions) == 1 and len(predictions[0].frame_ids) == n
    assert np.isfinite(predictions[0].T_window_camera).all()


@pytest.mark.parametrize('name', NAMES)
def test_frames_without_intrinsics_work_or_are_refused_in_words(name):
    backbone = make(name)
    windows = [dataclasses.replace(w, frames=tuple(dataclasses.replace(f, K=None)
                                                   for f in w.frames))
               for w in windows_of(backbone, film('street', N))]
    try:
        predictions = predict(backbone, windows)
    except InputError as error:
        assert name in str(error)
    else:
        assert all(np.isfinite(p.T_window_camera).all() for p in predictions)
