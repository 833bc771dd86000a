"""Network backbones in the real node: tiny untrained nets, seen from outside over DDS."""

import json
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
pytest.importorskip('torch', reason='torch is not installed: make test')
from rig import Rig

from longrecon_ros import backbones
from longrecon_ros.ros.messages import stamp_ns
from longrecon_ros.synthetic.recipe import Production, Recipe

N = 20
NETWORKS = [name for name in backbones.available()
            if backbones.load(name).tiny.get('weights') == 'random']


def test_there_are_networks():
    assert {'pi3', 'vggt', 'loger'} <= set(NETWORKS)


@pytest.fixture(scope='module')
def frames():
    """Return the frames of a short drive."""
    film = Production.of(Recipe('street', n_frames=N, size=(160, 120))).film
    return [film.frame(i).to_frame() for i in range(N)]


def has_torch(pid):
    """Say whether a process has loaded torch."""
    return 'libtorch' in Path(f'/proc/{pid}/maps').read_text()


def test_what_the_worker_runs_needs_no_ros():
    code = ('import sys, longrecon_ros.worker.process; '
            'sys.exit(any(name in sys.modules for name in ("rclpy", "sensor_msgs")))')
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


@pytest.mark.torch
@pytest.mark.parametrize('name', [
    # one of each kind: windows, frame by frame, chunks with a memory
    name if name in ('pi3', 'stream3r', 'scal3r') else pytest.param(name, marks=pytest.mark.slow)
    for name in NETWORKS])
def test_a_network_gives_odometry_and_an_untrained_one_is_called_so(frames, tmp_path, name):
    options = {f'{name}.{key}': value for key, value in backbones.load(name).tiny.items()}
    with Rig(tmp_path, {'backbone': name, **options, 'window.size': 6, 'window.overlap': 2,
                        'node.save_folder': str(tmp_path / 'saved')}) as rig:
        rig.send_info(frames[0])
        rig.send(frames)
        rig.wait_processed(18)          # of whole windows: 6, and then 4 at a time
        assert rig.call('save').success
        # those of the first window; what an untrained net says is of little use to track by
        rig.wait(lambda: len(rig.odometry) >= 6 and rig.clouds)
        assert not has_torch(rig.process.pid), 'torch is for the worker'
        assert has_torch(int(rig.parts['worker']['pid']))
    stamps, sent = [stamp_ns(m.header.stamp) for m in rig.odometry], [f.stamp_ns for f in frames]
    assert stamps[:6] == sent[:6] and stamps == sorted(set(stamps)) and set(stamps) <= set(sent)
    for message in rig.odometry:
        p = message.pose.pose.position
        assert np.isfinite([p.x, p.y, p.z]).all()
    summary = json.loads((tmp_path / 'saved' / 'result.json').read_text())
    assert summary['backbone'] == name and summary['untrained']
    assert 'UNTRAINED' in (tmp_path / 'saved' / 'report.html').read_text()
