"""Checkpoints on disk: what is written, what is refused, and a kill at any moment."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

from fakes import FakeBackbone, make_frames
import numpy as np
import pytest
from resuming import (
    again,
    assert_same_trajectory,
    fake_pipeline,
    over_the_wire,
    push,
    SIZE,
    until,
)

from longrecon_ros.checkpoint import Checkpointer, load_checkpoint, Resume
from longrecon_ros.errors import InputError
from longrecon_ros.map_store import load_map, MANIFEST, save_map


def test_a_checkpoint_writes_what_is_new(tmp_path):
    pipeline, frames = fake_pipeline(FakeBackbone(seed=3)), make_frames(96)
    checkpointer = Checkpointer(tmp_path / 'state')
    assert checkpointer.save(pipeline) >= 0 and load_checkpoint(tmp_path / 'state') is None
    last = until(pipeline, frames, 3)
    checkpointer.save(pipeline)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / 'state').glob('submap*')}
    assert len(first) == 3
    until(pipeline, frames[last + 1:], 4)
    checkpointer.save(pipeline)
    then = {path: path.stat().st_mtime_ns for path in (tmp_path / 'state').glob('submap*')}
    assert len(then) == 7 and first.items() <= then.items()
    assert len(list((tmp_path / 'state').iterdir())) == 1 + 4 + 7
    # it is a map, too
    assert list(load_map(tmp_path / 'state').poses) == list(range(7))
    # the next stream has submaps of the same numbers
    pipeline.reset()
    push(pipeline, make_frames(26, first=500))
    checkpointer.save(pipeline)
    found = load_checkpoint(tmp_path / 'state')
    assert list(found.T_odom_submap) == [0, 1] and found.first_stamp_ns == 10**18 + 500 * 10**8
    assert not set(found.record.files.values()) & set(then)
    checkpointer.clear()
    assert load_checkpoint(tmp_path / 'state') is None
    assert not list((tmp_path / 'state').iterdir())


def test_damaged_checkpoints_are_refused(tmp_path):
    pipeline = fake_pipeline(FakeBackbone(seed=3))
    push(pipeline, make_frames(40))
    assert load_checkpoint(tmp_path / 'nowhere') is None
    save_map(tmp_path / 'map', pipeline.map_record(), pipeline.mapper.atlas.submap)
    with pytest.raises(InputError, match='a map and no checkpoint'):
        load_checkpoint(tmp_path / 'map')
    folder = tmp_path / 'state'
    Checkpointer(folder).save(pipeline)
    manifest = (folder / MANIFEST).read_text()
    path = next(folder.glob('stream*'))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match='checksum is wrong'):
        load_checkpoint(folder)
    # a later save must not vouch for a file that was damaged since
    path.write_bytes(data)
    submap = next(folder.glob('submap*'))
    submap.write_bytes(submap.read_bytes()[::-1])
    (folder / MANIFEST).write_text(manifest)
    record = dataclasses.replace(pipeline.map_record(), files={
        entry['id']: folder / entry['file'] for entry in json.loads(manifest)['submaps']})
    save_map(folder, record, pipeline.mapper.atlas.submap)
    with pytest.raises(InputError, match='checksum is wrong'):
        load_map(folder)


_RUN = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from fakes import FakeBackbone, make_frames
from resuming import fake_pipeline
from longrecon_ros.checkpoint import Checkpointer
pipeline, checkpointer = fake_pipeline(FakeBackbone(seed=7)), Checkpointer(Path({folder!r}))
print('ready', flush=True)
for frame in make_frames(4000):
    if pipeline.push(frame) is not None:
        checkpointer.save(pipeline)
        print(frame.index, flush=True)
"""


def killed(folder, wait_s):
    """Have a stream written to a folder, kill it meanwhile; return its last saved frame, or -1."""
    code = _RUN.format(tests=os.path.dirname(__file__), folder=str(folder))
    running = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE,
                               env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert running.stdout.readline() == b'ready\n'
    time.sleep(wait_s)
    running.send_signal(signal.SIGKILL)
    told = running.communicate()[0].split(b'\n')[:-1]
    return int(told[-1]) if told else -1


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    rng, backbone = np.random.default_rng(0), FakeBackbone(seed=7)
    for k in range(4):
        folder = tmp_path / str(k)
        last = killed(folder, rng.uniform(0.05, 0.4))
        checkpoint = load_checkpoint(folder)
        if checkpoint is None:
            assert last == -1
            continue
        n = len(checkpoint.T_odom_submap)
        # what was told to be saved is there, or one more
        n_told = (last - SIZE + 1) // 10 + 1 if last >= 0 else 0
        assert n_told <= n <= n_told + 1
        frames, alive = make_frames(10 * n + 6 + 30), fake_pipeline(backbone)
        until(alive, frames, n)
        resume = Resume(checkpoint, over_the_wire(alive.tail()))
        pipeline = fake_pipeline(backbone, resume)
        push(pipeline, again(frames, resume))
        push(alive, frames[10 * n + 6:])
        assert_same_trajectory(pipeline.trajectory(), alive.trajectory(), 1e-6)
        assert pipeline.mapper.atlas.ids == alive.mapper.atlas.ids
