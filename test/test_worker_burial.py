"""A worker whose node is gone removes what that has left, whatever its own threads do."""

import subprocess
import sys

import pytest

# the other end goes while the worker writes; then its files go, and the writer stumbles
WORKER = """
from pathlib import Path
import sys
import threading
import time
from longrecon_ros.worker.process import work, Worker
from longrecon_ros.worker.ring import Ring
from longrecon_ros.worker.wire import Channel, pair

folder, place = Path(sys.argv[1]), sys.argv[2]
ours, theirs = map(Channel, pair())
worker = Worker(ours, Ring.create(2), 60)
worker._folder = folder

def write():
    n = 0
    while True:
        (folder / f'{n}').write_text('something')
        n += 1

def do_write(message):
    if place == 'thread':
        threading.Thread(target=write).start()
    else:
        write()

worker._do_write = do_write
theirs.send({'kind': 'write'})
timer = threading.Timer(0.5, theirs.close)
timer.daemon = True
timer.start()
sys.exit(work(worker, ours))
"""


@pytest.mark.parametrize('place', ['main', 'thread'])
def test_a_writing_worker_leaves_nothing(place, tmp_path):
    folder = tmp_path / 'longrecon-node'
    folder.mkdir()
    for n in range(2000):
        (folder / f'old {n}').write_text('of the node')
    done = subprocess.run([sys.executable, '-c', WORKER, str(folder), place], timeout=60,
                          capture_output=True, text=True)
    assert not list(tmp_path.iterdir())
    assert done.returncode == 0, done.stderr
