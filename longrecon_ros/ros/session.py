"""What runs in the worker: image messages in, steps of the pipeline out, files on demand."""

from dataclasses import dataclass
import logging
import math
from pathlib import Path
import time
from typing import Any, Optional

from .. import backbones
from ..config import Config
from ..errors import InputError
from ..io.calibration import Calibration
from ..io.frame_maker import FrameMaker
from ..io.trajectory_file import read_tum
from ..pipeline import Pipeline
from ..results import RunRecord, RunRecorder, write_run
from ..types import PointCloud, Update
from .compat.cv_bridge import make_decoder
from .messages import stamp_ns
from .parameters import NodeConfig

_log = logging.getLogger(__name__)
_RESTART_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What taking one image led to."""

    update: Optional[Update] = None
    cloud: Optional[PointCloud] = None      # the whole map in odom, when it is time for it
    was_reset: bool = False                 # the stream began anew before this image


class Session:
    """One stream of images through one pipeline.

    A stamp that repeats or goes back a little is refused with InputError; one that goes back more
    than a second means that a recording began again, and so does the map.
    """

    def __init__(self, config: Config, node_config: NodeConfig):
        self._config, self._node = config, node_config
        self._pipeline = Pipeline.from_config(config)
        self._decode = make_decoder()
        self.reset()

    def reset(self) -> Step:
        """Forget the stream."""
        self._pipeline.reset()
        self._maker: Optional[FrameMaker] = None
        self._n_frames = 0
        self._last_ns: Optional[int] = None
        self._busy_s = 0.0
        self._cloud_at = -math.inf
        self._recorder = RunRecorder()
        self._topic = ''
        return Step(was_reset=True)

    def take(self, message: Any, calibration: Optional[Calibration], topic: str) -> Step:
        """Feed one Image or CompressedImage; ``topic`` names it in errors."""
        now_ns = stamp_ns(message.header.stamp)
        was_reset = self._last_ns is not None and now_ns < self._last_ns - _RESTART_NS
        if was_reset:
            _log.warning('the stamps of %s went back by %.1f s: the map begins anew', topic,
                         (self._last_ns - now_ns) * 1e-9)
            self.reset()
        self._topic = topic
        name = f'{topic}, image of {now_ns * 1e-9:.3f} s'
        if self._last_ns is not None and now_ns <= self._last_ns:
            raise InputError(f'{name}: its stamp is not after the one before; give every image '
                             'its time of capture')
        if self._maker is None:
            self._maker = FrameMaker(calibration, 'camera_info')
        start = time.perf_counter()
        frame = self._maker.make(self._n_frames, now_ns, self._decode(message, name), name)
        self._n_frames, self._last_ns = self._n_frames + 1, now_ns
        update = self._pipeline.push(frame)
        self._busy_s += time.perf_counter() - start
        is_due = time.monotonic() - self._cloud_at >= self._node.cloud_period_s
        return self._step(update, is_due, was_reset)

    def flush(self) -> Step:
        """Process the images that wait for their window to fill."""
        start = time.perf_counter()
        update = self._pipeline.flush()
        self._busy_s += time.perf_counter() - start
        return self._step(update, with_cloud=True)

    def save(self) -> str:
        """Write trajectory, map, figures and page; return one line that says so.

        Raises InputError when there is nothing to write, or the folder cannot be written.
        """
        if not self._n_frames:
            raise InputError('there is nothing to save yet: send images')
        folder = Path(self._node.save_folder).expanduser().absolute()
        truth = self._node.groundtruth_file
        trajectory, cloud = self._pipeline.trajectory(), self._pipeline.cloud()
        write_run(folder, RunRecord(
            source=self._node.source or self._topic, config=self._config,
            n_frames=self._n_frames, trajectory=trajectory, states=self._pipeline.states(),
            cloud=cloud, statistics=self._recorder.statistics(), elapsed_s=self._busy_s,
            is_metric=backbones.load(self._config.backbone).spec.scale == 'metric',
            groundtruth=read_tum(truth) if truth else None), force=True)
        return f'{len(trajectory)} poses and {len(cloud)} points in {folder}'

    def _step(self, update: Optional[Update], with_cloud: bool, was_reset: bool = False) -> Step:
        if update is not None:
            self._recorder.add(update)
        if update is None or not with_cloud:
            return Step(update, None, was_reset)
        self._cloud_at = time.monotonic()
        return Step(update, self._pipeline.cloud(), was_reset)
