"""One stream of images through one pipeline, and the map's files: what the worker does."""

from dataclasses import dataclass, replace
import json
import logging
from pathlib import Path
import time
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy as np

from .. import backbones
from ..atomic import write_text
from ..checkpoint import Checkpointer, load_checkpoint, Resume
from ..config import Config
from ..errors import ConfigError, InputError, LongreconError
from ..io.calibration import Calibration
from ..io.frame_maker import FrameMaker
from ..io.trajectory_file import read_tum
from ..map_store import load_map, MapRecord, save_map
from ..mapping.tiles import Tiles
from ..overlap import Overlapped
from ..pipeline import Pipeline
from ..results import RunRecord, RunRecorder, write_run
from ..tail import Tail
from ..types import Submap, Update
from . import messages
from .grid import GridMaker

_log = logging.getLogger(__name__)
_CHECKPOINT_SHARE = 0.05        # of the time may go into checkpoints


@dataclass(frozen=True, slots=True)
class Settings:
    """What the worker has to know of the node."""

    folder: str                             # of the node's process, for what must outlive a worker
    save_folder: str
    source: str = ''
    groundtruth_file: str = ''
    cloud_period_s: float = 2.0
    tile_points: int = 250_000
    path_poses: int = 5000
    grid_resolution_m: float = 0.05


class Session:
    """Takes images by `begin` and `take`; ``tell`` gets a message for everything that comes out.

    That may be in another thread. Raises ConfigError for a backbone that needs the truth, and what
    building the pipeline raises.
    """

    def __init__(self, config: Config, settings: Settings, resume: Dict[str, Any],
                 tell: Callable[[Dict[str, Any]], None]):
        self._config, self._settings, self._tell = config, settings, tell
        self._spec = backbones.load(config.backbone).spec
        if self._spec.needs_truth:
            raise ConfigError(f'backbone: {config.backbone} needs true depth and poses with the '
                              'images, which no topic carries; use it with "longrecon run" on a '
                              'folder that has them, or choose another backbone')
        self._base: Optional[MapRecord] = None      # that the stream lies in
        self._loaded: Optional[MapRecord] = None    # the same without earlier segments
        self._epoch = 0
        self._is_mapping = True
        self._checkpointer = Checkpointer(Path(settings.folder) / 'checkpoint')
        self._mode_file = Path(settings.folder) / 'mode.json'
        self._wants_cloud = self._wants_tiles = False
        self._metres = 0.0                  # per unit, for a grid; 0: none is wanted
        self._up = np.array([0.0, -1.0, 0.0])
        self._grid = GridMaker(settings.grid_resolution_m, tell)
        self._build(self._resume(resume))

    def _resume(self, told: Dict[str, Any]) -> Optional[Resume]:
        """Return from where a stream goes on that another worker began; None for a new one."""
        tail = told.get('tail')
        if tail is None:
            return None
        self._take_mode()
        checkpoint = None
        if self._is_mapping:
            checkpoint = load_checkpoint(Path(self._settings.folder) / 'checkpoint')
        return Resume(checkpoint, Tail.from_arrays(tail))

    def _take_mode(self) -> None:
        """Go on in the map, and in the mode, of the worker before."""
        if self._mode_file.exists():
            mode = json.loads(self._mode_file.read_text(encoding='utf-8'))
            self._is_mapping = mode['is_mapping']
            self._base, self._loaded = (None if folder is None else load_map(Path(folder))
                                        for folder in (mode['base'], mode['loaded']))

    def _keep_mode(self) -> None:
        """Write down which map this goes on in, for a worker that takes its place."""
        write_text(self._mode_file, json.dumps({
            'is_mapping': self._is_mapping, 'base': _folder_of(self._base),
            'loaded': _folder_of(self._loaded)}))

    def _build(self, resume: Optional[Resume] = None,
               backbone: Optional[backbones.base.Backbone] = None) -> None:
        self._pipeline = Pipeline.from_config(self._config, is_live=True, base=self._base,
                                              is_mapping=self._is_mapping, resume=resume,
                                              backbone=backbone)
        self._stream = Overlapped(self._pipeline, self._config.pipeline.use_thread,
                                  self._take_update)
        self._forget(resume is not None)

    def _forget(self, is_resumed: bool = False) -> None:
        self._maker: Optional[FrameMaker] = None
        self._topic = ''
        self._n_frames = self._n_points = 0
        self._recorder = RunRecorder()
        self._tiles = Tiles(self._settings.tile_points)
        self._cloud_at = self._saved_at = float('-inf')
        self._save_s = 0.0
        self._n_bends_told = 0
        self._is_flushing = False
        if not is_resumed:
            self._checkpointer.clear()

    def facts(self) -> Dict[str, Any]:
        """Return what the other side wants to know before the first image."""
        return {'backbone': self._config.backbone, 'scale': self._spec.scale,
                'is_untrained': self._stream.is_untrained,
                'size': self._config.window.size, 'overlap': self._config.window.overlap}

    def begin(self, calibration: Optional[Calibration], topic: str, epoch: int) -> None:
        """Expect images of this camera from now on; ``topic`` names them in errors.

        Steps carry the number ``epoch``: those of an older one are out of date.
        """
        self._maker, self._topic = FrameMaker(calibration, 'camera_info'), topic
        self._epoch = epoch

    def take(self, index: int, stamp_ns: int, image, name: str) -> None:
        """Feed one RGB image; raises InputError where it does not fit.

        A window that cannot be put into the map (a full disk) is told of as ``lost``: no step of
        it will come.
        """
        with self._stream.busy:
            frame = self._maker.make(index, stamp_ns, image, name)
            self._n_frames += 1
            try:
                self._stream.push(frame)
            except LongreconError as error:
                self._tell({'kind': 'lost', 'index': index, 'epoch': self._epoch,
                            'text': f'a window is lost: {error}'})

    def reset(self) -> str:
        """Forget the stream and the segments before it; a map that was loaded stays."""
        if self._base is not self._loaded:
            self._go_on(self._loaded, self._is_mapping)
            return 'begun anew'
        self._stream.reset()
        self._forget()
        return 'begun anew'

    def flush(self) -> str:
        """Process the images that wait for their window to fill, and wait for the last step."""
        self._is_flushing = True        # the last step has a cloud
        try:
            self._stream.flush()
        finally:
            self._is_flushing = False
        return 'done'

    def want(self, cloud: bool, tiles: bool, fresh: bool, metres_per_unit: float,
             up: Sequence[float]) -> None:
        """Say who listens: clouds, tiles and grids are made for somebody only.

        ``fresh``: somebody is new, and gets all there is; ``metres_per_unit`` above 0: a grid is
        wanted, too, with ``up`` (3,) in the axes of the first camera.
        """
        self._wants_cloud, self._wants_tiles, self._metres = cloud, tiles, metres_per_unit
        self._up = np.array(up, float)
        if fresh:
            # the other thread makes clouds and tiles, too
            self._stream.settle()
        if fresh and len(self._pipeline.mapper.atlas) and self._pipeline.voxel_m:
            if cloud:
                self._tell_cloud()
            if tiles:
                for tile in self._tiles.all(self._pipeline.mapper.atlas, self._pipeline.voxel_m):
                    self._tell(messages.tile_message(tile))
                self._tell_tiles()

    def save(self) -> str:
        """Write trajectory, map, figures and page; return one line that says so.

        Raises InputError when there is nothing to write, or the folder cannot be written.
        """
        trajectory = self._stream.trajectory()
        if not len(trajectory):
            raise InputError('there is nothing to save yet: send images')
        folder = Path(self._settings.save_folder).expanduser().absolute()
        truth, cloud = self._settings.groundtruth_file, self._stream.cloud()
        write_run(folder, RunRecord(
            source=self._settings.source or self._topic, config=self._config,
            n_frames=max(self._n_frames, len(trajectory)), trajectory=trajectory,
            states=self._stream.states(),
            cloud=cloud, odometry=self._stream.odometry(), loops=self._stream.loops(),
            saved_map=self._stream.saved_map() if self._is_mapping else None,
            statistics=self._recorder.statistics(),
            elapsed_s=self._stream.busy.total_s,
            is_metric=self._spec.scale == 'metric', is_untrained=self._stream.is_untrained,
            groundtruth=read_tum(truth) if truth else None,
            warnings=self._stream.caveats), force=True)
        return f'{len(trajectory)} poses and {len(cloud)} points in {folder}'

    def save_map(self, folder: str) -> str:
        """Write the map into a folder, to go on in later."""
        if not self._is_mapping:
            raise InputError('the map is as it was loaded: there is nothing to save in '
                             'localization')
        record, submap = self._stream.saved_map()
        if not record.poses:
            raise InputError('there is no map to save yet: send images')
        save_map(Path(folder), record, submap)
        return f'{len(record.poses)} submaps in {folder}'

    def check_map(self, folder: str) -> str:
        """Raise InputError where there is no map, or one that is damaged; else return ''."""
        load_map(Path(folder))
        return ''

    def load_map(self, folder: str) -> str:
        """Go on in a map from disk with a new stream; raises InputError where it is damaged."""
        record = self._loaded = load_map(Path(folder))
        self._go_on(record, self._is_mapping)
        return (f'{len(record.poses)} submaps of {folder}; '
                + ('mapping' if self._is_mapping else 'localization'))

    def set_localization(self, is_localization: bool) -> str:
        """Keep the map as it is from now on, or let it grow again; a new stream begins.

        Raises InputError where `check_localization` does.
        """
        base = self._base
        if is_localization:
            record, submap = self._map_to_localize_in()
            folder = Path(self._settings.folder) / 'current_map'
            save_map(folder, record, submap)
            base = self._loaded = load_map(folder)
        self._go_on(base, not is_localization)
        return 'localization' if is_localization else 'mapping'

    def check_localization(self, is_localization: bool) -> str:
        """Say why there is nothing to do for `set_localization`, or return ''.

        Raises InputError where there is no map.
        """
        if is_localization == (not self._is_mapping):
            return 'nothing to change'
        if is_localization:
            self._map_to_localize_in()
        return ''

    def _map_to_localize_in(self) -> Tuple[MapRecord, Callable[[int], Submap]]:
        record, submap = self._stream.saved_map()
        if not record.poses:
            raise InputError('there is no map to localize in: send images, or load one')
        return record, submap

    def segment(self) -> str:
        """Begin a new stream in the same map: the camera is not what it was."""
        record, submap = self._stream.saved_map()
        if not record.poses or not self._is_mapping:
            self._go_on(self._base, self._is_mapping)
            return 'begun anew'
        folder = Path(self._settings.folder) / 'current_map'
        save_map(folder, record, submap)
        self._go_on(load_map(folder), True)
        return 'a new session of the map'

    def warm_up(self) -> None:
        """Have the backbone see one window of noise, so that the first real one is not late."""
        self._pipeline.warm_up()

    def close(self) -> None:
        """End the work; the stream is over."""
        self._grid.wait()
        self._stream.close()
        self._pipeline.close()

    def _go_on(self, base: Optional[MapRecord], is_mapping: bool) -> None:
        self._stream.close()
        self._pipeline.close()
        self._base, self._is_mapping = base, is_mapping
        self._keep_mode()
        self._build(backbone=self._pipeline.backbone)

    def _take_update(self, update: Update) -> None:
        """Record one window and tell of it; runs in the thread that registers windows."""
        self._recorder.add(update)
        self._n_points += len(update.cloud)
        message = messages.step_message(update, self._pipeline.tail())
        mapper = self._pipeline.mapper
        message.update(epoch=self._epoch, map=self._map_figures())
        if mapper.n_bends != self._n_bends_told:
            self._n_bends_told = mapper.n_bends
            message['path'] = messages.path_of(mapper.trajectory(), self._settings.path_poses)
        now_s = time.monotonic()
        self._tell(message)
        if self._is_flushing or now_s - self._cloud_at >= self._settings.cloud_period_s:
            self._cloud_at = now_s
            if self._wants_cloud:
                self._tell_cloud()
            if self._wants_tiles and self._pipeline.voxel_m:
                self._tell_tiles()
            if self._metres:
                self._grid.ask(self._pipeline.mapper.atlas, self._metres, self._up)
        self._keep()

    def _tell_cloud(self) -> None:
        cloud = self._pipeline.cloud()
        self._tell({'kind': 'cloud', 'points': cloud.points, 'colors': cloud.colors})

    def _tell_tiles(self) -> None:
        changes = self._tiles.changes(self._pipeline.mapper.atlas, self._pipeline.voxel_m)
        for tile in changes.contents:
            self._tell(messages.tile_message(tile))
        self._tell(messages.tile_poses_message(changes.poses))

    def _keep(self) -> None:
        """Write a checkpoint if it is time: a small share of all time goes into them."""
        now_s = time.monotonic()
        if not self._is_mapping or now_s - self._saved_at < self._save_s / _CHECKPOINT_SHARE:
            return
        try:
            self._checkpointer.save(self._pipeline)
        except InputError as error:
            _log.warning('no checkpoint: %s', error)
        self._saved_at = time.monotonic()
        self._save_s = self._saved_at - now_s

    def _map_figures(self) -> Dict[str, Any]:
        mapper = self._pipeline.mapper
        status = mapper.atlas.status()
        return {'n_submaps': status.n_submaps, 'n_on_disk': status.n_on_disk,
                'n_points': self._n_points, 'n_tiles': len(self._tiles),
                'megabytes': status.n_bytes * 1e-6, 'n_closures': len(mapper.closures),
                'is_located': mapper.is_located}


def _folder_of(record: Optional[MapRecord]) -> Optional[str]:
    """Return the folder that a map was loaded from."""
    files = () if record is None else tuple(record.files.values())
    return str(files[0].parent) if files else None


def smaller(config: Config, share: float) -> Config:
    """Return the configuration with windows of about ``share`` the size, for less memory."""
    window = config.window
    size = max(2, min(window.size - 1, round(window.size * share)))
    overlap = min(size - 1, max(1 if window.overlap else 0, round(window.overlap * share)))
    return replace(config, window=replace(window, size=size, overlap=overlap))
