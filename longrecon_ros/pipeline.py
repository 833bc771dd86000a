"""From images to odometry and a cloud: the story of the package in one synchronous class."""

from dataclasses import dataclass, replace
from pathlib import Path
import threading
import time
from typing import Callable, Iterable, Iterator, Mapping, Optional, Sequence, Tuple

import numpy as np

from . import backbones
from .alignment import LayerwiseConfig, make_aligner
from .alignment.base import Aligner
from .alignment.bridging import median_depth
from .alignment.intrinsics import SharedIntrinsics
from .alignment.links import LinkStatistics
from .alignment.uncertainty import TURN_SHARE
from .backbones.base import Backbone, BackboneSpec, LockstepBackbone, Work
from .chain import Chain
from .checkpoint import Checkpoint, Resume
from .config import build, Config, MapConfig, WindowConfig
from .errors import ConfigError, InputError
from .loop.settings import LoopConfig
from .map_store import MapRecord
from .mapper import fuse, Mapper
from .mapping.voxel_map import VoxelMap
from .preprocess import Preprocessor
from .spool import FrameSpool
from .tail import Tail
from .types import Frame, PointCloud, Prediction, Trajectory, Update, Window
from .windowing import Windower


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """A window and what the backbone says of it, before it is put into odom."""

    window: Window
    prediction: Prediction
    timings_ms: Mapping[str, float]         # preprocess, backbone
    start_s: float                          # of the stream, on the clock of time.perf_counter
    span_s: Tuple[float, float]             # of the backbone's step, since the stream's start


class Pipeline:
    """Takes frames, gives updates; deterministic, and without threads of its own.

    `push` is `infer`, which turns frames into predictions, and then `register`, which puts these
    into odom and the map. Each half has its own state: two threads may be inside at once, one in
    each, if the windows keep their order; `reset` and the results need both halves at rest.

    odom is the frame of the first camera, in the units of the first window that has any; the map
    begins there, and closures move it over odom. Every frame gets a pose, also where the camera
    is lost. Memory is bounded but for these poses and a few kilobytes a window.

    With ``resume`` it goes on in a stream that another process began: the frames of the tail are
    to be given again, as they were, and then those after them. ``entry`` is for `Chain`.
    """

    def __init__(self, backbone: Backbone, aligner: Aligner, window: WindowConfig,
                 map: MapConfig, loop: LoopConfig, layerwise: Optional[LayerwiseConfig] = None,
                 is_live: bool = False, base: Optional[MapRecord] = None,
                 is_mapping: bool = True, resume: Optional[Resume] = None,
                 entry: Optional[Aligner] = None):
        self._base, self._is_mapping, self._entry = base, is_mapping, entry
        self._backbone, self._aligner, self._layerwise = backbone, aligner, layerwise
        self._window_config, self._map_config, self._loop_config = window, map, loop
        self._use_loop_thread = (is_live if loop.use_thread == 'auto'
                                 else loop.use_thread == 'always')
        self._mapper: Optional[Mapper] = None
        self._one_step = threading.Lock()   # the backbone takes one window at a time
        self._start(resume)

    @classmethod
    def from_config(cls, config: Config, is_live: bool = False,
                    base: Optional[MapRecord] = None, is_mapping: bool = True,
                    resume: Optional[Resume] = None,
                    backbone: Optional[Backbone] = None) -> 'Pipeline':
        """Build the backbone and all stages; ConfigError where parameters contradict.

        With ``is_live`` closures are searched in a thread beside the stream
        (``loop.use_thread: auto``). ``base`` is a map to go on in, which stays as it is unless
        ``is_mapping``; a checkpoint in ``resume`` holds it already. ``backbone`` is one that was
        built from the same configuration, to be used again.
        """
        Chosen = backbones.load(config.backbone)
        backbone = backbone or Chosen(build(Chosen.Config, config.backbone_options))
        align = backbone.spec.align if config.align == 'auto' else config.align
        layerwise = _layerwise(build(LayerwiseConfig, config.layerwise), backbone.spec, align)
        _check_chain(backbone.spec, align, config.window)
        loop = build(LoopConfig, config.loop)
        if loop.use_window and not (backbone.spec.weights or backbone.spec.weights_note):
            raise ConfigError(f'loop.use_window: {config.backbone} is no network that could see '
                              'two places in one window; set it to false')
        return cls(backbone, make_aligner(align, layerwise), config.window, config.map,
                   loop, layerwise, is_live, base, is_mapping, resume,
                   _entry(backbone.spec, align))

    def reset(self) -> None:
        """Forget everything: the next frame begins a new stream."""
        self._start(None)

    def _start(self, resume: Optional[Resume]) -> None:
        spec, tail = self._backbone.spec, resume.tail if resume else None
        # of infer
        self._prepare = Preprocessor.of(spec)
        seen = (tail.n_windows, tail.prediction.frame_ids.tolist()) if tail else ()
        self._windower = Windower(self._window_config.size, self._window_config.overlap,
                                  spec.feed, *seen)
        self._state = self._backbone.init()
        self._last_frame: Optional[Frame] = None
        self._start_s: Optional[float] = None
        self._preprocess_ms = 0.0
        self._caveats: Tuple[str, ...] = ()
        # of register
        layerwise, intrinsics = self._layerwise, None
        if layerwise is not None and layerwise.shared_intrinsics:
            intrinsics = SharedIntrinsics(layerwise.faithful)
        # the truth comes with the true intrinsics
        self._chain = Chain(self._aligner, spec.gauge, intrinsics, tail, self._entry,
                            0.0 if spec.needs_truth else TURN_SHARE)
        if self._mapper is not None:
            self._mapper.close()
        self._mapper = Mapper(self._map_config, self._loop_config, self._use_loop_thread,
                              self._base, self._is_mapping,
                              self._predict_pair if self._loop_config.use_window else None,
                              resume)
        self._voxel_m = (self._map_config.voxel_m or (self._base.voxel_m if self._base else 0.0)
                         or (tail.voxel_m if tail else 0.0))
        self._voxels: Optional[VoxelMap] = None     # of the first submaps, until the map is bent
        self._voxels_bend = self._n_fused = 0

    @property
    def backbone(self) -> Backbone:
        """What predicts; it may be given to another pipeline when this one is closed."""
        return self._backbone

    @property
    def voxel_m(self) -> float:
        """Edge of the cloud's voxels, odom units; 0 before the first window with depth."""
        return self._voxel_m

    def warm_up(self, width: int = 640, height: int = 480) -> None:
        """Have the backbone see a window of noise, so that the first real one takes no longer."""
        rng = np.random.default_rng(0)
        prepare = Preprocessor.of(self._backbone.spec)
        frames = tuple(prepare(Frame(i, i, rng.integers(0, 255, (height, width, 3), np.uint8)))
                       for i in range(self._window_config.size))
        self._predict_pair(frames)

    @property
    def is_untrained(self) -> bool:
        """True when predictions come from a net with random weights: results must say so."""
        return self._backbone.is_untrained

    @property
    def caveats(self) -> Tuple[str, ...]:
        """Sentences that readers of the results must know about how they came about."""
        return self._caveats

    def state_figures(self) -> Mapping[str, float]:
        """Return what the backbone says of its state (`Backbone.state_figures`)."""
        return self._backbone.state_figures(self._state)

    @property
    def links(self) -> LinkStatistics:
        """Counts of windows, and statistics of the links' log scales."""
        return self._chain.links

    def push(self, frame: Frame) -> Optional[Update]:
        """Take one frame; return what its window adds when that is complete, else None.

        Raises what `infer` raises.
        """
        inferred = self.infer(frame)
        return None if inferred is None else self.register(inferred)

    def flush(self) -> Optional[Update]:
        """Process the frames that no window had yet; None when there are none."""
        inferred = self.infer_rest()
        return None if inferred is None else self.register(inferred)

    def infer(self, frame: Frame) -> Optional[Inferred]:
        """Take one frame; return its window with the prediction when that is complete, else None.

        Raises InputError for a frame of another size or with an earlier stamp than those before,
        ValueError for an index that does not rise.
        """
        window = self._windower.push(self._prepared(frame))
        return None if window is None else self._step(window)

    def infer_rest(self) -> Optional[Inferred]:
        """Predict the frames that no window had yet; None when there are none."""
        window = self._windower.flush()
        return None if window is None else self._step(window)

    @property
    def needs_all(self) -> bool:
        """True when offline runs should go through `infer_all`: the backbone needs all windows."""
        return isinstance(self._backbone, LockstepBackbone) and self._backbone.is_offline_exact

    def infer_all(self, frames: Iterable[Frame], folder: Path,
                  tell: Callable[[int, int], None] = lambda done, of: None) -> Iterator[Inferred]:
        """Take a whole recording; yield its windows with predictions that know all of it.

        For backbones that need all windows (`needs_all`). ``folder`` gets the images and what has
        been reached, from where an interrupted run goes on (`LockstepBackbone.predict_all`);
        ``tell`` is told how many steps of the backbone are done, and of how many. Raises what
        `infer` raises, and what the backbone raises.
        """
        with FrameSpool(folder / 'frames.rgb') as spool:
            for frame in frames:
                spool.add(self._prepared(frame))
            windows = [window for window in map(self._windower.push, spool.frames()) if window]
            windows += [window for window in [self._windower.flush()] if window]
            work = Work(folder, spool.digest(), tell)
        start_s = time.perf_counter()
        predictions = self._backbone.predict_all(windows, work)
        # in this order: the backbone may have something to finish after the last prediction
        for prediction, window in zip(predictions, windows):
            end_s = time.perf_counter()
            yield self._inferred(window, prediction, start_s, end_s)
            start_s = time.perf_counter()

    def register(self, inferred: Inferred) -> Update:
        """Put a window into odom and the map; the windows of `infer` in their order, each once."""
        window, start_s = inferred.window, time.perf_counter()
        link = self._chain.add(window, inferred.prediction)
        aligned, middle_s = link.aligned, time.perf_counter()
        mapped = self._mapper.add(window, link)
        if not self._voxel_m and len(mapped.cloud):
            self._voxel_m = self._map_config.voxel_per_depth * median_depth(aligned)
        end_s = time.perf_counter()
        timings_ms = {**inferred.timings_ms, 'align': 1e3 * (middle_s - start_s),
                      'map': 1e3 * (end_s - middle_s) - mapped.inline_ms,
                      'loop': mapped.loop_ms}
        spans_s = {'backbone': inferred.span_s,
                   'register': (start_s - inferred.start_s, end_s - inferred.start_s)}
        new = slice(window.n_overlap, None)
        return Update(aligned.frame_ids[new], window.stamps_ns[new], aligned.T_window_camera[new],
                      aligned.states[new], mapped.T_map_odom, mapped.cloud, aligned, link.linked,
                      link.log_scale, timings_ms, spans_s, mapped.closures, link.covariance)

    @property
    def mapper(self) -> Mapper:
        """The map of the stream so far; with registration at rest."""
        return self._mapper

    def trajectory(self) -> Trajectory:
        """Return a pose in the map for every frame of the windows so far.

        Each is revised by later windows, and by closures, for which this waits.
        """
        self._mapper.wait()
        return self._mapper.trajectory()

    def odometry(self) -> Trajectory:
        """Return a pose in odom for every frame of the windows so far; no closure changes it."""
        return self._mapper.poses.trajectory()

    def loops(self) -> np.ndarray:
        """Return the rows (L, 2) i64 of `trajectory` that closures of this stream tie."""
        self._mapper.wait()
        return self._mapper.loop_rows()

    def map_record(self) -> MapRecord:
        """Return the whole map but for its submaps, which are in ``mapper.atlas``."""
        spec = self._backbone.spec
        return self._mapper.record(
            self._voxel_m, scale=spec.scale, is_simulated=spec.needs_truth,
            is_untrained=self._backbone.is_untrained, about={'backbone': spec.name})

    def tail(self) -> Optional[Tail]:
        """Return the end of the stream, to be kept outside the process; None at its beginning.

        It holds the frames that the next window shares with the last one, one at least. With
        registration at rest.
        """
        tail = self._chain.tail(max(1, self._window_config.overlap))
        return tail and replace(tail, voxel_m=self._voxel_m, T_map_odom=self._mapper.T_map_odom,
                                is_located=self._mapper.is_located)

    def checkpoint(self) -> Optional[Checkpoint]:
        """Return the state of the map, for a `Checkpointer`; None before the first window."""
        tail = self._chain.tail(1)
        return tail and self._mapper.checkpoint(self.map_record(), tail.first_stamp_ns)

    def close(self) -> None:
        """Let go of threads and of what the map has on disk; results are gone then."""
        self._mapper.close()

    def states(self) -> np.ndarray:
        """Return the FrameState (K,) uint8 of each pose of `trajectory`."""
        return self._mapper.poses.states()

    def cloud(self) -> PointCloud:
        """Return the bounded cloud in the map: all submaps where they lie now, fused."""
        self._mapper.wait()
        if not self._voxel_m:
            return PointCloud.empty()
        atlas = self._mapper.atlas
        if self._voxels is None or self._voxels_bend != self._mapper.n_bends:
            self._voxels, self._n_fused = VoxelMap(self._voxel_m, self._map_config.max_points), 0
            self._voxels_bend = self._mapper.n_bends
        fuse(atlas, self._voxels, self._n_fused, self._map_config.remove_contradicted)
        self._n_fused = len(atlas)
        return self._voxels.cloud()

    def _prepared(self, frame: Frame) -> Frame:
        """Return the next frame of the stream as the backbone takes it."""
        self._check_order(frame)
        start_s = time.perf_counter()
        prepared = self._prepare(frame)
        self._preprocess_ms += 1e3 * (time.perf_counter() - start_s)
        self._last_frame = frame
        if self._start_s is None:
            self._start_s = start_s
        return prepared

    def _predict_pair(self, frames: Sequence[Frame]) -> Prediction:
        """Return what the backbone says of images of their own, beside the stream."""
        with self._one_step:
            return self._backbone.step(self._backbone.init(), Window(0, tuple(frames), 0))[1]

    def _step(self, window: Window) -> Inferred:
        start_s = time.perf_counter()
        with self._one_step:
            self._state, prediction = self._backbone.step(self._state, window)
        if isinstance(self._backbone, LockstepBackbone):
            self._caveats = (self._backbone.step_caveat,)
        return self._inferred(window, prediction, start_s, time.perf_counter())

    def _inferred(self, window: Window, prediction: Prediction, start_s: float,
                  end_s: float) -> Inferred:
        if not np.array_equal(prediction.frame_ids, window.frame_ids):
            raise ValueError(f'{self._backbone.spec.name}: the prediction must hold the frames of '
                             f'window {window.index}, got {prediction.frame_ids}')
        timings_ms = {'preprocess': self._preprocess_ms, 'backbone': 1e3 * (end_s - start_s)}
        self._preprocess_ms = 0.0
        return Inferred(window, prediction, timings_ms, self._start_s,
                        (start_s - self._start_s, end_s - self._start_s))

    def _check_order(self, frame: Frame) -> None:
        last = self._last_frame
        if last is None:
            return
        if frame.index <= last.index:
            raise ValueError(f'frame.index: must rise, got {frame.index} after {last.index}')
        if frame.stamp_ns < last.stamp_ns:
            raise InputError(f'frame {frame.index}: its stamp {frame.stamp_ns} ns is before '
                             f'{last.stamp_ns} ns of frame {last.index}; sort the frames by time, '
                             'or reset before a new stream')


def _layerwise(config: LayerwiseConfig, spec: BackboneSpec,
               align: str) -> Optional[LayerwiseConfig]:
    """Return the layer-wise alignment to use, None for none; ConfigError where there is none."""
    if align == 'identity':
        if config.use == 'always':
            raise ConfigError(f'layerwise.use: {spec.name} chains windows by identity, so there '
                              'is nothing to add layers to; use auto')
        return None
    is_used = spec.layerwise if config.use == 'auto' else config.use == 'always'
    return config if is_used else None


def _check_chain(spec: BackboneSpec, align: str, window: WindowConfig) -> None:
    """Refuse an aligner that cannot chain the windows of this backbone."""
    if align == 'identity':
        if spec.gauge != 'stream':
            raise ConfigError(f'align: {spec.name} gives each window its own frame, which '
                              'identity cannot chain; use auto')
    elif spec.feed == 'new':
        raise ConfigError(f'align: {spec.name} sees every frame once, so there is no overlap for '
                          f'{align}; use auto')
    elif window.overlap == 0:
        raise ConfigError(f'window.overlap: {align} needs shared frames; set it above 0')


def _entry(spec: BackboneSpec, align: str) -> Optional[Aligner]:
    """Return what ties a backbone that starts anew to the stream; None: the aligner does it."""
    if spec.gauge == 'stream':
        return make_aligner('sim3_points')
    # these trust in one scale, which a memory that was lost had fixed
    return make_aligner('sim3') if align.startswith('se3') and spec.scale == 'relative' else None
