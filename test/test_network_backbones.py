"""Network backbones: weights to predictions, tokens used twice, and what they refuse."""

import dataclasses
import json
import logging
import subprocess
import sys

import backbone_runs as runs
from backbone_runs import predict, tiny
import numpy as np
import pytest
from sfm_films import film
from sfm_runs import stream

from longrecon_ros import backbones, config
from longrecon_ros.cli.main import main
from longrecon_ros.errors import ConfigError, WeightsError
from longrecon_ros.geometry.camera import project
from longrecon_ros.preprocess import Preprocessor
from longrecon_ros.types import FrameState

torch = pytest.importorskip('torch')

NAMES = ('pi3', 'pi3x', 'vggt')
N, SIZE, OVERLAP = 14, 6, 2
pytestmark = pytest.mark.torch


def windows_of(backbone, use_K=True):
    frames = [f if use_K else dataclasses.replace(f, K=None) for f in stream(film('indoor', N))]
    return runs.windows_of(backbone, frames, SIZE, OVERLAP)


def watch(backbone, part, spoil=None):
    """Record the arguments of one call of a backbone's runtime; ``spoil`` changes its result."""
    runtime, seen = backbone._network._runtime, []
    call = getattr(runtime, part)

    def watched(*arguments):
        seen.append(arguments)
        return spoil(call(*arguments)) if spoil else call(*arguments)
    setattr(runtime, part, watched)
    return seen


@pytest.mark.parametrize('name', NAMES)
def test_frames_of_the_last_window_are_not_encoded_again(name):
    again, once = tiny(name, reuse_tokens=False), tiny(name)
    windows = windows_of(once)
    seen_again, seen_once = watch(again, 'encode'), watch(once, 'encode')
    plain, reused = predict(again, windows), predict(once, windows)
    assert [len(images) for images, in seen_again] == [len(w.frames) for w in windows]
    assert [len(images) for images, in seen_once] == [len(w.frames) - w.n_overlap for w in windows]
    for a, b in zip(plain, reused):
        for field in ('T_window_camera', 'local_points', 'confidence'):
            np.testing.assert_allclose(getattr(a, field), getattr(b, field), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('name', (*NAMES, 'loger', 'scal3r', 'stream3r'))
def test_images_are_described_by_the_mean_of_their_tokens(name):
    backbone = tiny(name)
    window = windows_of(backbone)[0]
    seen = watch(backbone, 'encode')
    prediction = predict(backbone, [window])[0]
    images = seen[0][0]
    order = [int(next(i for i, frame in enumerate(window.frames)
                      if np.array_equal(frame.image, image))) for image in images.numpy()]
    # as it was made, frame by frame
    means = backbone._network._runtime.encode(images).mean(dim=1).numpy()
    np.testing.assert_allclose(prediction.tokens[order], means, atol=1e-5)
    assert len(np.unique(prediction.tokens[:, 0])) == len(window.frames)


@pytest.mark.parametrize('name', NAMES)
def test_points_lie_on_the_rays_of_the_calibration(name):
    backbone = tiny(name)
    windows = windows_of(backbone)
    for window, p in zip(windows, predict(backbone, windows)):
        for frame, K in zip(window.frames, p.K):
            np.testing.assert_allclose(K, frame.K, rtol=1e-6)


@pytest.mark.parametrize('name', ['pi3', 'pi3x'])
def test_without_a_calibration_the_first_window_fixes_the_rays(name):
    backbone = tiny(name)
    windows = windows_of(backbone, use_K=False)
    w, h = windows[0].frames[0].size
    K = np.array([[0.8 * w, 0, (w - 1) / 2], [0, 0.9 * w, (h - 1) / 2], [0, 0, 1]])
    v, u = np.mgrid[:h, :w]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones((h, w))], -1)

    def pinhole(result):
        # a net that sees with this camera, exactly at first, later with rays 20 % wider
        depth = result.local_points[..., 2:]
        wider = 1.0 if not seen[1:] else 1.2
        rays_now = torch.tensor(rays * [wider, wider, 1], dtype=torch.float32)
        return result._replace(local_points=rays_now * depth)
    seen = watch(backbone, 'decode', pinhole)
    for p in predict(backbone, windows):
        np.testing.assert_allclose(p.K, np.broadcast_to(K, p.K.shape), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(project(p.local_points[0], p.K[0].astype(float)),
                                   np.stack([u, v], -1), atol=1e-2)


@pytest.mark.parametrize('name', ['pi3', 'pi3x'])
def test_the_rays_of_the_net_itself_can_be_had(name):
    backbone = tiny(name, pinhole=False)
    results = []
    watch(backbone, 'decode', lambda result: results.append(result) or result)
    predictions = predict(backbone, windows_of(backbone))
    for p, result in zip(predictions, results):
        assert p.K is None
        np.testing.assert_array_equal(p.local_points, result.local_points[0].numpy())


@pytest.mark.parametrize('name', NAMES)
def test_nonsense_from_a_net_is_no_measurement(name):
    def spoil(result):
        fields = {key: value.clone() for key, value in result._asdict().items()
                  if value is not None}
        pose = 'encoding' if name == 'vggt' else 'T_world_camera'
        depth = fields['depth'] if name == 'vggt' else fields['local_points']
        fields[pose][0, 1] = torch.nan
        depth[0, 2, 3:6] = torch.inf
        depth[0, 3, :2] = torch.nan
        return result._replace(**fields)
    backbone = tiny(name)
    watch(backbone, 'decode', spoil)
    p = predict(backbone, windows_of(backbone)[:1])[0]
    assert p.states.tolist() == [FrameState.LOST if i == 1 else FrameState.TRACKED
                                 for i in range(SIZE)]
    assert not p.confidence[1].any() and not p.confidence[2, 3:6].any()
    assert not p.confidence[3, :2].any() and p.confidence[4].any()
    assert np.isfinite(p.T_window_camera).all() and np.isfinite(p.local_points).all()


def test_the_encoding_of_vggt_is_read_as_the_net_means_it():
    from longrecon_ros.backbones._encodings import intrinsics, poses
    from longrecon_ros.nets.vggt import cameras
    rng = np.random.default_rng(0)
    encoding = rng.normal(size=(20, 9)).astype(np.float32)
    encoding[:, 7:] = rng.uniform(0.3, 2.0, (20, 2))
    size = 70, 42
    T_camera_world, K = cameras(torch.from_numpy(encoding).double(), size[::-1])
    np.testing.assert_allclose(np.linalg.inv(poses(encoding))[:, :3], T_camera_world, atol=1e-5)
    np.testing.assert_allclose(intrinsics(encoding, size), K, rtol=1e-5)


def test_a_field_of_view_that_no_camera_has_gives_a_finite_K():
    from longrecon_ros.backbones._encodings import intrinsics
    encoding = np.zeros((3, 9), np.float32)
    encoding[1, 7:], encoding[2, 7:] = 9.0, np.nan
    K = intrinsics(encoding, (70, 42))
    assert np.isfinite(K).all() and (K[:, [0, 1], [0, 1]] > 0).all()


@pytest.mark.parametrize('name, size, expected', [
    ('pi3', (1241, 376), (924, 266)), ('pi3', (640, 480), (574, 434)),
    ('pi3x', (320, 240), (574, 434)), ('vggt', (1241, 376), (518, 154)),
    ('vggt', (640, 480), (518, 392)), ('vggt', (480, 640), (392, 518)),
    ('stream3r', (640, 480), (518, 392))])
def test_images_come_in_the_size_of_the_training(name, size, expected):
    chosen = backbones.load(name)
    spec = chosen.Config().limits(chosen.spec)
    assert spec == chosen.spec
    frame = dataclasses.replace(stream(film('indoor', 1))[0],
                                image=np.zeros((size[1], size[0], 3), np.uint8),
                                K=np.diag([500.0, 500, 1]))
    ready = Preprocessor.of(spec)(frame)
    assert ready.size == expected
    assert ready.K[0, 0] == pytest.approx(500 * expected[0] / size[0])
    assert ready.K[1, 1] == pytest.approx(500 * expected[1] / size[1])


def test_limits_can_be_chosen_and_impossible_ones_are_refused():
    spec = tiny('pi3', max_pixels=0, max_side_px=56).spec
    assert (spec.max_pixels, spec.max_side, spec.enlarge) == (None, 56, True)
    assert not tiny('pi3', max_pixels=0).spec.enlarge, 'there is no size to grow to'
    for name, value in (('max_pixels', -1), ('max_pixels', 195), ('max_side_px', 13)):
        with pytest.raises(ConfigError, match=f'{name}: expected 0 .no limit. or at least a pat'):
            config.build(backbones.load('pi3').Config, {name: value})


def test_what_cannot_run_is_refused_in_words(tmp_path):
    with pytest.raises(ConfigError, match='no weights are published for tiny'):
        tiny('pi3', weights='')
    with pytest.raises(ConfigError, match=r'pi3\.device: expected auto, cpu'):
        tiny('pi3', device='gpu0')
    with pytest.raises(ConfigError, match='holds no exported graphs'):
        tiny('pi3', graphs=str(tmp_path))
    with pytest.raises(WeightsError, match='there is no such file of weights'):
        tiny('pi3', weights=str(tmp_path / 'model.safetensors'))
    with pytest.raises(ConfigError, match='has no weights'):
        backbones.load('sfm').check_weights(tmp_path)


def test_weights_of_a_file_are_loaded_and_named(tmp_path, caplog):
    save_file = pytest.importorskip('safetensors.torch').save_file
    random = tiny('vggt')
    path = tmp_path / 'mine.safetensors'
    save_file({key: value.contiguous() for key, value
               in random.export_net()[0].state_dict().items()}, path)
    with caplog.at_level(logging.INFO):
        loaded = tiny('vggt', weights=str(path))
    assert f'weights {path}, licence not known; float32 on cpu' in caplog.text
    assert random.is_untrained and not loaded.is_untrained
    windows = windows_of(loaded)
    for a, b in zip(predict(random, windows), predict(loaded, windows)):
        np.testing.assert_array_equal(a.local_points, b.local_points)


def test_the_licence_of_published_weights_is_said(tmp_path, caplog, monkeypatch):
    save_file = pytest.importorskip('safetensors.torch').save_file
    monkeypatch.setenv('LONGRECON_WEIGHTS', str(tmp_path))
    (tmp_path / 'pi3').mkdir()
    save_file(tiny('pi3').export_net()[0].state_dict(), tmp_path / 'pi3' / 'model.safetensors')
    chosen = backbones.load('pi3')
    # the file that was published would be 4 GB: a small one lies in its place
    with caplog.at_level(logging.INFO):
        tiny('pi3', weights='pi3')
    assert 'licence CC BY-NC 4.0' in caplog.text
    with pytest.raises(WeightsError, match='not the weights of pi3.* of another shape'):
        chosen.check_weights(tmp_path / 'pi3' / 'model.safetensors')


def test_an_untrained_net_goes_all_the_way_and_says_what_it_is(tmp_path, capsys):
    assert main(['synth', str(tmp_path / 'clip'), '--scene', 'indoor', '--frames', '22', '--size',
                 '160x120', '-q']) == 0
    out = tmp_path / 'out'
    assert main(['run', str(tmp_path / 'clip'), '--out', str(out), '--set', 'backbone=pi3',
                 *(word for key, value in backbones.load('pi3').tiny.items()
                   for word in ('--set', f'pi3.{key}={value}'))]) == 0
    printed = capsys.readouterr()
    assert 'pi3 (UNTRAINED)' in printed.out and 'the results mean nothing' in printed.out
    summary = json.loads((out / 'result.json').read_text())
    assert summary['untrained'] and not summary['simulated'] and summary['poses'] == 22
    assert '<h1>UNTRAINED: ' in (out / 'report.html').read_text()
    assert main(['evaluate', str(out), str(tmp_path / 'clip')]) == 0
    assert 'UNTRAINED: the weights of the network are random' in capsys.readouterr().out
    assert main(['ablate', 'synth:indoor', '--frames', '12', '--out', str(tmp_path / 'ablation'),
                 '--set', 'backbone=pi3', '--set', 'pi3.weights=random', '--set',
                 'pi3.size=tiny']) == 2
    assert 'predictions of an untrained net mean nothing' in capsys.readouterr().err


def test_without_torch_everything_else_works_and_the_way_to_get_it_is_said():
    code = ('import sys; sys.modules["torch"] = None\n'
            'from longrecon_ros import backbones\n'
            'from longrecon_ros.errors import MissingDependency\n'
            'for name in ("pi3", "pi3x", "vggt", "stream3r"):\n'
            '    chosen = backbones.load(name)\n'
            '    assert chosen.spec.weights[0].name == name and chosen.Config()\n'
            '    try:\n'
            '        chosen(chosen.Config(weights="random"))\n'
            '    except MissingDependency as error:\n'
            '        print(error)\n')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('needs torch: pip install torch') == 4
