"""The package's metadata agree, it installs and builds, and the set-up refuses clearly."""

import ast
import configparser
import importlib.util
from pathlib import Path
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def setup_env():
    """Return tools/setup_env.py as a module."""
    spec = importlib.util.spec_from_file_location('setup_env', ROOT / 'tools' / 'setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def source_copy(tmp_path_factory):
    """Return a copy of what the packaging reads, so that builds leave nothing in the tree."""
    copy = tmp_path_factory.mktemp('workspace') / 'src' / 'longrecon_ros'
    copy.mkdir(parents=True)
    for name in ('package.xml', 'setup.py', 'setup.cfg', 'pyproject.toml', 'LICENSE'):
        shutil.copy(ROOT / name, copy)
    for name in ('longrecon_ros', 'resource', 'config', 'launch', 'rviz', 'scripts'):
        shutil.copytree(ROOT / name, copy / name,
                        ignore=shutil.ignore_patterns('__pycache__'))
    return copy


def setup_keywords():
    """Return the literal keyword arguments of the call of setup() in setup.py."""
    tree = ast.parse((ROOT / 'setup.py').read_text())
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name) and node.func.id == 'setup')
    return {keyword.arg: keyword.value for keyword in call.keywords}


def test_the_version_is_the_same_everywhere():
    from longrecon_ros import __version__
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    changes = re.findall(r'^(\d+\.\d+\.\d+) \(', (ROOT / 'CHANGELOG.rst').read_text(),
                         re.MULTILINE)
    assert manifest.findtext('version') == __version__
    assert ast.literal_eval(setup_keywords()['version']) == __version__
    assert changes[0] == __version__


def test_manifest_form_and_names():
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert manifest.get('format') == '3'
    assert manifest.findtext('name') == 'longrecon_ros'
    assert manifest.findtext('license') == 'Apache-2.0'
    assert manifest.findtext('export/build_type') == 'ament_python'
    names = [node.text for node in manifest if node.tag.endswith('depend')]
    assert len(names) == len(set(names))
    assert 'build_depend' not in {node.tag for node in manifest}     # nothing is compiled


def test_every_ros_import_is_declared():
    declared = {node.text for node in ElementTree.parse(ROOT / 'package.xml').getroot()
                if node.tag in ('exec_depend', 'depend')}
    provider = {'tf2_ros': 'tf2_ros_py', 'tf2_py': 'tf2_ros_py'}
    ours = re.compile(r'.*(_msgs|_srvs|_msgs_py|_bridge|_ros|_interfaces)$|rclpy|launch|ament_.*')
    imported = set()
    for path in [*(ROOT / 'longrecon_ros').rglob('*.py'), *(ROOT / 'launch').glob('*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split('.')[0])
    needed = {provider.get(name, name) for name in imported if ours.match(name)}
    assert needed - {'longrecon_ros'} <= declared


def test_every_requirement_is_pinned():
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    lines = config['options']['install_requires'].split('\n')
    for extra in config['options.extras_require'].values():
        lines += extra.split('\n')
    wanted = {re.split(r'[\[<>=]', line)[0].lower() for line in lines if line}
    pins = {line.split('==')[0].lower()
            for line in (ROOT / 'constraints.txt').read_text().split('\n') if '==' in line}
    assert wanted | {'pip', 'setuptools'} <= pins


def test_a_wheel_carries_share_files_and_ros2_run_scripts(source_copy, tmp_path):
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index',
                    '--ignore-installed',
                    '--no-build-isolation', '--prefix', tmp_path, source_copy],
                   check=True, timeout=120)
    for name in ('bin/longrecon', 'bin/slam_node', 'lib/longrecon_ros/slam_node'):
        assert (tmp_path / name).stat().st_mode & 0o100, name
    for name in ('ament_index/resource_index/packages/longrecon_ros',
                 'longrecon_ros/package.xml', 'longrecon_ros/config/default.yaml',
                 'longrecon_ros/config/fastdds.xml', 'longrecon_ros/launch/online.launch.py',
                 'longrecon_ros/rviz/longrecon.rviz'):
        assert (tmp_path / 'share' / name).is_file(), name


def test_colcon_builds_it(source_copy):
    colcon = Path(sys.executable).with_name('colcon')
    if not colcon.exists():
        pytest.skip('colcon is not installed; make test brings it')
    workspace = source_copy.parent.parent
    done = subprocess.run([colcon, 'build'], cwd=workspace, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    prefix = workspace / 'install' / 'longrecon_ros'
    for name in ('longrecon', 'slam_node'):
        script = prefix / 'lib' / 'longrecon_ros' / name
        assert script.read_text().startswith('#!/usr/bin/env python3\n')
    assert (prefix / 'share/longrecon_ros/package.xml').is_file()
    assert (prefix / 'share/ament_index/resource_index/packages/longrecon_ros').is_file()


def test_missing_system_packages_are_named_in_one_line(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setattr(setup_env.sysconfig, 'get_paths', lambda: {'include': '/nowhere'})
    monkeypatch.setattr(setup_env.shutil, 'which', lambda name: None)
    python = f'python3.{sys.version_info.minor}'
    with pytest.raises(setup_env.SetupError) as caught:
        setup_env.check_system('')
    assert str(caught.value) == ('missing on this system: sudo apt install '
                                 f'{python}-venv {python}-dev gcc g++')
    with pytest.raises(setup_env.SetupError, match='-venv$'):       # ROS brings the rest
        setup_env.check_system('jazzy')


def test_old_python_is_refused(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env.sys, 'version_info', (3, 8, 10, 'final', 0))
    with pytest.raises(setup_env.SetupError, match='3.10 or newer is needed'):
        setup_env.check_python()


def test_a_sourced_ros_that_cannot_be_imported_is_told(setup_env, monkeypatch):
    monkeypatch.setenv('ROS_DISTRO', 'humble')
    monkeypatch.setattr(setup_env, 'succeeds', lambda python, code: False)
    with pytest.raises(setup_env.SetupError, match='ROS humble is sourced'):
        setup_env.sourced_ros()


def test_two_kinds_of_ros_are_not_mixed(setup_env, monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env, 'STAMP', tmp_path / 'stamp.json')
    setup_env.check_kind('jazzy')
    setup_env.STAMP.write_text('{"level": "test", "ros": "", "fingerprint": "x"}')
    setup_env.check_kind('')
    with pytest.raises(setup_env.SetupError, match='made without a ROS .* is with ROS jazzy'):
        setup_env.check_kind('jazzy')


def test_a_stamp_counts_for_its_level_and_inputs_only(setup_env, monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env, 'STAMP', tmp_path / 'stamp.json')
    for name in ('PYTHON', 'COMMAND'):
        monkeypatch.setattr(setup_env, name, Path(sys.executable))
    assert not setup_env.is_complete('demo', '')
    stamp = '{"level": "LEVEL", "ros": "", "fingerprint": "%s"}' % setup_env.fingerprint('')
    setup_env.STAMP.write_text(stamp.replace('LEVEL', 'demo'))
    assert setup_env.is_complete('demo', '')
    assert not setup_env.is_complete('test', '')
    assert not setup_env.is_complete('dev', '')
    setup_env.STAMP.write_text(stamp.replace('LEVEL', 'test'))
    assert setup_env.is_complete('demo', '')
    assert setup_env.is_complete('dev', '')
    assert not setup_env.is_complete('demo', 'jazzy')
    setup_env.STAMP.write_text('{"level": "te')
    assert not setup_env.is_complete('demo', '')
