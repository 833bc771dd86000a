"""What the worker takes for a shortage of memory: the errors that one really gives."""

import subprocess
import sys

import pytest

from longrecon_ros.worker.process import is_memory_short

SHORT = """
import faulthandler, resource, sys, threading
import numpy as np
import cv2
from longrecon_ros.worker.process import is_memory_short
image = np.zeros((4000, 4000), np.uint8)
for line in open('/proc/self/status'):
    if line.startswith('VmData'):
        # room for small things, for neither a stack nor an image
        limit = (int(line.split()[1]) + 2000) << 10
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    {job}
except BaseException as error:
    print(type(error).__name__, error, is_memory_short(error))
"""


@pytest.mark.parametrize('job, name', [
    ('faulthandler.dump_traceback_later(1000, exit=True)', 'RuntimeError'),
    ('threading.Thread(target=print).start()', 'RuntimeError'),
    ('np.ones(100_000_000)', 'MemoryError'),
    ('bytearray(100_000_000)', 'MemoryError'),
    ('cv2.resize(image, None, fx=3, fy=3)', 'error')])
def test_a_real_shortage_is_known(job, name):
    done = subprocess.run([sys.executable, '-c', SHORT.format(job=job)], capture_output=True,
                          text=True, timeout=60)
    assert done.stdout.startswith(name) and done.stdout.rstrip().endswith('True'), done


@pytest.mark.parametrize('error', [RuntimeError('the worker thread broke'), ValueError('memory'),
                                   OSError(28, 'No space left on device')])
def test_other_errors_are_none(error):
    assert not is_memory_short(error)
