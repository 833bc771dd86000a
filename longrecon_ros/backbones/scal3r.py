"""``scal3r``: VGGT with one memory over all windows, by a network; needs weights.

Scal3R (arXiv 2604.08542, CVPR 2026; `nets.scal3r`): memory units after some of the blocks store
the tokens of all windows, and every window recalls from them. There are two forms:

* **Lock step**, the original's: all windows go through the net together, so the recording has to
  be complete. `longrecon run` uses it (``offline: lock_step``); what does not fit into
  ``memory_mb`` is on the disk, several processes can share the windows, and an interrupted run
  goes on where it was.
* **A causal form of our own**, for live use: a window recalls from itself and from the windows
  before it, which do not change any more. A stream of one window is exact; `longrecon bench
  lockstep` measures how far the two are apart.

The reference of a window is its middle frame, as in the original. Points are depth along the rays
of the calibration, or else of the field of view that the net sees. Frames without content and
windows that give nothing finite leave the memory as it was (see `loger`).
"""

from dataclasses import dataclass
from functools import partial
import logging
from pathlib import Path
from typing import Any, Iterator, Literal, Mapping, NamedTuple, Sequence, Tuple

from ..types import Prediction, Window
from ._network_config import Definition, feedforward, NetworkConfig, PATCH, TINY
from .base import BackboneSpec, LockstepBackbone, WeightsFile, Work

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scal3rConfig(NetworkConfig):
    """Parameters of the ``scal3r`` backbone; ``config/default.yaml`` explains them."""

    max_side_px: int = 518
    orthogonal: Literal['bfloat16', 'float32'] = 'bfloat16'
    offline: Literal['lock_step', 'causal'] = 'lock_step'
    memory_mb: int = 4000
    rank_timeout_s: float = 600.0

    def __post_init__(self):
        NetworkConfig.__post_init__(self)
        if self.memory_mb < 0:
            raise ValueError(f'memory_mb: expected 0 or more, got {self.memory_mb}')
        if not 0 < self.rank_timeout_s < float('inf'):
            raise ValueError('rank_timeout_s: expected a time above 0, got '
                             f'{self.rank_timeout_s}')
        if self.graphs:
            raise ValueError('graphs: exported graphs have no place for a memory yet; leave it '
                             'empty')
        if self.compile != 'off':
            raise ValueError('compile: what is compiled has no place for a memory yet; leave it '
                             'off')


class Scal3rState(NamedTuple):
    """What a stream leaves for its next window; nothing in it is ever written to."""

    stream: Any                             # tokens of the last window
    stored: Mapping[int, Any]               # sum of directions of each memory unit
    n_windows: int = 0


class Scal3rBackbone(LockstepBackbone):
    """Reconstruction by Scal3R in lock step or in a causal form; see the module's docstring."""

    spec = BackboneSpec(
        name='scal3r', patch=PATCH, max_pixels=None, max_side=518, gauge='window',
        scale='relative', feed='all', align='sim3_points', enlarge=True, interpolation='bicubic',
        weights=(WeightsFile('scal3r', 'xbillowy/Scal3R', 'scal3r.pt', 5_064_600_000,
                             'not stated (a fine-tune of VGGT, whose licence may bind)', 'MIT'),))
    Config = Scal3rConfig
    tiny = TINY
    step_caveat = ('scal3r ran in a causal form of our own, not in its original lock step: '
                   'windows recall only what came before them.')

    def __init__(self, config: Scal3rConfig = Scal3rConfig()):
        self.spec = config.limits(self.spec)
        self._config = config
        self._nets = feedforward(self.spec.name)
        self._network = self._nets.Network(self.spec, config, _definition(config.size),
                                           partial(_set_numerics, config.orthogonal))
        self.is_untrained = self._network.is_untrained
        self.is_offline_exact = config.offline == 'lock_step'

    def predict_all(self, windows: Sequence[Window], work: Work) -> Iterator[Prediction]:
        """Yield one prediction a window, in lock step; see `LockstepBackbone.predict_all`."""
        from ._lockstep import predict_all
        return predict_all(self._network, self._config, windows, work)

    def init(self) -> Scal3rState:
        """Return the state of a stream that has seen nothing."""
        return Scal3rState(self._nets.Memory(), {})

    def step(self, state: Scal3rState, window: Window) -> Tuple[Scal3rState, Prediction]:
        """Predict one window and store it; see the module's docstring for frames that fail."""
        from ._middle_first import MiddleFirst
        seen = MiddleFirst.of(window)
        if not seen.good:
            return state, self._nets.all_lost(window)
        stream, (result, stored) = self._network.run(state.stream, seen.ordered, state.stored)
        if not self._nets.is_finite(result.encoding, *(g for d in stored.values() for g in d)):
            _log.warning('%s: window %d (frames %d to %d) gave numbers that are not finite; it is '
                         'not stored', self.spec.name, window.index, window.frame_ids[0],
                         window.frame_ids[-1])
            return state, self._nets.all_lost(window)
        prediction = seen.prediction(self._nets.measured(result), self._config.pinhole)
        return (Scal3rState(stream, stored, state.n_windows + 1),
                self._network.describe(prediction))

    def state_figures(self, state: Scal3rState) -> Mapping[str, float]:
        """Return the size of the memory."""
        tensors = [*state.stream.tokens.values(), *(g for d in state.stored.values() for g in d)]
        return {'state MB': sum(t.numel() * t.element_size() for t in tensors) / 1e6}

    @classmethod
    def check_weights(cls, path: Path) -> None:
        """Raise WeightsError unless a file holds all tensors of the net, and none besides."""
        feedforward(cls.spec.name).check_weights(_definition('large'), path, cls.spec.name)


def _set_numerics(orthogonal: str, net: Any, _policy: Any) -> None:
    import torch
    net.orthogonal = getattr(torch, orthogonal)


def _definition(size: str) -> Definition:
    from ..nets import scal3r
    make = partial(scal3r.Scal3rNet, scal3r.TINY if size == 'tiny' else scal3r.LARGE)
    return Definition(make, scal3r.VggtOutput, rename=scal3r.official_name)


BACKBONE = Scal3rBackbone
