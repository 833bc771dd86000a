"""`longrecon replay`: a bag through the live node gives what an offline run gives."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
pytest.importorskip('rosbags', reason='rosbags is not installed: make test')

from bag_files import Messages, STORE1, write_bag as write_messages

from longrecon_ros.cli.main import main
from longrecon_ros.io.trajectory_file import read_tum
from longrecon_ros.ros import bag_player
from longrecon_ros.synthetic.bag_writer import BagFormat, write_bag
from longrecon_ros.synthetic.recipe import Production, Recipe

N = 40


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Let a replay choose its own domain, and undo it."""
    for name in [name for name in os.environ if name.startswith('ROS_')]:
        monkeypatch.setenv(name, os.environ[name])


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """Return a bag of a walk through a room."""
    path = tmp_path_factory.mktemp('bags') / 'walk'
    production = Production.of(Recipe('indoor', n_frames=N, size=(160, 120)))
    write_bag(path, production.film, production.world.T_base_camera, N, BagFormat())
    return path


def test_a_replay_loses_nothing_and_equals_the_offline_run(bag, tmp_path):
    assert main(['replay', str(bag), '--out', str(tmp_path / 'live')]) == 0
    assert main(['run', str(bag), '--out', str(tmp_path / 'offline')]) == 0
    live, offline = (json.loads((tmp_path / name / 'result.json').read_text())
                     for name in ('live', 'offline'))
    assert live['frames'] == live['poses'] == N
    assert live['ate_sim3_m'] == pytest.approx(offline['ate_sim3_m'], rel=1e-6)
    assert 'through the ROS node' in live['source']
    trajectories = [read_tum(tmp_path / name / 'trajectory.txt') for name in ('live', 'offline')]
    assert np.array_equal(trajectories[0].stamps_ns, trajectories[1].stamps_ns)
    assert np.allclose(trajectories[0].T_map_camera, trajectories[1].T_map_camera, atol=1e-6)
    assert {file.name for file in (tmp_path / 'live').iterdir()} == {
        'trajectory.txt', 'odometry.txt', 'map', 'map.ply', 'result.json', 'report.html'}


def test_a_compressed_bag_of_ros_1_without_stamps(tmp_path):
    production = Production.of(Recipe('indoor', n_frames=20, size=(160, 120)))
    messages = Messages(STORE1)
    entries = []
    for i in range(20):
        frame, recorded_ns = production.film.frame(i), 10**18 + i * 50_000_000
        image = messages.compressed(np.ascontiguousarray(frame.image[..., ::-1]), 0)
        info = messages.camera_info(frame.K, (160, 120), 0)
        entries += [('/cam/camera_info', info, recorded_ns),
                    ('/cam/image/compressed', image, recorded_ns + 1)]
    bag = write_messages(tmp_path / 'old.bag', entries, 'ros1')
    assert main(['replay', str(bag), '--out', str(tmp_path / 'out'), '-q']) == 0
    trajectory = read_tum(tmp_path / 'out' / 'trajectory.txt')
    assert trajectory.stamps_ns.tolist() == [10**18 + i * 50_000_000 + 1 for i in range(20)]


@pytest.mark.parametrize('arguments, told', [
    (['nowhere'], 'there is no such file'),
    ([__file__], 'not a bag'),
    (['BAG', '--topic', '/nope'], 'there is no topic /nope'),
    (['BAG', '--rate', '0'], '--rate must be above 0'),
    (['BAG', '--domain', '300'], '--domain must be 0 to 232'),
    (['BAG', '--set', 'node.queue_siz=3'], 'did you mean node.queue_size?'),
    (['BAG', '--set', 'node.slew_s=77'], 'node.slew_s: expected 0.0 to 60.0')])
def test_bad_input_is_one_line_and_nothing_is_written(bag, tmp_path, capsys, arguments, told):
    arguments = [str(bag) if argument == 'BAG' else argument for argument in arguments]
    assert main(['replay', *arguments, '--out', str(tmp_path / 'out'), '-q']) == 2
    lines = capsys.readouterr().err.strip().split('\n')
    assert len(lines) == 1 and told in lines[0]
    assert not (tmp_path / 'out').exists()


def test_a_node_that_dies_is_told_with_its_last_words(bag, tmp_path, capsys):
    assert main(['replay', str(bag), '--out', str(tmp_path / 'out'), '-q',
                 '--set', 'backbone=nope']) == 2
    error = capsys.readouterr().err
    assert "backbone: there is no 'nope'" in error and len(error.strip().split('\n')) == 1
    assert not (tmp_path / 'out').exists()


def test_topics_are_found_and_stamps_are_filled_in(bag):
    topics = bag_player.find_topics(bag, None)
    assert (topics.image, topics.info) == ('/camera/image_raw', '/camera/camera_info')
    assert not topics.is_compressed and topics.n_images == N
    stamped = bytes([0, 1, 0, 0]) + (5).to_bytes(4, 'little') + (6).to_bytes(4, 'little') + b'rest'
    assert bag_player._with_stamp(stamped, 7) == stamped
    empty = bytes([0, 1, 0, 0]) + bytes(8) + b'rest'
    filled = bag_player._with_stamp(empty, 3 * 10**9 + 4)
    assert filled[4:12] == (3).to_bytes(4, 'little') + (4).to_bytes(4, 'little')
    assert filled[12:] == b'rest' and len(filled) == len(empty)


@pytest.mark.parametrize('number, code', [
    (signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_replay_leaves_neither_files_nor_a_node(bag, tmp_path, number, code):
    out = tmp_path / 'out'
    process = subprocess.Popen([sys.executable, '-m', 'longrecon_ros.cli.main', 'replay', str(bag),
                                '--out', str(out), '--rate', '0.1'], stderr=subprocess.PIPE)
    child = wait_for(lambda: children(process.pid))[0]
    time.sleep(1.0)
    process.send_signal(number)
    assert process.wait(20) == code
    wait_for(lambda: not Path(f'/proc/{child}').exists())
    assert not out.exists()


def children(pid):
    """Return the ids of the processes that a process has started."""
    return Path(f'/proc/{pid}/task/{pid}/children').read_text().split()


def wait_for(condition):
    """Wait until a condition gives something true, and return that."""
    end = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found
