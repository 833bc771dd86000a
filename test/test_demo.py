"""The verb `longrecon demo`, and the recording it keeps."""

import importlib.util
import json
import subprocess
import sys

import pytest

from longrecon_ros.cli import demo
from longrecon_ros.cli.main import main
from longrecon_ros.errors import InputError
from longrecon_ros.results import FILES
from longrecon_ros.synthetic.recipe import Recipe
from longrecon_ros.synthetic.recording import ensure_bag
from longrecon_ros.synthetic.worlds import make_world

TINY = Recipe('indoor', 2, (32, 24))
SHORT = ['demo', '--scene', 'indoor', '--frames', '24']


def check_results(out, said):
    """Check what a demo leaves and says."""
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, 'recording'])
    result = json.loads((out / 'result.json').read_text())
    assert result['frames'] == result['poses'] == 24
    assert result['ate_sim3_percent'] < 1.0
    for word in ('ATE', 'a second', 'report.html', 'run video.mp4', 'replay drive.mcap', 'rviz2'):
        assert word in said
    return result


def test_demo_without_ros(tmp_path, capsys):
    out = tmp_path / 'new' / 'demo'
    assert main([*SHORT, '--no-ros', '--out', str(out)]) == 0
    check_results(out, capsys.readouterr().out)


@pytest.mark.ros
def test_demo_through_the_node(tmp_path):
    pytest.importorskip('rclpy')
    # a process of its own: a replay sets the ROS environment of the one it is in
    done = subprocess.run([sys.executable, '-m', 'longrecon_ros.cli.main', *SHORT, '--out',
                           str(tmp_path / 'demo')], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = check_results(tmp_path / 'demo', done.stdout)
    assert 'through the ROS node' in result['source']


def test_without_rclpy_it_says_what_to_do_before_any_work(tmp_path, capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec',
                        lambda name: None if name == 'rclpy' else find_spec(name))
    assert main([*SHORT, '--out', str(tmp_path / 'demo')]) == 2
    error = capsys.readouterr().err
    assert '--no-ros' in error and 'make setup' in error and error.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


def test_folders_of_others_are_left_alone(tmp_path, capsys):
    (tmp_path / 'map.ply').write_text('precious')
    assert main([*SHORT, '--no-ros', '--out', str(tmp_path)]) == 2
    assert 'choose another --out' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['map.ply']


@pytest.mark.parametrize('scene', sorted(demo._LAPS))
def test_default_lengths_are_one_lap(scene):
    lap_s = make_world(scene, 0, demo._SPEEDS_MPS[scene]).lap_s
    assert 0 <= demo._LAPS[scene] - lap_s * demo._FPS < 2


def test_recording_is_filmed_once(tmp_path):
    done = []
    assert ensure_bag(tmp_path / 'bag', TINY, done.append)
    assert done == [1, 2]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / 'bag').iterdir()}
    assert not ensure_bag(tmp_path / 'bag', TINY, done.append)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / 'bag').iterdir()} == files
    assert done == [1, 2]


@pytest.mark.slow
def test_recording_is_filmed_anew_for_another_recipe_or_when_damaged(tmp_path):
    bag = tmp_path / 'bag'
    assert ensure_bag(bag, TINY, lambda n: None)
    other = Recipe('indoor', 2, (32, 24), seed=1)
    assert ensure_bag(bag, other, lambda n: None)
    assert not ensure_bag(bag, other, lambda n: None)
    file = next(bag.glob('*.mcap'))
    file.write_bytes(file.read_bytes()[:2000])
    assert ensure_bag(bag, other, lambda n: None)
    file.unlink()
    assert ensure_bag(bag, other, lambda n: None)
    assert not ensure_bag(bag, other, lambda n: None)


def test_what_is_no_recording_of_ours_is_never_removed(tmp_path):
    bag = tmp_path / 'bag'
    bag.mkdir()
    (bag / 'metadata.yaml').write_text('rosbag2_bagfile_information: {custom_data: {}}')
    with pytest.raises(InputError, match='in the way'):
        ensure_bag(bag, TINY, lambda n: None)
    assert (bag / 'metadata.yaml').exists()
