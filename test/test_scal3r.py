"""The scal3r backbone: windows share a memory, causally, and nothing bad gets into it."""

import dataclasses

import backbone_runs as runs
from backbone_runs import black, run, tiny
import numpy as np
import pytest
from sfm_films import film
from sfm_runs import stream

from longrecon_ros.errors import ConfigError, WeightsError
from longrecon_ros.types import FrameState

torch = pytest.importorskip('torch')

SIZE, OVERLAP, N = 6, 3, 24
pytestmark = pytest.mark.torch


def make(**options):
    return tiny('scal3r', **{'orthogonal': 'float32', **options})


def windows_of(backbone, dark=()):
    return runs.windows_of(backbone, black(stream(film('indoor', N)), dark), SIZE, OVERLAP)


def test_a_window_recalls_what_was_stored_before_it():
    backbone = make()
    windows = windows_of(backbone)
    states, predictions = run(backbone, windows)
    _, fresh = backbone.step(backbone.init(), windows[3])
    assert np.abs(fresh.depth - predictions[3].depth).max() > 1e-4
    _, again = backbone.step(states[3], windows[3])
    np.testing.assert_array_equal(again.depth, predictions[3].depth)
    sizes = [backbone.state_figures(state)['state MB'] for state in states[1:]]
    assert len(set(sizes[:-1])) == 1, 'the memory has one size'


def test_the_middle_frame_is_the_reference_and_frames_keep_their_places():
    backbone = make()
    window = windows_of(backbone)[0]
    seen = []
    encode = backbone._network._runtime.encode

    def watched(images):
        seen.append(images.numpy())
        return encode(images)
    backbone._network._runtime.encode = watched
    _, prediction = backbone.step(backbone.init(), window)
    np.testing.assert_array_equal(seen[0][0], window.frames[2].image)
    np.testing.assert_array_equal(prediction.frame_ids, window.frame_ids)
    # each frame alone is told apart from the others by its depth: the order is that of the window
    swapped = dataclasses.replace(window, frames=tuple(window.frames[i] for i in
                                                       (5, 1, 2, 3, 4, 0)))
    _, other = backbone.step(backbone.init(), swapped)
    np.testing.assert_allclose(other.depth[[5, 1, 2, 3, 4, 0]], prediction.depth, rtol=1e-3)


@pytest.mark.parametrize('dark', [{7}, {0, 1}, set(range(9, 18))])
def test_black_frames_do_not_reach_the_memory(dark):
    backbone = make()
    states, predictions = run(backbone, windows_of(backbone, dark))
    for p in predictions:
        is_dark = np.isin(p.frame_ids, list(dark))
        np.testing.assert_array_equal(p.states == FrameState.LOST, is_dark)
        assert np.isfinite(p.T_window_camera).all() and not p.confidence[is_dark].any()
    assert all(torch.isfinite(g).all() for d in states[-1].stored.values() for g in d)


def test_numbers_that_are_not_finite_are_not_stored(caplog):
    backbone = make()
    windows = windows_of(backbone)
    _, predictions = run(backbone, windows)
    decode, bad = backbone._network._runtime.decode, iter([False, True] + [False] * 9)

    def spoiled(*arguments):
        result, stored = decode(*arguments)
        if next(bad):
            stored = {**stored, 1: stored[1]._replace(w0=stored[1].w0 * torch.nan)}
        return result, stored
    backbone._network._runtime.decode = spoiled
    states, after = run(backbone, windows)
    assert states[2] is states[1] and (after[1].states == FrameState.LOST).all()
    assert 'gave numbers that are not finite' in caplog.text
    assert all((p.states == FrameState.TRACKED).all() for p in after[2:])
    np.testing.assert_array_equal(after[0].depth, predictions[0].depth)


def test_a_file_with_the_official_names_loads(tmp_path):
    net, _ = make()._network.export_net()
    from longrecon_ros.nets.scal3r import official_name
    path = tmp_path / 'scal3r.pt'
    torch.save({official_name(key): value for key, value in net.state_dict().items()}, path)
    loaded = make(weights=str(path))
    windows = windows_of(loaded)[:2]
    for a, b in zip(run(loaded, windows)[1], run(make(), windows)[1]):
        np.testing.assert_array_equal(a.depth, b.depth)
    torch.save(net.state_dict(), path)
    with pytest.raises(WeightsError, match='missing .agg_regator'):
        make(weights=str(path))


def test_what_has_no_place_for_a_memory_is_refused(tmp_path):
    for options in ({'graphs': str(tmp_path)}, {'compile': 'default'}):
        with pytest.raises(ConfigError, match='no place for a memory'):
            make(**options)
