import json

import cv2
import numpy as np
import pytest

from longrecon_ros.errors import InputError
from longrecon_ros.io.source import open_source

N = 40


def _video(path, n=N):
    code = {'.avi': 'MJPG', '.mp4': 'mp4v'}[path.suffix]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 25.0, (160, 120))
    if not writer.isOpened():
        pytest.skip(f'this OpenCV cannot write {path.suffix}')
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    for i in range(n):
        image = cv2.resize(noise, (160, 120))
        image[:, :20] = (0, 0, 5 * i)
        writer.write(image)
    writer.release()
    return path


@pytest.mark.parametrize('suffix', ['.avi', '.mp4'])
def test_frames_and_times(tmp_path, suffix):
    source = open_source(_video(tmp_path / f'a{suffix}'))
    frames = list(source)
    assert len(frames) == len(source) == N
    assert [f.stamp_ns for f in frames] == [i * 40_000_000 for i in range(N)]
    red = [int(f.image[60, 8, 0]) for f in frames]
    assert np.abs(np.array(red) - 5 * np.arange(N)).max() < 25
    assert source.warnings == []
    assert frames[0].K is None


def test_fps_and_calibration_given(tmp_path):
    calib = tmp_path / 'c.json'
    calib.write_text(json.dumps({'fx': 100, 'fy': 100, 'cx': 80, 'cy': 60}))
    frames = list(open_source(_video(tmp_path / 'a.avi'), fps=10, calib=calib, max_frames=3))
    assert [f.stamp_ns for f in frames] == [0, 10**8, 2 * 10**8]
    assert frames[0].K[0, 2] == 80


def test_half_a_video(tmp_path):
    path = _video(tmp_path / 'a.avi')
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with pytest.raises(InputError, match=r'a.avi: the video breaks off: \d+ of 40 .*--allow-trun'):
        list(open_source(path))
    source = open_source(path, allow_truncated=True)
    assert 10 < len(list(source)) < 30
    assert 'breaks off' in source.warnings[0]
    assert len(list(open_source(path, max_frames=5))) == 5


def test_half_an_mp4_has_no_index(tmp_path):
    path = _video(tmp_path / 'a.mp4')
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with pytest.raises(InputError, match='a.mp4: not a video that OpenCV can open'):
        open_source(path)
