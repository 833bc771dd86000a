#!/usr/bin/env python3
"""Make or complete the virtual environment `.venv` of this repository.

usage: python3 tools/setup_env.py {demo,test,dev}

demo: what the package and its demo need. test, dev: all extras, torch included (a build for the
CPU is enough).
ROS 2 comes from wheels, unless a ROS installation is sourced: then that one is used. Versions are
pinned in constraints.txt. A finished set-up leaves a stamp, so that the next call returns at once;
an interrupted one is completed. Exit code 2 and one line when something must be done first.
"""

import configparser
from contextlib import contextmanager
import fcntl
import hashlib
import importlib.util
import json
import os
from pathlib import Path
import platform
import shutil
import subprocess
import sys
import sysconfig

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
PYTHON = VENV / 'bin' / 'python'
COMMAND = VENV / 'bin' / 'longrecon'
STAMP = VENV / 'longrecon_setup.json'
CONSTRAINTS = ROOT / 'constraints.txt'
TF2_BUILD = ROOT / 'tools' / 'build_tf2_msgs.py'
INPUTS = [ROOT / 'setup.cfg', ROOT / 'setup.py', CONSTRAINTS, TF2_BUILD, Path(__file__).resolve()]

ALL_EXTRAS = ['bags', 'ui', 'test', 'colcon', 'torch', 'weights', 'export', 'original']
LEVELS = {'demo': ['bags', 'ui'], 'test': ALL_EXTRAS, 'dev': ALL_EXTRAS}
OLDEST = (3, 10)
# where project and module differ
MODULES = {'opencv-python-headless': 'cv2', 'PyYAML': 'yaml', 'scikit-image': 'skimage'}


class SetupError(Exception):
    """Something the user must do first; the message is one line."""


def clean_environment():
    """Return the environment without what ROS wheels of another virtual environment left in it."""
    env = dict(os.environ)
    if env.pop('_ROS_WHEELS_BOOTSTRAP_COMPLETE', None):
        env.pop('LD_LIBRARY_PATH', None)
    return env


def run(*command):
    """Run one command; raise `SetupError` naming it when it fails."""
    command = [str(part) for part in command]
    # setuptools warns at length about every editable install
    env = dict(clean_environment(), PYTHONWARNINGS='ignore')
    if subprocess.call(command, env=env, stdin=subprocess.DEVNULL):
        raise SetupError('this failed, its messages stand above: ' + ' '.join(command))


def succeeds(python, code):
    """Say whether an interpreter exists and runs a snippet without an error."""
    return Path(python).exists() and subprocess.call(
        [str(python), '-c', code], env=clean_environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def check_python():
    """Refuse a Python that the package does not run on."""
    if sys.version_info < OLDEST:
        raise SetupError('Python {}.{} or newer is needed, {} is {}: give another one, as in '
                         '`make PYTHON=python3.12 ...`'.format(*OLDEST, sys.executable,
                                                               platform.python_version()))


def sourced_ros():
    """Return the name of the sourced ROS 2 distribution, '' when there is none."""
    distro = os.environ.get('ROS_DISTRO', '')
    if distro and not succeeds(sys.executable, 'import rclpy, tf2_msgs.msg'):
        raise SetupError(f'ROS {distro} is sourced, but {sys.executable} cannot import its rclpy: '
                         'use its Python (`make PYTHON=/usr/bin/python3 ...`), or a shell without '
                         'ROS')
    return distro


def missing_packages(ros):
    """Return the names of the system packages to install, as Debian and Ubuntu call them."""
    python = 'python{}.{}'.format(*sys.version_info)
    missing = []
    if not all(map(importlib.util.find_spec, ('venv', 'ensurepip'))):
        missing.append(python + '-venv')
    if not ros:                     # the compiler and the headers build tf2_msgs
        if not (Path(sysconfig.get_paths()['include']) / 'Python.h').exists():
            missing.append(python + '-dev')
        missing += [name for name in ('gcc', 'g++') if not shutil.which(name)]
    return missing


def check_system(ros):
    """Name all missing system packages in one line."""
    missing = missing_packages(ros)
    if missing:
        raise SetupError('missing on this system: sudo apt install ' + ' '.join(missing))
    if not ros and platform.machine() != 'x86_64':
        raise SetupError(f'ROS 2 has no wheels for {platform.machine()}: install ROS 2, source '
                         'its setup.bash and repeat')


def fingerprint(ros):
    """Return a hash over everything that decides what an environment holds."""
    digest = hashlib.sha256(f'{ROOT} {ros}'.encode())
    for path in INPUTS:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_stamp():
    """Return what the last finished set-up wrote, {} when there was none."""
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}


def is_complete(level, ros):
    """Say whether the environment already holds `level`."""
    stamp = read_stamp()
    is_there = PYTHON.exists() and COMMAND.exists()
    return (is_there and stamp.get('fingerprint') == fingerprint(ros)
            and set(LEVELS[level]) <= set(LEVELS[stamp['level']]))


@contextmanager
def only_one():
    """Let a second set-up wait until the first has ended."""
    with open(ROOT / '.venv.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_kind(ros):
    """Refuse to mix the ROS of the environment with another one."""
    made_with = read_stamp().get('ros', ros)
    if made_with != ros:
        kinds = [f'with ROS {name}' if name else 'without a ROS installation'
                 for name in (made_with, ros)]
        raise SetupError(f'.venv was made {kinds[0]} and this shell is {kinds[1]}: `make '
                         'clean-venv` first, or use the other shell')


def make_venv(ros):
    """Make the virtual environment, or keep the one that works."""
    if not succeeds(PYTHON, 'import pip'):
        options = ['--system-site-packages'] if ros else []
        run(sys.executable, '-m', 'venv', '--clear', *options, VENV)
    run(PYTHON, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check',
        '--constraint', CONSTRAINTS, 'pip', 'setuptools')


def requirements(extras):
    """Return the requirement lines of the package and of some of its extras, from setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    sections = [config['options']['install_requires']]
    sections += [config['options.extras_require'][extra] for extra in extras]
    return [line for section in sections for line in section.split('\n') if line]


def absent(requirement):
    """Say whether the module of a requirement cannot be imported in the environment."""
    name = requirement.split('>')[0].split('=')[0].split('[')[0]
    return not succeeds(PYTHON, 'import ' + MODULES.get(name, name.lower().replace('-', '_')))


def install(level, ros):
    """Install the package, editable, with what the level needs."""
    pip = [PYTHON, '-m', 'pip', 'install', '--quiet', '--no-build-isolation']
    extras = LEVELS[level]
    if not ros:
        names = ','.join([*extras, 'ros'])
        run(*pip, '--constraint', CONSTRAINTS, '--editable', f'{ROOT}[{names}]')
        return
    # The installation's own numpy and OpenCV stay: its compiled modules were built for them.
    run(*pip, '--no-deps', '--editable', ROOT)
    missing = [requirement for requirement in requirements(extras) if absent(requirement)]
    if missing:
        have = subprocess.check_output(
            [str(PYTHON), '-c', 'import numpy; print(numpy.__version__)'],
            env=clean_environment(), text=True)
        run(*pip, f'numpy=={have.strip()}', *missing)


def set_up(level):
    """Bring the environment to a level; return at once when it is there."""
    check_python()
    ros = sourced_ros()
    if is_complete(level, ros):
        return
    check_system(ros)
    check_kind(ros)
    with only_one():
        if is_complete(level, ros):
            return
        source = f'ROS {ros} as sourced' if ros else 'ROS 2 from wheels'
        print(f'Setting up .venv ({level}; {source}): a few minutes, once', flush=True)
        make_venv(ros)
        STAMP.unlink(missing_ok=True)
        install(level, ros)
        if not ros:
            run(PYTHON, TF2_BUILD)
        STAMP.write_text(json.dumps({'level': level, 'ros': ros, 'fingerprint': fingerprint(ros)}))


def main():
    """Set up the level named on the command line; return the exit code."""
    if len(sys.argv) != 2 or sys.argv[1] not in LEVELS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        set_up(sys.argv[1])
    except SetupError as error:
        print('setup: {}'.format(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('setup: interrupted; the next call completes it', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
