"""A worker whose node is gone removes what that has left, whatever its own threads do."""

import subprocess
import sys
import time

import pytest

# the other end goes while the worker writes
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
worker = Worker(ours, Ring.create(2), 60, folder)

def write():
    n = 0
    while True:
        folder.mkdir(parents=True, exist_ok=True)
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
    assert done.returncode == 0, done.stderr
    end_s = time.monotonic() + 30.0
    while folder.exists():
        assert time.monotonic() < end_s
        time.sleep(0.05)
    time.sleep(0.2)
    assert not list(tmp_path.iterdir())
