"""Rectification against an independent distortion formula, sizes, one size a stream, way back."""

import math

import cv2
from fakes import FakeBackbone
from hypothesis import given, strategies as st
import numpy as np
import pytest

from longrecon_ros.alignment import make_aligner
from longrecon_ros.config import build, load, WindowConfig
from longrecon_ros.errors import InputError
from longrecon_ros.geometry.camera import pixel_grid, pointmap_from_depth, project
from longrecon_ros.loop.settings import LoopConfig
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.preprocess import fit_frame, Preprocessor, rectify, Resolution, restore_map
from longrecon_ros.resampling import resample
from longrecon_ros.types import Frame, FrameTruth

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


PI3 = Resolution(14, 255000, enlarge=True, interpolation='lanczos')
VGGT = Resolution(14, max_side=518, enlarge=True, interpolation='bicubic')


@pytest.mark.parametrize('resolution, size, expected', [
    (PI3, (640, 480), (574, 434)), (PI3, (752, 480), (630, 392)),
    (PI3, (1280, 720), (672, 378)), (PI3, (1920, 1080), (672, 378)),
    (PI3, (1241, 376), (924, 266)), (PI3, (1024, 436), (770, 322)),
    (PI3, (320, 240), (574, 434)),
    (VGGT, (1241, 376), (518, 154)), (VGGT, (640, 480), (518, 392)),
    (VGGT, (1280, 720), (518, 294)), (VGGT, (480, 640), (392, 518)),
    (VGGT, (320, 240), (518, 392)), (VGGT, (518, 390), (518, 392)),
    (Resolution(14, max_side=530, enlarge=True), (1280, 720), (518, 294)),
    # the tighter of both limits
    (Resolution(14, 518 * 294, 518, enlarge=True), (640, 480), (448, 336)),
    (Resolution(14, 518 * 294, 518, enlarge=True), (1280, 400), (518, 168)),
    # without enlarging, small images are cut to whole patches
    (Resolution(14, 255000), (320, 240), (308, 238)), (Resolution(14, max_side=518), (9, 99),
                                                       (14, 98)),
    (Resolution(14, 518 * 294, 518), (1280, 720), (518, 294)),
    (Resolution(enlarge=True), (320, 241), (320, 241)), (Resolution(), (9, 1), (9, 1)),
    (Resolution(max_side=100), (200, 150), (100, 75)),
])
def test_sizes_are_those_of_the_official_loaders(resolution, size, expected):
    assert resolution.size_for(size) == expected


def official_pi3(w, h, limit=255000):
    """The rule of pi3's loader, as it is written there."""
    scale = math.sqrt(limit / (w * h))
    w_target, h_target = w * scale, h * scale
    k, m = round(w_target / 14), round(h_target / 14)
    while (k * 14) * (m * 14) > limit:
        if k / m > w_target / h_target:
            k -= 1
        else:
            m -= 1
    return max(1, k) * 14, max(1, m) * 14


@given(st.integers(20, 4000), st.integers(20, 4000))
def test_random_sizes_are_those_of_the_official_loaders(w, h):
    assert PI3.size_for((w, h)) == official_pi3(w, h)
    if w >= h:
        assert VGGT.size_for((w, h)) == (518, max(1, round(h * (518 / w) / 14)) * 14)
        assert VGGT.size_for((h, w)) == VGGT.size_for((w, h))[::-1]


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([1, 14, 16]),
       st.one_of(st.none(), st.integers(300, 10**6)), st.one_of(st.none(), st.integers(16, 2000)),
       st.booleans())
def test_sizes_keep_limits_patch_and_aspect(w, h, patch, max_pixels, max_side, enlarge):
    resolution = Resolution(patch, max_pixels, max_side, enlarge)
    new_w, new_h = resolution.size_for((w, h))
    assert new_w % patch == 0 and new_h % patch == 0 and min(new_w, new_h) >= patch
    assert max_pixels is None or new_w * new_h <= max_pixels
    assert max_side is None or max(new_w, new_h) <= max_side
    if not enlarge:
        is_within = (max_pixels is None or w * h <= max_pixels) and (
            max_side is None or max(w, h) <= max_side - max_side % patch)
        rounding = 0 if is_within else patch / 2
        assert new_w <= max(w + rounding, patch) and new_h <= max(h + rounding, patch)
    if min(new_w, new_h) > 5 * patch:
        assert abs(np.log((new_w / new_h) / (w / h))) < 0.3
        # the shorter side is within a patch of what the longer one asks for
        longer, shorter = (w, h) if w >= h else (h, w)
        new_longer, new_shorter = (new_w, new_h) if w >= h else (new_h, new_w)
        assert abs(new_shorter - new_longer * shorter / longer) <= patch + 1e-6
        if max_pixels is not None and max_side is None and (enlarge or w * h > max_pixels):
            assert new_w * new_h > 0.6 * max_pixels


@pytest.mark.parametrize('resolution', [Resolution(5, 100 * 75), VGGT])
def test_scaling_moves_the_image_and_K_together(resolution):
    frame = Frame(0, 0, pinhole_image(), K)
    ready = fit_frame(frame, resolution)
    assert ready.size == resolution.size_for(SIZE) != SIZE
    rays = (pixel_grid(ready.size) - ready.K[:2, 2]) / np.diag(ready.K)[:2]
    error = np.abs(ready.image.astype(int) - scene(rays[..., 0], rays[..., 1]))
    assert error.mean() < 1.0
    assert fit_frame(Frame(0, 0, frame.image), resolution).K is None


@pytest.mark.parametrize('resolution', [PI3, VGGT, Resolution(14, 100 * 75)])
def test_a_point_keeps_its_place_in_the_image(resolution):
    """Outer corners map to outer corners: u' + 0.5 = (u + 0.5) w' / w."""
    points = np.random.default_rng(2).uniform([-1, -1, 2], [1, 1, 9], (20, 3))
    ready = fit_frame(Frame(0, 0, pinhole_image(), K), resolution)
    stretch = np.array(ready.size) / SIZE
    np.testing.assert_allclose(project(points, ready.K) + 0.5,
                               (project(points, K) + 0.5) * stretch, atol=1e-9)


@given(st.integers(15, 1500), st.integers(15, 1500), st.sampled_from([VGGT, PI3]))
def test_a_frame_of_the_right_size_is_returned_as_it_is(w, h, resolution):
    # where a limit of pixels is not used up, there is room to grow: pi3's loader does so, too
    size = resolution.size_for((w, h))
    frame = Frame(0, 0, np.zeros((size[1], size[0], 3), np.uint8))
    if resolution.size_for(size) == size:
        assert fit_frame(frame, resolution) is frame
    else:
        assert resolution is PI3
    for native in (Resolution(), Resolution(14), Resolution(14, size[0] * size[1])):
        assert fit_frame(frame, native) is frame


@pytest.mark.parametrize('kind', ['bicubic', 'lanczos'])
def test_images_are_resampled_as_the_spec_says(kind):
    frame = Frame(0, 0, pinhole_image())
    ready = fit_frame(frame, Resolution(14, max_side=112, interpolation=kind))
    np.testing.assert_array_equal(ready.image, resample(frame.image, (112, 84), kind))


def test_area_is_what_opencv_makes_of_it():
    frame = Frame(0, 0, pinhole_image())
    for size in ((98, 70), (14, 98)):
        small = Frame(0, 0, cv2.resize(frame.image, (9, 99))) if size[0] == 14 else frame
        ready = fit_frame(small, Resolution(14, 98 * 70))
        assert ready.size == size
        np.testing.assert_array_equal(
            ready.image, cv2.resize(small.image, size, interpolation=cv2.INTER_AREA))


def test_the_pipeline_brings_images_to_the_size_of_its_backbone():
    seen = []

    class Listening(FakeBackbone):
        def step(self, state, window):
            seen.extend(frame.size for frame in window.frames)
            return super().step(state, window)

    backbone = Listening(patch=14, max_pixels=255000, max_side=518, enlarge=True,
                         interpolation='bicubic')
    pipeline = Pipeline(backbone, make_aligner('depth_ratio'), WindowConfig(4, 2), load().map,
                        build(LoopConfig, load().loop))
    pipeline.push(Frame(0, 0, pinhole_image(), K))
    pipeline.flush()
    assert seen == [(518, 392)]


def test_a_stream_has_one_size():
    prepare = Preprocessor()
    prepare(Frame(0, 0, np.zeros((20, 30, 3), np.uint8)))
    prepare(Frame(1, 1, np.zeros((20, 30, 3), np.uint8)))
    with pytest.raises(InputError, match='frame 2: the image is 20x30 px, but .* 30x20 px'):
        prepare(Frame(2, 2, np.zeros((30, 20, 3), np.uint8)))


@pytest.mark.parametrize('fields, words', [
    ({'max_pixels': 100, 'patch': 14}, 'max_pixels, patch: .* got 100 and 14'),
    ({'patch': 0}, 'max_pixels, patch'),
    ({'max_side': 13, 'patch': 14}, 'max_side: .* 14 px, got 13'),
    ({'interpolation': 'cubic'}, "interpolation: .* area, bicubic, lanczos, got 'cubic'"),
])
def test_misuse_names_the_argument(fields, words):
    for make in (Resolution, Preprocessor):
        with pytest.raises(ValueError, match=words):
            make(**fields)


def test_misuse_of_a_map_is_named():
    for values in (np.ones(5), np.ones((4, 5), np.uint8)):
        with pytest.raises(ValueError, match='values: expected'):
            restore_map(values, (8, 9))


NORMAL = np.array([0.3, 0.4, 1.0])


def plane_depth(size, intrinsics):
    """Return the depth of the tilted plane n.x = 2: from 1.4 to 3.3 m in the picture."""
    rays = np.concatenate([(pixel_grid(size) - intrinsics[:2, 2]) / np.diag(intrinsics)[:2],
                           np.ones((size[1], size[0], 1))], axis=-1)
    return (2 / (rays @ NORMAL)).astype(np.float32)


@pytest.mark.parametrize('spec', [FakeBackbone(patch=14, max_pixels=7500).spec, FakeBackbone(
    patch=14, max_side=518, enlarge=True, interpolation='bicubic').spec])
def test_depth_comes_back_to_the_pixels_of_the_image(spec):
    depth, points = plane_depth(SIZE, K), pointmap_from_depth(plane_depth(SIZE, K), K)
    ready = Preprocessor.of(spec)(Frame(0, 0, pinhole_image(), K,
                                        truth=FrameTruth(depth, np.eye(4))))
    # the network's view: what it measures at its pixels lies on the plane, with the new K
    seen = plane_depth(ready.size, ready.K)
    seen_points = pointmap_from_depth(seen, ready.K)
    np.testing.assert_allclose(seen_points @ NORMAL, 2, rtol=1e-5)
    # the true depth is the nearest of the image's pixels, so up to half a pixel off
    np.testing.assert_allclose(ready.truth.depth, seen, rtol=0.005)
    restored = restore_map(seen, SIZE)
    np.testing.assert_allclose(restored, depth, rtol=0.006)
    np.testing.assert_allclose(pointmap_from_depth(restored, K), points, atol=0.02)
    # beyond the outermost centres of the network's pixels values repeat; within is no such error
    inner = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(restored[inner], depth[inner], rtol=1e-4)
    np.testing.assert_allclose(restore_map(seen_points, SIZE)[inner], points[inner], atol=3e-4)


@pytest.mark.parametrize('nothing', [0, np.nan, np.inf])
@pytest.mark.parametrize('size', [(35, 24), (7, 5), (13, 9)])
def test_what_is_undefined_does_not_bleed(nothing, size):
    depth = np.random.default_rng(1).uniform(5, 6, (12, 17)).astype(np.float32)
    depth[4:7, 3:9] = nothing
    depth[0, 16] = nothing
    restored = restore_map(depth, size)
    assert restored.shape == size[::-1] and restored.dtype == np.float32
    is_defined = np.isfinite(restored) & (restored != 0)
    assert (restored[is_defined] >= 5).all() and (restored[is_defined] <= 6).all()
    # as large as before
    assert is_defined.mean() == pytest.approx(1 - 19 / depth.size, abs=0.04)


def test_maps_may_have_channels():
    values = np.random.default_rng(1).uniform(5, 6, (12, 17, 5))
    values[2, 3] = 0
    values[5, 6, 0] = 0         # a coordinate may be 0
    restored = restore_map(values, (34, 24))
    assert restored.shape == (24, 34, 5)
    np.testing.assert_array_equal(restored[4:6, 6:8], 0)
    np.testing.assert_array_equal(restored[3, 6], values[1, 3])
    for channel in range(1, 5):
        np.testing.assert_allclose(restored[..., channel],
                                   restore_map(values[..., channel], (34, 24)))
    assert restore_map(values[..., :1], (34, 24)).shape == (24, 34, 1)
    assert restore_map(values, (17, 12)) is values


def test_maps_agree_with_opencv_points():
    """Sanity of the sign conventions: cv2.undistortPoints maps where rectify moved things."""
    coefficients = np.array([-0.2, 0.05, 0.003, -0.002])
    image = np.zeros((150, 200, 3), np.uint8)
    cv2.circle(image, (150, 40), 3, (255, 255, 255), -1)
    flat = rectify(Frame(0, 0, image, K, coefficients)).image[..., 0].astype(float)
    centroid = (flat[..., None] * pixel_grid(SIZE)).sum(axis=(0, 1)) / flat.sum()
    expected = cv2.undistortPoints(np.array([[[150.0, 40.0]]]), K, coefficients, P=K)[0, 0]
    np.testing.assert_allclose(centroid, expected, atol=0.2)
