"""The parts of the result page: views, pictures, plots, the page as a whole."""

from html.parser import HTMLParser
import re

from fakes import circle_pose
import numpy as np
import pytest

from longrecon_ros import config
from longrecon_ros.evaluation import DepthScores, evaluate, WindowCentres
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.report import pictures, splat, svg
from longrecon_ros.report.findings import findings
from longrecon_ros.report.page import render_page
from longrecon_ros.report.record import RunRecord, RunStatistics, Sample, WindowLog
from longrecon_ros.report.summary import summarise
from longrecon_ros.report.views import path_axes
from longrecon_ros.types import FrameState, PointCloud, Trajectory

N = 80


def _record(n_points=5000, size=(64, 48), **changes) -> RunRecord:
    """Return a made-up run with every part that a page can show; pictures are noise."""
    rng = np.random.default_rng(0)
    T = np.stack([circle_pose(k) for k in range(N)])
    truth = Trajectory(10**18 + np.arange(N) * 10**8, T)
    estimate = Sim3(0.5, se3.so3_exp(np.array([.2, .1, .4])), np.ones(3)).apply_to_poses(
        T @ se3.exp(rng.normal(size=(N, 6)) * 0.003))
    states = np.full(N, FrameState.TRACKED, np.uint8)
    states[20:25], states[40:44], states[60:63] = range(1, 6), 2, FrameState.LOST
    states[20:25] = FrameState.STATIONARY
    w, h = size
    depth = rng.uniform(1, 9, (h, w)).astype(np.float32)
    scores = DepthScores()
    scores.add(depth, np.ones((h, w)), depth * 2)
    samples = tuple(
        Sample(k, int(truth.stamps_ns[k]), int(states[k]),
               rng.integers(0, 256, (h, w, 3)).astype(np.uint8), depth,
               rng.uniform(size=(h, w)).astype(np.float32), depth * 2) for k in range(0, 78, 13))
    statistics = RunStatistics(
        tuple(WindowLog(int(truth.stamps_ns[k]), k != 50, 0.01 * k, 10, 100.0 + k,
                        _window(truth, k, k != 50)) for k in range(0, N, 10)),
        {'read': 5.0, 'backbone': 900.0, 'map <&>': 3.0}, size, 1000, 700, samples, scores)
    fields = {
        'source': 'a <clip> & more', 'config': config.load(), 'n_frames': N,
        'trajectory': Trajectory(truth.stamps_ns, estimate), 'states': states,
        'cloud': PointCloud(rng.normal(size=(n_points, 3)) * [3, 1, 3],
                            rng.integers(0, 256, (n_points, 3))),
        'statistics': statistics, 'elapsed_s': 4.0, 'groundtruth': truth,
        'warnings': ('Something "odd" <happened>.',)}
    return RunRecord(**{**fields, **changes})


def _window(truth: Trajectory, first: int, is_linked: bool) -> WindowCentres:
    """Return a window of ten frames whose unit is 1 % shorter than that of the one before."""
    frames = slice(first, first + 10)
    return WindowCentres(truth.stamps_ns[frames],
                         np.exp(0.001 * first) * truth.positions[frames], is_linked)


EMPTY = {
    'n_frames': 3, 'trajectory': Trajectory(np.zeros(0, np.int64), np.zeros((0, 4, 4))),
    'states': np.zeros(0, np.uint8), 'cloud': PointCloud.empty(), 'groundtruth': None,
    'elapsed_s': 0.0, 'statistics': RunStatistics((), {}, None, 0, 0, (), None)}


def _page(record: RunRecord) -> str:
    evaluation = record.groundtruth and evaluate(record.trajectory, record.groundtruth)
    summary = summarise(record, evaluation, findings(record, evaluation, None))
    return render_page(record, evaluation, summary)


class _Checker(HTMLParser):
    """Keeps the open elements, and what elements want to load."""

    VOID = {'meta', 'img', 'br'}

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [value for name, value in attributes
                       if name in ('src', 'href', 'srcset', 'data', 'action')]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


# --- page --------------------------------------------------------------------------------------

@pytest.mark.parametrize('changes', [{}, {'groundtruth': None}, EMPTY, {
    'trajectory': Trajectory(np.array([5]), np.eye(4)[None]), 'states': np.zeros(1, np.uint8),
    'groundtruth': None}], ids=['full', 'no truth', 'empty', 'one pose'])
def test_page_is_well_formed_and_loads_nothing(changes):
    page = _page(_record(**changes))
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert all(load.startswith('data:image/jpeg;base64,') for load in checker.loads)
    assert not re.search(r'https?://|@import|url\(|fetch\(|XMLHttpRequest', page)
    assert 'nan' not in re.sub(r'base64,[^"]*|const CLOUD = [^\n]*', '', page).lower().split()


def test_page_says_what_matters():
    checker = _Checker()
    checker.feed(_page(_record()))
    text = ' '.join(checker.text)
    for words in ('a <clip> & more', '80 poses over', 'trajectory error', 'drift', 'coverage',
                  'Something "odd" <happened>.', 'From above', 'From the side', 'Error over time',
                  'lost: 3', 'standing still: 5', 'Depth and confidence', 'map <&>',
                  'window.size', 'numpy', 'One camera cannot know the scale',
                  '1 of 8 windows could not be linked', 'over 6 links: bias -1.00 %',
                  '3 of 80 frames (4 %) are lost'):
        assert words in text


def test_page_of_many_points_and_noisy_pictures_stays_small():
    assert len(_page(_record(n_points=400_000, size=(320, 240)))) <= 3_000_000


# --- findings ----------------------------------------------------------------------------------

def test_findings_without_truth_say_that_scale_is_arbitrary():
    sentences = findings(_record(groundtruth=None, warnings=()), None, None)
    assert any('odom units, not metres' in sentence for sentence in sentences)
    assert findings(_record(**EMPTY, is_metric=True, warnings=()), None, None) == []


def test_findings_tell_why_there_is_no_evaluation():
    assert any('no common times' in sentence
               for sentence in findings(_record(), None, 'no common times'))


# --- summary -----------------------------------------------------------------------------------

def test_summary_is_in_metres_by_ground_truth():
    record = _record()
    evaluation = evaluate(record.trajectory, record.groundtruth)
    summary = summarise(record, evaluation, [])
    assert summary['scale_m_per_odom'] == pytest.approx(2, rel=0.01)
    assert summary['path_length_m'] == pytest.approx(evaluation.path_length_m, rel=0.02)
    assert summary['depth_absrel'] == pytest.approx(abs(evaluation.scale / 2 - 1), abs=1e-3)
    assert summary['depth_per_frame_scale']['depth_absrel'] < 1e-3
    assert (summary['fps'], summary['n_lost'], summary['n_unlinked']) == (20, 3, 1)
    assert summary['link_log_scale_mean'] == pytest.approx(np.mean([.1, .2, .3, .4, .6, .7]))
    assert summary['link_scale_bias_percent'] == pytest.approx(-1)
    assert summary['link_scale_spread_percent'] == pytest.approx(0, abs=1e-9)
    assert summary['n_links_measured'] == 6
    assert summary['coverage'] == 1


def test_summary_without_truth_is_in_odom_units():
    record = _record(groundtruth=None)
    summary = summarise(record, None, [])
    assert (summary['length_unit'], summary['ate_sim3_m'], summary['evaluation']) == \
        ('odom', None, None)
    assert (summary['link_scale_bias_percent'], summary['n_links_measured']) == (None, 0)
    # depth is told apart from the trajectory: its own median gives the scale
    assert (summary['depth_scale_from'], summary['depth_absrel'] < 1e-3) == ('median depth', True)


def test_summary_of_nothing():
    summary = summarise(_record(**EMPTY), None, [])
    assert (summary['fps'], summary['coverage'], summary['path_length_m']) == (None, None, 0)


# --- views, pictures, plots --------------------------------------------------------------------

def test_axes_of_a_level_walk():
    T = np.tile(np.eye(4), (10, 1, 1))
    T[:, 0, 3] = -np.arange(10)             # to the camera's left; up is -y
    T[:, 2, 3] = 0.1 * np.arange(10)
    axes = path_axes(T)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)
    np.testing.assert_allclose(axes[2], [0, -1, 0], atol=1e-12)
    assert axes[0] @ [-1, 0, 0.1] > 1


@pytest.mark.parametrize('R', [np.eye(3), se3.so3_exp(np.array([np.pi / 2, 0, 0]))])
def test_axes_without_motion(R):
    axes = path_axes(np.tile(se3.from_parts(R, np.ones(3)), (3, 1, 1)))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)


def test_above_shows_points_where_they_are_and_hides_the_ceiling():
    path = np.stack([np.linspace(0, 10, 50), np.zeros(50), np.ones(50)], axis=1)
    grid = np.stack(np.meshgrid(np.linspace(0, 10, 60), np.linspace(-3, 3, 60)), -1).reshape(-1, 2)
    floor = np.c_[grid, np.zeros(len(grid))]
    ceiling = floor + [0, 0, 2]
    colors = np.repeat([[200, 0, 0], [0, 0, 200]], len(grid), axis=0)
    colors[:len(grid)][grid[:, 1] > 1] = (0, 200, 0)        # what is left of the path
    scene = splat.Scene.of(PointCloud(np.r_[floor, ceiling], colors), path, np.eye(3))
    picture = splat.draw_above(scene, 400)
    h = picture.shape[0]
    assert picture.shape[1] == 400
    upper, lower = picture[:h // 4].reshape(-1, 3), picture[-h // 4:].reshape(-1, 3)
    assert (upper == (0, 200, 0)).all(axis=1).sum() > 50
    assert (lower == (200, 0, 0)).all(axis=1).sum() > 50
    assert not (picture == (0, 0, 200)).all(axis=2).any()


def test_near_points_cover_far_ones():
    path = np.array([[0., 0, 0], [1, 0, 0]])
    points = np.r_[np.tile([[5., 0, -1]], (5, 1)), np.tile([[5., 0, -0.1]], (5, 1)),
                   np.random.default_rng(0).uniform(-5, 5, (200, 3)) * [1, 1, 0] - [0, 0, 2]]
    colors = np.r_[np.tile([[9, 9, 200]], (5, 1)), np.tile([[9, 200, 9]], (5, 1)),
                   np.tile([[1, 1, 1]], (200, 1))]
    picture = splat.draw_above(splat.Scene(points.astype(np.float32), colors.astype(np.uint8),
                                           path), 300)
    assert (picture == (9, 200, 9)).all(axis=2).any()
    assert not (picture == (9, 9, 200)).all(axis=2).any()


def test_far_outliers_do_not_shrink_the_picture():
    rng = np.random.default_rng(0)
    points = np.r_[rng.normal(size=(2000, 3)), [[1e6, 0, 0], [0, -1e6, 0]]]
    scene = splat.Scene.of(PointCloud(points, np.full((2002, 3), 255)), np.zeros((2, 3)),
                           np.eye(3))
    assert len(scene.points) >= 1700
    assert np.abs(scene.points).max() < 10
    assert splat.draw_oblique(scene, 320).shape == (180, 320, 3)


def test_depth_pictures_mark_undefined_pixels():
    depth = np.array([[1., 2, 4, 8]], np.float32)
    sample = Sample(0, 0, 0, np.zeros((1, 4, 3), np.uint8), depth,
                    np.array([[1, 1, 1, 0]], np.float32), np.array([[2., 4, 9.6, 0]], np.float32))
    assert pictures.depth_range((sample,)) == pytest.approx((1.04, 3.92), rel=0.02)
    near, middle, far, undefined = pictures.depth_picture(sample, (1, 4))[0].astype(int)
    assert near[0] > near[2]
    assert far[2] >= far[0]
    assert len(np.unique(undefined)) > 1 and undefined.max() < 60
    right, right_too, wrong, unknown = pictures.error_picture(sample, 2.0)[0].astype(int)
    assert right[1] > right[0] and right_too[1] > right_too[0]
    assert wrong[0] > wrong[1]
    assert (unknown == undefined).all()
    assert pictures.depth_range(()) is None


@pytest.mark.parametrize('low, high', [(0, 1), (-3, 7), (0, 731.2), (1e-4, 3e-4), (5, 5)])
def test_ticks_are_round_and_inside(low, high):
    values = svg.ticks(low, high, 6)
    assert 1 <= len(values) <= 13
    assert all(low - 1e-9 <= v <= high + 1e-9 for v in values)


def test_plots_have_one_scale_on_both_axes_of_a_map():
    square = np.array([[0., 0], [100, 0], [100, 50], [0, 50]])
    text = svg.map_plot([svg.Line(square, 'estimate', 'path <1>')], 'x', 'y')
    x, y = np.array(re.search(r'class="line estimate" d="M([^"]*)"', text).group(1)
                    .replace('L', ' ').split(), float).reshape(-1, 2).T
    assert np.ptp(x) == pytest.approx(2 * np.ptp(y), abs=1)
    assert 'path &lt;1&gt;' in text
    assert y[2] < y[1]                      # larger values are higher up


def test_plots_take_long_flat_and_empty_curves():
    long = np.c_[np.arange(10_000), np.zeros(10_000)]
    assert len(svg.plot([svg.Line(long, 'error')], 't', 'e')) < 40_000
    svg.plot([svg.Line(np.zeros((0, 2)), 'error')], 't', 'e')
    svg.map_plot([svg.Line(np.zeros((1, 2)), 'error', is_dots=True)], 't', 'e')
