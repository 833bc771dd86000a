"""Pipelines that end, and others that go on from what is left of them."""

import dataclasses
import json
from pathlib import Path
from typing import Iterable, List, Optional

from fakes import FakeBackbone
import numpy as np

from longrecon_ros import config
from longrecon_ros.alignment import make_aligner
from longrecon_ros.alignment.base import Aligner
from longrecon_ros.checkpoint import Checkpointer, load_checkpoint, Resume
from longrecon_ros.config import build, WindowConfig
from longrecon_ros.loop.settings import LoopConfig
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.tail import Tail
from longrecon_ros.types import Frame, Trajectory, Update

MAP = dataclasses.replace(config.load().map, max_points=3000, points_per_frame=60,
                          remove_floating=False)
LOOP = build(LoopConfig, config.load().loop)
SIZE, OVERLAP = 16, 6


def fake_pipeline(backbone: FakeBackbone, resume: Optional[Resume] = None, align: str = 'sim3',
                  entry: Optional[Aligner] = None, overlap: int = OVERLAP) -> Pipeline:
    """Return a pipeline that is light, on a backbone with known answers."""
    return Pipeline(backbone, make_aligner(align), WindowConfig(SIZE, overlap), MAP, LOOP,
                    resume=resume, entry=entry)


def push(pipeline: Pipeline, frames: Iterable[Frame]) -> List[Update]:
    """Push frames and flush; return the updates."""
    updates = [pipeline.push(frame) for frame in frames] + [pipeline.flush()]
    return [update for update in updates if update is not None]


def until(pipeline: Pipeline, frames: Iterable[Frame], n_windows: int) -> int:
    """Push frames until there were so many windows; return the index of the last frame."""
    for frame in frames:
        if pipeline.push(frame) is not None:
            n_windows -= 1
            if not n_windows:
                return frame.index
    raise AssertionError('too few frames')


def over_the_wire(tail: Tail) -> Tail:
    """Return the tail as it comes out of a socket: JSON, and arrays as bytes."""
    values = tail.to_arrays()
    is_array = {name: isinstance(value, np.ndarray) for name, value in values.items()}
    header = json.dumps({
        name: [value.dtype.str, value.shape] if is_array[name] else value
        for name, value in values.items()})
    raw = {name: value.tobytes() for name, value in values.items() if is_array[name]}
    return Tail.from_arrays({
        name: np.frombuffer(raw[name], value[0]).reshape(value[1]) if is_array[name] else value
        for name, value in json.loads(header).items()})


def resumed(pipeline: Pipeline, folder: Optional[Path] = None) -> Resume:
    """Return what is left of a pipeline when its process is gone."""
    if folder is not None:
        Checkpointer(folder).save(pipeline)
    tail = over_the_wire(pipeline.tail())
    pipeline.close()
    return Resume(None if folder is None else load_checkpoint(folder), tail)


def again(frames: Iterable[Frame], resume: Resume) -> List[Frame]:
    """Return the frames that a process that goes on gets: those of the tail, then the rest."""
    return [frame for frame in frames if frame.index >= resume.tail.prediction.frame_ids[0]]


def assert_same_trajectory(a: Trajectory, b: Trajectory, atol: float) -> None:
    """Both have the same times and about the same poses."""
    np.testing.assert_array_equal(a.stamps_ns, b.stamps_ns)
    np.testing.assert_allclose(a.T_map_camera, b.T_map_camera, atol=atol)
