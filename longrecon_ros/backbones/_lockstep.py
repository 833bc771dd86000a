"""Scal3R on a whole recording, exactly: what the backbone adds to `nets.lockstep`.

Frames without content do not reach the net, and its windows are those that have a frame with
content. Several processes (`nets.ranks`) share the windows; rank 0 collects what the others read.
"""

from dataclasses import asdict
import json
import logging
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Sequence

import numpy as np
import torch

from ..atomic import write_text
from ..errors import ConfigError, InputError, RunError
from ..nets.lockstep import LockStep
from ..nets.ranks import RankLost, Ranks
from ..types import Prediction, Window
from . import _feedforward as nets
from ._encodings import ENCODING
from ._middle_first import MiddleFirst
from ._spill import Spill
from .base import Work

_FORMAT = 1
_NO_MATTER = ('memory_mb', 'rank_timeout_s', 'offline', 'reuse_tokens', 'pinhole', 'device')
"""Parameters that may change before a run goes on."""

_log = logging.getLogger(__name__)


def predict_all(network: nets.Network, config: Any, windows: Sequence[Window],
                work: Work) -> Iterator[Prediction]:
    """Yield one prediction a window, in order; see `LockstepBackbone.predict_all`."""
    try:
        ranks = Ranks.join(config.rank_timeout_s)
    except RankLost as error:
        raise _lost(error) from None
    except RuntimeError as error:
        raise ConfigError(f'scal3r: several processes cannot share a run here ({error}); start '
                          'one, without torchrun') from None
    try:
        run = _Run(network, config, windows, work, ranks)
        run.check()
        yield from run.predictions()
    except RankLost as error:
        raise _lost(error) from None
    finally:
        ranks.leave()


def _lost(error: RankLost) -> RunError:
    return RunError(f'{error}: it was killed, or silent for longer than scal3r.rank_timeout_s; '
                    'what was reached is kept: start all processes again with --resume')


class _Run:
    """One run over all windows of a recording."""

    def __init__(self, network: nets.Network, config: Any, windows: Sequence[Window], work: Work,
                 ranks: Ranks):
        self._network, self._config, self._work = network, config, work
        self._windows, self._ranks = windows, ranks
        seen = [MiddleFirst.of(window) for window in windows]
        self._is_empty = [not item.good for item in seen]
        self._seen = [item for item in seen if item.good]

    def check(self) -> None:
        """Refuse to go on from another run, or with processes that do another one."""
        about = self._about()
        everybody = self._ranks.all_texts(json.dumps(about, sort_keys=True))
        if len(set(everybody)) > 1:
            raise RunError('the processes of this run have different inputs, parameters or '
                           'weights: start all of them with the same command')
        path = self._work.folder / 'run.json'
        if not path.exists():
            write_text(path, json.dumps(about, indent=2) + '\n')
            return
        before = _read(path)
        differ = [key for key in about if before.get(key) != about[key]]
        if differ:
            raise InputError(f'{self._work.folder}: what is there belongs to a run with other '
                             f'{", ".join(differ)}; use the same ones, or begin anew with --force')
        for partial in self._work.folder.glob('.*.partial'):
            partial.unlink()

    def _about(self) -> Mapping[str, Any]:
        """Return what a run must have in common with the one that it goes on from."""
        weights = Path(self._config.weights).expanduser()
        is_file = bool(self._config.weights) and weights.is_file()
        options = {key: value for key, value in asdict(self._config).items()
                   if key not in _NO_MATTER}
        policy = self._network.policy
        return {'format': _FORMAT, 'recording': self._work.recording,
                'windows': [[int(i) for i in seen.window.frame_ids[[0, -1]]]
                            for seen in self._seen],
                'parameters': {**options, 'weights': str(weights), 'precision': str(policy.dtype),
                               'device': policy.device.type},
                'weights': weights.stat().st_size if is_file else None,
                'processes': self._ranks.size}

    def predictions(self) -> Iterator[Prediction]:
        """Yield the predictions of all windows, in rank 0."""
        found = self._found() if self._seen else iter(())
        todo = iter(self._seen)
        if self._ranks.rank == 0:
            for window, is_empty in zip(self._windows, self._is_empty):
                yield (nets.all_lost(window) if is_empty
                       else self._prediction(next(todo), next(found)))
        for _ in found:
            pass                            # of another rank: all are sent
        # nobody throws away what another one may still need
        self._ranks.all_texts('done')

    def _found(self) -> Iterator[List[np.ndarray]]:
        """Yield what the net says of each window (rank 0), or send it there."""
        width, height = self._seen[0].window.frames[0].size
        net, ranks = self._network.net, self._ranks
        n_settled = len({*net.size.levels, net.size.depth - 1}) - 1
        budget = self._config.memory_mb * 1_000_000
        store = Spill(self._work.folder, budget, len(self._seen) // ranks.size + 1, n_settled)
        run = LockStep(net, (height, width), len(self._seen), self._begin, store, ranks,
                       self._work.tell)
        own = run.run()
        for k, seen in enumerate(self._seen):
            source = k % ranks.size
            if source == ranks.rank:
                result = self._guarded(seen, lambda: net.read(next(own)[1], (height, width)))
                parts = nets.measured(result)
                if ranks.rank:
                    ranks.sent([torch.from_numpy(part) for part in parts])
                yield parts
            elif ranks.rank == 0:
                n = len(seen.good)
                shapes = [(n, ENCODING), (n, height, width), (n, height, width)]
                yield [part.numpy() for part in ranks.received(shapes, source)]

    def _begin(self, k: int):
        return self._network.net.begin(self._network.encode(self._seen[k].ordered))

    def _guarded(self, seen: MiddleFirst, call: Any) -> Any:
        try:
            with torch.inference_mode():
                return call()
        except torch.cuda.OutOfMemoryError:
            raise self._network.too_little_memory(seen.window, 'window.size') from None

    def _prediction(self, seen: MiddleFirst, parts: List[np.ndarray]) -> Prediction:
        if not np.isfinite(parts[0]).all():
            _log.warning('scal3r: window %d (frames %d to %d) gave numbers that are not finite',
                         seen.window.index, *seen.window.frame_ids[[0, -1]])
            return nets.all_lost(seen.window)
        return seen.prediction(parts, self._config.pinhole)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: cannot be read ({error}); begin anew with --force') from None
