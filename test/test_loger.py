"""The loger backbone: a memory that lasts, is bounded, can be kept, and cannot be poisoned."""

import dataclasses
from functools import partial
import os
from pathlib import Path
import signal
import subprocess
import sys

import backbone_runs as runs
from backbone_runs import black, run, tiny
import numpy as np
import pytest
from sfm_films import film
from sfm_runs import stream

from longrecon_ros import backbones, config
from longrecon_ros.errors import ConfigError, InputError, WeightsError
from longrecon_ros.geometry import se3
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.types import FrameState

torch = pytest.importorskip('torch')

SIZE, OVERLAP, N = 6, 2, 30
pytestmark = pytest.mark.torch


make = partial(tiny, 'loger')


def windows_of(backbone, n=N, dark=()):
    return runs.windows_of(backbone, black(stream(film('indoor', n)), dark), SIZE, OVERLAP)


def assert_same(a, b, atol=0.0):
    np.testing.assert_array_equal(a.frame_ids, b.frame_ids)
    for name in ('T_window_camera', 'local_points', 'confidence', 'states'):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=atol, rtol=atol)


def test_what_came_before_matters_and_a_state_is_never_written_to():
    backbone = make()
    windows = windows_of(backbone)
    states, predictions = run(backbone, windows)
    _, fresh = backbone.step(backbone.init(), windows[3])
    assert np.abs(fresh.local_points - predictions[3].local_points).max() > 1e-4
    # from an old state everything goes as it went, though the stream has gone on since
    for k in (2, 4):
        _, again = run(backbone, windows[k:], states[k])
        for a, b in zip(again, predictions[k:]):
            assert_same(a, b)


@pytest.mark.parametrize('variant', ['loger', 'star'])
def test_the_memory_is_reset_every_so_many_windows(variant):
    backbone = make(variant=variant, reset_every=3, orthogonal='float32')
    windows = windows_of(backbone, 40)
    states, predictions = run(backbone, windows)
    assert len(windows) >= 9
    gauges = [p.gauge for p in predictions]
    assert gauges == ([k // 3 for k in range(len(windows))] if variant == 'loger'
                      else [None] * len(windows))
    # a window after a reset knows of the window before, and of nothing earlier
    first = states[3]._replace(net=states[3].net.without_fast(), n_windows=0)
    _, alone = run(backbone, windows[3:5], first)
    for a, b in zip(alone, predictions[3:5]):
        assert_same(a, b)
    never = run(make(variant=variant, reset_every=0, orthogonal='float32'), windows)[1]
    assert_same(never[2], predictions[2])
    assert np.abs(never[3].local_points - predictions[3].local_points).max() > 1e-5
    assert len({p.gauge for p in never}) == 1


def test_windows_of_one_gauge_stay_in_one_frame_and_seams_are_aligned():
    loaded = config.load(overrides={'backbone': 'loger', 'window.size': SIZE,
                                    'window.overlap': OVERLAP})
    options = {**loaded.backbone_options, **backbones.load('loger').tiny, 'variant': 'loger',
               'reset_every': 3}
    pipeline = Pipeline.from_config(dataclasses.replace(loaded, backbone_options=options))
    frames = stream(film('indoor', N))
    updates = [u for u in [*map(pipeline.push, frames), pipeline.flush()] if u is not None]
    raw, before = run(make(variant='loger', reset_every=3), windows_of(make()))[1], np.eye(4)
    for k, (update, prediction) in enumerate(zip(updates, raw)):
        T = update.prediction.T_window_camera @ se3.inverse(prediction.T_window_camera)
        np.testing.assert_allclose(T, np.broadcast_to(T[0], T.shape), atol=1e-6)
        if k % 3:
            np.testing.assert_allclose(T[0], before, atol=1e-6)
        elif k:
            # the first shared camera is where it was
            np.testing.assert_allclose(update.prediction.T_window_camera[0],
                                       updates[k - 1].prediction.T_window_camera[-OVERLAP],
                                       atol=1e-6)
            assert np.abs(T[0] - before).max() > 1e-4
        before = T[0]
    assert all(u.linked and u.log_scale == 0 for u in updates)


@pytest.mark.parametrize('numbers', [{9}, {4, 5}, {0}, {11, 12, 13, 14, 15, 16}])
def test_black_frames_do_not_reach_the_memory(numbers):
    backbone = make()
    clear, dark = windows_of(backbone), windows_of(backbone, dark=numbers)
    states, predictions = run(backbone, dark)
    for window, p in zip(dark, predictions):
        is_dark = np.isin(p.frame_ids, list(numbers))
        np.testing.assert_array_equal(p.states == FrameState.LOST, is_dark)
        assert not p.confidence[is_dark].any() and np.isfinite(p.T_window_camera).all()
        np.testing.assert_array_equal(p.frame_ids, window.frame_ids)
    assert all(torch.isfinite(w).all() for weights in states[-1].net.fast for w in weights)
    # up to the first dark window all is as it would have been
    first = next(k for k, w in enumerate(dark) if set(w.frame_ids) & numbers)
    for a, b in zip(predictions[:first], run(backbone, clear[:first])[1]):
        assert_same(a, b)


def test_a_window_of_black_frames_alone_leaves_the_state_as_it_was():
    backbone = make()
    windows = windows_of(backbone, dark=set(range(6, 14)))
    states, predictions = run(backbone, windows)
    gone = next(k for k, w in enumerate(windows) if set(w.frame_ids) <= set(range(6, 14)))
    assert states[gone + 1] is states[gone]
    assert (predictions[gone].states == FrameState.LOST).all()
    assert (predictions[-1].states == FrameState.TRACKED).any()


def test_numbers_that_are_not_finite_cannot_poison_the_state(caplog):
    backbone = make()
    windows = windows_of(backbone)
    states, predictions = run(backbone, windows)
    runtime = backbone._network._runtime
    decode, bad = runtime.decode, iter([False, False, True, False, False, False, False, False])

    def spoiled(*arguments):
        result, memory = decode(*arguments)
        if next(bad):
            fast = memory.fast[0]._replace(w1=memory.fast[0].w1 * torch.nan)
            memory = memory._replace(fast=(fast, *memory.fast[1:]))
        return result, memory
    runtime.decode = spoiled
    new_states, after = run(backbone, windows)
    assert 'window 2 (frames 8 to 13) gave numbers that are not finite' in caplog.text
    assert new_states[3] is new_states[2] and (after[2].states == FrameState.LOST).all()
    assert_same(after[1], predictions[1])
    for p, state in zip(after[3:], new_states[4:]):
        assert (p.states == FrameState.TRACKED).all() and np.isfinite(p.local_points).all()
        assert all(torch.isfinite(w).all() for weights in state.net.fast for w in weights)


@pytest.mark.slow
def test_a_day_in_small_is_bounded():
    _long_run(150)


@pytest.mark.slow
def test_a_long_day_is_bounded():
    _long_run(10_000)


def _long_run(n_windows):
    backbone = make(reset_every=0)
    windows = windows_of(backbone)[1:5]
    state, _ = backbone.step(backbone.init(), windows_of(backbone)[0])
    sizes, norms = set(), []
    for k in range(n_windows):
        window = windows[k % len(windows)]
        frames = [dataclasses.replace(f, index=1000 + 4 * k + i)
                  for i, f in enumerate(window.frames)]
        state, prediction = backbone.step(state, dataclasses.replace(window, frames=frames))
        if k % max(1, n_windows // 50) == 0:
            figures = backbone.state_figures(state)
            sizes.add(figures['state MB'])
            norms.append(figures['norm ratio'])
            assert np.isfinite(prediction.local_points).all()
            assert (prediction.states == FrameState.TRACKED).all()
    assert len(sizes) == 1, 'the state has one size'
    assert max(np.abs(np.array(norms) - 1)) < 1e-3, norms


CHILD = """
import sys
sys.path[:0] = {path!r}
from test_loger import make, windows_of
backbone, state = make(), None
state = backbone.init()
for k, window in enumerate(windows_of(backbone)):
    state, _ = backbone.step(state, window)
    backbone.save_state(state, {file!r})
    print(k, flush=True)
"""


@pytest.mark.slow
def test_a_killed_stream_goes_on_to_the_same_result(tmp_path):
    file = tmp_path / 'state.pt'
    code = CHILD.format(path=[str(Path(__file__).parent)], file=str(file))
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE,
                          text=True) as child:
        for line in child.stdout:
            if int(line) == 2:
                os.kill(child.pid, signal.SIGKILL)
                break
    backbone = make()
    windows = windows_of(backbone)
    _, predictions = run(backbone, windows)
    state = backbone.load_state(file)
    assert 3 <= state.n_windows <= 4 and [p.name for p in tmp_path.iterdir()
                                          if 'partial' not in p.name] == ['state.pt']
    _, rest = run(backbone, windows[state.n_windows:], state)
    assert len(rest) >= 3
    for a, b in zip(rest, predictions[state.n_windows:]):
        assert_same(a, b, atol=1e-6)


def test_a_state_can_move_to_another_object_and_device():
    backbone, windows = make(), windows_of(make())
    states, predictions = run(backbone, windows)
    for k in (0, 3):
        state = make().adopt_state(states[k])
        assert_same(backbone.step(state, windows[k])[1], predictions[k])
    from longrecon_ros.backbones._loger_state import moved
    away = moved(states[3], torch.device('meta'))
    tensors = [t for part in (*away.net.fast, *away.net.past) for t in part]
    assert len(tensors) == 2 * 3 + 2
    assert {t.device.type for t in [*tensors, *away.stream.tokens.values()]} == {'meta'}


def test_a_state_is_whole_or_refused(tmp_path):
    backbone, file = make(), tmp_path / 'state.pt'
    windows = windows_of(backbone)
    states, predictions = run(backbone, windows)
    for k in (0, 3):
        backbone.save_state(states[k], file)
        loaded = backbone.load_state(file)
        assert loaded._replace(net=None, stream=None) == states[k]._replace(net=None, stream=None)
        assert_same(backbone.step(loaded, windows[k])[1], predictions[k])
    with pytest.raises(InputError, match=r'the state of backbone loger \(star, tiny\)'):
        make(variant='loger').load_state(file)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(InputError, match='no state of a stream, or damaged'):
        backbone.load_state(file)
    with pytest.raises(InputError, match='there is no such file'):
        backbone.load_state(tmp_path / 'other.pt')


def test_faithful_numerics_are_close_to_ours():
    windows = windows_of(make())[:4]
    # rounding to bfloat16 is what makes two right ways of computing an update differ
    for orthogonal, tolerance in (('float32', 1e-4), ('bfloat16', 0.1)):
        ours, faithful = (run(make(orthogonal=orthogonal, faithful=is_faithful), windows)[1]
                          for is_faithful in (False, True))
        for a, b in zip(ours, faithful):
            assert np.abs(a.T_window_camera - b.T_window_camera).max() < tolerance
            assert np.abs(a.confidence - b.confidence).max() < 5 * tolerance
    assert_same(ours[0], faithful[0], atol=1e-6)


def test_a_net_in_a_short_type_sees_much_the_same():
    windows = windows_of(make())[:3]
    for a, b in zip(run(make(), windows)[1], run(make(precision='bfloat16'), windows)[1]):
        assert np.abs(a.T_window_camera - b.T_window_camera).max() < 0.3
        assert (b.states == FrameState.TRACKED).all()


def test_weights_are_not_fetched_and_the_reason_is_said(tmp_path):
    with pytest.raises(WeightsError, match='loger.weights: the authors of LoGeR gave neither code '
                                           'nor weights a licence.*name a file'):
        make(weights='', size='large')
    with pytest.raises(ConfigError, match='no place for a memory'):
        make(graphs=str(tmp_path))
    with pytest.raises(ConfigError, match='reset_every: expected 0'):
        make(reset_every=-1)


@pytest.mark.parametrize('variant', ['loger', 'star'])
def test_a_released_file_loads_without_its_dead_tensors(tmp_path, variant, caplog):
    net, _ = make(variant=variant)._network.export_net()
    tensors = {f'module.{key}': value for key, value in net.state_dict().items()}
    tensors |= {f'module.ttt_layers.{j}.to_qkv_stack.0.weight': torch.ones(192, 64)
                for j in range(2)}
    path = tmp_path / 'latest.pt'
    torch.save({'model_state_dict': tensors, 'epoch': 3}, path)
    caplog.set_level('INFO')
    loaded = make(variant=variant, weights=str(path))
    assert '2 tensors that nothing uses are not read (ttt_layers.0.to_qkv_stack' in caplog.text
    windows = windows_of(loaded)[:3]
    for a, b in zip(run(loaded, windows)[1], run(make(variant=variant), windows)[1]):
        assert_same(a, b)
    other = 'star' if variant == 'loger' else 'loger'
    with pytest.raises(WeightsError, match='pre_norm'):
        make(variant=other, weights=str(path))
