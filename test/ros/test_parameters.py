"""The configuration as ROS parameters: complete, described, ranged, checked."""

import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from longrecon_ros.config import as_flat_dict, build, default_path, load
from longrecon_ros.errors import ConfigError
from longrecon_ros.ros import parameters

NAMES = list(as_flat_dict(load()))


@pytest.fixture(scope='module')
def context():
    """Return an initialised context."""
    context = Context()
    context.init()
    yield context
    context.try_shutdown()


@pytest.fixture
def declared(context):
    """Return a function that declares all parameters on a node with some overrides."""
    nodes = []

    def declare(**overrides):
        node = Node('parameters_test', context=context,
                    automatically_declare_parameters_from_overrides=True, parameter_overrides=[
                        Parameter(name.replace('__', '.'), value=value)
                        for name, value in overrides.items()])
        nodes.append(node)
        return node, *parameters.declare(node)

    yield declare
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize('name', NAMES)
def test_every_parameter_is_described(name):
    text = parameters.descriptions(default_path())[name]
    assert len(text) > 10, f'{name}: write a comment in config/default.yaml'


def test_ranges_are_of_parameters_that_exist():
    assert set(parameters.RANGES) <= set(NAMES)


def test_all_are_declared_with_default_description_and_range(declared):
    node, config, node_config = declared()
    for name, value in as_flat_dict(config).items():
        assert node.get_parameter(name).value == value, name
        descriptor = node.describe_parameter(name)
        assert descriptor.read_only and descriptor.description, name
    limits = node.describe_parameter('window.size').integer_range[0]
    assert (limits.from_value, limits.to_value) == parameters.RANGES['window.size']
    assert node.describe_parameter('node.drift_ratio').floating_point_range[0].to_value == 1.0
    assert node_config == build(parameters.NodeConfig, load().node)


def test_overrides_arrive_and_a_whole_number_does_for_a_float(declared):
    node, config, node_config = declared(window__size=12, map__voxel_m=1,
                                         node__base_frame='body', use_sim_time=False)
    assert (config.window.size, config.map.voxel_m, node_config.base_frame) == (12, 1.0, 'body')
    assert node.get_parameter('window.size').value == 12
    assert node.describe_parameter('window.size').read_only


@pytest.mark.parametrize('name, value, told', [
    ('windw__size', 3, 'did you mean window.size?'),
    ('node__queue_siz', 3, 'did you mean node.queue_size?'),
    ('window__size', 'many', 'window.size: expected a whole number'),
    ('node__queue_size', 0, 'node.queue_size: expected 1 to 10000, got 0'),
    ('node__image_qos', 'fast', 'expected one of auto, reliable, best_effort'),
    ('node__base_frame', '/body', 'node.base_frame: expected a frame of its own'),
    ('node__odom_frame', 'map', 'expected a frame of its own'),
    ('node__save_folder', '', 'node.save_folder: expected a folder')])
def test_a_mistake_is_one_clear_line(declared, name, value, told):
    with pytest.raises(ConfigError) as caught:
        declared(**{name: value})
    assert told in str(caught.value) and '\n' not in str(caught.value)


def test_the_node_ends_with_2_and_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'longrecon_ros.ros.node', '--ros-args', '-p', 'windw.size:=3'],
        capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.strip() == \
        'slam_node: override: unknown parameter windw.size; did you mean window.size?'


def test_the_node_refuses_a_backbone_that_needs_the_truth():
    done = subprocess.run(
        [sys.executable, '-m', 'longrecon_ros.ros.node', '--ros-args',
         '-p', 'backbone:=simulated'], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert 'slam_node: backbone: simulated needs true depth and poses' in done.stderr
    assert 'Traceback' not in done.stderr


def test_comments_become_descriptions(tmp_path):
    file = tmp_path / 'a.yaml'
    file.write_text('/**:\n  ros__parameters:\n    # about the file\n    one: 1    # first, m\n'
                    '              #   and more\n    group:\n      two: x   # second\n'
                    '    three: 3\n    # a remark\n\n    four: 4   # last\n')
    assert parameters.descriptions(file) == {
        '': '', 'one': 'first, m and more', 'group': '', 'group.two': 'second',
        'three': 'a remark', 'four': 'last'}
