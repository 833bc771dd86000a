"""Layer-wise alignment on a stage of boards: what it mends, what it must not touch, faults."""

import dataclasses

import numpy as np
import pytest
from stage import N_LAYERS, SIZE, Stage, window

from longrecon_ros.alignment import LayerwiseConfig, make_aligner
from longrecon_ros.alignment.base import Alignment, apply
from longrecon_ros.alignment.layer_scales import fill, LogScales
from longrecon_ros.chain import Chain
from longrecon_ros.errors import AlignmentError, ConfigError, MissingDependency
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3

FACTORS = np.array([1.0, 1.12, 0.93, 1.05, 0.9])
GAUGE = Sim3(0.7, se3.so3_exp([0.2, -0.4, 0.1]), np.array([3.0, 1.0, -2.0]))


@pytest.fixture(scope='module')
def layers():
    return make_aligner('sim3', LayerwiseConfig())


def chained(stage, aligner, factors, size=10, overlap=4):
    """Return the windows of a stream in the frame of the first, whose layers are exact."""
    done = [stage.prediction(0, size)]
    for k, of_window in enumerate(factors, 1):
        gauge = Sim3(np.exp(0.3 * (-1)**k), se3.so3_exp([0.1 * k, 0.2, 0]), np.ones(3) * k)
        current = stage.prediction(k * (size - overlap), size, of_window, gauge)
        done.append(apply(aligner.align(done[-1], current), current))
    return done


@pytest.mark.parametrize('step', [0.0, 0.03, 0.12])
def test_layers_get_their_scales_back_at_any_speed(layers, step):
    stage = Stage(step)
    _, with_layers = chained(stage, layers, [FACTORS])
    _, without = chained(stage, make_aligner('sim3'), [FACTORS])
    assert stage.absrel(without, slice(4, None)) > 0.015
    assert stage.absrel(with_layers, slice(4, None)) < 0.004
    assert stage.absrel(with_layers, slice(0, 4)) < 0.001


def test_every_layer_has_the_factor_that_was_missing(layers):
    stage = Stage()
    previous, current = stage.prediction(0, 10), stage.prediction(6, 10, FACTORS, GAUGE)
    alignment = layers.align(previous, current)
    total = np.log(alignment.depth_scale) + np.log(alignment.T_odom_window.scale * GAUGE.scale)
    for k, t in enumerate(current.frame_ids):
        _, layer = stage.depth(int(t))
        for n in range(3):
            found = np.median(total[k][layer == n])
            assert found == pytest.approx(-np.log(FACTORS[n]), abs=3e-3), (t, n)
    assert alignment.layers.shape == current.confidence.shape
    assert alignment.layer_variance.shape[1] == alignment.layers.max() + 1


def test_errors_do_not_add_up_over_windows(layers):
    rng = np.random.default_rng(0)
    factors = np.exp(0.08 * rng.normal(size=(6, N_LAYERS)))
    stage = Stage(0.015)
    windows = chained(stage, layers, factors)
    errors = [stage.absrel(w, slice(4, None)) for w in windows[1:]]
    plain = [stage.absrel(w, slice(4, None))
             for w in chained(stage, make_aligner('sim3'), factors)[1:]]
    assert np.mean(errors) < 0.25 * np.mean(plain)
    assert np.mean(errors[3:]) < 2 * np.mean(errors[:3]) + 1e-3


def test_nothing_is_changed_where_nothing_is_wrong(layers):
    stage = Stage(noise=0.01)
    previous, current = stage.prediction(0, 10), stage.prediction(6, 10, gauge=GAUGE)
    plain = make_aligner('sim3').align(previous, current)
    alignment = layers.align(previous, current)
    assert abs(np.log(alignment.depth_scale)).max() < 3e-3
    assert alignment.T_odom_window.scale == pytest.approx(plain.T_odom_window.scale, rel=2e-3)
    without, with_layers = (stage.absrel(apply(a, current)) for a in (plain, alignment))
    assert with_layers < 1.02 * without


@pytest.mark.parametrize('unit', [1e-3, 1e3])
def test_the_unit_of_depth_does_not_matter(layers, unit):
    stage, U = Stage(noise=0.003), Sim3(unit, np.eye(3), np.zeros(3))
    pair = stage.prediction(0, 10), stage.prediction(6, 10, FACTORS, GAUGE)
    plain = layers.align(*pair)
    scaled = layers.align(*(apply(Alignment(U), p) for p in pair))
    assert (scaled.layers == plain.layers).mean() > 0.9999
    np.testing.assert_allclose(np.log(scaled.depth_scale), np.log(plain.depth_scale), atol=1e-5)
    assert scaled.T_odom_window.scale == pytest.approx(plain.T_odom_window.scale, rel=1e-5)


def test_the_same_input_gives_the_same_bytes_and_stays_as_it_was(layers):
    stage = Stage(noise=0.003)
    previous, current = stage.prediction(0, 10), stage.prediction(6, 10, FACTORS, GAUGE)
    before = previous.local_points.copy(), current.local_points.copy()
    first, second = (layers.align(previous, current) for _ in range(2))
    np.testing.assert_array_equal(first.depth_scale, second.depth_scale)
    np.testing.assert_array_equal(first.layers, second.layers)
    np.testing.assert_array_equal(previous.local_points, before[0])
    np.testing.assert_array_equal(current.local_points, before[1])


def test_a_layer_without_a_link_resembles_those_at_its_depth():
    scales = LogScales(np.array([0.1, -0.1, 0.0]), np.array([1e-4, 1e-4, np.inf]), np.zeros(3),
                       np.zeros(3), np.zeros(3))
    pixels = np.array([100, 100, 100])
    near, far = (fill(scales, np.array([1.0, 2.5, at]), pixels, 0.0)[2] for at in (1.05, 2.4))
    assert 0.06 < near < 0.1 and -0.1 < far < -0.06
    alone = fill(scales, np.array([1.0, 2.5, 9.0]), pixels, 0.03)
    assert alone[2] == pytest.approx(0.03), 'far from all others it is what is expected'
    np.testing.assert_array_equal(alone[:2], [0.1, -0.1])


def broken(prediction, **changes):
    """Return a prediction with other arrays; a function takes the old array."""
    return dataclasses.replace(prediction, **{
        name: change(np.array(getattr(prediction, name))) for name, change in changes.items()})


def hide(k):
    def change(confidence):
        confidence[k] = 0
        return confidence
    return change


def infinite(points):
    points[2:5, 20:40, 30:60] = np.inf
    return points


def constant(points):
    return points / points[..., 2:] * 2.0


FAULTS = {
    'a frame without confidence': {'confidence': hide(2)},
    'no confidence at all': {'confidence': np.zeros_like},
    'infinite depth': {'local_points': infinite},
    'nothing but infinite depth': {'local_points': lambda p: np.full_like(p, np.inf)},
    'constant depth': {'local_points': constant},
    'negative depth': {'local_points': lambda p: -p},
    'NaN': {'local_points': lambda p: np.full_like(p, np.nan)},
    'no depth': {'local_points': np.zeros_like},
}


@pytest.mark.parametrize('fault', FAULTS)
@pytest.mark.parametrize('which', ['previous', 'current'])
def test_faults_lead_to_nothing_but_alignment_errors(layers, fault, which):
    stage = Stage()
    pair = {'previous': stage.prediction(0, 10), 'current': stage.prediction(6, 10, FACTORS)}
    pair[which] = broken(pair[which], **FAULTS[fault])
    try:
        alignment = layers.align(**pair)
    except AlignmentError:
        return
    assert np.isfinite(alignment.depth_scale).all() and (alignment.depth_scale > 0).all()
    assert np.isfinite(alignment.T_odom_window.as_matrix()).all()


@pytest.mark.parametrize('size, overlap', [(2, 1), (3, 1), (10, 1), (10, 9)])
def test_short_windows_and_overlaps(layers, size, overlap):
    stage = Stage()
    windows = chained(stage, layers, [FACTORS, FACTORS[::-1]], size, overlap)
    assert all(np.isfinite(w.local_points).all() for w in windows)
    assert stage.absrel(windows[1]) < 0.01


def test_the_stream_goes_on_over_lost_and_broken_windows(layers, caplog):
    stage, chain = Stage(), Chain(layers, 'window')
    rng = np.random.default_rng(5)
    linked = []
    for k in range(8):
        current = stage.prediction(6 * k, 10, np.exp(0.08 * rng.normal(size=N_LAYERS)))
        if k == 2:
            current = broken(current, confidence=np.zeros_like)
        elif k == 4:
            current = broken(current, frame_ids=lambda ids: ids + 1000)     # a gap in the stream
        elif k == 6:
            current = broken(current, local_points=lambda p: np.full_like(p, np.inf))
        link = chain.add(window(current, k, 4 if k else 0), current)
        assert np.isfinite(link.aligned.T_window_camera).all()
        linked.append(link.linked)
    assert linked[:2] == [True, True] and linked[-1] in (True, False)
    assert not linked[2] and not linked[4] and chain.links.n_linked >= 1


def test_frames_of_one_and_without_K(layers):
    stage = Stage()
    previous, current = stage.prediction(0, 10), stage.prediction(6, 10, FACTORS, GAUGE)
    no_K = [dataclasses.replace(p, K=None) for p in (previous, current)]
    a, b = layers.align(previous, current), layers.align(*no_K)
    assert np.median(np.abs(np.log(a.depth_scale / b.depth_scale))) < 1e-3
    one = stage.prediction(9, 1, FACTORS, GAUGE)
    assert np.isfinite(layers.align(previous, one).depth_scale).all()


def test_it_wraps_any_aligner():
    stage = Stage()
    previous, current = stage.prediction(0, 10), stage.prediction(6, 10, FACTORS)
    for name in ('se3', 'sim3_points', 'depth_ratio', 'camera'):
        aligner = make_aligner(name, LayerwiseConfig())
        assert stage.absrel(apply(aligner.align(previous, current), current)) < 0.01, name


def test_the_published_form_needs_its_extra_and_mends_the_stage():
    pytest.importorskip('skimage')
    stage = Stage(0.01)
    aligner = make_aligner('sim3', LayerwiseConfig(faithful=True))
    assert aligner.aligner.faithful
    windows = chained(stage, aligner, [FACTORS])
    plain = chained(stage, make_aligner('sim3', faithful=True), [FACTORS])
    assert stage.absrel(windows[1]) < 0.5 * stage.absrel(plain[1])
    blind = broken(stage.prediction(6, 10), confidence=np.zeros_like)
    wild = broken(blind, local_points=lambda p: np.full_like(p, np.inf))
    with pytest.raises(AlignmentError):
        aligner.align(windows[0], wild)


def test_without_the_extra_the_install_line_is_named(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'skimage.segmentation', None)
    stage = Stage()
    with pytest.raises(MissingDependency, match='pip install scikit-image'):
        make_aligner('sim3', LayerwiseConfig(faithful=True)).align(stage.prediction(0, 4),
                                                                   stage.prediction(2, 4))


@pytest.mark.parametrize('changes, words', [
    ({'jump': 0.0}, 'jump'), ({'min_share': 1.0}, 'min_share'),
    ({'work_pixels': 9}, 'work_pixels')])
def test_impossible_parameters_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        LayerwiseConfig(**changes)


def test_a_coarser_grid_finds_the_same_scales():
    stage = Stage()
    previous, current = stage.prediction(0, 10), stage.prediction(6, 10, FACTORS)
    aligner = make_aligner('sim3', LayerwiseConfig(work_pixels=3500))
    assert SIZE[0] * SIZE[1] > 3.9 * 3500
    assert stage.absrel(apply(aligner.align(previous, current), current)) < 0.006


def simulated(tmp_path, **overrides):
    """Return a pipeline on the simulated backbone, and the frames of a small synthetic world."""
    from longrecon_ros.config import load
    from longrecon_ros.pipeline import Pipeline
    from longrecon_ros.synthetic.recipe import Production, Recipe
    from longrecon_ros.synthetic.stream import SyntheticSource
    config = load(overrides={'backbone': 'simulated', 'window.size': 6, 'window.overlap': 3,
                             **overrides})
    film = Production.of(Recipe('street', None, (182, 98), 10.0)).film
    return Pipeline.from_config(config), SyntheticSource(film, 15, use_truth=True)


@pytest.mark.parametrize('use, is_used', [
    ('auto', True), pytest.param('always', True, marks=pytest.mark.slow), ('never', False)])
def test_the_configuration_decides(tmp_path, use, is_used):
    pipeline, source = simulated(tmp_path, **{'layerwise.use': use})
    updates = [update for frame in source if (update := pipeline.push(frame)) is not None]
    assert len(updates) == 4 and all(update.linked for update in updates)
    assert all((update.prediction.layers is not None) == is_used for update in updates[1:])
    if is_used:
        # one K, the camera's, at the size of the maps
        np.testing.assert_allclose(updates[0].prediction.K, updates[-1].prediction.K)


def test_identity_has_no_layers_to_align():
    from longrecon_ros.backbones.base import BackboneSpec
    from longrecon_ros.pipeline import _layerwise
    spec = BackboneSpec('stream', 1, None, 'stream', 'metric', 'new', 'identity', layerwise=True)
    assert _layerwise(LayerwiseConfig(), spec, 'identity') is None
    with pytest.raises(ConfigError, match='layerwise.use: stream chains windows by identity'):
        _layerwise(LayerwiseConfig(use='always'), spec, 'identity')
