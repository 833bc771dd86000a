"""The launch files, the rviz view and the example of Nav2's parameters.

Where launch_ros is absent the files' own functions run with a stand-in for it that keeps what
actions are made with; the tests marked `launch` start them for real.
"""

import ast
import importlib.util
from pathlib import Path
import subprocess
import sys
import time
import types
import typing
from xml.etree import ElementTree

from launch_rig import Launched, Made, StandIn
import numpy as np
import pytest
import yaml

from longrecon_ros import parameter_list
from longrecon_ros.config import default_path
from longrecon_ros.ros.node_config import NodeConfig
from longrecon_ros.scale import ScaleConfig

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
CONSUMERS = {'nav2_bringup', 'nav2_lifecycle_manager', 'rtabmap_slam'}     # of the example only
TRANSITIONS = [('configure', 'inactive'), ('activate', 'active'), ('deactivate', 'inactive'),
               ('cleanup', 'unconfigured'), ('shutdown', 'finalized')]


def declared(path):
    """Return {name: keywords} of the arguments that a launch file declares."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
             and getattr(node.func, 'id', '') == 'DeclareLaunchArgument']
    return {call.args[0].value: {k.arg: k.value for k in call.keywords} for call in calls}


def used(path):
    """Return the names of the arguments that a launch file reads or passes on."""
    tree = ast.parse(path.read_text())
    names = {node.args[0].value for node in ast.walk(tree) if isinstance(node, ast.Call)
             and getattr(node.func, 'id', '') in ('LaunchConfiguration', 'value')
             and isinstance(node.args[0], ast.Constant)}
    names |= {node.slice.value for node in ast.walk(tree) if isinstance(node, ast.Subscript)
              and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)
              and ast.unparse(node.value).endswith('launch_configurations')}
    for name in ('PASSED_ON', 'CAMERA', 'TOPICS', 'PARAMETERS'):
        names |= set(constant(path, name, {}))
    return names


def constant(path, name, default=None):
    """Return a constant of a launch file; of a dict the keys."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            value = node.value
            return [ast.literal_eval(key) for key in value.keys] if isinstance(value, ast.Dict) \
                else ast.literal_eval(value)
    return default


def launch_file(name):
    """Return the path of a launch file by the first part of its name."""
    return ROOT / 'launch' / f'{name}.launch.py'


def recording(folder, is_compressed, *more_topics):
    """Write a bag of one calibrated camera, and images on more topics."""
    pytest.importorskip('rosbags', reason='rosbags is not installed: make test')
    from bag_files import Messages, STORE2, write_bag
    messages, pixels = Messages(STORE2), np.zeros((24, 32, 3), np.uint8)
    image = messages.compressed(pixels, 1) if is_compressed else messages.image(pixels, 1)
    topics = ['/cam/image/compressed' if is_compressed else '/cam/image', *more_topics]
    info = messages.camera_info(np.eye(3), (32, 24), 1)
    return write_bag(folder / 'drive', [('/cam/camera_info', info, 0)]
                     + [(topic, image, 1) for topic in topics])


@pytest.fixture
def load_launch(monkeypatch):
    """Return a function that imports a launch file, with stand-ins for launch."""
    for name in ('launch', 'launch.actions', 'launch.substitutions', 'launch_ros',
                 'launch.launch_description_sources', 'launch_ros.actions',
                 'launch_ros.parameter_descriptions'):
        monkeypatch.setitem(sys.modules, name, StandIn(name))

    def load(name):
        spec = importlib.util.spec_from_file_location(f'{name}_launch', launch_file(name))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def act(load_launch):
    """Return a function that gives the actions of a launch file for some arguments."""
    def actions(name, **given):
        module = load_launch(name)
        values = {one.arguments[0]: one.keywords.get('default_value') for one in module.ARGUMENTS}
        assert set(given) <= set(values)
        description = module.generate_launch_description()
        assert description.kind == 'LaunchDescription'
        context = types.SimpleNamespace(launch_configurations={**values, **given})
        found = []
        for action in description.arguments[0]:
            is_function = action.kind == 'OpaqueFunction'
            found += action.keywords['function'](context) if is_function else [action]
        return [action for action in found if action.kind != 'DeclareLaunchArgument']

    return actions


def named(actions, executable):
    """Return what the only action of an executable was made with."""
    found = [a.keywords for a in actions if a.keywords.get('executable') == executable]
    assert len(found) == 1, [a.keywords for a in actions]
    return found[0]


def passed(actions, file):
    """Return the arguments of the only included launch file of that name."""
    found = [a for a in actions if a.kind == 'IncludeLaunchDescription'
             and a.arguments[0].arguments[0].endswith(file)]
    assert len(found) == 1
    return {name: value if isinstance(value, str) else value.arguments[0]
            for name, value in found[0].keywords['launch_arguments']}


def set_parameters(node):
    """Return the parameters of a node's last layer as plain values."""
    return {name: (value.keywords['value_type'], value.arguments[0])
            if isinstance(value, Made) else value
            for name, value in node['parameters'][-1].items()}


def test_these_are_all_the_launch_files():
    assert [path.name for path in FILES] == ['online.launch.py', 'replay.launch.py',
                                             'robot_example.launch.py']


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_every_argument_is_declared_described_and_used(path):
    arguments = declared(path)
    assert arguments and used(path) == set(arguments)
    for name, keywords in arguments.items():
        assert len(ast.literal_eval(keywords['description'])) > 10, name
        default = keywords.get('default_value')
        if isinstance(default, ast.Constant) and default.value in ('true', 'false'):
            assert ast.literal_eval(keywords['choices']) == ['true', 'false'], name
        if 'choices' in keywords:
            assert ast.literal_eval(default) in ast.literal_eval(keywords['choices']), name


@pytest.mark.parametrize('name', ['replay', 'robot_example'])
def test_what_is_passed_on_is_known_there(name):
    online, own = declared(launch_file('online')), declared(launch_file(name))
    handed = set(constant(launch_file(name), 'PASSED_ON'))
    handed |= set(constant(launch_file(name), 'CAMERA', ()))
    assert handed <= set(online) and handed <= set(own)


@pytest.mark.parametrize('argument, parameter', [
    ('image_transport', (NodeConfig, 'image_transport')), ('qos', (NodeConfig, 'image_qos')),
    ('tf_mode', (NodeConfig, 'tf_mode')), ('scale_source', (ScaleConfig, 'source'))])
def test_choices_are_those_of_the_parameters(argument, parameter):
    cls, field = parameter
    hint = typing.get_type_hints(cls)[field]
    for path in FILES:
        if argument in declared(path):
            choices = ast.literal_eval(declared(path)[argument]['choices'])
            assert sorted(set(choices) - {''}) == sorted(hint.__args__), path.name


def test_arguments_lead_to_parameters_that_exist(load_launch):
    there = parameter_list.read(default_path())
    kinds = {str: 'string', bool: 'bool', float: 'double'}
    for argument, (name, kind) in load_launch('online').PARAMETERS.items():
        assert name in there, f'{argument}: there is no {name} in config/default.yaml'
        assert there[name].kind == kinds[kind], argument


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_every_launched_package_is_declared(path):
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    there = {node.text for node in manifest if node.tag == 'exec_depend'} | {'longrecon_ros'}
    packages = {keyword.value.value for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call) for keyword in node.keywords
                if keyword.arg == 'package'}
    if path.name == 'robot_example.launch.py':
        there |= CONSUMERS
    assert packages <= there


def test_online_is_one_managed_node(act):
    actions = act('online')
    assert [a.kind for a in actions] == ['SetEnvironmentVariable', 'LifecycleNode']
    node = named(actions, 'slam_node')
    # launch_ros insists on both for a managed node
    assert (node['name'], node['namespace'], node['respawn']) == ('longrecon', '', False)
    assert node['remappings'] == [('image', 'image')]
    assert node['parameters'] == [{'use_sim_time': False}]


def test_arguments_lie_over_the_file_and_have_a_type(act):
    node = named(act('online', params_file='mine.yaml', backbone='pi3', autostart='false',
                     camera_height='1', tf_mode='odom'), 'slam_node')
    file, _ = node['parameters']
    assert (file.kind, file.arguments) == ('ParameterFile', ('mine.yaml',))
    assert file.keywords == {'allow_substs': True}
    assert set_parameters(node) == {
        'backbone': (str, 'pi3'), 'node.autostart': (bool, 'false'),
        'scale.camera_height_m': (float, '1'), 'node.tf_mode': (str, 'odom'),
        'use_sim_time': False}


def test_topics_are_remapped_only_if_given(act):
    node = named(act('online', image='/cam/image', camera_info='/cam/info',
                     wheel_odometry='/wheels'), 'slam_node')
    assert node['remappings'] == [('image', '/cam/image'), ('camera_info', '/cam/info'),
                                  ('wheel_odometry', '/wheels')]


def test_two_robots_have_trees_of_their_own(act):
    actions = act('online', namespace='robot1', use_namespaced_tf='true', rviz='true')
    own_tree = [('/tf', 'tf'), ('/tf_static', 'tf_static')]
    for executable in ('slam_node', 'rviz2'):
        node = named(actions, executable)
        assert node['namespace'] == 'robot1' and node['remappings'][-2:] == own_tree


@pytest.mark.parametrize('is_own, topic', [('false', '/tf_static'), ('true', 'tf_static')])
def test_tile_poses_can_go_where_rviz_looks(act, is_own, topic):
    node = named(act('online', tile_frames='true', use_namespaced_tf=is_own), 'slam_node')
    assert ('~/tile_poses', topic) in node['remappings']


@pytest.mark.parametrize('is_compressed', [False, True])
def test_replay_takes_the_only_camera_of_the_bag(act, tmp_path, is_compressed):
    arguments = passed(act('replay', bag=str(recording(tmp_path, is_compressed))),
                       'online.launch.py')
    assert arguments['use_sim_time'] == 'true'
    assert (arguments['image'], arguments['camera_info'], arguments['image_transport']) == \
        ('/cam/image', '/cam/camera_info', 'compressed' if is_compressed else 'raw')


def test_replay_lists_the_cameras_it_cannot_choose_from(act, tmp_path):
    with pytest.raises(RuntimeError, match='choose one with image:=TOPIC: /cam/image .*, /rear'):
        act('replay', bag=str(recording(tmp_path, False, '/rear/image')))


def test_replay_takes_what_is_given_without_a_look(act):
    actions = act('replay', bag='no_such_bag', image='/cam/image')
    arguments = passed(actions, 'online.launch.py')
    assert (arguments['image'], arguments['camera_info']) == ('/cam/image', '')
    player = next(a for a in actions if a.kind == 'ExecuteProcess').keywords['cmd']
    assert player[:3] == ['ros2', 'bag', 'play'] and '--clock' in player


def test_replay_says_why_no_camera_was_found(act, tmp_path):
    with pytest.raises(RuntimeError, match='no image topic was given, .*there is no such bag'):
        act('replay', bag=str(tmp_path / 'none'))


def test_only_recordings_have_their_own_time(act):
    for name in ('online', 'robot_example'):
        assert ast.literal_eval(declared(launch_file(name))['use_sim_time']['default_value']) \
            == 'false'
    assert 'use_sim_time' not in declared(launch_file('replay'))


@pytest.mark.parametrize('given, words', [
    ({}, 'nav2 thinks in metres'),
    ({'consumer': 'rtabmap'}, 'rtabmap thinks in metres'),
    ({'consumer': 'rtabmap', 'scale_source': 'wheel'}, 'give depth:=TOPIC'),
    ({'consumer': 'rtabmap', 'scale_source': 'wheel', 'depth': '/d', 'tf_mode': 'full'},
     'tf_mode must be odom or none')])
def test_the_example_refuses_what_cannot_work(act, given, words):
    with pytest.raises(RuntimeError, match=words):
        act('robot_example', **given)


def test_the_example_without_a_consumer_needs_no_scale(act):
    actions = act('robot_example', consumer='none')
    assert [a.kind for a in actions] == ['IncludeLaunchDescription']
    assert passed(actions, 'online.launch.py')['tf_mode'] == 'full'


def test_the_example_with_rtabmap(act):
    actions = act('robot_example', consumer='rtabmap', scale_source='depth', depth='/depth',
                  camera_frame='eye', camera_xyz='0.1 0 0.2')
    assert passed(actions, 'online.launch.py')['tf_mode'] == 'odom'
    assert ('odom', '/longrecon/odometry') in named(actions, 'rtabmap')['remappings']
    mounting = named(actions, 'static_transform_publisher')['arguments']
    assert mounting[mounting.index('--x') + 1] == '0.1'
    assert mounting[-4:] == ['--frame-id', 'base_link', '--child-frame-id', 'eye']


def test_the_example_with_nav2(act, monkeypatch, tmp_path):
    (tmp_path / 'params').mkdir()
    (tmp_path / 'params' / 'nav2_params.yaml').write_text(
        'planner_server:\n  ros__parameters:\n    plugin: of_this_ros\n'
        'bt_navigator:\n  ros__parameters:\n    odom_topic: /odom\n    rate: 10\n')
    packages = types.ModuleType('ament_index_python.packages')
    packages.get_package_share_directory = lambda name: str(tmp_path)
    monkeypatch.setitem(sys.modules, 'ament_index_python.packages', packages)
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    actions = act('robot_example', scale_source='height', camera_height='0.3', manager='nav2')
    assert passed(actions, 'online.launch.py')['autostart'] == 'false'
    manager, = named(actions, 'lifecycle_manager')['parameters']
    assert manager['bond_timeout'] == 0.0 and manager['node_names'] == ['longrecon']
    file = passed(actions, 'navigation_launch.py')['params_file']
    given = yaml.safe_load(Path(file).read_text())
    assert given['planner_server']['ros__parameters']['plugin'] == 'of_this_ros'
    assert given['bt_navigator']['ros__parameters']['rate'] == 10
    assert given['bt_navigator']['ros__parameters']['odom_topic'] == '/longrecon/odometry'


def test_nav2_plans_on_what_the_node_publishes():
    tree = yaml.safe_load((ROOT / 'config' / 'nav2_example.yaml').read_text())
    for name in ('global_costmap', 'local_costmap'):
        costmap = tree[name][name]['ros__parameters']
        layer = costmap['static_layer']
        assert 'static_layer' in costmap['plugins']
        assert layer['map_topic'] == '/longrecon/grid' and layer['map_subscribe_transient_local']
    assert 'amcl' not in tree and 'map_server' not in tree
    odometry = [group['ros__parameters']['odom_topic'] for group in tree.values()
                if 'odom_topic' in group.get('ros__parameters', {})]
    assert odometry and set(odometry) == {'/longrecon/odometry'}


def test_rviz_shows_what_the_node_publishes():
    view = yaml.safe_load((ROOT / 'rviz' / 'longrecon.rviz').read_text())['Visualization Manager']
    assert view['Global Options']['Fixed Frame'] == 'map'
    topics = {display['Topic']['Value']: display for display in view['Displays']
              if 'Topic' in display}
    assert set(topics) == {f'longrecon/{name}'
                           for name in ('cloud', 'tiles', 'grid', 'path', 'odometry')}
    for name in ('cloud', 'grid', 'path'):
        assert topics[f'longrecon/{name}']['Topic']['Durability Policy'] == 'Transient Local'
    assert any(display['Class'].endswith('/TF') for display in view['Displays'])


@pytest.mark.launch
@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_launch_takes_the_files(path):
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    description = PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())
    names = {argument.name for argument in description.get_launch_arguments()}
    assert set(declared(path)) <= names


@pytest.mark.launch
def test_the_node_starts_by_itself(tmp_path):
    with Launched(tmp_path) as launched:
        launched.wait_for('active')
        output = launched.interrupt()
    assert 'Traceback' not in output and 'process has died' not in output


@pytest.mark.launch
def test_a_manager_leads_the_node_through_its_life(tmp_path):
    with Launched(tmp_path, autostart='false') as launched:
        launched.wait_for('unconfigured')
        # twice: nothing is left over from the first time
        for transition, state in TRANSITIONS[:-1] + TRANSITIONS:
            assert launched.change(transition), transition
            assert launched.state() == state


@pytest.mark.launch
def test_ros2_lifecycle_knows_the_node(tmp_path):
    with Launched(tmp_path, autostart='false') as launched:
        launched.wait_for('unconfigured')
        done = subprocess.run(['ros2', 'lifecycle', 'set', '/longrecon', 'configure'],
                              capture_output=True, text=True, timeout=60)
        assert 'Transitioning successful' in done.stdout, done.stdout + done.stderr
        launched.wait_for('inactive')


@pytest.mark.launch
def test_a_node_in_a_namespace_has_its_own_tree(tmp_path):
    with Launched(tmp_path, namespace='robot1', use_namespaced_tf='true') as launched:
        end = time.monotonic() + 30.0
        while '/robot1/tf' not in dict(launched.node.get_topic_names_and_types()):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert launched.node.count_publishers('/tf') == 0
