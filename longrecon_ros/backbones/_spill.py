"""What a run in lock step has reached: in memory up to a budget, and beyond it in a folder.

Weights and sums always are in the folder, so that a run can go on after a crash; windows that were
in memory are then made again. The first windows are in memory, for as long as the budget lasts;
all that is known of a window is in one of the two places. Files are written whole or not at all;
one that cannot be read counts as missing. Implements `nets.lockstep.Store`.
"""

import logging
from pathlib import Path
import pickle
import shutil
import time
from typing import Any, Dict, Mapping, Optional, Tuple

import torch
from torch import Tensor

from ..atomic import atomic_file
from ..errors import InputError
from ..nets.lockstep import InMemory
from ..nets.scal3r import Window
from ..nets.ttt import FastWeights

_TOTAL_EVERY_S = 20.0
_UNREADABLE = (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError,
               pickle.UnpicklingError)

_log = logging.getLogger(__name__)


class Spill:
    """A store of windows in ``folder``, with ``budget_bytes`` of memory.

    ``n_settled`` levels as large as two tokens each come with a window. Raises InputError where
    the disk is full, or will be.
    """

    def __init__(self, folder: Path, budget_bytes: int, n_windows: int, n_settled: int):
        self._folder, self._left_bytes = Path(folder), budget_bytes
        self._n_windows, self._n_settled = n_windows, n_settled
        self._memory, self._in_memory = InMemory(), set()
        self._on_disk: Dict[int, int] = {}                      # stage of its file, by number
        self._total_s = time.monotonic()
        for path in self._folder.glob('window*.stage*.pt'):
            number, stage = path.stem.split('.')
            k = int(number.removeprefix('window'))
            self._on_disk[k] = max(self._on_disk.get(k, -1), int(stage.removeprefix('stage')))

    def window(self, k: int, stage: int) -> Optional[Window]:
        """Return a window after a stage; see `Store`."""
        if k in self._in_memory:
            return self._memory.window(k, stage)
        if self._on_disk.get(k) != stage:
            return None
        values = self._read(self._file(k, f'stage{stage}'))
        return None if values is None else Window(values['tokens'], values['levels'])

    def settled(self, k: int) -> Mapping[int, Tensor]:
        """Return the levels of a window that are settled, as far as they can be read."""
        if k in self._in_memory:
            return self._memory.settled(k)
        found = {}
        for path in self._folder.glob(f'window{k:06d}.level*.pt'):
            level = self._read(path)
            if level is not None:
                found[int(path.stem.split('.level')[1])] = level
        return found

    def keep(self, k: int, stage: int, window: Window, settled: Mapping[int, Tensor]) -> None:
        """Keep a window after a stage; see `Store`."""
        if self._fits(k, window):
            self._memory.keep(k, stage, window, settled)
            return
        for i, level in settled.items():
            path = self._file(k, f'level{i}')
            if not path.exists():
                self._write(path, level.cpu())
        self._write(self._file(k, f'stage{stage}'),
                    {'tokens': window.tokens.cpu(),
                     'levels': {i: level.cpu() for i, level in window.levels.items()}})
        before, self._on_disk[k] = self._on_disk.get(k), stage
        if before not in (None, stage):
            self._file(k, f'stage{before}').unlink(missing_ok=True)

    def weights(self, stage: int) -> Optional[FastWeights]:
        """Return the weights of the unit at the end of a stage; see `Store`."""
        values = self._read(self._folder / f'unit{stage}.pt')
        return None if values is None else FastWeights(*values)

    def keep_weights(self, stage: int, weights: FastWeights) -> None:
        """Keep the weights of the unit at the end of a stage."""
        self._write(self._folder / f'unit{stage}.pt', [w.cpu() for w in weights])
        (self._folder / 'total.pt').unlink(missing_ok=True)

    def total(self, stage: int) -> Tuple[int, Optional[FastWeights]]:
        """Return how many windows the sum of a stage holds, and the sum."""
        values = self._read(self._folder / 'total.pt')
        if values is None or values['stage'] != stage:
            return 0, None
        return values['n'], FastWeights(*values['total'])

    def keep_total(self, stage: int, n: int, total: FastWeights) -> None:
        """Keep the sum of a stage now and then: windows since then need not be mixed again."""
        if time.monotonic() - self._total_s >= _TOTAL_EVERY_S:
            self._write(self._folder / 'total.pt',
                        {'stage': stage, 'n': n, 'total': [t.cpu() for t in total]})
            self._total_s = time.monotonic()

    def _fits(self, k: int, window: Window) -> bool:
        """Say whether a window belongs into memory; decided once, when it comes first."""
        if k in self._in_memory or k in self._on_disk:
            return k in self._in_memory
        tokens = window.tokens.numel() * window.tokens.element_size()
        # two halves a level; and one that is not settled yet
        need = tokens * (1 + 2 * (self._n_settled + 1))
        if need <= self._left_bytes:
            self._left_bytes -= need
            self._in_memory.add(k)
            return True
        if not self._on_disk:
            self._check_disk(need * (self._n_windows - len(self._in_memory)))
        self._left_bytes = 0
        return False

    def _check_disk(self, need: int) -> None:
        free = shutil.disk_usage(self._folder).free
        _log.info('lock step: %d windows are in memory, the others take up to %.3g GB in %s',
                  len(self._in_memory), need / 1e9, self._folder)
        if need > free:
            raise InputError(f'{self._folder}: windows beyond the budget of memory take '
                             f'{need / 1e9:.3g} GB and {free / 1e9:.3g} GB are free: make room, '
                             'raise scal3r.memory_mb, lower scal3r.max_side_px, or set '
                             'scal3r.offline to causal')

    def _file(self, k: int, what: str) -> Path:
        return self._folder / f'window{k:06d}.{what}.pt'

    def _write(self, path: Path, values: Any) -> None:
        try:
            with atomic_file(path) as stream:
                torch.save(values, stream)
        except OSError as error:
            raise InputError(f'{path} cannot be written ({error.strerror}): make room, then go '
                             'on with --resume') from None

    def _read(self, path: Path) -> Optional[Any]:
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location='cpu', weights_only=True)
        except _UNREADABLE as error:
            _log.warning('%s cannot be read (%s): it is made again', path.name,
                         (str(error).splitlines() or ['damaged'])[0])
            return None
