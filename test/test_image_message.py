from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from longrecon_ros.errors import InputError
from longrecon_ros.io.image_message import (
    compressed_to_rgb,
    depth_to_metres,
    image_name,
    image_to_rgb,
    RgbDecoder,
    to_rgb,
)

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


@pytest.mark.parametrize('encoding, convert', [
    ('rgba16', cv2.COLOR_RGB2RGBA), ('bgra16', cv2.COLOR_RGB2BGRA), ('16UC3', cv2.COLOR_RGB2BGR),
    ('16UC4', cv2.COLOR_RGB2BGRA)])
def test_colour_of_16_bits_is_exact(rgb, encoding, convert):
    pixels = cv2.cvtColor(rgb.astype(np.uint16) * 256 + 255, convert)
    np.testing.assert_array_equal(image_to_rgb(_message(pixels, encoding, 0, 3), 'a'), rgb)


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


@pytest.mark.parametrize('padding', [0, 6])
def test_yuv_of_full_colour(rgb, padding):
    yuv = np.pad(_video_range(rgb), ((0, 0), (0, padding), (0, 0)))
    message = _message(yuv[..., 0], 'nv24')
    message.step, message.data = SIZE[1] + padding, yuv[..., 0].tobytes() + yuv[..., 1:].tobytes()
    assert np.abs(image_to_rgb(message, 'a').astype(int) - rgb).max() <= 3


def test_yuv_of_full_colour_is_scaled_like_the_other_yuv():
    grey = np.full(SIZE, 126, np.uint8)
    chroma = np.full((SIZE[0] * 2, SIZE[1]), 160, np.uint8)
    full = image_to_rgb(_message(np.concatenate([grey, chroma]), 'nv24'), 'a')
    half = image_to_rgb(_message(np.concatenate([grey, chroma[:SIZE[0] // 2]]), 'nv12'), 'a')
    assert np.abs(full.astype(int) - half).max() <= 1


@pytest.mark.parametrize('n_bits', [8, 10, 12, 14, 16])
@pytest.mark.parametrize('encoding', ['mono16', '16UC1', 'bayer_rggb16'])
def test_sensors_of_fewer_bits_are_not_black(n_bits, encoding):
    values = np.linspace(0, (1 << n_bits) - 1, SIZE[0]).astype(np.uint16)
    pixels = np.repeat(values[:, None], SIZE[1], axis=1)
    back = image_to_rgb(_message(pixels, encoding), 'a')[..., 1]
    if encoding == 'bayer_rggb16':
        assert back[-2].max() >= 230
    else:
        np.testing.assert_array_equal(back, pixels >> (n_bits - 8))


def test_the_bits_of_a_stream_only_grow():
    dark, bright = np.full(SIZE, 200, np.uint16), np.full(SIZE, 4000, np.uint16)
    decode = RgbDecoder()
    levels = [int(decode(_message(pixels, 'mono16'), 'a').max())
              for pixels in (dark, bright, dark)]
    assert levels == [200, 4000 >> 4, 200 >> 4]


@pytest.mark.parametrize('suffix, tolerance', [('.png', 0), ('.jpg', 12)])
def test_compressed(rgb, suffix, tolerance):
    data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
    back = to_rgb(SimpleNamespace(format='bgr8; jpeg compressed bgr8', data=data), 'a')
    assert np.abs(back.astype(int) - rgb).max() <= tolerance


def test_compressed_grey(rgb):
    data = cv2.imencode('.png', rgb[..., 0])[1].tobytes()
    back = to_rgb(SimpleNamespace(format='mono8; png compressed', data=data), 'a')
    np.testing.assert_array_equal(back[..., 2], rgb[..., 0])


def test_compressed_of_16_bits(rgb):
    pixels = cv2.cvtColor(rgb.astype(np.uint16) * 256, cv2.COLOR_RGB2BGR)
    data = cv2.imencode('.png', pixels)[1].tobytes()
    back = to_rgb(SimpleNamespace(format='rgb16; png compressed bgr16', data=data), 'a')
    np.testing.assert_array_equal(back, rgb)


def test_compressed_grey_of_12_bits():
    pixels = np.full(SIZE, 4000, np.uint16)
    message = SimpleNamespace(format='mono16; png compressed',
                              data=cv2.imencode('.png', pixels)[1].tobytes())
    assert (to_rgb(message, 'a') == 4000 >> 4).all()


def test_transparency_is_dropped(rgb):
    pixels = np.dstack([rgb[..., ::-1], np.zeros(SIZE, np.uint8)])
    data = cv2.imencode('.png', pixels)[1].tobytes()
    np.testing.assert_array_equal(to_rgb(SimpleNamespace(format='png', data=data), 'a'), rgb)


def test_pixels_compressed_as_rgb_are_swapped_back(rgb):
    data = cv2.imencode('.png', rgb)[1].tobytes()       # OpenCV takes them for BGR
    message = SimpleNamespace(format='rgb8; png compressed rgb8', data=data)
    np.testing.assert_array_equal(to_rgb(message, 'a'), rgb)


def test_a_compressed_mosaic_gets_its_colours(rgb):
    mosaic = rgb[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = rgb[::2, ::2, 0], rgb[1::2, 1::2, 2]
    message = SimpleNamespace(format='bayer_rggb8; png compressed ',
                              data=cv2.imencode('.png', mosaic)[1].tobytes())
    assert np.abs(to_rgb(message, 'a').astype(int) - rgb)[2:-2, 2:-2].max() <= 8


def _jpeg(rgb, *segments):
    """Return a JPEG with extra APP1 segments after its first marker."""
    data = cv2.imencode('.jpg', rgb[..., ::-1])[1].tobytes()
    extra = b''.join(b'\xff\xe1' + (len(segment) + 2).to_bytes(2, 'big') + segment
                     for segment in segments)
    return data[:2] + extra + data[2:]


def test_a_rotation_in_the_file_is_not_applied(rgb):
    # EXIF: big endian TIFF with the one entry 0x0112, orientation, short, 6: turn by 90 degrees
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
    data = _jpeg(rgb, exif)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2] == SIZE[::-1]
    assert to_rgb(SimpleNamespace(format='jpeg', data=data), 'a').shape[:2] == SIZE


@pytest.mark.parametrize('part', [0.1, 0.5, 0.98])
@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_what_is_cut_short_is_refused(rgb, suffix, part):
    data = cv2.imencode(suffix, cv2.resize(rgb, (320, 240)))[1].tobytes()
    message = SimpleNamespace(format='jpeg', data=data[:int(len(data) * part)])
    with pytest.raises(InputError, match='/cam .*is cut short'):
        compressed_to_rgb(message, '/cam')


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(rgb):
    thumbnail = b'thumb' + _jpeg(rgb)
    data = _jpeg(rgb, thumbnail)
    assert to_rgb(SimpleNamespace(format='jpeg', data=data), 'a').shape[:2] == SIZE
    with pytest.raises(InputError, match='cut short'):
        compressed_to_rgb(SimpleNamespace(format='jpeg', data=data[:-200]), 'a')


def test_padding_after_a_jpeg_is_fine(rgb):
    message = SimpleNamespace(format='jpeg', data=_jpeg(rgb) + bytes(500))
    assert to_rgb(message, 'a').shape[:2] == SIZE


def test_a_damaged_png_is_refused(rgb):
    data = bytearray(cv2.imencode('.png', rgb)[1].tobytes())
    data[len(data) // 2] ^= 255
    with pytest.raises(InputError, match='no image that can be decoded'):
        compressed_to_rgb(SimpleNamespace(format='png', data=data), 'a')


@pytest.mark.parametrize('is_bigendian', [0, 1])
def test_depth_in_millimetres(is_bigendian):
    depth = np.full(SIZE, 1234, np.uint16)
    depth[0, 0], depth[1, 1] = 0, 65535
    pixels = depth.astype('>u2' if is_bigendian else '<u2')
    metres = depth_to_metres(_message(pixels, '16UC1', is_bigendian, 3), 'a')
    assert metres.dtype == np.float32
    np.testing.assert_allclose(metres, depth / 1000, rtol=1e-6)


def test_depth_in_metres():
    depth = np.full(SIZE, 2.5, np.float32)
    depth[0, :4] = np.nan, np.inf, -np.inf, -1.0
    metres = depth_to_metres(_message(depth, '32FC1'), 'a')
    assert (metres[0, :4] == 0).all()
    assert (metres.ravel()[4:] == 2.5).all()


def test_colour_is_no_depth(rgb):
    with pytest.raises(InputError, match='/cam: the encoding "rgb8" is no depth image'):
        depth_to_metres(_message(rgb, 'rgb8'), '/cam')


@pytest.mark.parametrize('encoding, kind, topic', [
    ('32FC1', np.float32, '/cam'), ('16UC1', np.uint16, '/camera/depth/image_raw')])
def test_depth_is_no_colour(encoding, kind, topic):
    with pytest.raises(InputError, match=f'{topic}: the encoding "{encoding}" is a depth image'):
        image_to_rgb(_message(np.ones(SIZE, kind), encoding), topic)


def test_errors_name_topic_and_stamp():
    stamp = SimpleNamespace(sec=12, nanosec=5_000_000)
    message = SimpleNamespace(header=SimpleNamespace(stamp=stamp))
    assert image_name(message, '/cam') == '/cam, image of 12.005000000 s'


@pytest.mark.parametrize('encoding', ['32FC3', '64FC3', 'odd', '', '16SC1', '8UC2'])
def test_unknown_encoding(rgb, encoding):
    with pytest.raises(InputError, match=f'/cam: the encoding "{encoding}"'):
        image_to_rgb(_message(rgb, encoding), '/cam')


def test_too_few_bytes(rgb):
    message = _message(rgb, 'rgb8')
    message.data = message.data[:-1]
    with pytest.raises(InputError, match='/cam: 2303 bytes are no 32x24 rgb8 image with 96'):
        image_to_rgb(message, '/cam')


@pytest.mark.parametrize('change', [
    {'height': 0}, {'width': 0}, {'step': 95}, {'step': 97}, {'data': b''}, {'width': 2**31},
    {'height': 2**31}])
def test_sizes_that_do_not_fit_the_bytes(rgb, change):
    message = SimpleNamespace(**{**vars(_message(rgb, 'rgb8')), **change})
    with pytest.raises(InputError, match='/cam: .* bytes a row'):
        image_to_rgb(message, '/cam')


@pytest.mark.parametrize('encoding', ['nv12', 'nv21', 'yuyv'])
def test_odd_sides_of_subsampled_colour(rgb, encoding):
    message = SimpleNamespace(**{**vars(_message(rgb, encoding)), 'width': 31})
    with pytest.raises(InputError, match='/cam: .* needs even sides, got 31x24'):
        image_to_rgb(message, '/cam')


@pytest.mark.parametrize('encoding', [
    'rgb8', 'mono16', 'bayer_grbg16', 'yuyv', 'nv12', 'nv24', '16UC3', 'bgra16'])
def test_damaged_messages_never_raise_anything_else(encoding):
    rng = np.random.default_rng(0)
    n_read = 0
    for _ in range(300):
        h, w, step, n = rng.integers(0, [7, 7, 40, 400])
        message = SimpleNamespace(height=int(h), width=int(w), step=int(step), encoding=encoding,
                                  is_bigendian=int(n % 2), data=rng.bytes(n))
        try:
            assert image_to_rgb(message, 'a').shape == (h, w, 3)
            n_read += 1
        except InputError:
            pass
    assert n_read


@pytest.mark.parametrize('form, data, message', [
    ('16UC1; compressedDepth', b'x', 'compressed depth'), ('h264', b'\0\0\0\1', 'format "h264"'),
    ('jpeg', b'', '0 bytes')])
def test_compressed_that_is_no_image(form, data, message):
    with pytest.raises(InputError, match=message):
        compressed_to_rgb(SimpleNamespace(format=form, data=data), '/cam')
