"""What runs in the worker: image messages in, steps of the pipeline out, files on demand."""

from dataclasses import dataclass
import json
import logging
from pathlib import Path
import time
from typing import Any, Dict, Optional

import numpy as np

from ..config import as_flat_dict, Config
from ..errors import InputError
from ..io.atomic import atomic_folder
from ..io.calibration import Calibration
from ..io.frame_maker import FrameMaker
from ..io.ply import write_ply
from ..io.trajectory_file import write_tum
from ..pipeline import Pipeline
from ..types import FrameState, PointCloud, Update
from .compat.cv_bridge import make_decoder
from .messages import stamp_ns

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

    def __init__(self, config: Config, cloud_period_s: float):
        self._config = config
        self._cloud_period_s = cloud_period_s
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
        self._cloud_at = -np.inf
        return Step(was_reset=True)

    def take(self, message: Any, calibration: Optional[Calibration], topic: str) -> Step:
        """Feed one Image or CompressedImage; ``topic`` names it in errors."""
        now_ns = stamp_ns(message.header.stamp)
        was_reset = self._last_ns is not None and now_ns < self._last_ns - _RESTART_NS
        if was_reset:
            _log.warning('the stamps of %s went back by %.1f s: the map begins anew', topic,
                         (self._last_ns - now_ns) * 1e-9)
            self.reset()
        name = f'{topic}, image of {now_ns * 1e-9:.3f} s'
        if self._last_ns is not None and now_ns <= self._last_ns:
            raise InputError(f'{name}: its stamp is not after the one before; give every image '
                             'its time of capture')
        if self._maker is None:
            self._maker = FrameMaker(calibration, 'camera_info')
        frame = self._maker.make(self._n_frames, now_ns, self._decode(message, name), name)
        self._n_frames, self._last_ns = self._n_frames + 1, now_ns
        start = time.perf_counter()
        update = self._pipeline.push(frame)
        self._busy_s += time.perf_counter() - start
        is_due = time.monotonic() - self._cloud_at >= self._cloud_period_s
        return self._step(update, is_due, was_reset)

    def flush(self) -> Step:
        """Process the images that wait for their window to fill."""
        return self._step(self._pipeline.flush(), with_cloud=True)

    def save(self, folder: str) -> str:
        """Write trajectory.txt, map.ply and result.json; return one line that says so.

        Raises InputError when the folder cannot be written.
        """
        trajectory, cloud = self._pipeline.trajectory(), self._pipeline.cloud()
        if not len(trajectory):
            raise InputError('there is no trajectory yet: send more images')
        path = Path(folder).expanduser().absolute()
        try:
            with atomic_folder(path, force=True) as staging:
                write_tum(staging / 'trajectory.txt', trajectory)
                write_ply(staging / 'map.ply', cloud)
                (staging / 'result.json').write_text(json.dumps(self._summary(), indent=2) + '\n')
        except OSError as error:
            raise InputError(f'{path}: cannot be written ({error.strerror}); set '
                             'node.save_folder to another folder') from None
        return f'{len(trajectory)} poses and {len(cloud)} points in {path}'

    def _step(self, update: Optional[Update], with_cloud: bool, was_reset: bool = False) -> Step:
        if update is None or not with_cloud:
            return Step(update, None, was_reset)
        self._cloud_at = time.monotonic()
        return Step(update, self._pipeline.cloud(), was_reset)

    def _summary(self) -> Dict[str, Any]:
        trajectory, states = self._pipeline.trajectory(), self._pipeline.states()
        steps_m = np.linalg.norm(np.diff(trajectory.positions, axis=0), axis=1)
        return {
            'frames': self._n_frames,
            'poses': len(trajectory),
            'lost': int((states == FrameState.LOST).sum()),
            'path_length_m': float(steps_m.sum()),
            'fps': self._n_frames / self._busy_s if self._busy_s else 0.0,
            'backbone': self._config.backbone,
            'align': self._config.align,
            'parameters': as_flat_dict(self._config),
        }
