"""The launch files and the rviz view."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / 'launch').glob('*.launch.py'))


def declared(path):
    """Return {name: keywords} of the arguments that a launch file declares."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
             and getattr(node.func, 'id', '') == 'DeclareLaunchArgument']
    return {call.args[0].value: {k.arg: k.value for k in call.keywords} for call in calls}


def used(path):
    """Return the names of the arguments that a launch file reads."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') in (
                'LaunchConfiguration', 'value') and isinstance(node.args[0], ast.Constant):
            names.add(node.args[0].value)
    return names


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_every_argument_is_declared_and_described(path):
    arguments = declared(path)
    assert arguments and used(path) <= set(arguments)
    for name, keywords in arguments.items():
        assert len(ast.literal_eval(keywords['description'])) > 10, name


def test_replay_passes_on_what_online_knows():
    online, replay = (declared(ROOT / 'launch' / f'{name}.launch.py')
                      for name in ('online', 'replay'))
    tree = ast.parse((ROOT / 'launch' / 'replay.launch.py').read_text())
    passed = next(ast.literal_eval(node.value) for node in tree.body
                  if isinstance(node, ast.Assign) and node.targets[0].id == 'PASSED_ON')
    assert set(passed) <= set(online) and set(passed) <= set(replay)


def test_there_are_two_launch_files():
    assert [path.name for path in FILES] == ['online.launch.py', 'replay.launch.py']


def test_rviz_shows_what_the_node_publishes():
    view = yaml.safe_load((ROOT / 'rviz' / 'longrecon.rviz').read_text())['Visualization Manager']
    assert view['Global Options']['Fixed Frame'] == 'map'
    topics = {display['Topic']['Value']: display for display in view['Displays']
              if 'Topic' in display}
    assert set(topics) == {'longrecon/cloud', 'longrecon/path', 'longrecon/odometry'}
    for name in ('longrecon/cloud', 'longrecon/path'):
        assert topics[name]['Topic']['Durability Policy'] == 'Transient Local'
    assert any(display['Class'].endswith('/TF') for display in view['Displays'])


@pytest.mark.launch
@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_launch_takes_the_files(path):
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    description = PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())
    names = {argument.name for argument in description.get_launch_arguments()}
    assert set(declared(path)) <= names
