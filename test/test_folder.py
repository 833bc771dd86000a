import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from longrecon_ros.errors import InputError
from longrecon_ros.io.folder import natural_key
from longrecon_ros.io.source import open_source

CALIB = {'fx': 50.0, 'fy': 51, 'cx': 16, 'cy': 12, 'width': 32, 'height': 24}


def _write_images(folder, names, size=(32, 24)):
    folder.mkdir(parents=True, exist_ok=True)
    for value, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((size[1], size[0], 3), (value, 10, 200), np.uint8))


@pytest.fixture
def clip(tmp_path):
    _write_images(tmp_path / 'rgb', [f'{i:06d}.png' for i in range(4)])
    (tmp_path / 'timestamps.txt').write_text(''.join(f'1700000000.{i}00000001\n'
                                                     for i in range(4)))
    (tmp_path / 'calib.json').write_text(json.dumps(CALIB))
    return tmp_path


def _read(path, **options):
    return list(open_source(path, **options))


def test_full_layout(clip):
    (clip / 'gt_tum.txt').write_text('1700000000.0 1 2 3 0 0 0 1\n')
    (clip / 'depth').mkdir()
    for i in range(4):
        cv2.imwrite(str(clip / f'depth/{i:06d}.png'), np.full((24, 32), 1500 + i, np.uint16))
    source = open_source(clip)
    frames = list(source)
    assert [f.stamp_ns for f in frames] == [1_700_000_000_000_000_001 + i * 10**8
                                            for i in range(4)]
    assert frames[3].image[0, 0].tolist() == [200, 10, 3]
    np.testing.assert_array_equal(frames[0].K, [[50, 0, 16], [0, 51, 12], [0, 0, 1]])
    assert frames[0].distortion is None
    assert source.groundtruth().positions.tolist() == [[1, 2, 3]]
    np.testing.assert_allclose(source.depth(2), 1.502)
    np.testing.assert_allclose(open_source(clip, every=3).depth(1), 1.503)
    assert source.depth(2).dtype == np.float32
    assert (len(source), source.warnings) == (4, [])


def test_bare_folder_in_natural_order(tmp_path):
    _write_images(tmp_path, ['f10.JPG', 'f9.png', 'f100.bmp', 'f1.tif'])
    (tmp_path / 'notes.txt').write_text('not an image')
    source = open_source(tmp_path)
    frames = list(source)
    assert [int(f.image[0, 0, 2]) for f in frames] == [3, 1, 0, 2]
    assert [f.stamp_ns for f in frames] == [0, 10**8, 2 * 10**8, 3 * 10**8]
    assert '--fps' in source.warnings[0]
    assert (source.groundtruth(), source.depth(0), frames[0].K) == (None, None, None)


def test_natural_key_on_odd_names():
    names = ['b2', 'a10', 'a9', '10', '9', 'a', '²']
    assert [p.name for p in sorted(map(Path, names), key=natural_key)] == \
        ['9', '10', 'a', 'a9', 'a10', 'b2', '²']


def test_fps_gives_the_times(tmp_path):
    _write_images(tmp_path, ['0.png', '1.png', '2.png'])
    assert [f.stamp_ns for f in _read(tmp_path, fps=30)] == [0, 33_333_333, 66_666_667]
    with pytest.raises(InputError, match='--fps must be a number above 0'):
        open_source(tmp_path, fps=0)


def test_every_and_max_frames_renumber(clip):
    source = open_source(clip, every=2, max_frames=5)
    assert [(f.index, f.stamp_ns % 10**9) for f in source] == [(0, 1), (1, 200_000_001)]
    assert (len(source), len(open_source(clip, max_frames=3))) == (2, 3)
    assert [int(f.image[0, 0, 2]) for f in open_source(clip, every=2)] == [0, 2]
    assert [int(f.image[0, 0, 2]) for f in open_source(clip, every=3, max_frames=1)] == [0]


def test_grey_images_are_replicated(tmp_path):
    cv2.imwrite(str(tmp_path / '0.png'), np.full((24, 32), 77, np.uint8))
    assert (_read(tmp_path)[0].image == 77).all()


def test_calibration_given_goes_before_the_folder(clip, tmp_path_factory):
    other = tmp_path_factory.mktemp('calib') / 'c.json'
    other.write_text(json.dumps({**CALIB, 'fx': 99.0, 'dist': [.1, 0, 0, 0]}))
    frame = _read(clip, calib=other)[0]
    assert frame.K[0, 0] == 99
    assert frame.distortion.tolist() == [.1, 0, 0, 0]


def test_two_sizes(clip):
    _write_images(clip / 'rgb', ['000002.png'], size=(30, 20))
    with pytest.raises(InputError, match=r'000002.png is 30x20 px, but .*000000.png is 32x24 px'):
        _read(clip)


@pytest.mark.parametrize('keep, suffix', [(0, '.png'), (60, '.png'), (400, '.jpg')])
def test_damaged_image(clip, keep, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    (clip / 'rgb' / '000001.png').write_bytes(data[:keep])
    with pytest.raises(InputError, match=r'rgb/000001.png: .*(cut short|0 bytes)'):
        _read(clip)


def test_file_that_is_no_image(clip):
    (clip / 'rgb' / '000001.png').write_text('hello')
    with pytest.raises(InputError, match='000001.png: not an image'):
        _read(clip)


@pytest.mark.parametrize('lines, message', [
    (3, 'timestamps.txt has 3 times, but there are 4 images'), (9, 'has 9 times')])
def test_number_of_timestamps(clip, lines, message):
    (clip / 'timestamps.txt').write_text(''.join(f'{i}\n' for i in range(lines)))
    with pytest.raises(InputError, match=message):
        open_source(clip)


def test_fps_beside_timestamps_is_refused(clip):
    with pytest.raises(InputError, match='leave out --fps'):
        open_source(clip, fps=10)


@pytest.mark.parametrize('content, message', [
    ('{"fx": NaN, "fy": 1, "cx": 1, "cy": 1}', 'calib.json: the intrinsics hold NaN'),
    ('{"fx": -1, "fy": 1, "cx": 1, "cy": 1}', 'focal lengths must be positive'),
    ('{"fx": 1, "fy": 1, "cx": 1}', 'cy must be a number, got None'),
    ('{"fx": 1, "fy": 1, "cx": 1, "cy": "1"}', "cy must be a number, got '1'"),
    ('{"fx": 1, "fy": 1, "cx": 1, "cy": 1, "dist": [0, null]}', r'dist\[1\] must be a number'),
    ('{"fx": 1, "fy": 1, "cx": 1, "cy": 1, "dist": 3}', 'dist must be a list'),
    ('{"fx": 1, "fy": 1, "cx": 1, "cy": 1, "dist": [1], "distortion_model": "x"}',
     'distortion model "x"'),
    ('[]', 'expected an object'), ('{', 'not valid JSON')])
def test_damaged_calibration(clip, content, message):
    (clip / 'calib.json').write_text(content)
    with pytest.raises(InputError, match=message):
        open_source(clip)


def test_calibration_of_another_size(clip):
    (clip / 'calib.json').write_text(json.dumps({**CALIB, 'width': 640}))
    with pytest.raises(InputError, match='calib.json is for images of 640x24 px, but .* is 32x24'):
        _read(clip)


def test_missing_depth_image(clip):
    _write_images(clip / 'depth', ['000000.png'])
    with pytest.raises(InputError, match='1 depth images for 4 images'):
        open_source(clip)


def test_depth_of_the_wrong_kind(clip):
    _write_images(clip / 'depth', [f'{i}.png' for i in range(4)])
    with pytest.raises(InputError, match='0.png: expected a depth image'):
        open_source(clip).depth(0)


@pytest.mark.parametrize('name, message', [
    ('none', 'no such file or folder'), ('empty', 'no images'), ('a.docx', 'not a folder of')])
def test_paths_that_are_no_source(tmp_path, name, message):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'a.docx').write_text('')
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / name)


def test_options_of_bags_are_refused(clip):
    with pytest.raises(InputError, match='--topic does not go with what is not a bag'):
        open_source(clip, topic='/cam')
