"""Rectification against an independent distortion formula, sizes, and one size a stream."""

import cv2
from hypothesis import given, strategies as st
import numpy as np
import pytest

from longrecon_ros.errors import InputError
from longrecon_ros.geometry.camera import pixel_grid
from longrecon_ros.preprocess import _limited_size, limit_pixels, Preprocessor, rectify
from longrecon_ros.types import Frame

K = np.array([[150.0, 0, 99.5], [0, 150.0, 74.5], [0, 0, 1]])
SIZE = (200, 150)


def scene(x, y):
    """A smooth picture on the plane z = 1."""
    wave = np.stack([np.sin(9 * x + 1), np.cos(7 * y), np.sin(6 * (x + y))], axis=-1)
    return np.clip(127 + 100 * wave, 0, 255).astype(np.uint8)


def pinhole_image():
    rays = (pixel_grid(SIZE) - K[:2, 2]) / K[0, 0]
    return scene(rays[..., 0], rays[..., 1])


def distorted_image(distort):
    """Take the picture through a lens: invert ``distort`` (on normalised rays) by iteration."""
    seen = (pixel_grid(SIZE) - K[:2, 2]) / K[0, 0]
    rays = seen.copy()
    for _ in range(60):
        rays += seen - distort(rays)
    return scene(rays[..., 0], rays[..., 1])


def plumb_bob(rays):
    x, y = rays[..., 0], rays[..., 1]
    r2 = x * x + y * y
    radial = 1 - 0.2 * r2 + 0.05 * r2**2
    return np.stack([x * radial + 2 * 0.003 * x * y - 0.002 * (r2 + 2 * x * x),
                     y * radial + 0.003 * (r2 + 2 * y * y) - 2 * 0.002 * x * y], axis=-1)


def equidistant(rays):
    r = np.linalg.norm(rays, axis=-1, keepdims=True)
    angle = np.arctan(r)
    return rays / np.maximum(r, 1e-12) * (angle + 0.02 * angle**3)


@pytest.mark.parametrize('model, coefficients, distort', [
    ('plumb_bob', [-0.2, 0.05, 0.003, -0.002], plumb_bob),
    ('plumb_bob', [-0.2, 0.05, 0.003, -0.002, 0.0], plumb_bob),
    ('rational_polynomial', [-0.2, 0.05, 0.003, -0.002, 0, 0, 0, 0], plumb_bob),
    ('equidistant', [0.02, 0, 0, 0], equidistant),
])
def test_rectified_image_is_the_pinhole_image(model, coefficients, distort):
    image = distorted_image(distort)
    flat = rectify(Frame(3, 30, image, K, coefficients, model))
    assert flat.distortion is None and (flat.index, flat.stamp_ns) == (3, 30)
    np.testing.assert_array_equal(flat.K, K)
    inner = np.s_[30:-30, 40:-40]
    error = np.abs(flat.image[inner].astype(int) - pinhole_image()[inner])
    before = np.abs(image[inner].astype(int) - pinhole_image()[inner])
    assert error.mean() < 1.0 < before.mean()


def test_zero_distortion_leaves_the_image_alone():
    frame = Frame(0, 0, pinhole_image(), K, np.zeros(5))
    assert rectify(frame).distortion is None
    assert np.shares_memory(rectify(frame).image, frame.image)


@pytest.mark.parametrize('coefficients, model, intrinsics, words', [
    ([0.1] * 4, 'fov', K, "frame 7: distortion model 'fov' is unknown; use one of plumb_bob"),
    ([0.1] * 3, 'plumb_bob', K, 'has 3 coefficients; expected 4 or 5'),
    ([0.1, np.nan, 0, 0], 'plumb_bob', K, 'not finite'),
    ([0.1] * 4, 'plumb_bob', None, 'without intrinsics'),
])
def test_bad_calibration_is_named(coefficients, model, intrinsics, words):
    with pytest.raises(InputError, match=words):
        rectify(Frame(7, 0, pinhole_image(), intrinsics, coefficients, model))


@given(st.integers(2, 3000), st.integers(2, 3000), st.sampled_from([1, 14, 16]),
       st.one_of(st.none(), st.integers(300, 10**6)))
def test_sizes_keep_budget_patch_and_aspect(w, h, patch, max_pixels):
    new_w, new_h = _limited_size((w, h), max_pixels, patch)
    assert new_w % patch == 0 and new_h % patch == 0 and min(new_w, new_h) >= patch
    assert max_pixels is None or new_w * new_h <= max_pixels
    assert new_w <= max(w, patch) and new_h <= max(h, patch)
    if min(new_w, new_h) > 5 * patch:
        assert abs(np.log((new_w / new_h) / (w / h))) < 0.3
        if max_pixels is not None and w * h > max_pixels:
            assert new_w * new_h > 0.6 * max_pixels


def test_scaling_moves_the_image_and_K_together():
    frame = Frame(0, 0, pinhole_image(), K)
    small = limit_pixels(frame, 100 * 75, 5)
    assert small.size == (100, 75)
    rays = (pixel_grid(small.size) - small.K[:2, 2]) / np.diag(small.K)[:2]
    error = np.abs(small.image.astype(int) - scene(rays[..., 0], rays[..., 1]))
    assert error.mean() < 1.0
    assert limit_pixels(frame, None) is frame
    assert limit_pixels(Frame(0, 0, frame.image), 1000).K is None


def test_a_stream_has_one_size():
    prepare = Preprocessor()
    prepare(Frame(0, 0, np.zeros((20, 30, 3), np.uint8)))
    prepare(Frame(1, 1, np.zeros((20, 30, 3), np.uint8)))
    with pytest.raises(InputError, match='frame 2: the image is 20x30 px, but .* 30x20 px'):
        prepare(Frame(2, 2, np.zeros((30, 20, 3), np.uint8)))


def test_misuse_names_the_argument():
    with pytest.raises(ValueError, match='max_pixels, patch'):
        limit_pixels(Frame(0, 0, np.zeros((20, 30, 3), np.uint8)), 100, 14)


def test_maps_agree_with_opencv_points():
    """Sanity of the sign conventions: cv2.undistortPoints maps where rectify moved things."""
    coefficients = np.array([-0.2, 0.05, 0.003, -0.002])
    image = np.zeros((150, 200, 3), np.uint8)
    cv2.circle(image, (150, 40), 3, (255, 255, 255), -1)
    flat = rectify(Frame(0, 0, image, K, coefficients)).image[..., 0].astype(float)
    centroid = (flat[..., None] * pixel_grid(SIZE)).sum(axis=(0, 1)) / flat.sum()
    expected = cv2.undistortPoints(np.array([[[150.0, 40.0]]]), K, coefficients, P=K)[0, 0]
    np.testing.assert_allclose(centroid, expected, atol=0.2)
