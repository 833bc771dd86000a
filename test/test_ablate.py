"""`longrecon ablate`: variants side by side on the same windows, against known answers."""

import argparse
from dataclasses import replace
import json

from clips import FAKE, use_fake_backbone, write_clip
import cv2
from fakes import circle_pose, FakeBackbone, make_frames, predict, room_depth
import numpy as np
import pytest

from longrecon_ros.alignment import make_aligner
from longrecon_ros.cli import ablate
from longrecon_ros.cli.ablate import variants_of
from longrecon_ros.cli.main import main
from longrecon_ros.config import load, WindowConfig
from longrecon_ros.errors import AlignmentError, ConfigError, InputError
from longrecon_ros.evaluation.ablation import Ablation
from longrecon_ros.evaluation.frame_errors import FrameErrors
from longrecon_ros.evaluation.frame_samples import FrameSample, FrameSamples, shrink
from longrecon_ros.report import ablation_picture as picture
from longrecon_ros.report.ablation_table import (
    AblationRecord,
    as_markdown,
    COLUMNS,
    gain_sentence,
    layer_gains,
    means,
    means_and_ranges,
    ranges,
    rows,
)
from longrecon_ros.report.curves import dashes, linear_ticks, log_limits, log_ticks, thin_curve
from longrecon_ros.types import FrameTruth

WINDOW = WindowConfig(8, 3)
N = 33      # six windows


def _true_frames(n: int):
    for frame in make_frames(n):
        pose = circle_pose(frame.index)
        yield replace(frame, truth=FrameTruth(room_depth(pose), pose))


def _compare(backbone: FakeBackbone):
    ablation = Ablation(backbone, WINDOW, variants_of())
    for frame in _true_frames(N):
        ablation.push(frame)
    return ablation.finish()


@pytest.fixture(scope='module')
def exact():
    """Return the comparison on exact predictions, each window in a gauge of its own."""
    return _compare(FakeBackbone(seed=2))


# --- the aligner without alignment -------------------------------------------------------------

def test_camera_aligner_makes_the_last_shared_camera_coincide():
    backbone = FakeBackbone(seed=1)
    previous, current = predict(backbone, 0, 8, 0), predict(backbone, 5, 8, 1)
    T = make_aligner('camera').align(previous, current).T_odom_window
    assert T.scale == 1
    moved = T.apply_to_poses(current.T_window_camera)
    np.testing.assert_allclose(moved[2], previous.T_window_camera[7], atol=1e-9)
    assert np.abs(moved[0] - previous.T_window_camera[5]).max() > 1e-3


def test_camera_aligner_needs_a_shared_frame():
    backbone = FakeBackbone()
    with pytest.raises(AlignmentError, match='share no frame'):
        make_aligner('camera').align(predict(backbone, 0, 4, 0), predict(backbone, 9, 4, 1))


# --- scores ------------------------------------------------------------------------------------

def test_exact_predictions_are_chained_without_error_by_sim3(exact):
    for key in ('sim3', 'layers'):
        result = exact.of(key)
        assert result.evaluation.ate_sim3_m.rmse < 1e-6
        assert result.depth.absrel < 2e-4
        assert result.depth.within_factor_1_25 == 1
        assert result.points.accuracy_mean_m < 1e-4
        assert result.points.completeness_mean_m < 1e-4
        assert result.sequence_scale == pytest.approx(result.evaluation.scale, rel=1e-3)
        assert result.n_unlinked == 0
    assert (exact.n_frames, exact.n_windows, exact.coverage) == (N, 6, 1)


def test_without_scale_the_errors_are_those_of_the_gauges(exact):
    scales = np.array([FakeBackbone(seed=2).gauge(k).scale for k in range(6)])
    ratio = np.repeat(scales, [8, 5, 5, 5, 5, 5])
    error = np.abs(ratio / np.median(ratio) - 1)
    for key in ('none', 'se3'):
        result = exact.of(key)
        assert result.depth.absrel == pytest.approx(error.mean(), rel=2e-3)
        assert result.sequence_scale == pytest.approx(1 / np.median(ratio), rel=1e-3)
        np.testing.assert_allclose(result.absrel_by_frame, error, atol=1e-3)
        assert result.evaluation.ate_sim3_m.rmse > 0.01
        assert result.points.accuracy_mean_m > 0.01


def test_lost_frames_are_left_out_for_all(exact):
    result = _compare(FakeBackbone(seed=2, lost=(20, 21)))
    for variant in result.variants:
        is_nan = np.isnan(variant.absrel_by_frame)
        np.testing.assert_array_equal(np.flatnonzero(is_nan), [20, 21])
    assert result.coverage == pytest.approx(31 / 33)
    assert result.of('sim3').depth.absrel < 2e-4


def test_the_backbone_runs_once_a_window():
    class Counting(FakeBackbone):
        n_steps = 0

        def step(self, state, window):
            Counting.n_steps += 1
            return super().step(state, window)

    assert _compare(Counting()).n_windows == Counting.n_steps == 6


def test_what_cannot_be_compared():
    with pytest.raises(ConfigError, match='share no frames.*another backbone'):
        Ablation(FakeBackbone(feed='new'), WINDOW, variants_of())
    with pytest.raises(ConfigError, match='window.overlap above 0'):
        Ablation(FakeBackbone(), WindowConfig(8, 0), variants_of())
    with pytest.raises(ValueError, match='truth'):
        Ablation(FakeBackbone(), WINDOW, variants_of()).push(make_frames(1)[0])
    with pytest.raises(InputError, match='nothing to score: of 0 pixels'):
        Ablation(FakeBackbone(), WINDOW, variants_of()).finish()


def test_frame_errors_are_those_of_all_pixels():
    rng = np.random.default_rng(0)
    errors, frames = FrameErrors(), [np.exp(0.1 * rng.normal(size=n) + 0.3)
                                     for n in (5, 64, 1000, 40000)]
    for ratios in [*frames, np.zeros(0)]:
        errors.add(ratios)
    for scale in (0.5, np.exp(-0.3), 1.0):
        found = errors.absrel(scale)
        direct = [np.abs(scale * ratios - 1).mean() for ratios in frames]
        np.testing.assert_allclose(found[:4], direct, rtol=0.02)
        assert np.isnan(found[4])
    assert errors.absrel(1.0)[0] == pytest.approx(np.abs(frames[0] - 1).mean(), rel=1e-6)
    assert len(FrameErrors().absrel(1.0)) == 0


def test_samples_cover_a_run_of_any_length():
    samples = FrameSamples()
    for number in range(1000):
        if samples.is_wanted():
            samples.add(_sample(number))
        else:
            samples.skip()
        assert len(samples.samples()) <= 16
    numbers = [sample.number for sample in samples.samples()]
    assert len(numbers) >= 8
    assert len(set(np.diff(numbers))) == 1
    assert numbers[0] == 0 and numbers[-1] > 800


def test_samples_do_not_hold_on_to_windows():
    window = np.arange(3 * 40 * 60.0).reshape(3, 40, 60)
    small = shrink(window[1])
    np.testing.assert_array_equal(small, window[1])
    assert not np.shares_memory(small, window)
    assert shrink(np.zeros((100, 1040, 3), np.uint8)).shape == (50, 520, 3)


# --- table -------------------------------------------------------------------------------------

def _record(*runs) -> AblationRecord:
    return AblationRecord('a clip', load(overrides={'backbone': 'fake'}), False, runs,
                          tuple(range(len(runs))))


def test_table_of_one_run(exact):
    table = rows(_record(exact), means_and_ranges)
    assert [row[0] for row in table] == ['none', 'SE(3)', 'Sim(3)', 'Sim(3)+layers']
    assert all(len(row) == len(COLUMNS) + 1 for row in table)
    assert table[2][1] == '0.0000'
    assert 'SIMULATED' not in as_markdown(_record(exact))
    assert 'SIMULATED' in as_markdown(replace(_record(exact), is_simulated=True))


def test_table_over_seeds():
    record = _record(*(_compare(FakeBackbone(seed=seed, noise=0.05)) for seed in (2, 3)))
    first, second = (run.of('sim3').depth.absrel for run in record.runs)
    low, high = sorted([100 * first, 100 * second])
    column = 1 + [c.key for c in COLUMNS].index('absrel_percent')
    assert rows(record, means)[2][column] == f'{50 * (first + second):.2f}'
    assert rows(record, ranges)[2][column] == f'{low:.2f}..{high:.2f}'
    gains = layer_gains(record)
    assert gains == [run.of('layers').depth.absrel / run.of('sim3').depth.absrel
                     for run in record.runs]
    assert f'{np.mean(gains):.2f} times' in gain_sentence(record)
    assert layer_gains(_record(_compare(FakeBackbone(seed=2)))) == []
    assert 'Means over 2 seeds' in as_markdown(record)


def test_a_figure_that_is_not_known_is_a_dash():
    assert means([None], 2) == ranges([None, None], 2) == means_and_ranges([None], 2) == '-'
    assert means_and_ranges([1.0, 2.0], 1) == '1.5 (1.0..2.0)'
    assert means_and_ranges([1.0, 1.0], 1) == '1.0'


# --- picture -----------------------------------------------------------------------------------

def _sample(number: int, layers=None, factors=None) -> FrameSample:
    return FrameSample(number, np.zeros((60, 100, 3), np.uint8), {}, layers, factors)


def test_errors_have_their_colors():
    rgb = picture.error_picture(np.array([[-0.1, 0.0, 0.1, 0.5, np.nan]], np.float32), 0.1)[0]
    assert rgb[0, 2] > rgb[0, 0] + 100      # too near: blue
    assert rgb[1].min() > 240               # right: white
    assert rgb[2, 0] > rgb[2, 2] + 100      # too far: red
    np.testing.assert_array_equal(rgb[3], rgb[2])
    assert np.ptp(rgb[4].astype(int)) < 10  # unknown: grey


def test_the_color_scale_ends_at_a_round_number():
    assert picture.error_limit(np.full(9, -0.03)) == 0.05
    assert picture.error_limit(np.full(9, np.nan)) == 0.02
    assert picture.error_limit(np.full(9, 7.0)) == 1.0


def test_factors_are_written_on_large_layers_only():
    layers, factors = np.zeros((60, 100), np.int16), np.ones((60, 100), np.float32)
    layers[:, 50:], factors[:, 50:] = 1, 1.25
    layers[:2, :2], factors[:2, :2] = 2, 3.0
    placed = picture.place_factors(_sample(0, layers, factors), 600)
    assert sorted(words for _, _, words in placed) == ['1.000', '1.250']
    x, y, _ = next(place for place in placed if place[2] == '1.250')
    assert layers[int(y / 6), int(x / 6)] == 1


def test_the_picture_shows_a_frame_of_the_upper_quartile(exact):
    chosen = picture.choose_sample(exact)
    assert chosen.number in [sample.number for sample in exact.samples]
    assert chosen.layers is not None
    error = picture.relative_error(exact, chosen, 'sim3')
    assert np.nanmax(np.abs(error)) < 2e-3


def test_the_picture_is_drawn(exact):
    rgb = picture.draw(_record(exact))
    assert rgb.dtype == np.uint8 and rgb.shape[1] == 1380
    background = (rgb == 255).all(axis=-1).mean()
    assert 0.3 < background < 0.9


def test_axes_have_round_numbers():
    assert log_limits(np.array([0.7, 33.0])) == (0.5, 50)
    assert log_limits(np.zeros(0)) == (0.1, 10)
    assert log_ticks(0.5, 50) == [0.5, 1, 2, 5, 10, 20, 50]
    assert log_ticks(1e-4, 100) == pytest.approx([1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100])
    assert linear_ticks(46) == list(range(0, 46, 5))
    assert linear_ticks(1) == [0]
    assert len(linear_ticks(12345)) <= 10


def test_long_curves_are_thinned():
    frames, values = thin_curve(np.arange(10000.0))
    assert len(frames) == len(values) == 400
    np.testing.assert_allclose(frames, values)
    assert np.isnan(thin_curve(np.full(1000, np.nan))[1]).all()


def test_dashes_cover_half_of_a_line():
    line = np.array([[0.0, 0], [60, 0], [60, 30]])
    pieces = dashes(line, 5.0)
    lengths = [np.linalg.norm(np.diff(piece, axis=0), axis=1).sum() for piece in pieces]
    np.testing.assert_allclose(lengths, 5)
    assert len(pieces) == 9


# --- command line ------------------------------------------------------------------------------

def _fails(capsys, *argv) -> str:
    assert main([str(word) for word in argv]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith('longrecon: error: ')
    return err


def test_ablate_a_folder(capsys, monkeypatch, tmp_path):
    use_fake_backbone(monkeypatch)
    clip, out = write_clip(tmp_path / 'clip'), tmp_path / 'out'
    assert main(['ablate', str(clip), '--out', str(out), *FAKE, '--max-frames', '30']) == 0
    printed = capsys.readouterr().out
    assert 'Sim(3) depth_ratio+layers' in printed and 'SIMULATED' not in printed
    assert sorted(path.name for path in out.iterdir()) == [
        'ablation.json', 'ablation.md', 'ablation.png']
    result = json.loads((out / 'ablation.json').read_text())
    assert (result['frames'], result['simulated'], result['seeds']) == (30, False, [])
    by_key = {variant['key']: variant for variant in result['variants']}
    assert by_key['sim3']['absrel_percent']['mean'] < 0.2 < by_key['none']['absrel_percent']['min']
    assert len(by_key['none']['runs'][0]['absrel_by_frame']) == 30
    assert '| Sim(3) depth_ratio |' in (out / 'ablation.md').read_text()
    assert cv2.imread(str(out / 'ablation.png')).shape[1] == 1380
    assert 'is not empty' in _fails(capsys, 'ablate', clip, '--out', out)
    assert main(['ablate', str(clip), '--out', str(out), *FAKE, '--force', '--every', '2',
                 '--set', 'align=sim3']) == 0
    printed = capsys.readouterr().out
    assert 'Sim(3)+layers' in printed and '20 in 2 windows' in printed


@pytest.mark.slow
def test_ablate_a_synthetic_world_with_simulated_predictions(capsys, tmp_path):
    out = tmp_path / 'out'
    assert main(['ablate', 'synth:indoor', '--frames', '20', '--size', '112x84', '--seeds', '2',
                 '--set', 'window.size=8', '--set', 'window.overlap=3', '--out', str(out)]) == 0
    printed = capsys.readouterr().out
    assert 'SIMULATED' in printed and 'lowest to the highest' in printed
    result = json.loads((out / 'ablation.json').read_text())
    assert (result['backbone'], result['seeds']) == ('simulated', [0, 1])
    assert result['simulated'] is True
    assert len(result['absrel_layers_over_sim3']) == 2
    runs = result['variants'][2]['runs']
    assert runs[0]['ate_m']['rmse'] != runs[1]['ate_m']['rmse']
    assert 'SIMULATED' in (out / 'ablation.md').read_text()


def test_ablate_needs_truth(capsys, tmp_path):
    clip, out = write_clip(tmp_path / 'clip', 4), tmp_path / 'out'
    (clip / 'gt_tum.txt').unlink()
    assert 'no true poses' in _fails(capsys, 'ablate', clip, '--out', out)
    for file in (clip / 'depth').iterdir():
        file.unlink()
    assert 'no true depth and no true poses' in _fails(capsys, 'ablate', clip, '--out', out)
    assert 'no such file' in _fails(capsys, 'ablate', tmp_path / 'none', '--out', out)
    assert not out.exists()


def test_options_that_do_not_go_together(capsys, monkeypatch, tmp_path):
    out = tmp_path / 'out'
    assert 'unknown scene "moon"' in _fails(capsys, 'ablate', 'synth:moon', '--out', out)
    assert '--frames goes with synth:SCENE' in _fails(capsys, 'ablate', tmp_path, '--frames', '3',
                                                      '--out', out)
    use_fake_backbone(monkeypatch)
    assert 'no random faults' in _fails(capsys, 'ablate', 'synth:street', '--seeds', '2', *FAKE,
                                        '--out', out)
    assert not out.exists()


@pytest.mark.parametrize('words, window', [
    ([], (10, 7)), (['--set', 'window.size=20'], (20, 6)),
    (['--set', 'window.size=16', '--set', 'window.overlap=6'], (16, 6)),
    (['--set', 'backbone=simulated'], (16, 6))])
def test_windows_unless_said_otherwise(words, window):
    parser = argparse.ArgumentParser()
    ablate.add_arguments(parser)
    config = ablate._configs(parser.parse_args(['synth:street', '--out', 'x', *words]))[0]
    assert config.backbone == 'simulated'
    assert (config.window.size, config.window.overlap) == window
