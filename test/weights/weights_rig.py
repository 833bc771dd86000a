"""What the tests of checkpoints share: where things are, processes, files in their places."""

import hashlib
from pathlib import Path
import subprocess
import sys
import time

from hub_server import PATIENCE_S, TINY

from longrecon_ros.backbones import _weights

SCRIPT = Path(__file__).with_name('hub_server.py')
FETCH = ('-c', 'from hub_server import *; from longrecon_ros.io.hub import fetch; fetch(TINY)')
CLI_FETCH = (str(SCRIPT), 'weights', 'fetch', 'tiny', '--yes')
PIECE = 10 * 1024 * 1024
"""Bytes that the library collects before it writes them."""


def start(*argv, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **options)


def place(content: bytes, is_recorded: bool = True) -> Path:
    """Put a file where the checkpoint belongs, as if it had been fetched."""
    path = _weights.path_of(TINY)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    if is_recorded:
        record = _weights.Record('tiny', TINY.repository, TINY.file, 'c0ffee', len(content),
                                 hashlib.sha256(content).hexdigest())
        _weights.record_path(path).write_text(record.to_json())
    return path


def partials() -> list:
    return sorted((_weights.weights_folder() / '.staging').rglob('*.partial'))


def wait_for_partial(hub) -> None:
    """Wait until the server has stalled and the first piece is on the disk."""
    assert hub.stalled.wait(PATIENCE_S)
    deadline_s = time.monotonic() + PATIENCE_S
    while not (partials() and partials()[0].stat().st_size >= PIECE):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
