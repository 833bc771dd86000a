"""What runs in the worker: image messages in, steps of the pipeline out, files on demand."""

from dataclasses import dataclass
import logging
import math
from pathlib import Path
import time
from typing import Any, Callable, Optional

from .. import backbones
from ..config import Config
from ..errors import ConfigError, InputError
from ..io.calibration import Calibration
from ..io.frame_maker import FrameMaker
from ..io.trajectory_file import read_tum
from ..overlap import Overlapped
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
    """What one window gave, or that the stream began anew."""

    update: Optional[Update] = None
    cloud: Optional[PointCloud] = None      # the whole map in odom, when it is time for it
    was_reset: bool = False                 # the stream began anew


class Session:
    """One stream of images through one pipeline.

    ``tell`` gets a `Step` for each window as soon as it is registered, which may be in another
    thread, and one when the stamps say that the stream began anew.

    A stamp that repeats or goes back a little is refused with InputError; one that goes back more
    than a second means that a recording began again, and so does the map. Raises ConfigError for
    a backbone that needs the truth.
    """

    def __init__(self, config: Config, node_config: NodeConfig, tell: Callable[[Step], None]):
        self._config, self._node, self._tell = config, node_config, tell
        self._spec = backbones.load(config.backbone).spec
        if self._spec.needs_truth:
            raise ConfigError(f'backbone: {config.backbone} needs true depth and poses with the '
                              'images, which no topic carries; use it with "longrecon run" on a '
                              'folder that has them, or choose another backbone')
        self._pipeline = Pipeline.from_config(config, is_live=True)
        self._stream = Overlapped(self._pipeline, config.pipeline.use_thread, self._take_update)
        self._decode = make_decoder()
        self.reset()

    def reset(self) -> Step:
        """Forget the stream."""
        self._stream.reset()
        self._maker: Optional[FrameMaker] = None
        self._n_frames = 0
        self._last_ns: Optional[int] = None
        self._is_flushing = False
        self._cloud_at = -math.inf
        self._recorder = RunRecorder()
        self._topic = ''
        return Step(was_reset=True)

    def take(self, message: Any, calibration: Optional[Calibration], topic: str) -> None:
        """Feed one Image or CompressedImage; ``topic`` names it in errors."""
        now_ns = stamp_ns(message.header.stamp)
        if self._last_ns is not None and now_ns < self._last_ns - _RESTART_NS:
            _log.warning('the stamps of %s went back by %.1f s: the map begins anew', topic,
                         (self._last_ns - now_ns) * 1e-9)
            self._tell(self.reset())
        self._topic = topic
        name = f'{topic}, image of {now_ns * 1e-9:.3f} s'
        if self._last_ns is not None and now_ns <= self._last_ns:
            raise InputError(f'{name}: its stamp is not after the one before; give every image '
                             'its time of capture')
        if self._maker is None:
            self._maker = FrameMaker(calibration, 'camera_info')
        with self._stream.busy:
            frame = self._maker.make(self._n_frames, now_ns, self._decode(message, name), name)
            self._n_frames, self._last_ns = self._n_frames + 1, now_ns
            self._stream.push(frame)

    def flush(self) -> None:
        """Process the images that wait for their window to fill, and wait for the last step."""
        self._is_flushing = True        # the last step has a cloud
        try:
            self._stream.flush()
        finally:
            self._is_flushing = False

    def save(self) -> str:
        """Write trajectory, map, figures and page; return one line that says so.

        Raises InputError when there is nothing to write, or the folder cannot be written.
        """
        if not self._n_frames:
            raise InputError('there is nothing to save yet: send images')
        folder = Path(self._node.save_folder).expanduser().absolute()
        truth = self._node.groundtruth_file
        trajectory, cloud = self._stream.trajectory(), self._stream.cloud()
        write_run(folder, RunRecord(
            source=self._node.source or self._topic, config=self._config,
            n_frames=self._n_frames, trajectory=trajectory, states=self._stream.states(),
            cloud=cloud, odometry=self._stream.odometry(), loops=self._stream.loops(),
            saved_map=self._stream.saved_map(), statistics=self._recorder.statistics(),
            elapsed_s=self._stream.busy.total_s,
            is_metric=self._spec.scale == 'metric', is_untrained=self._stream.is_untrained,
            groundtruth=read_tum(truth) if truth else None,
            warnings=self._stream.caveats), force=True)
        return f'{len(trajectory)} poses and {len(cloud)} points in {folder}'

    def close(self) -> None:
        """End the work; the stream is over."""
        self._stream.close()

    def _take_update(self, update: Update) -> None:
        """Record one window and tell of it; runs in the thread that registers windows."""
        self._recorder.add(update)
        now_s, cloud = time.monotonic(), None
        if self._is_flushing or now_s - self._cloud_at >= self._node.cloud_period_s:
            self._cloud_at, cloud = now_s, self._pipeline.cloud()
        self._tell(Step(update, cloud))
