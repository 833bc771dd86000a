"""The configuration as ROS parameters: complete, described, ranged, checked."""

from dataclasses import replace
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from rclpy.node import Node
from rclpy.parameter import Parameter

from longrecon_ros.config import as_flat_dict, build, default_path, load
from longrecon_ros.errors import ConfigError, InputError
from longrecon_ros.parameter_list import RANGES, read, RUNTIME
from longrecon_ros.ros import parameters
from longrecon_ros.ros.node_config import map_folder, NodeConfig


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


def test_all_are_declared_with_default_description_and_range(declared):
    node, config, live = declared()
    known = read(default_path())
    for name, value in as_flat_dict(config).items():
        assert node.get_parameter(name).value == value, name
        descriptor = node.describe_parameter(name)
        assert descriptor.description == known[name].text and descriptor.description, name
        assert descriptor.read_only == (name not in RUNTIME), name
    limits = node.describe_parameter('window.size').integer_range[0]
    assert (limits.from_value, limits.to_value) == RANGES['window.size']
    assert node.describe_parameter('node.slew_s').floating_point_range[0].to_value == 60.0
    assert 'auto, reliable' in node.describe_parameter('node.image_qos').additional_constraints
    assert live.config == build(NodeConfig, load().node)


def test_overrides_arrive_and_a_whole_number_does_for_a_float(declared):
    node, config, live = declared(window__size=12, map__voxel_m=1, node__base_frame='body',
                                  use_sim_time=False)
    assert (config.window.size, config.map.voxel_m, live.config.base_frame) == (12, 1.0, 'body')
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


def set_on(node, **values):
    """Set parameters in one call; return the result."""
    return node.set_parameters_atomically([
        Parameter(name.replace('__', '.'), value=value) for name, value in values.items()])


def test_what_may_change_changes_at_once(declared):
    node, _, live = declared()
    parameters.watch(node, live)
    assert set_on(node, node__slew_s=0.3, node__cloud_points=1234).successful
    assert (live.config.slew_s, live.config.cloud_points) == (0.3, 1234)


@pytest.mark.parametrize('name, value, told', [
    ('node__slew_s', -1.0, 'range'), ('node__cloud_points', 10**9, 'range'),
    ('node__cloud_points', 'many', 'type'), ('node__map_name', '../up', 'leads out of'),
    ('node__map_name', '/etc', 'leads out of'), ('window__size', 12, 'read-only'),
    ('node__base_frame', 'body', 'read-only')])
def test_a_wrong_change_is_refused_with_the_reason_and_nothing_of_the_call_is_taken(
        declared, name, value, told):
    node, _, live = declared()
    parameters.watch(node, live)
    before = live.config
    result = set_on(node, node__path_poses=77, **{name: value})
    assert not result.successful and told in result.reason.lower().replace('read only',
                                                                           'read-only')
    assert live.config is before
    assert node.get_parameter('node.path_poses').value == before.path_poses


@pytest.mark.parametrize('name, is_inside', [
    ('site', True), ('floor/2', True), ('..', False), ('a/../../b', False), ('/abs', False),
    ('link', False), ('link/deep', False), ('~/x', False), ('', False)])
def test_maps_stay_in_their_folder(tmp_path, name, is_inside):
    base = tmp_path / 'maps'
    base.mkdir()
    (base / 'link').symlink_to(tmp_path)
    config = replace(build(NodeConfig, load().node), maps_folder=str(base))
    if is_inside:
        assert map_folder(config, name) == base / name
    else:
        with pytest.raises(InputError):
            map_folder(config, name)
