import cv2
import numpy as np
import pytest

from longrecon_ros.evaluation import DepthScores
from longrecon_ros.preprocess import fit_depth
from longrecon_ros.types import Frame


@pytest.fixture
def truth():
    return np.random.default_rng(0).uniform(1, 9, (40, 60)).astype(np.float32)


def test_right_up_to_a_scale(truth):
    scores = DepthScores()
    scores.add(truth * 0.25, np.ones_like(truth), truth)
    score = scores.with_scale(4)
    assert score.absrel < 3e-4
    assert (score.within_10_percent, score.within_factor_1_25) == (1, 1)
    assert scores.median_scale == pytest.approx(4, rel=3e-4)
    assert scores.with_scale(1).absrel == pytest.approx(0.75, abs=3e-4)
    assert scores.per_frame_scale().median < 3e-4


def test_agrees_with_the_direct_computation(truth):
    rng = np.random.default_rng(1)
    scores, errors = DepthScores(), []
    for _ in range(3):
        predicted = 2.5 * truth * np.exp(rng.normal(size=truth.shape) * 0.2)
        confidence = rng.uniform(size=truth.shape)
        true_depth = np.where(rng.uniform(size=truth.shape) < 0.3, 0, truth)
        scores.add(predicted, confidence, true_depth)
        used = (confidence > 0.5) & (true_depth > 0)
        errors.append((predicted / 2.5 / truth)[used])
    ratio = np.concatenate(errors)
    score = scores.with_scale(1 / 2.5)
    relative = np.abs(ratio - 1)
    assert score.absrel == pytest.approx(relative.mean(), rel=1e-3)
    assert score.median == pytest.approx(np.median(relative), rel=1e-2)
    assert score.within_10_percent == pytest.approx((relative < 0.1).mean(), abs=2e-3)
    assert score.within_factor_1_25 == pytest.approx(
        (np.maximum(ratio, 1 / ratio) < 1.25).mean(), abs=2e-3)


def test_frames_of_other_scales_differ_only_with_one_scale(truth):
    scores = DepthScores()
    for scale in (1, 2):
        scores.add(truth * scale, np.ones_like(truth), truth)
    assert scores.with_scale(1).within_10_percent == 0.5
    assert scores.per_frame_scale().within_10_percent == 1


def test_coverage_counts_true_pixels_only(truth):
    confidence = np.zeros_like(truth)
    confidence[:20] = 0.9
    true_depth = truth.copy()
    true_depth[:, :30] = 0
    true_depth[0, 59] = np.nan
    scores = DepthScores()
    scores.add(truth, confidence, true_depth)
    assert scores.n_true == 40 * 30 - 1
    assert scores.coverage == pytest.approx((20 * 30 - 1) / (40 * 30 - 1))


def test_nothing_to_compare(truth):
    scores = DepthScores()
    assert np.isnan(scores.coverage)
    scores.add(truth, np.zeros_like(truth), truth)
    assert (scores.coverage, scores.with_scale(1), scores.per_frame_scale()) == (0, None, None)
    with pytest.raises(ValueError, match='one shape'):
        scores.add(truth, truth[:1], truth)


def test_truth_is_resized_without_inventing_values(truth):
    frame = Frame(0, 0, np.zeros((80, 120, 3), np.uint8))
    fitted = fit_depth(truth, frame, (30, 20))
    assert fitted.shape == (20, 30)
    assert np.isin(fitted, truth).all()


@pytest.mark.parametrize('model, coefficients', [
    ('plumb_bob', [0.2, -0.3, 0.001, 0.002, 0.05]), ('equidistant', [0.02, 0.01, 0, 0])])
def test_truth_is_rectified_like_the_image(model, coefficients):
    K = np.array([[60., 0, 60], [0, 60, 40], [0, 0, 1]])
    distortion = np.array(coefficients)
    # the pixel of a point on the optical axis stays; a corner point moves by the lens model
    ray = np.array([[[0.5, 0.4]]])
    if model == 'equidistant':
        seen = cv2.fisheye.distortPoints(ray, K, distortion)[0, 0]
    else:
        seen = cv2.projectPoints(np.array([[[0.5, 0.4, 1.0]]]), np.zeros(3), np.zeros(3), K,
                                 distortion)[0][0, 0]
    depth = np.ones((80, 120), np.float32)
    x, y = np.round(seen).astype(int)
    depth[y - 2:y + 3, x - 2:x + 3] = 7
    frame = Frame(0, 0, np.zeros((80, 120, 3), np.uint8), K, distortion, model)
    fitted = fit_depth(depth, frame, (120, 80))
    assert fitted[round(40 + 60 * 0.4), round(60 + 60 * 0.5)] == 7
    assert fitted[40, 60] == 1
