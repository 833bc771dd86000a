"""Shared test settings: deterministic hypothesis, what to skip, and where the shared data are."""

import functools
import importlib.util
import logging
import os
from pathlib import Path
import signal
import threading

from hypothesis import settings
import pytest

from longrecon_ros.synthetic import corridor, eight, indoor, street, wall

settings.register_profile('longrecon', deadline=None, derandomize=True, max_examples=60)
settings.load_profile('longrecon')

# beside other work, threads of torch that spin while they wait make it many times slower
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

if 'PYTEST_XDIST_WORKER' in os.environ:
    # as many processes as cores
    os.environ.setdefault('OMP_NUM_THREADS', '1')


def painted_once(paint):
    """Return a maker of scenes that keeps them: painting a street takes seconds."""
    @functools.lru_cache(maxsize=2)
    def painted(seed):
        scene = paint(seed)
        for quad in scene.quads:
            quad.texture.flags.writeable = False
        return scene
    return painted


SCENES = [(module, f'{module.__name__.rpartition(".")[2]}_scene')
          for module in (corridor, eight, indoor, street, wall)]
for _module, _name in SCENES:
    setattr(_module, _name, painted_once(getattr(_module, _name)))

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Return the folder of the real clips (variable LONGRECON_DATA); skip without it."""
    folder = Path(os.environ.get('LONGRECON_DATA', REPOSITORY.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no clips at {folder}; set LONGRECON_DATA to the folder that holds them')
    return folder


@pytest.fixture
def wet_paint():
    """Return a function that forgets the scenes painted so far."""
    def forget():
        for module, name in SCENES:
            getattr(module, name).cache_clear()
    return forget


@pytest.fixture(autouse=True)
def all_is_logged():
    """Take back what a command line of another test has said about logging (-q)."""
    logging.getLogger('longrecon_ros').setLevel(logging.NOTSET)


def pytest_configure():
    """Let programs that tests start be interrupted: a parallel run ignores it for itself."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    """Declare --slow."""
    parser.addoption('--slow', action='store_true', help='run the tests that take minutes, too')


def pytest_collection_modifyitems(config, items):
    """Skip the marked tests whose means are absent, and say how to get them."""
    absent = {}
    if not config.getoption('slow'):
        absent['slow'] = 'takes minutes: make test ARGS=--slow'
    if importlib.util.find_spec('launch_ros') is None:
        absent['launch'] = 'launch_ros is only in a ROS installation: source one'
    if importlib.util.find_spec('torch') is None:
        absent['torch'] = absent['gpu'] = 'torch is not installed: make test'
    elif any(item.get_closest_marker('gpu') for item in items):
        import torch
        if not torch.cuda.is_available():
            absent['gpu'] = 'torch sees no CUDA device'
    for item in items:
        for name, reason in absent.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))
