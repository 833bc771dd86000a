"""Takes all windows of a recording through Scal3R's net in lock step.

This is the exact form: every memory unit stores the tokens of all windows before any recalls from
it (paper, section 3.3). The net falls into stages with a unit after each but the last
(`Scal3rNet.through`), so a window is taken up once a stage. What a window is after a stage follows
from its images and the weights of the units before: a `Store` may forget it, and it is made again,
of the same bits. Directions are summed in float64, so that neither the order of the windows nor
the number of processes shows in the float32 sum (but for a rounding in 10^8).
"""

from typing import Callable, Dict, Iterator, Mapping, Optional, Protocol, Tuple

import torch

from .ranks import Ranks
from .scal3r import Place, Scal3rNet, Window
from .ttt import FastWeights
from .vit import PATCH


class Store(Protocol):
    """Keeps what a run has reached; all but weights and totals may be forgotten.

    Windows are known by their number, stages by theirs. Tensors that come back are on the CPU.
    """

    def window(self, k: int, stage: int) -> Optional[Window]:
        """Return a window after a stage, with the level that is not settled, if it has one."""

    def settled(self, k: int) -> Mapping[int, torch.Tensor]:
        """Return the levels of a window that will not change any more."""

    def keep(self, k: int, stage: int, window: Window,
             settled: Mapping[int, torch.Tensor]) -> None:
        """Keep both; what was kept of the window after earlier stages is not needed any more."""

    def weights(self, stage: int) -> Optional[FastWeights]:
        """Return the weights of the unit at the end of a stage, once all windows are in them."""

    def keep_weights(self, stage: int, weights: FastWeights) -> None:
        """Keep them."""

    def total(self, stage: int) -> Tuple[int, Optional[FastWeights]]:
        """Return how many windows of this process the sum of a stage holds, and the sum, f64."""

    def keep_total(self, stage: int, n: int, total: FastWeights) -> None:
        """Keep them, if it is time to."""


class InMemory:
    """A store that lasts as long as the process (`Store`)."""

    def __init__(self):
        self._windows: Dict[int, Tuple[int, Window]] = {}
        self._settled: Dict[int, Dict[int, torch.Tensor]] = {}

    def window(self, k: int, stage: int) -> Optional[Window]:
        """Return a window after a stage."""
        known, window = self._windows.get(k, (None, None))
        return window if known == stage else None

    def settled(self, k: int) -> Mapping[int, torch.Tensor]:
        """Return the levels of a window that will not change any more."""
        return self._settled.get(k, {})

    def keep(self, k: int, stage: int, window: Window,
             settled: Mapping[int, torch.Tensor]) -> None:
        """Keep both, on the CPU."""
        levels = {i: level.cpu() for i, level in window.levels.items()}
        self._windows[k] = stage, Window(window.tokens.cpu(), levels)
        self._settled.setdefault(k, {}).update((i, level.cpu()) for i, level in settled.items())

    def weights(self, _stage: int) -> Optional[FastWeights]:
        """Return None: there was nothing before."""
        return None

    def keep_weights(self, stage: int, weights: FastWeights) -> None:
        """Forget them: the run has them itself."""

    def total(self, _stage: int) -> Tuple[int, Optional[FastWeights]]:
        """Return that nothing was summed before."""
        return 0, None

    def keep_total(self, stage: int, n: int, total: FastWeights) -> None:
        """Forget it: the run has it itself."""


class LockStep:
    """One run over ``n`` windows; ``begin`` makes one of them from its images.

    ``shape`` is (H, W) px of all frames. ``tell`` gets the number of windows of this process that
    are through a stage, over all stages, and of how many. Each process has the windows whose
    number leaves its rank when divided by how many there are.
    """

    def __init__(self, net: Scal3rNet, shape: Tuple[int, int], n: int,
                 begin: Callable[[int], Window], store: Optional[Store] = None,
                 ranks: Optional[Ranks] = None,
                 tell: Callable[[int, int], None] = lambda done, of: None):
        self._net, self._begin = net, begin
        self._store: Store = InMemory() if store is None else store
        self._ranks = Ranks() if ranks is None else ranks
        self._tell, self._n_done = tell, 0
        self.mine = range(self._ranks.rank, n, self._ranks.size)
        self._device = next(net.parameters()).device
        self._place: Place = net.place(*(side // PATCH for side in shape), self._device)
        self._wanted = {*net.size.levels, net.size.depth - 1}
        self._weights: Dict[int, FastWeights] = {}

    @torch.inference_mode()
    def run(self) -> Iterator[Tuple[int, Window]]:
        """Yield the windows of this process, each ready to be read (`Scal3rNet.read`)."""
        last = len(self._net.units)
        for stage in range(last):
            weights = self._known(stage)
            if weights is None:
                weights = self._stored(stage)
                self._store.keep_weights(stage, weights)
            self._weights[stage] = weights
            self._n_done = (stage + 1) * len(self.mine)
        for k in self.mine:
            window = self._after(k, last)
            settled = {i: level.to(self._device) for i, level in self._store.settled(k).items()}
            levels = {**settled, **window.levels}
            if not self._wanted <= levels.keys():
                window = self._made_again(k, last)
                levels = window.levels
            self._count()
            yield k, Window(window.tokens, levels)

    def _known(self, stage: int) -> Optional[FastWeights]:
        """Return the weights that this process, or another one, has from before."""
        weights = self._store.weights(stage)
        source = self._ranks.first_with(weights is not None)
        if source is None:
            return None
        found = self._net.learnt(stage) if weights is None else weights
        found = self._ranks.copied(self._on_device(found), source)
        if weights is None:
            self._store.keep_weights(stage, FastWeights(*found))
        return FastWeights(*found)

    def _stored(self, stage: int) -> FastWeights:
        """Return the weights of the unit at the end of a stage once it has stored all windows."""
        n, total = self._store.total(stage)
        if total is None:
            total = FastWeights(*(torch.zeros_like(w, dtype=torch.float64)
                                  for w in self._net.learnt(stage)))
        total, pair = self._on_device(total), self._net.units[stage]
        self._n_done = stage * len(self.mine) + n
        for position, k in enumerate(self.mine[n:], n + 1):
            window = self._after(k, stage)
            settled = {i: level for i, level in window.levels.items() if i != pair}
            loose = {i: level for i, level in window.levels.items() if i == pair}
            self._store.keep(k, stage, Window(window.tokens, loose), settled)
            direction = self._net.gradient(pair, window, self._place)
            # a window that gives nothing finite must not spoil the others
            if all(bool(torch.isfinite(g).all()) for g in direction):
                total = FastWeights(*(t + g for t, g in zip(total, direction)))
            self._store.keep_total(stage, position, total)
            self._count()
        whole = self._ranks.summed(total)
        return self._net.store(pair, FastWeights(*(t.float() for t in whole)))

    def _after(self, k: int, stage: int) -> Window:
        """Return a window after a stage, on the device: one that is kept, or made again."""
        window = self._store.window(k, stage)
        if window is not None:
            return Window(window.tokens.to(self._device),
                          {i: level.to(self._device) for i, level in window.levels.items()})
        if not stage:
            return self._net.through(0, self._begin(k), self._place)
        return self._net.through(stage, self._after(k, stage - 1), self._place,
                                 self._weights[stage - 1])

    def _made_again(self, k: int, stage: int) -> Window:
        """Return a window after a stage, with all its levels, from its images."""
        window = self._net.through(0, self._begin(k), self._place)
        for s in range(1, stage + 1):
            window = self._net.through(s, window, self._place, self._weights[s - 1])
        return window

    def _on_device(self, tensors: FastWeights) -> FastWeights:
        return FastWeights(*(tensor.to(self._device) for tensor in tensors))

    def _count(self) -> None:
        self._n_done += 1
        self._tell(self._n_done, len(self.mine) * (len(self._net.units) + 1))
