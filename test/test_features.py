"""Features of keyframes, with their points."""

from functools import lru_cache

import cv2
import numpy as np
import pytest

from longrecon_ros.geometry.camera import pointmap_from_depth, project
from longrecon_ros.loop.features import find_features, make_keyframe, read_points
from longrecon_ros.synthetic.recipe import Production, Recipe
from longrecon_ros.types import Prediction


@lru_cache(maxsize=None)
def prediction(K=True):
    """Return two frames of a prediction: one of the room, one that is lost."""
    shot = Production.of(Recipe('indoor', None, (320, 240), seed=1)).film.frame(40)
    points = pointmap_from_depth(np.stack([shot.depth, np.zeros_like(shot.depth)]), shot.K)
    confidence = np.stack([(shot.depth > 0).astype(np.float32), np.zeros_like(shot.depth)])
    rgb = np.stack([shot.image, np.full_like(shot.image, 90)])
    return Prediction(np.array([40, 41]), np.stack([np.eye(4)] * 2), points, confidence, rgb,
                      np.stack([shot.K] * 2) if K else None)


def test_features_have_their_points():
    given = prediction()
    made = make_keyframe(given, 0, 7, np.eye(4), token=np.ones(3))
    assert (made.frame_id, made.submap_id, made.token.shape) == (40, 7, (3,))
    assert 300 < len(made.uv) <= 500
    is_defined = np.isfinite(made.points).all(axis=1)
    assert is_defined.mean() > 0.8
    error = project(made.points[is_defined], made.K) - made.uv[is_defined]
    assert np.abs(error).max() < 0.1
    again = make_keyframe(given, 0, 7, np.eye(4))
    assert np.array_equal(made.uv, again.uv) and np.array_equal(made.features, again.features)


def test_features_are_spread_over_the_image():
    image = np.full((240, 320, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    strong = rng.integers(0, 256, (60, 80)).repeat(2, 0).repeat(2, 1)
    weak = rng.integers(0, 50, (60, 80)).repeat(4, 0).repeat(4, 1)
    image += weak[..., None].astype(np.uint8)
    image[:120, :160] = strong[..., None]
    uv, features = find_features(image, 200)
    assert uv.shape == (200, 2) and features.shape == (200, 32)
    plain = cv2.ORB_create(200).detect(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    for pixels, least, most in ((uv, 0.1, 0.6), (cv2.KeyPoint_convert(plain), 0.95, 1.0)):
        assert least <= (pixels < [160, 120]).all(axis=1).mean() <= most


def test_points_at_depth_edges_and_undefined_ones_are_nan():
    depth = np.full((60, 80), 2.0, np.float32)
    depth[:, 40:] = 3.0
    points = pointmap_from_depth(depth, np.array([[80.0, 0, 39.5], [0, 80, 29.5], [0, 0, 1]]))
    confidence = np.ones((60, 80), np.float32)
    confidence[10, 10], confidence[10, 20] = 0, np.nan
    points[30, 30, 0] = np.inf
    uv = np.array([[20.25, 30.5], [38.4, 30], [39, 30], [40.4, 30], [41.5, 30], [11, 11],
                   [12.6, 10], [20, 9], [30, 31], [0, 30], [79, 30], [30, 59]], np.float32)
    got = read_points(points, confidence, uv)
    assert got.dtype == np.float32
    assert np.isfinite(got).all(axis=1).tolist() == [
        True, True, False, False, True, False, True, False, False, False, False, False]
    assert got[0] == pytest.approx([(20.25 - 39.5) / 40, (30.5 - 29.5) / 40, 2])
    assert read_points(points, confidence, uv[:0]).shape == (0, 3)


def test_unknown_intrinsics_are_estimated():
    known, unknown = prediction(), prediction(K=False)
    got = make_keyframe(unknown, 0, 0, np.eye(4)).K
    np.testing.assert_allclose(got, known.K[0], rtol=5e-3)
    assert make_keyframe(unknown, 1, 0, np.eye(4)) is None


def test_blank_and_small_images_have_no_features():
    made = make_keyframe(prediction(), 1, 0, np.eye(4))
    assert made.uv.shape == (0, 2) and made.features.shape == (0, 32)
    assert made.points.shape == (0, 3)
    rng = np.random.default_rng(0)
    for h, w in ((16, 200), (33, 40), (1, 1), (64, 48)):
        uv, features = find_features(rng.integers(0, 256, (h, w, 3), dtype=np.uint8), 50)
        assert len(uv) == len(features) <= 50


def test_keyframe_misuse():
    with pytest.raises(ValueError, match='n: expected 0 to 1, got 2'):
        make_keyframe(prediction(), 2, 0, np.eye(4))
    with pytest.raises(ValueError, match='n_features: expected 1'):
        make_keyframe(prediction(), 0, 0, np.eye(4), n_features=0)
