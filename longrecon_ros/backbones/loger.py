"""``loger``: pi3 with a memory over windows, by a network (LoGeR, LoGeR*); needs weights.

LoGeR (arXiv 2603.03269, 2026; `nets.loger`): fast weights carry the frame of the stream from
window to window, and attention looks back at the window before. Its windows lie in one frame until
the fast weights are reset; there, and with LoGeR* at every window, the first shared camera is made
to coincide (``align: se3_first``). Images are scaled as for pi3.

The official code keeps this memory inside of one call over a whole sequence; here it is state. A
frame without content (black, washed out) does not reach the net, and a window whose results or
memory are not finite leaves the memory as it was: such frames are LOST.
"""

from dataclasses import dataclass, replace
from functools import partial
import logging
from pathlib import Path
from typing import Any, Literal, Mapping, Tuple

import numpy as np

from ..errors import WeightsError
from ..types import Prediction, Window
from ._blank import is_blank
from ._network_config import Definition, feedforward, NetworkConfig, PATCH, TINY
from .base import BackboneSpec, StatefulBackbone

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogerConfig(NetworkConfig):
    """Parameters of the ``loger`` backbone; ``config/default.yaml`` explains them."""

    max_pixels: int = 255_000
    variant: Literal['loger', 'star'] = 'star'
    reset_every: int = 5
    orthogonal: Literal['bfloat16', 'float32'] = 'bfloat16'
    faithful: bool = False

    def __post_init__(self):
        NetworkConfig.__post_init__(self)
        if self.reset_every < 0:
            raise ValueError(f'reset_every: expected 0 (never) or more, got {self.reset_every}')
        if self.graphs:
            raise ValueError('graphs: exported graphs have no place for a memory yet; leave it '
                             'empty')


class LogerBackbone(StatefulBackbone):
    """Window reconstruction by LoGeR; see the module's docstring."""

    spec = BackboneSpec(
        name='loger', patch=PATCH, max_pixels=255_000, gauge='window', scale='relative',
        feed='all', align='se3_first', enlarge=True, interpolation='lanczos',
        weights_note='the authors of LoGeR gave neither code nor weights a licence, so that '
                     'nothing of theirs is downloaded; where you may use them, get '
                     'LoGeR/latest.pt or LoGeR_star/latest.pt of Junyi42/LoGeR yourself')
    Config = LogerConfig
    tiny = TINY

    def __init__(self, config: LogerConfig = LogerConfig()):
        self.spec = config.limits(self.spec)
        self._config = config
        self._nets = feedforward(self.spec.name)
        # modules that need torch, which need not be there to ask what a backbone is
        from . import _loger_state
        self._states = _loger_state
        self._network = self._nets.Network(self.spec, config, _definition(config),
                                           partial(_loger_state.set_numerics, config))
        self.is_untrained = self._network.is_untrained

    def init(self) -> Any:
        """Return the state of a stream that has seen nothing."""
        return self._states.LogerState()

    def step(self, state: Any, window: Window) -> Tuple[Any, Prediction]:
        """Predict one window and remember it; see the module's docstring for frames that fail."""
        good = np.array([not is_blank(frame.image) for frame in window.frames])
        if not good.any():
            return state, self._nets.all_lost(window)
        now = self._reset_when_due(state)
        seen = replace(window, n_overlap=0, frames=tuple(
            frame for frame, is_good in zip(window.frames, good) if is_good))
        stream, (result, net) = self._network.run(now.stream, seen, now.net,
                                                  _roles(window, good))
        if not self._states.is_sound(net, result.T_world_camera):
            _log.warning('%s: window %d (frames %d to %d) gave numbers that are not finite; it is '
                         'not remembered', self.spec.name, window.index, window.frame_ids[0],
                         window.frame_ids[-1])
            return state, self._nets.all_lost(window)
        stream, prediction = self._nets.from_pointmaps(stream, seen, result, self._config.pinhole)
        gauge = now.gauge if self._config.variant == 'loger' else None
        after = now._replace(stream=stream, net=net, n_windows=now.n_windows + 1)
        prediction = self._nets.with_lost(replace(prediction, gauge=gauge), window)
        return after, self._network.describe(prediction)

    def state_figures(self, state: Any) -> Mapping[str, float]:
        """Return the size of the memory, and the norm of the fast weights over the learnt one."""
        return {'state MB': self._states.n_bytes(state) / 1e6,
                'norm ratio': self._states.growth(state.net, self._network.net)}

    def _reset_when_due(self, state: Any) -> Any:
        """Return the state with the fast weights as they were learnt at every so many windows."""
        every = self._config.reset_every
        if not every or not state.n_windows or state.n_windows % every:
            return state
        return state._replace(net=state.net.without_fast(), gauge=state.gauge + 1)

    @property
    def _state_name(self) -> str:
        return f'{self.spec.name} ({self._config.variant}, {self._config.size})'

    def save_state(self, state: Any, path: Path) -> None:
        """Write the state of a stream to a file, whole or not at all."""
        self._states.save(state, path, self._state_name)

    def load_state(self, path: Path) -> Any:
        """Return the state of a file, on this object's device; InputError if it is none."""
        return self._states.load(path, self._state_name, self._network.policy.device)

    def adopt_state(self, state: Any) -> Any:
        """Return a state of another object of this class, moved to this object's device."""
        return self._states.moved(state, self._network.policy.device)

    @classmethod
    def check_weights(cls, path: Path) -> None:
        """Raise WeightsError unless a file holds all tensors of the net, and none besides.

        Either variant will do: LoGeR* lacks the norms before the fast weights.
        """
        nets, name = feedforward(cls.spec.name), cls.spec.name
        try:
            nets.check_weights(_definition(LogerConfig(variant='star')), path, name)
        except WeightsError:
            nets.check_weights(_definition(LogerConfig(variant='loger')), path, name)


def _roles(window: Window, good: np.ndarray) -> Any:
    """Return how many of the good frames of a window play which role (`nets.loger.Roles`)."""
    from ..nets.loger import Roles, roles_of
    n = len(good)
    counts = roles_of(n, window.usual_size or n, window.usual_overlap or window.n_overlap)
    return Roles(*np.bincount(np.repeat(np.arange(3), counts)[good], minlength=3).tolist())


def _definition(config: LogerConfig) -> Definition:
    from ..nets import loger
    size = loger.TINY if config.size == 'tiny' else loger.LARGE
    size = replace(size, has_pre_norm=config.variant == 'loger')
    return Definition(partial(loger.LogerNet, size), loger.Pi3Output, (f'*{loger.DEAD}',))


BACKBONE = LogerBackbone
