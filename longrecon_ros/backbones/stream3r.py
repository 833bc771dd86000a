"""``stream3r``: VGGT that takes frames one by one and remembers, by a network; needs weights.

STream3R (arXiv 2508.10893, 2025; `nets.stream3r`). All poses are relative to the first frame of
the stream, in one scale: windows need no overlap and no alignment, and only say how many frames
are handed over at once. ``window.size: 2, window.overlap: 1`` gives a pose for every frame as it
comes. Modes:

* ``window``: a frame sees the first one, the last ``n_recent`` ones and itself. Memory and time a
  frame stay the same for ever. (Of the original's two forms this is that of its session.)
* ``causal``: a frame sees all before it, as in training. Memory and time grow with every frame;
  ``max_frames`` is the end of the stream.
* ``full``: all frames of a window see each other. That is no stream: each window has a frame and a
  scale of its own, and they are aligned by their overlap, as those of ``vggt``, whose net it is.

Points are depth along the rays of the camera, as for ``vggt``: the net's own world points are not
used, since in training they had a scale of their own, which that of the poses does not share.

A frame without content (black, washed out) does not reach the net, and one whose camera is not
finite is not remembered; both are LOST and repeat the pose before.
"""

from dataclasses import dataclass, replace
from functools import partial
import logging
from pathlib import Path
from typing import Any, List, Literal, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from ..errors import InputError
from ..types import FrameState, Prediction, Window
from ._blank import is_blank
from ._encodings import ENCODING
from ._network_config import Definition, feedforward, NetworkConfig, PATCH, TINY
from .base import Backbone, BackboneSpec, WeightsFile

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stream3rConfig(NetworkConfig):
    """Parameters of the ``stream3r`` backbone; ``config/default.yaml`` explains them."""

    max_side_px: int = 518
    mode: Literal['window', 'causal', 'full'] = 'window'
    n_recent: int = 5
    max_frames: int = 200
    cuda_graph: bool = True

    def __post_init__(self):
        NetworkConfig.__post_init__(self)
        for name in ('n_recent', 'max_frames'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name}: expected 1 or more, got {getattr(self, name)}')
        if self.graphs:
            raise ValueError('graphs: exported graphs have no place for a memory yet; leave it '
                             'empty')
        if self.compile != 'off' and self.mode != 'full':
            raise ValueError('compile: what is compiled has no place for a memory yet; leave it '
                             'off, or choose mode full')

    def limits(self, spec: BackboneSpec) -> BackboneSpec:
        """Return the spec of a backbone with its limits of images, and what the mode makes it."""
        spec = NetworkConfig.limits(self, spec)
        if self.mode == 'full':
            spec = replace(spec, gauge='window', feed='all', align='sim3', layerwise=True)
        return spec


class StreamState(NamedTuple):
    """What a stream leaves for its next window; the cache is written to."""

    cache: Any                              # nets.kv_cache.KvCache
    T: np.ndarray = np.eye(4)               # T_window_camera of the last frame that has one
    encoding: Optional[np.ndarray] = None   # (9,) of that frame


class Stream3rBackbone(Backbone):
    """Reconstruction of a stream by STream3R; see the module's docstring."""

    spec = BackboneSpec(
        name='stream3r', patch=PATCH, max_pixels=None, max_side=518, gauge='stream',
        scale='relative', feed='new', align='identity', enlarge=True, interpolation='bicubic',
        weights=(WeightsFile('stream3r', 'yslan/STream3R', 'model.safetensors', 4_762_500_000,
                             'S-Lab License 1.0 (non-commercial)',
                             'S-Lab License 1.0 (non-commercial)'),))
    Config = Stream3rConfig
    tiny = TINY

    def __init__(self, config: Stream3rConfig = Stream3rConfig()):
        self.spec = config.limits(self.spec)
        self._config = config
        self._nets = feedforward(self.spec.name)
        self._network = self._nets.Network(self.spec, config, _definition(config.size), _lighten,
                                           partial(_recorded, config))
        self.is_untrained = self._network.is_untrained

    def init(self) -> Any:
        """Return the state of a stream that has seen nothing."""
        if self._config.mode == 'full':
            return self._nets.Memory()
        from ..nets.kv_cache import KvCache
        if self._config.mode == 'window':
            return StreamState(KvCache(n_recent=self._config.n_recent))
        return StreamState(KvCache(max_frames=self._config.max_frames))

    def step(self, state: Any, window: Window) -> Tuple[Any, Prediction]:
        """Predict the frames of a window one by one; the cache of ``state`` is written to.

        Raises InputError in mode ``causal`` for a frame more than ``max_frames``.
        """
        if self._config.mode == 'full':
            memory, result = self._network.run(state, window)
            prediction = self._nets.from_encodings(window, *self._nets.measured(result),
                                                   self._config.pinhole)
            return memory, self._network.describe(prediction)
        good = [not is_blank(frame.image) for frame in window.frames]
        self._check_room(state.cache, sum(good), window)
        width, height = window.frames[0].size
        encoding = np.full((len(good), ENCODING), np.nan, np.float32)
        depth, confidence = np.zeros((2, len(good), height, width), np.float32)
        for i, found in zip(np.flatnonzero(good), self._stream(state.cache, window, good)):
            encoding[i], depth[i], confidence[i] = found
        return self._carried(state, window, encoding, depth, confidence)

    def _check_room(self, cache: Any, n_new: int, window: Window) -> None:
        most = self._config.max_frames
        if self._config.mode == 'causal' and cache.n_frames + n_new > most:
            raise InputError(f'{self.spec.name}.max_frames: the stream remembers '
                             f'{cache.n_frames} frames and would pass {most} with those from '
                             f'{window.frame_ids[0]} to {window.frame_ids[-1]}; set it higher '
                             f'where there is memory, or {self.spec.name}.mode to window')

    def _stream(self, cache: Any, window: Window, good: List[bool]):
        """Yield encoding (9,), depth and confidence (H, W) of each good frame; keep it in mind."""
        if not any(good):
            return
        seen = replace(window, frames=tuple(f for f, is_good in zip(window.frames, good)
                                            if is_good), n_overlap=0)
        for frame, result in zip(seen.frames, self._network.frame_by_frame(seen, cache)):
            encoding, depth, confidence = (part[0] for part in self._nets.measured(result))
            # what is not finite in any layer is not finite here: all tokens look at each other
            if np.isfinite(encoding).all():
                cache.advance()
            else:
                _log.warning('%s: frame %d gave numbers that are not finite; it is not '
                             'remembered', self.spec.name, frame.index)
            yield encoding, depth, confidence

    def _carried(self, state: StreamState, window: Window, encoding: np.ndarray,
                 *maps: np.ndarray) -> Tuple[StreamState, Prediction]:
        """Return the next state and the prediction, in which LOST frames repeat the pose before.

        They repeat the camera, too. Before the first frame that has a pose, that is the identity.
        """
        cameras, last = np.array(encoding), state.encoding
        for i, values in enumerate(encoding):
            last = values if np.isfinite(values).all() else last
            cameras[i] = encoding[i] if last is None else last
        prediction = self._nets.from_encodings(window, encoding, *maps, self._config.pinhole,
                                               cameras)
        T, lost = np.array(prediction.T_window_camera), prediction.states == FrameState.LOST
        before = state.T
        for i in range(len(T)):
            T[i] = before if lost[i] else T[i]
            before = T[i]
        return (StreamState(state.cache, before.copy(), last),
                self._network.describe(replace(prediction, T_window_camera=T)))

    def state_figures(self, state: Any) -> Mapping[str, float]:
        """Return the size of the cache, and how many frames it holds."""
        if self._config.mode == 'full':
            return {}
        return {'state MB': state.cache.n_bytes / 1e6, 'cached frames': len(state.cache.frames)}

    @classmethod
    def check_weights(cls, path: Path) -> None:
        """Raise WeightsError unless a file holds all tensors of the net, and none besides."""
        feedforward(cls.spec.name).check_weights(_definition('large'), path, cls.spec.name)


def _lighten(net: Any, _policy: Any) -> None:
    """Free the weights of the head of world points, which is not used."""
    del net.point_head


def _recorded(config: Stream3rConfig, runtime: Any) -> Any:
    """Return the runtime that replays a graph where there can be one."""
    if not config.cuda_graph or config.mode != 'window' or runtime.device.type != 'cuda':
        return runtime
    from ..nets.recording import RecordedRuntime
    return RecordedRuntime(runtime)


def _definition(size: str) -> Definition:
    from ..nets import stream3r, vggt
    make = partial(stream3r.Stream3rNet, vggt.TINY if size == 'tiny' else vggt.LARGE)
    return Definition(make, vggt.VggtOutput)


BACKBONE = Stream3rBackbone
