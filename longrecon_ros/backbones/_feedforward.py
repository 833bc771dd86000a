"""A network inside a backbone: its weights, its images, and the tokens it need not make twice."""

from dataclasses import replace
import logging
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import nn, Tensor

from ..alignment.intrinsics import common_K
from ..errors import ConfigError, MissingDependency
from ..geometry import se3
from ..geometry.camera import pointmap_from_depth
from ..nets.policy import choose, fill_randomly, n_bytes, Policy
from ..nets.runtime import GraphRuntime, Manifest, Runtime, TorchRuntime
from ..types import FrameState, Prediction, Window
from . import _checkpoint, _weights
from ._encodings import intrinsics, poses
from ._network_config import Definition, NetworkConfig, RANDOM
from .base import BackboneSpec

_log = logging.getLogger(__name__)


def check_weights(definition: Definition, path: Path, name: str) -> None:
    """Raise WeightsError unless a file holds the weights of the net of the backbone ``name``."""
    _checkpoint.check(definition, path, name)


class Memory(NamedTuple):
    """State of a stream: the tokens of the last window's frames, and the K found at its start."""

    tokens: Mapping[int, Tensor] = MappingProxyType({})     # by frame id, on the net's device
    K: Optional[np.ndarray] = None          # (3, 3) px at network size


class Network:
    """A net that is ready to run, for one backbone.

    ``prepare`` gets it once it has its weights; ``wrap`` may put another runtime around that of
    torch. Raises WeightsError, ConfigError and MissingDependency.
    """

    def __init__(self, spec: BackboneSpec, config: NetworkConfig, definition: Definition,
                 prepare: Callable[[nn.Module, Policy], None] = lambda net, policy: None,
                 wrap: Callable[[TorchRuntime], Runtime] = lambda runtime: runtime):
        self._spec, self._config, self._definition = spec, config, definition
        self._prepare, self._wrap = prepare, wrap
        self.is_untrained = config.weights == RANDOM
        self._fixed: Optional[Manifest] = None
        self._last: Mapping[int, Tensor] = {}   # tokens of the last window, by frame id
        self.net: Optional[nn.Module] = None    # None where exported graphs run instead
        try:
            self._policy = choose(config.device, config.precision)
        except ValueError as error:
            raise ConfigError(f'{spec.name}.{error}') from None
        self._runtime: Runtime = self._graphs() if config.graphs else self._torch()

    @property
    def policy(self) -> Policy:
        """Where the net is, and in which types."""
        return self._policy

    def export_net(self) -> Tuple[nn.Module, str]:
        """Return a copy of the net in float32 on the CPU, and a text that says of its weights."""
        return self._build(choose('cpu', 'float32'))

    def _build(self, policy: Policy) -> Tuple[nn.Module, str]:
        """Return a net with its weights in place, and a text that says which they are."""
        if self.is_untrained:
            net = _checkpoint.without_memory(self._definition.make)
            return fill_randomly(net, policy), 'random numbers, UNTRAINED: results mean nothing'
        path, published = _weights.locate(self._spec, self._config.weights)
        net = _checkpoint.load(self._definition, path, policy, self._spec.name)
        licence = f'licence {published.licence}' if published else 'licence not known'
        return net, f'{path}, {licence}'

    def run(self, memory: Memory, window: Window, *state: Any) -> Tuple[Memory, Any]:
        """Return the memory after a window, and the net's result for it, on the device.

        Frames that the memory has tokens of are not encoded again. ``state`` is what else the net
        wants to decode the window.
        """
        width, height = window.frames[0].size
        self._check_fixed(len(window.frames), width, height)
        try:
            tokens = self._encode(memory.tokens, window)
            result = self._runtime.decode(torch.stack(list(tokens.values())), (height, width),
                                          *state)
        except torch.cuda.OutOfMemoryError:
            raise self.too_little_memory(window, 'window.size') from None
        return memory._replace(tokens=tokens if self._config.reuse_tokens else {}), result

    def encode(self, window: Window) -> Tensor:
        """Return the tokens of all frames of a window, (N, h w, C), on the device."""
        return torch.stack(list(self._encode({}, window).values()))

    def frame_by_frame(self, window: Window, *state: Any) -> Iterator[Any]:
        """Yield the net's result for each frame, on the device, where the next one may replace it.

        All frames are encoded at once. ``state`` is what else the net wants to decode a frame.
        """
        width, height = window.frames[0].size
        try:
            for tokens in self._encode({}, window).values():
                yield self._runtime.decode(tokens[None], (height, width), *state)
        except torch.cuda.OutOfMemoryError:
            raise self.too_little_memory(window, 'how many are remembered') from None

    def too_little_memory(self, window: Window, what: str) -> ConfigError:
        """Return the error for a window too much for the device; less of ``what`` helps."""
        width, height = window.frames[0].size
        return ConfigError(f'{self._spec.name}: the device has too little memory for windows of '
                           f'{len(window.frames)} frames of {width}x{height} px; lower '
                           f'{what} or {self._spec.name}.max_pixels')

    def _check_fixed(self, n: int, width: int, height: int) -> None:
        """Refuse what exported graphs were not made for."""
        m = self._fixed
        if m is not None and (n > m.frames or (width, height) != (m.width, m.height)):
            raise ConfigError(f'{self._spec.name}.graphs: they are for windows of {m.frames} '
                              f'frames of {m.width}x{m.height} px, this one has {n} of '
                              f'{width}x{height}; export others, or change window.size and '
                              f'{self._spec.name}.max_pixels')

    def _encode(self, known: Mapping[int, Tensor], window: Window) -> Mapping[int, Tensor]:
        """Return the tokens of the frames of a window, by frame id, in their order."""
        new = [frame for frame in window.frames if frame.index not in known]
        tokens = dict(known)
        if new:
            images = torch.from_numpy(np.stack([frame.image for frame in new]))
            tokens.update(zip([frame.index for frame in new], self._runtime.encode(images)))
        self._last = {frame.index: tokens[frame.index] for frame in window.frames}
        return self._last

    def describe(self, prediction: Prediction) -> Prediction:
        """Return a prediction of the last window with descriptions of its images.

        They are the means of the encoder's patch tokens; NaN for frames that did not reach it.
        """
        known = {i: t for i, t in self._last.items() if t.ndim == 2}
        if not known:
            return prediction               # graphs without an encoder of their own
        means, = to_host(torch.stack([t.mean(dim=0, dtype=torch.float32)
                                      for t in known.values()]))
        rows = dict(zip(known, means))
        nothing = np.full(means.shape[1], np.nan, np.float32)
        return replace(prediction, tokens=np.stack([
            rows.get(i, nothing) for i in prediction.frame_ids.tolist()]))

    def _torch(self) -> Runtime:
        net, weights = self._build(self._policy)
        self.net = net
        self._prepare(net, self._policy)
        mode = '' if self._config.compile == 'off' else self._config.compile
        say = _log.warning if self.is_untrained else _log.info
        say('%s: weights %s; %s on %s, %.2f GB', self._spec.name, weights,
            str(self._policy.dtype).removeprefix('torch.'), self._policy.device,
            n_bytes(net) / 1e9)
        return self._wrap(TorchRuntime(net, self._policy, mode))

    def _graphs(self) -> Runtime:
        folder = Path(self._config.graphs).expanduser()
        try:
            runtime = GraphRuntime(folder, self._definition.output)
        except ImportError as error:
            raise MissingDependency(f'{self._spec.name}.graphs: {error.name} is not installed: '
                                    f'pip install {error.name}') from None
        except (OSError, ValueError) as error:
            raise ConfigError(f'{self._spec.name}.graphs: {folder} holds no exported graphs '
                              f'({error}); make them with "longrecon export onnx"') from None
        self._fixed, self.is_untrained = runtime.manifest, runtime.manifest.is_untrained
        if runtime.manifest.backbone != self._spec.name:
            raise ConfigError(f'{self._spec.name}.graphs: {folder} is of backbone '
                              f'{runtime.manifest.backbone}; choose that, or other graphs')
        _log.log(logging.WARNING if self.is_untrained else logging.INFO, '%s: graphs of %s%s',
                 self._spec.name, folder, ', UNTRAINED: results mean nothing'
                 if self.is_untrained else '')
        return runtime


def from_pointmaps(memory: Memory, window: Window, result: NamedTuple,
                   use_pinhole: bool) -> Tuple[Memory, Prediction]:
    """Return the prediction of a net that gives a pointmap and a confidence logit a pixel (pi3).

    With ``use_pinhole`` only depth is kept: points lie on the rays of the calibration, or else of
    the K that fits the first window best, which the memory keeps. Without, or where nothing fits,
    they stay as the net gives them, and there is no K.
    """
    points, K = result.local_points[0], window.frames[0].K
    T, confidence = to_host(result.T_world_camera[0], result.confidence[0, ..., 0].sigmoid())
    if K is None:
        K = memory.K
    if use_pinhole and K is None:
        K = common_K(assemble(window, T, *to_host(points), confidence))
        memory = memory._replace(K=K)
    if not use_pinhole or K is None:
        return memory, assemble(window, T, *to_host(points), confidence)
    depth, = to_host(points[..., 2])
    return memory, assemble(window, T, pointmap_from_depth(depth, K), confidence, K)


def measured(result: NamedTuple) -> List[np.ndarray]:
    """Return encoding (N, 9), depth and confidence (N, H, W) of a result of VGGT or its kin."""
    return to_host(result.encoding[0], result.depth[0, ..., 0],
                   1 - 1 / result.depth_confidence[0])


def from_encodings(window: Window, encoding: np.ndarray, depth: np.ndarray,
                   confidence: np.ndarray, use_calibration: bool,
                   cameras: Optional[np.ndarray] = None) -> Prediction:
    """Return the prediction of a net that gives depths and encodings of cameras (`_encodings`).

    Points lie on the rays of the calibration, where there is one and ``use_calibration``; else of
    the field of view in ``cameras`` (N, 9), which are the encodings unless given.
    """
    K = window.frames[0].K
    if K is None or not use_calibration:
        K = intrinsics(encoding if cameras is None else cameras, window.frames[0].size)
    return assemble(window, poses(encoding), pointmap_from_depth(depth, K), confidence, K)


def assemble(window: Window, T_window_camera: np.ndarray, points: np.ndarray,
             confidence: np.ndarray, K: Optional[np.ndarray] = None) -> Prediction:
    """Return the prediction of a window of N frames of h x w px.

    T_window_camera (N, 4, 4), camera-frame points (N, h, w, 3), confidence (N, h, w), K (3, 3) or
    (N, 3, 3) px, whose rays the points lie on. What is not finite or not in front of the camera
    gets confidence 0; a frame whose pose is not finite is LOST.
    """
    lost = ~np.isfinite(T_window_camera).all(axis=(1, 2))
    T = np.where(lost[:, None, None], np.eye(4), T_window_camera.astype(np.float64))
    T[:, :3, :3] = se3.nearest_rotation(T[:, :3, :3])
    is_good = np.isfinite(points).all(axis=-1) & (points[..., 2] > 0) & np.isfinite(confidence)
    is_good &= ~lost[:, None, None]
    points = np.where(is_good[..., None], points, np.float32([0, 0, 1]))
    return Prediction(window.frame_ids, T, points, np.where(is_good, confidence, 0),
                      np.stack([frame.image for frame in window.frames]),
                      None if K is None else np.broadcast_to(K, (len(T), 3, 3)),
                      np.where(lost, FrameState.LOST, FrameState.TRACKED))


def all_lost(window: Window) -> Prediction:
    """Return what can be said of a window that gave nothing: all its frames are LOST."""
    width, height = window.frames[0].size
    n, shape = len(window.frames), (len(window.frames), height, width)
    return assemble(window, np.full((n, 4, 4), np.nan), np.ones((*shape, 3), np.float32),
                    np.zeros(shape, np.float32))


def with_lost(prediction: Prediction, window: Window) -> Prediction:
    """Return the prediction of some frames of a window with the others put in as LOST.

    They get the pose of the frame before, or of the first that has one, and K where there is one.
    """
    if len(prediction.frame_ids) == len(window.frames):
        return prediction
    lost, place = all_lost(window), np.isin(window.frame_ids, prediction.frame_ids)
    nearest = np.maximum(np.cumsum(place) - 1, 0)
    fields = {}
    for name in ('local_points', 'confidence', 'states'):
        values = np.array(getattr(lost, name))
        values[place] = getattr(prediction, name)
        fields[name] = values
    K = None if prediction.K is None else prediction.K[nearest]
    return replace(lost, T_window_camera=prediction.T_window_camera[nearest], K=K,
                   gauge=prediction.gauge, **fields)


def is_finite(*tensors: Tensor) -> bool:
    """Say whether tensors are finite throughout; the host waits for it."""
    sums = [tensor.sum(dtype=torch.float32) for tensor in tensors]
    return bool(torch.isfinite(torch.stack(sums)).all())


def to_host(*tensors: Tensor) -> List[np.ndarray]:
    """Return tensors as float32 arrays; here, after the forward pass, the host waits."""
    return [tensor.to(torch.float32).cpu().numpy() for tensor in tensors]


