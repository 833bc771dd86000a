"""Scale errors from window to window, with biases that are known."""

import numpy as np
import pytest

from longrecon_ros.evaluation import link_scales, Pairs, WindowCentres

N, STRIDE, SIZE = 86, 10, 16


def drive(still=()):
    """Truth of a bent drive; frames in ``still`` repeat the place before them."""
    steps = np.ones(N)
    steps[list(still)] = 0.0
    s = np.cumsum(steps)
    centres = np.stack([s, 0.01 * s**2, 0.2 * np.sin(0.3 * s)], axis=1)
    T = np.tile(np.eye(4), (N, 1, 1))
    T[:, :3, 3] = centres
    return Pairs(np.arange(N, dtype=np.int64) * 10**8, T, T)


def windows(pairs, scale_of, linked=lambda k: True):
    """Windows of the drive, each shrunk or grown about its first camera."""
    result = []
    for k, start in enumerate(range(0, N - SIZE + 1, STRIDE)):
        rows = slice(start, start + SIZE)
        true = pairs.T_gt[rows, :3, 3]
        result.append(WindowCentres(pairs.stamps_ns[rows], (true - true[0]) * scale_of(k) + 5.0,
                                    linked(k)))
    return result


@pytest.mark.parametrize('bias', [0.0, 0.01, -0.004])
def test_a_known_bias_is_found(bias):
    pairs = drive()
    found = link_scales(windows(pairs, lambda k: np.exp(-bias * k)), pairs)
    assert len(found.log_ratios) == 7
    assert found.bias_percent == pytest.approx(100 * bias, abs=1e-9)
    assert found.spread_percent == pytest.approx(0.0, abs=1e-9)


def test_spread_is_that_of_single_links():
    pairs = drive()
    found = link_scales(windows(pairs, lambda k: 1.02 if k % 2 else 1.0), pairs)
    assert found.spread_percent == pytest.approx(100 * np.log(1.02), rel=0.02)


def test_unlinked_windows_are_not_chained_over():
    pairs = drive()
    found = link_scales(windows(pairs, lambda k: 1.0 if k < 4 else 3.0, lambda k: k != 4), pairs)
    assert len(found.log_ratios) == 6 and found.bias_percent == pytest.approx(0.0, abs=1e-9)


def test_standing_windows_say_nothing():
    pairs = drive(still=range(30, 47))
    found = link_scales(windows(pairs, lambda k: 7.0 if k == 3 else 1.0), pairs)
    assert found.bias_percent == pytest.approx(0.0, abs=1e-9)
    assert len(found.log_ratios) == 5


def test_without_enough_true_poses_there_is_no_figure():
    pairs = drive()
    few = Pairs(pairs.stamps_ns[:3], pairs.T_est[:3], pairs.T_gt[:3])
    assert link_scales(windows(pairs, lambda k: 1.0), few) is None
    assert link_scales([], pairs) is None
