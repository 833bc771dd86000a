"""Fixtures of the tests of checkpoints: a clean environment, and a hub on this machine."""

import os

from hub_server import catalogue, checkpoint, serve
import pytest
from weights_rig import SCRIPT

from longrecon_ros.cli.main import main


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Keep the user's weights, tokens and proxies out of it."""
    for name in ('HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HF_HUB_OFFLINE', 'HF_ENDPOINT',
                 'PYTHONUNBUFFERED'):
        monkeypatch.delenv(name, raising=False)
    for name, value in {'LONGRECON_WEIGHTS': tmp_path / 'weights', 'HF_HOME': tmp_path / 'hf',
                        'XDG_CACHE_HOME': tmp_path / 'cache', 'HF_HUB_DISABLE_XET': '1',
                        'HF_HUB_DISABLE_TELEMETRY': '1', 'NO_PROXY': '*',
                        'no_proxy': '*'}.items():
        monkeypatch.setenv(name, str(value))
    for folder in (SCRIPT.parent, SCRIPT.parent.parent):
        monkeypatch.setenv('PYTHONPATH', str(folder), prepend=os.pathsep)


@pytest.fixture(scope='module')
def content():
    """Return the published checkpoint."""
    pytest.importorskip('safetensors', reason='checkpoints need safetensors')
    return checkpoint()


@pytest.fixture
def hub(monkeypatch, content):
    """Serve the checkpoint."""
    pytest.importorskip('huggingface_hub', reason='fetching needs huggingface_hub')
    with serve(content) as hub:
        monkeypatch.setenv('HF_ENDPOINT', hub.url)
        yield hub


@pytest.fixture
def cli(monkeypatch, capsys):
    """Return a function that runs `longrecon weights ...` and returns code, stdout and stderr."""
    monkeypatch.setattr('longrecon_ros.cli.weights.catalogue', catalogue)

    def run(*argv):
        code = main(['weights', *map(str, argv)])
        return code, *capsys.readouterr()
    return run
