from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from longrecon_ros.errors import InputError
from longrecon_ros.io.image_message import compressed_to_rgb, image_to_rgb, to_rgb

SIZE = (24, 32)


@pytest.fixture
def rgb():
    """Return a smooth colour image: 4:2:0 and Bayer lose little of it."""
    y, x = np.mgrid[:SIZE[0], :SIZE[1]]
    return np.stack([80 + 3 * x, 60 + 4 * y, 200 - 2 * x], axis=-1).astype(np.uint8)


def _message(pixels, encoding, is_bigendian=0, padding=0):
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return SimpleNamespace(height=SIZE[0], width=SIZE[1], encoding=encoding, step=rows.shape[1],
                           is_bigendian=is_bigendian, data=rows.tobytes())


@pytest.mark.parametrize('encoding, convert', [
    ('rgb8', None), ('bgr8', cv2.COLOR_RGB2BGR), ('rgba8', cv2.COLOR_RGB2RGBA),
    ('bgra8', cv2.COLOR_RGB2BGRA), ('8UC3', cv2.COLOR_RGB2BGR), ('8uc4', cv2.COLOR_RGB2BGRA)])
@pytest.mark.parametrize('padding', [0, 5])
def test_colour_is_exact(rgb, encoding, convert, padding):
    pixels = rgb if convert is None else cv2.cvtColor(rgb, convert)
    np.testing.assert_array_equal(image_to_rgb(_message(pixels, encoding, 0, padding), 'a'), rgb)


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
def test_grey_is_replicated(rgb, encoding):
    grey = rgb[..., 0]
    np.testing.assert_array_equal(image_to_rgb(_message(grey, encoding), 'a'),
                                  np.repeat(grey[..., None], 3, axis=-1))


@pytest.mark.parametrize('is_bigendian', [0, 1])
@pytest.mark.parametrize('encoding, convert', [('rgb16', None), ('bgr16', cv2.COLOR_RGB2BGR)])
def test_16_bits_of_either_byte_order(rgb, encoding, convert, is_bigendian):
    pixels = rgb.astype(np.uint16) * 257
    pixels = pixels if convert is None else cv2.cvtColor(pixels, convert)
    pixels = pixels.astype('>u2' if is_bigendian else '<u2')
    np.testing.assert_array_equal(
        image_to_rgb(_message(pixels, encoding, is_bigendian, 6), 'a'), rgb)


@pytest.mark.parametrize('n_bits', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_patterns_have_their_colours(rgb, pattern, n_bits):
    mosaic = np.empty(SIZE, np.uint8)
    for place, colour in enumerate(pattern):
        mosaic[place // 2::2, place % 2::2] = \
            rgb[place // 2::2, place % 2::2, 'rgb'.index(colour)]
    mosaic = mosaic if n_bits == 8 else mosaic.astype(np.uint16) << 8
    back = image_to_rgb(_message(mosaic, f'bayer_{pattern}{n_bits}'), 'a')
    assert np.abs(back.astype(int) - rgb)[2:-2, 2:-2].max() <= 8


@pytest.mark.parametrize('encoding, second', [('yuv422', 0), ('uyvy', 0), ('yuv422_yuy2', 1),
                                              ('yuyv', 1)])
def test_packed_yuv(rgb, encoding, second):
    yuv = _video_range(rgb)
    packed = np.empty(SIZE + (2,), np.uint8)
    packed[..., 1 - second] = yuv[..., 0]
    packed[:, 0::2, second] = yuv[:, 0::2, 1]
    packed[:, 1::2, second] = yuv[:, 0::2, 2]
    back = image_to_rgb(_message(packed, encoding), 'a')
    assert np.abs(back.astype(int) - rgb).max() <= 10


@pytest.mark.parametrize('encoding, u', [('nv12', 0), ('nv21', 1)])
def test_planar_yuv(rgb, encoding, u):
    yuv = _video_range(rgb)
    chroma = np.empty((SIZE[0] // 2, SIZE[1]), np.uint8)
    chroma[:, u::2], chroma[:, 1 - u::2] = yuv[::2, ::2, 1], yuv[::2, ::2, 2]
    message = _message(np.concatenate([yuv[..., 0], chroma]), encoding)
    assert np.abs(image_to_rgb(message, 'a').astype(int) - rgb).max() <= 10


def _video_range(rgb):
    """Return YUV (BT.601, 16 to 235) of an RGB image, as cameras send it."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return np.round(np.stack([y, u, v], axis=-1)).astype(np.uint8)


@pytest.mark.parametrize('suffix, tolerance', [('.png', 0), ('.jpg', 12)])
def test_compressed(rgb, suffix, tolerance):
    data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
    back = to_rgb(SimpleNamespace(format='bgr8; jpeg compressed bgr8', data=data), 'a')
    assert np.abs(back.astype(int) - rgb).max() <= tolerance


def test_compressed_grey(rgb):
    data = cv2.imencode('.png', rgb[..., 0])[1].tobytes()
    back = to_rgb(SimpleNamespace(format='mono8; png compressed', data=data), 'a')
    np.testing.assert_array_equal(back[..., 2], rgb[..., 0])


@pytest.mark.parametrize('encoding', ['32FC1', '64FC3', 'odd', '', '16SC1', '8UC2'])
def test_unknown_encoding(rgb, encoding):
    with pytest.raises(InputError, match=f'/cam: the encoding "{encoding}"'):
        image_to_rgb(_message(rgb, encoding), '/cam')


def test_too_few_bytes(rgb):
    message = _message(rgb, 'rgb8')
    message.data = message.data[:-1]
    with pytest.raises(InputError, match='/cam: 2303 bytes are no 32x24 rgb8 image with 96'):
        image_to_rgb(message, '/cam')


@pytest.mark.parametrize('form, data, message', [
    ('16UC1; compressedDepth', b'x', 'compressed depth'), ('h264', b'\0\0\0\1', 'format "h264"'),
    ('jpeg', b'', '0 bytes')])
def test_compressed_that_is_no_image(form, data, message):
    with pytest.raises(InputError, match=message):
        compressed_to_rgb(SimpleNamespace(format=form, data=data), '/cam')
