"""The pinhole camera: round trips, and the pixel-centre convention against cv2.resize."""

import cv2
from hypothesis import given, strategies as st
import numpy as np
import pytest

from longrecon_ros.geometry import camera

K = np.array([[250.0, 0, 161.3], [0, 260.0, 118.2], [0, 0, 1]])


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 100))
def test_unproject_undoes_project(x, y, z):
    point = np.array([x, y, 1.0]) * z
    pixel = camera.project(point, K)
    np.testing.assert_allclose(camera.unproject(pixel, np.array(z), K), point, rtol=1e-9,
                               atol=1e-9)


def test_skew_round_trip():
    skewed = K + [[0, 3.0, 0], [0, 0, 0], [0, 0, 0]]
    point = np.array([0.4, -0.3, 2.0])
    pixel = camera.project(point, skewed)
    np.testing.assert_allclose(pixel, (skewed @ point)[:2] / 2.0)
    np.testing.assert_allclose(camera.unproject(pixel, np.array(2.0), skewed), point)


def test_points_behind_the_camera_have_no_pixel():
    pixels = camera.project(np.array([[0, 0, -1.0], [0, 0, 0.0], [0, 0, 1.0]]), K)
    assert np.isnan(pixels[:2]).all()
    np.testing.assert_allclose(pixels[2], K[:2, 2])


def test_pointmap_and_depth():
    depth = np.random.default_rng(0).uniform(1, 5, size=(2, 24, 32)).astype(np.float32)
    Ks = np.stack([K, camera.resize_K(K, (320, 240), (32, 24))])
    points = camera.pointmap_from_depth(depth, Ks)
    assert points.shape == (2, 24, 32, 3) and points.dtype == np.float32
    np.testing.assert_array_equal(camera.depth_from_pointmap(points), depth)
    np.testing.assert_allclose(camera.project(points, Ks[:, None, None]),
                               np.stack([camera.pixel_grid((32, 24))] * 2), atol=1e-4)


@pytest.mark.parametrize('factor', [2, 4])
def test_resize_follows_cv2(factor):
    """A blob at a known pixel is where the resized K says after cv2.resize."""
    w, h = 160, 120
    grid = camera.pixel_grid((w, h))
    point = np.array([0.11, -0.07, 1.0])
    full = np.array([[120.0, 0, 79.5], [0, 120.0, 59.5], [0, 0, 1]])
    image = np.exp(-((grid - camera.project(point, full))**2).sum(axis=-1) / (2 * 6.0**2))
    small = cv2.resize(image, (w // factor, h // factor), interpolation=cv2.INTER_AREA)
    small_grid = camera.pixel_grid((w // factor, h // factor))
    centroid = (small[..., None] * small_grid).sum(axis=(0, 1)) / small.sum()
    small_K = camera.resize_K(full, (w, h), (w // factor, h // factor))
    np.testing.assert_allclose(centroid, camera.project(point, small_K), atol=0.01)


def test_resize_and_back_changes_nothing():
    there = camera.resize_K(K, (320, 240), (518, 294))
    np.testing.assert_allclose(camera.resize_K(there, (518, 294), (320, 240)), K)


def test_crop_moves_the_principal_point():
    point = np.array([0.3, 0.2, 2.0])
    np.testing.assert_allclose(camera.project(point, camera.crop_K(K, 10, 7)),
                               camera.project(point, K) - [10, 7])


def test_K_comes_back_from_a_pointmap_with_outliers():
    rng = np.random.default_rng(1)
    truth = np.array([[70.0, 0, 31.5], [0, 74.0, 23.5], [0, 0, 1]])
    depth = rng.uniform(1, 6, size=(48, 64))
    points = camera.pointmap_from_depth(depth, truth)
    points[rng.random((48, 64)) < 0.1] += 0.5
    points[0, 0] = np.nan
    np.testing.assert_allclose(camera.estimate_K(points), truth, rtol=0.01)
    weights = np.zeros((48, 64))
    weights[5:20, 5:30] = 1.0
    assert camera.estimate_K(points, weights)[0, 0] == pytest.approx(70.0, rel=0.05)


def test_misuse_names_the_argument():
    with pytest.raises(ValueError, match=r'K: expected shape .* got \(3,\)'):
        camera.project(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match='0 usable points'):
        camera.estimate_K(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match='not in camera axes'):
        camera.estimate_K(camera.pointmap_from_depth(np.ones((8, 8)), K / [[10], [10], [1]])
                          * [-1, -1, 1])
