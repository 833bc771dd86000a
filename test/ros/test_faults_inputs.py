"""What may be wrong with images, disks and listeners of the real node: told, and it goes on."""

from contextlib import contextmanager
import os
from pathlib import Path
import re
import resource
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from diagnostic_msgs.msg import DiagnosticStatus
from managed import ManagedRig
from rig import CAMERA_FRAME, image_message
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from longrecon_ros.map_store import load_map
from longrecon_ros.ros.messages import header, stamp_ns
from longrecon_ros.synthetic.recipe import Production, Recipe
from longrecon_ros.types import Frame

PERIOD_NS = 50_000_000
SLOW_LISTENER = """
import rclpy
from nav_msgs.msg import Odometry
from sensor_msgs.msg import PointCloud2
rclpy.init()
node = rclpy.create_node('slow')
node.create_subscription(Odometry, '/longrecon/odometry', print, 100)
node.create_subscription(PointCloud2, '/longrecon/cloud', print, 100)
input()
"""


class Camera:
    """Drives there and back, and again; its images have rising stamps."""

    def __init__(self):
        n = 30
        film = Production.of(Recipe('street', n_frames=n, size=(320, 240))).film
        there = [film.frame(i).to_frame() for i in range(n)]
        self._way = [*there, *there[-2:0:-1]]
        self.n_taken = 0
        self.next_ns = there[0].stamp_ns

    def take(self, n):
        """Return the next images."""
        frames = []
        for _ in range(n):
            still = self._way[self.n_taken % len(self._way)]
            frames.append(Frame(self.n_taken, self.next_ns, still.image, still.K))
            self.n_taken, self.next_ns = self.n_taken + 1, self.next_ns + PERIOD_NS
        return frames


@pytest.fixture(scope='module')
def camera():
    """Return the camera."""
    return Camera()


@pytest.fixture(scope='module')
def running(camera, tmp_path_factory):
    """Return the rig of a node that has a map; all tests go on with it."""
    folder = tmp_path_factory.mktemp('inputs')
    with ManagedRig(folder, {'node.save_folder': str(folder / 'saved'),
                             'node.maps_folder': str(folder / 'maps')}) as rig:
        rig.folder = folder
        rig.wait_active()
        frames = camera.take(13)
        rig.send_info(frames[0])
        rig.send(frames)
        rig.wait(lambda: len(rig.odometry) == 13 and rig.parts['map']['submaps'] == '2')
        yield rig


def goes_on(rig, camera, n=5, n_refused=0, change=lambda frame: frame):
    """Send good images and check that all but the first few are posed, without a jump."""
    n_before = len(rig.odometry)
    frames = [change(frame) for frame in camera.take(n)]
    rig.send(frames)
    rig.wait(lambda: len(rig.odometry) == n_before + n - n_refused)
    assert [stamp_ns(m.header.stamp) for m in rig.odometry[n_before:]] == \
        [frame.stamp_ns for frame in frames[n_refused:]]
    places = np.array([[p.x, p.y, p.z] for p in (m.pose.pose.position for m in rig.odometry)])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert steps[n_before - 1:].max() < 6 * np.median(steps[:12])


def n_refused(rig, reason):
    """Return how many images were refused for a reason, as the status of the camera says."""
    return int(rig.parts['camera'].get(f'refused: {reason}', 0))


def is_in_log(rig, text):
    """Say whether the node has logged a text."""
    return text in rig.process.log.read_text()


def refuse(rig, camera, message, reason, text):
    """Send a message that has to be refused, and look how that is told; then go on."""
    n_before = n_refused(rig, reason)
    rig.send(camera.take(1), lambda frame: message(frame))
    rig.wait(lambda: n_refused(rig, reason) == n_before + 1)
    told = rig.parts['camera']['last refused']
    assert re.search(text, told) and rig.level >= DiagnosticStatus.WARN
    # one line for each reason in 5 s
    assert n_before or is_in_log(rig, told)
    goes_on(rig, camera, 2)


def shortened(frame):
    """Return an image whose last rows are missing."""
    message = image_message(frame)
    del message.data[-1000:]
    return message


def without_size(frame):
    """Return an image of nothing."""
    return Image(header=header(frame.stamp_ns, CAMERA_FRAME), encoding='rgb8')


def of_no_encoding(frame):
    """Return an image in an encoding that there is not."""
    message = image_message(frame)
    message.encoding = 'rgb7'
    return message


@pytest.mark.parametrize('message, text', [
    (shortened, r'\d+ bytes are no 320x240 rgb8 image with 960 bytes a row'),
    (without_size, '0 bytes are no 0x0 rgb8 image'),
    (of_no_encoding, 'encoding "rgb7" is no colour or grey image')])
def test_a_broken_image_is_refused_and_said_so(running, camera, message, text):
    refuse(running, camera, message, 'unreadable', text)


@pytest.mark.parametrize('shift_ns, reason, text', [
    (-PERIOD_NS, 'stamp repeated', 'has the stamp of the one before'),
    (-3 * PERIOD_NS, 'stamp out of order', '100.0 ms older than the one before'),
    (None, 'stamp zero', 'has no stamp')])
def test_a_wrong_stamp_is_refused_and_said_so(running, camera, shift_ns, reason, text):
    def message(frame):
        wrong_ns = 0 if shift_ns is None else frame.stamp_ns + shift_ns
        return image_message(Frame(0, wrong_ns, frame.image))
    refuse(running, camera, message, reason, text)


@pytest.mark.parametrize('encoding', ['bgr8', 'mono8', 'rgb8'])
def test_another_encoding_is_taken_as_it_is(running, camera, encoding):
    def message(frame):
        if encoding != 'mono8':
            return image_message(frame, encoding)
        grey = cv2.cvtColor(np.ascontiguousarray(frame.image), cv2.COLOR_RGB2GRAY)
        told = Image(header=header(frame.stamp_ns, CAMERA_FRAME), height=240, width=320, step=320,
                     encoding=encoding)
        told.data.frombytes(grey.tobytes())
        return told

    n_before, segments = len(running.odometry), running.status['segments']
    running.send(camera.take(6), message)
    running.wait(lambda: len(running.odometry) == n_before + 6)
    assert running.status['segments'] == segments


def test_a_gap_of_ten_seconds_is_told_and_the_stream_goes_on(running, camera):
    counts = running.status['segments'], running.status['resets']
    camera.next_ns += 10 * 10**9
    # the clock of the recording goes on, too
    running._now = camera.next_ns - PERIOD_NS, time.monotonic()
    running.spin(0.3)
    goes_on(running, camera)
    assert is_in_log(running, 'no image for 10.')
    assert (running.status['segments'], running.status['resets']) == counts


def test_nan_in_camera_info_is_an_error_until_it_is_mended_and_images_go_on(running, camera):
    still = camera.take(1)[0]
    broken = still.K.copy()
    broken[1, 1] = np.nan
    running.send_info(still, broken)
    running.wait(lambda: 'BAD_CAMERA_INFO' in running.parts['camera'])
    assert running.statuses['camera'].level == running.level == DiagnosticStatus.ERROR
    assert 'NaN' in running.statuses['camera'].message
    goes_on(running, camera)
    running.send_info(still)
    running.wait(lambda: 'BAD_CAMERA_INFO' not in running.parts['camera'])
    goes_on(running, camera)


def begins_a_segment(rig, camera, reason, change):
    """Send images of a changed camera: a new segment begins, odom goes on, the map is kept."""
    n_segments, n_submaps = int(rig.status['segments']), int(rig.parts['map']['submaps'])
    before = n_refused(rig, reason)
    # three have to agree: the first two are refused; then a whole window
    goes_on(rig, camera, 2 + 8, 2, change)
    rig.wait(lambda: int(rig.status['segments']) == n_segments + 1)
    assert n_refused(rig, reason) == before + 2 and rig.status['resets'] == '0'
    rig.wait(lambda: int(rig.parts['map']['submaps']) > n_submaps)
    goes_on(rig, camera, 5, 0, change)


def test_another_calibration_begins_a_segment_of_the_same_map(running, camera):
    still = camera.take(1)[0]
    for K in (still.K * np.array([[1.02], [1.02], [1.0]]), still.K):
        running.send_info(still, K)
        begins_a_segment(running, camera, 'calibration changed', lambda frame: frame)


def test_another_resolution_begins_a_segment_of_the_same_map(running, camera):
    def smaller(frame):
        image = cv2.resize(np.ascontiguousarray(frame.image), (240, 180),
                           interpolation=cv2.INTER_AREA)
        return Frame(frame.index, frame.stamp_ns, image, np.diag([0.75, 0.75, 1.0]) @ frame.K)

    for change in (smaller, lambda frame: frame):
        running.send_info(change(camera.take(1)[0]))
        begins_a_segment(running, camera, 'size changed', change)


def test_a_listener_that_stands_still_holds_nobody_up(running, camera):
    with subprocess.Popen([sys.executable, '-c', SLOW_LISTENER], stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL) as listener:
        try:
            running.wait(lambda: running.node.count_subscribers('/longrecon/odometry') == 2
                         and running.node.count_subscribers('/longrecon/cloud') == 2)
            listener.send_signal(signal.SIGSTOP)
            n_clouds = len(running.clouds)
            goes_on(running, camera, 30)
            running.wait(lambda: len(running.clouds) > n_clouds)
        finally:
            listener.kill()


@contextmanager
def file_limit(pid, n_bytes):
    """Let a process write no file that is larger."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def full_disk(folder):
    """Mount a small disk with nothing left but 16 KB; skip where that is not allowed."""
    folder.mkdir(exist_ok=True)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=32m', 'tmpfs', str(folder)],
                      capture_output=True, check=False).returncode:
        pytest.skip('no right to mount a file system')
    try:
        yield folder
    finally:
        subprocess.run(['umount', '-l', str(folder)], check=True)


def test_what_cannot_be_written_is_told_and_the_good_map_stays_whole(running, camera):
    for name in ('save', 'save_map'):
        assert running.ask(Trigger, name).success
    saved = {path: path.read_bytes() for path in (running.folder / 'saved').glob('*.*')}
    n_submaps = len(load_map(running.folder / 'maps' / 'map').poses)
    goes_on(running, camera, 10)
    with file_limit(running.worker(), 4096):
        for name in ('save', 'save_map'):
            answer = running.ask(Trigger, name)
            assert not answer.success and 'cannot be written (File too large)' in answer.message
            assert is_in_log(running, answer.message)
        assert len(load_map(running.folder / 'maps' / 'map').poses) == n_submaps
        assert saved == {path: path.read_bytes() for path in saved}
        assert not list(running.folder.glob('**/*.partial'))
        goes_on(running, camera, 10)
    for name in ('save', 'save_map'):
        assert running.ask(Trigger, name).success
    assert len(load_map(running.folder / 'maps' / 'map').poses) > n_submaps
    assert running.parts['worker']['restarts'] == '0'


def test_a_full_disk_is_told_and_the_good_map_stays_whole(running, camera):
    with full_disk(running.folder / 'maps') as disk:
        assert running.ask(Trigger, 'save_map').success
        n_submaps = len(load_map(disk / 'map').poses)
        filler = disk / 'filler'
        with filler.open('wb') as stream:
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            stream.write(bytes(free - 16384))
        goes_on(running, camera, 10)
        answer = running.ask(Trigger, 'save_map')
        assert not answer.success and 'No space left on device' in answer.message
        assert 'make room' in answer.message
        assert len(load_map(disk / 'map').poses) == n_submaps
        goes_on(running, camera, 10)
        filler.unlink()
        assert running.ask(Trigger, 'save_map').success
        assert len(load_map(disk / 'map').poses) > n_submaps


def test_a_clock_that_jumps_back_begins_a_new_map(running, camera):
    camera.next_ns -= 100 * 10**9
    n_before = len(running.odometry)
    # as a recording that is played again: its clock goes back with it
    running.send(camera.take(2 + 8))
    running.wait(lambda: len(running.odometry) == n_before + 8)
    assert running.status['resets'] == '1' and n_refused(running, 'stamps jumped back') == 2
    assert is_in_log(running, 'the recording began again; a new map begins')
    p = running.odometry[n_before].pose.pose.position
    assert (p.x, p.y, p.z) == (0.0, 0.0, 0.0)
    running.wait(lambda: running.parts['map']['submaps'] == '1')
    goes_on(running, camera)
    assert running.stop(signal.SIGINT) == 0


def test_broken_jpegs_are_refused_and_the_stream_goes_on(tmp_path):
    camera, rng = Camera(), np.random.default_rng(0)

    def jpeg(frame, cut=lambda data: data):
        data = cv2.imencode('.jpg', np.ascontiguousarray(frame.image[..., ::-1]))[1].tobytes()
        message = CompressedImage(header=header(frame.stamp_ns, CAMERA_FRAME), format='jpeg')
        message.data.frombytes(cut(data))
        return message

    with ManagedRig(tmp_path, compressed=True) as rig:
        rig.wait_active()
        frames = camera.take(10)
        rig.send_info(frames[0])
        rig.send(frames[:8], jpeg)
        rig.wait(lambda: len(rig.odometry) == 8)
        faults = [(lambda data: b'', 'is empty'),
                  (lambda data: data[:len(data) // 2], 'is cut short'),
                  (lambda data: rng.bytes(2000), 'no image that can be decoded'),
                  (lambda data: data[:2] + rng.bytes(len(data) - 4) + data[-2:],
                   'cut short|no image that can be decoded')]
        for n, (cut, text) in enumerate(faults, 1):
            rig.send(camera.take(1), lambda frame, cut=cut: jpeg(frame, cut))
            rig.wait(lambda n=n: n_refused(rig, 'unreadable') == n)
            assert re.search(text, rig.parts['camera']['last refused'])
            assert rig.level == DiagnosticStatus.WARN
        rig.send(camera.take(6), jpeg)
        rig.wait(lambda: len(rig.odometry) == 14)
        assert rig.status['images refused'] == '4'


def test_a_flood_takes_no_memory_and_the_newest_images_win(tmp_path):
    camera, n = Camera(), 400
    with ManagedRig(tmp_path, {'node.queue_policy': 'latest'}) as rig:
        rig.wait_active()
        frames = camera.take(20)
        rig.send_info(frames[0])
        rig.send(frames)
        rig.wait(lambda: rig.odometry and rig.status['images waiting'] == '0')
        before_mb = anonymous_mb(rig.process.pid)
        start_s = time.monotonic()
        for i, frame in enumerate(camera.take(n)):          # 200 a second
            rig.send([frame], is_patient=False)
            rig.spin(start_s + 0.005 * i - time.monotonic())
        newest_ns = camera.next_ns - PERIOD_NS
        rig.wait(lambda: stamp_ns(rig.odometry[-1].header.stamp) == newest_ns)
        rig.wait(lambda: n_known(rig) == 20 + n)
        assert int(rig.status['images dropped']) + int(rig.status['images skipped']) > 0
        assert anonymous_mb(rig.process.pid) - before_mb < 60.0
        stamps_ns = [stamp_ns(m.header.stamp) for m in rig.odometry]
        assert all(a < b for a, b in zip(stamps_ns, stamps_ns[1:]))
        assert rig.stop(signal.SIGINT) == 0


def n_known(rig):
    """Return of how many images the status says what became of them."""
    return sum(int(rig.status[f'images {what}']) for what in (
        'taken', 'skipped', 'dropped', 'refused', 'lost before the node'))


def anonymous_mb(pid):
    """Return the memory of a process that belongs to no file, MB."""
    status = Path(f'/proc/{pid}/status').read_text()
    return int(re.search(r'RssAnon:\s+(\d+)', status)[1]) / 1024
