"""Optimisation: one loop, whose checkpoints go on where they left off, to the same result."""

from dataclasses import dataclass
import logging
import math
from pathlib import Path
import pickle
import time
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..atomic import atomic_file
from ..errors import InputError
from ..nets.loger import NOTHING
from .data import Batch, Laps
from .losses import stream_loss, Target
from .stream import StreamNet
from .variants import new_net, Setting
from .windows import windows_of

CHECKPOINT = 'checkpoint.pt'
_FORMAT = 1
_LEAST_RATE = 0.02      # of the rate, at the end
_BETAS = (0.9, 0.98)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    step: int
    loss: float
    parts: Dict[str, float]                 # see `losses.stream_loss`
    gradient: float                         # norm before it was shortened


class Training:
    """A net, its optimiser and the number of steps done; everything else follows from these.

    The sequences of a step depend on the seed and on the number of the step alone.
    """

    def __init__(self, setting: Setting, variant: str, seed: int, device: torch.device,
                 start: Optional[Dict[str, Tensor]] = None):
        """Begin with random weights; ``start`` holds tensors that take the place of some."""
        self.setting, self.variant, self.seed, self.device = setting, variant, seed, device
        self.net = new_net(setting, variant, seed)
        if start is not None:
            self.net.load_state_dict({**self.net.state_dict(), **start})
        self.net.to(device)
        self.optimiser = torch.optim.AdamW(self.net.parameters(), setting.rate, _BETAS,
                                           weight_decay=setting.weight_decay)
        self.n_done, self.spent_s = 0, 0.0

    def step(self, laps: Laps) -> Progress:
        """Take one step of the optimiser."""
        start_s = time.monotonic()
        setting = self.setting
        rng = np.random.default_rng([self.seed, 5, self.n_done])
        for group in self.optimiser.param_groups:
            group['lr'] = setting.rate * _schedule(self.n_done, setting)
        n_before = int(rng.integers(_most_before(self.n_done, setting) + 1))
        batch = laps.draw(rng, setting.batch, setting.frames_of(n_before + setting.n_windows),
                          setting.steps, setting.dark)
        loss, parts = loss_of(self.net, batch, laps.rays, setting, n_before)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), setting.max_gradient)
        if torch.isfinite(norm):
            self.optimiser.step()
        else:
            _log.warning('step %d: gradients are not finite and are left out', self.n_done)
        self.n_done += 1
        self.spent_s += time.monotonic() - start_s
        return Progress(self.n_done, float(loss.detach()), {k: float(v) for k, v in parts.items()},
                        float(norm))

    def save(self, path: Path) -> None:
        """Write all that is needed to go on, whole or not at all."""
        state = {'format': _FORMAT, **self._identity(), 'n_done': self.n_done,
                 'spent_s': self.spent_s, 'net': self.net.state_dict(),
                 'optimiser': self.optimiser.state_dict()}
        with atomic_file(path) as stream:
            torch.save(state, stream)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint; InputError when it is damaged or of another training."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, KeyError,
                pickle.UnpicklingError) as error:
            raise InputError(f'{path}: no checkpoint can be read ({type(error).__name__}); start '
                             'without --resume') from None
        differing = _differing(state, {'format': _FORMAT, **self._identity()})
        if differing:
            raise InputError(f'{path}: the checkpoint of another training ({differing}); give '
                             'the arguments it began with, or another --out')
        self.net.load_state_dict(state['net'])
        self.optimiser.load_state_dict(state['optimiser'])
        self.n_done, self.spent_s = state['n_done'], state['spent_s']

    def _identity(self) -> Dict[str, Any]:
        return {'setting': repr(self.setting), 'variant': self.variant, 'seed': self.seed}


def fit(training: Training, laps: Laps, folder: Path, every: int = 100,
        limit_s: Optional[float] = None,
        update: Callable[[Progress], None] = lambda _progress: None) -> bool:
    """Train to the end of the setting; return whether that was reached.

    A checkpoint is written to ``folder`` after every so many steps and at the end; what is cut off
    (Ctrl-C, a kill) goes on from the last one. ``limit_s`` ends it early; the schedule of the rate
    stays, so that it can go on.
    """
    end_s = math.inf if limit_s is None else time.monotonic() + limit_s
    path = Path(folder) / CHECKPOINT
    is_saved = False
    while training.n_done < training.setting.n_steps and time.monotonic() < end_s:
        update(training.step(laps))
        is_saved = training.n_done % every == 0
        if is_saved:
            training.save(path)
    if not is_saved:
        training.save(path)
    return training.n_done >= training.setting.n_steps


def use_threads(n: int) -> None:
    """Let torch use so many threads of the CPU."""
    torch.set_num_threads(n)


def loss_of(net: StreamNet, batch: Batch, rays: np.ndarray, setting: Setting,
            n_before: int = 0) -> Tuple[Tensor, Dict[str, Tensor]]:
    """Return the loss of a batch and its parts, as `losses.stream_loss`.

    The first ``n_before`` windows fill the memory; gradients pass through the others.
    """
    device = next(net.parameters()).device
    images, depth, poses, rays = (torch.from_numpy(a).to(device) for a in (*batch, rays))
    window, overlap = setting.window, setting.overlap
    windows, memory = windows_of(images.shape[1], window, overlap), NOTHING
    if n_before:
        with torch.no_grad():
            memory = net.stream(images[:, :windows[n_before - 1].stop], window, overlap)[1]
    outputs, _ = net.stream(images[:, windows[n_before].start:], window, overlap, memory)
    return stream_loss(outputs, Target(depth, poses, rays), windows[n_before:])


def _most_before(step: int, setting: Setting) -> int:
    """Return how many windows may come first: none at the start, all from half-way on."""
    done = step / max(1, setting.n_steps)
    return round(setting.n_before * min(1.0, 2 * done))


def _schedule(step: int, setting: Setting) -> float:
    """Return the share of the rate: a linear start, then half a cosine."""
    done = step / max(1, setting.n_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return min(1.0, (step + 1) / setting.n_warm_up) * (_LEAST_RATE + (1 - _LEAST_RATE) * cosine)


def _differing(state: Any, wanted: Dict[str, Any]) -> str:
    """Return the names of what differs."""
    if not isinstance(state, dict):
        return 'no record'
    return ', '.join(name for name, value in wanted.items() if state.get(name) != value)
