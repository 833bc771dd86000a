"""Resampling against Pillow, whose results the published networks were trained on."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from longrecon_ros.resampling import resample

KINDS = ['bicubic', 'lanczos']


def noise(w, h, seed=0):
    """Return an image of extremes, where overshoot and rounding show most."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    image[rng.random((h, w)) < 0.3] = 255
    image[:h // 2, :w // 2] = np.where(image[:h // 2, :w // 2] < 128, 0, 255)
    return image


def by_pillow(image, size, kind):
    pillow = pytest.importorskip('PIL.Image')
    filters = {'bicubic': pillow.BICUBIC, 'lanczos': pillow.LANCZOS}
    return np.asarray(pillow.fromarray(image).resize(size, filters[kind]))


def assert_like_pillow(image, size, kind):
    """All but equal: a rounded weight may differ where two libraries' sines do."""
    result = resample(image, size, kind)
    assert result.shape == (size[1], size[0], 3) and result.dtype == np.uint8
    error = np.abs(result.astype(int) - by_pillow(image, size, kind))
    assert error.max() <= 1 and error.mean() < 0.001


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('size, new_size', [
    ((1241, 376), (924, 266)), ((640, 480), (518, 392)), ((1920, 1080), (672, 378)),
    ((320, 240), (574, 434)), ((101, 67), (203, 31)), ((67, 101), (31, 203)),
    ((64, 48), (64, 20)), ((64, 48), (20, 48)), ((33, 17), (1, 1)), ((33, 17), (1, 40)),
    ((1, 1), (5, 7)), ((1, 50), (3, 20)), ((50, 1), (20, 1)), ((2, 3), (300, 2)),
    ((700, 3), (2, 2)),
])
def test_it_is_what_pillow_does(size, new_size, kind):
    assert_like_pillow(noise(*size), new_size, kind)


@settings(deadline=None)
@given(*[st.integers(1, 90)] * 4, st.sampled_from(KINDS), st.integers(0, 99))
def test_any_size_is_what_pillow_does(w, h, new_w, new_h, kind, seed):
    assert_like_pillow(noise(w, h, seed), (new_w, new_h), kind)


@pytest.mark.parametrize('kind', KINDS)
def test_views_and_read_only_images_will_do(kind):
    image = noise(80, 60)
    view = image[::2, ::-1]
    view.flags.writeable = False
    np.testing.assert_array_equal(resample(view, (31, 44), kind),
                                  resample(np.ascontiguousarray(view), (31, 44), kind))


@pytest.mark.parametrize('kind', KINDS)
def test_one_colour_stays_and_mirroring_makes_no_difference(kind):
    flat = np.full((50, 70, 3), (0, 130, 255), np.uint8)
    np.testing.assert_array_equal(resample(flat, (33, 91), kind),
                                  np.broadcast_to(flat[0, 0], (91, 33, 3)))
    image = noise(70, 50)
    mirrored = resample(image[::-1, ::-1], (33, 91), kind)[::-1, ::-1].astype(int)
    # Pillow cuts supports to whole pixels from the left, so the odd byte rounds otherwise
    assert np.abs(mirrored - resample(image, (33, 91), kind)).max() <= 1


def test_an_image_of_that_size_is_returned_as_it_is():
    image = noise(20, 10)
    assert resample(image, (20, 10), 'bicubic') is image


@pytest.mark.parametrize('image, size, kind, words', [
    (np.zeros((4, 5), np.uint8), (2, 2), 'bicubic', 'image: .* got .4, 5. uint8'),
    (np.zeros((4, 5, 3)), (2, 2), 'bicubic', 'image: .* float64'),
    (np.zeros((0, 5, 3), np.uint8), (2, 2), 'bicubic', 'image: '),
    (np.zeros((4, 5, 3), np.uint8), (0, 2), 'bicubic', 'size: '),
    (np.zeros((4, 5, 3), np.uint8), (2, 2), 'area', "kind: .* bicubic, lanczos, got 'area'"),
])
def test_misuse_names_the_argument(image, size, kind, words):
    with pytest.raises(ValueError, match=words):
        resample(image, size, kind)
