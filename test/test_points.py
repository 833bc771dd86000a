"""Accuracy and completeness against clouds whose distances are known."""

import numpy as np
import pytest

from longrecon_ros.evaluation.points import (
    choose_pixels,
    CloudSamples,
    extent,
    score_points,
    thin,
)


def _grid(n: int, spacing_m: float = 1.0) -> np.ndarray:
    """Return n x n points on the plane z = 0."""
    u, v = np.meshgrid(np.arange(n), np.arange(n))
    return spacing_m * np.stack([u, v, np.zeros_like(u)], axis=-1).reshape(-1, 3).astype(float)


def test_equal_clouds_have_no_error():
    cloud = np.random.default_rng(0).normal(size=(500, 3))
    score = score_points(cloud[::-1], cloud)
    assert score.accuracy_mean_m == score.completeness_mean_m == 0
    assert score.extent_m == pytest.approx(extent(cloud))


def test_a_shifted_plane_is_as_far_as_it_is_shifted():
    score = score_points(_grid(20) + [0, 0, 0.3], _grid(20))
    assert score.accuracy_mean_m == pytest.approx(0.3)
    assert score.accuracy_median_m == pytest.approx(0.3)
    assert score.completeness_mean_m == pytest.approx(0.3)


def test_half_of_a_plane_is_accurate_but_not_complete():
    true = _grid(20)
    score = score_points(true[true[:, 0] < 10], true)
    assert score.accuracy_mean_m == 0
    # half of the columns are 1 to 10 m from the nearest one that was reconstructed
    assert score.completeness_mean_m == pytest.approx(np.arange(1, 11).sum() / 20)


def test_an_outlier_moves_the_mean_but_not_the_median():
    score = score_points(np.concatenate([_grid(20), [[0, 0, 401.0]]]), _grid(20))
    assert score.accuracy_mean_m == pytest.approx(401 / 401)
    assert score.accuracy_median_m == score.completeness_mean_m == 0


def test_swapping_the_clouds_swaps_the_measures():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(300, 3)), rng.normal(size=(200, 3)) * 2
    one, other = score_points(a, b, 0.05), score_points(b, a, 0.05)
    assert one.accuracy_mean_m == other.completeness_mean_m
    assert one.completeness_median_m == other.accuracy_median_m
    assert (one.n_predicted, one.n_true) == (other.n_true, other.n_predicted)


def test_what_was_seen_often_counts_once():
    near = np.zeros((1000, 3))
    score = score_points(np.concatenate([near, [[0, 0, 1.0]]]), near[:1], voxel_m=0.1)
    assert score.n_predicted == 2
    assert score.accuracy_mean_m == pytest.approx(0.5)


def test_nothing_to_compare():
    assert score_points(np.zeros((0, 3)), _grid(3)) is None
    assert score_points(_grid(3), np.zeros((0, 3))) is None


def test_thinning_keeps_one_point_a_voxel():
    cloud = np.random.default_rng(2).uniform(-1, 1, size=(5000, 3))
    few = thin(cloud, 0.25)
    cells = np.floor(few / 0.25)
    assert len(np.unique(cells, axis=0)) == len(few) == 8**3
    np.testing.assert_array_equal(few, thin(few, 0.25))
    assert {tuple(point) for point in few} <= {tuple(point) for point in cloud}
    with pytest.raises(ValueError, match='voxel_m'):
        thin(cloud, 0.0)


def test_samples_stay_bounded_and_keep_every_frame():
    samples = CloudSamples(max_points=1000)
    for frame in range(100):
        samples.add(np.full((64, 3), frame))
        assert len(samples) <= 1000
    frames, counts = np.unique(samples.points()[:, 0], return_counts=True)
    np.testing.assert_array_equal(frames, np.arange(100))
    assert counts.max() <= 2 * counts.min()


def test_few_samples_are_all_kept():
    samples = CloudSamples(max_points=1000)
    for frame in range(10):
        samples.add(np.full((100, 3), frame))
    assert len(samples) == len(samples.points()) == 1000


def test_bounds_below_one_frame_hold_too():
    samples = CloudSamples(max_points=10)
    for frame in range(50):
        samples.add(np.full((64, 3), frame))
        assert 1 <= len(samples) <= 10
    assert len(CloudSamples().points()) == 0
    with pytest.raises(ValueError, match='max_points'):
        CloudSamples(0)


def test_pixels_are_spread_over_the_mask():
    mask = np.zeros((40, 50), bool)
    mask[10:30] = True
    chosen = choose_pixels(mask, 100)
    assert len(np.unique(chosen)) == 100
    assert mask.reshape(-1)[chosen].all()
    assert np.bincount(chosen // 50, minlength=40)[10:30].tolist() == [5] * 20
    np.testing.assert_array_equal(choose_pixels(mask, 5000), np.flatnonzero(mask))
