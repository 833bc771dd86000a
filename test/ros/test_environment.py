"""What the node's process loads, and the ROS domains of replays: each alone in its own."""

import os
import subprocess
import sys

import pytest

from longrecon_ros.errors import LongreconError
from longrecon_ros.ros import environment
from longrecon_ros.ros.environment import own_domain

CLAIM = """
from longrecon_ros.ros import environment
environment._N_DOMAINS, environment._NAME = 2, {name!r}
with environment.own_domain() as domain:
    print(domain, flush=True)
    input()
"""


def test_it_is_in_the_environment_and_gone_afterwards(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '7')
    monkeypatch.delenv('FASTRTPS_DEFAULT_PROFILES_FILE', raising=False)
    monkeypatch.delenv('ROS_DISTRO', raising=False)
    with own_domain() as domain:
        assert os.environ['ROS_DOMAIN_ID'] == str(domain)
        assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
        assert os.environ['FASTRTPS_DEFAULT_PROFILES_FILE'].endswith('fastdds.xml')
    assert os.environ['ROS_DOMAIN_ID'] == '7'
    assert 'FASTRTPS_DEFAULT_PROFILES_FILE' not in os.environ


def test_a_named_one_is_taken_as_it_is():
    with own_domain(3) as first, own_domain(3) as second:
        assert first == second == 3


def test_no_two_are_in_the_same_in_whatever_process(monkeypatch):
    # two are left: one of them is taken by another process
    monkeypatch.setattr(environment, '_N_DOMAINS', 2)
    name = f'{environment._NAME}{os.getpid()}_'
    monkeypatch.setattr(environment, '_NAME', name)
    other = subprocess.Popen([sys.executable, '-c', CLAIM.format(name=name)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with other:
        taken = int(other.stdout.readline())
        with own_domain() as domain:
            assert {domain, taken} == {1, 2}
            with pytest.raises(LongreconError, match='all 2 ROS domains'), own_domain():
                pass
        other.kill()
    with own_domain() as first, own_domain() as second:
        assert {first, second} == {1, 2}, 'a killed process claims nothing any more'


def test_the_node_loads_nothing_of_what_the_worker_does():
    code = 'import sys, longrecon_ros.ros.node; print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert 'longrecon_ros.tracking' in loaded
    assert not loaded & {'torch', 'scipy', 'longrecon_ros.pipeline', 'longrecon_ros.backbones',
                         'longrecon_ros.loop', 'longrecon_ros.sfm'}
