"""What a backbone is: the interchangeable predictor of window geometry."""

import abc
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, ClassVar, Iterator, Literal, Mapping, Optional, Sequence, Tuple

from ..errors import ConfigError
from ..types import Prediction, Window


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A published checkpoint that a backbone can load; `longrecon weights` fetches it."""

    name: str
    """What users call it: the backbone's name for the usual one."""
    repository: str
    """Hugging Face id, OWNER/NAME."""
    file: str
    """Path in that repository."""
    size_bytes: int
    """About; the number of parameters times their size."""
    licence: str
    """Of the weights."""
    code_licence: str
    """Of the authors' code, which is not used here."""
    is_gated: bool = False
    """The authors must grant access before it can be downloaded."""


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What the pipeline must know about a backbone to feed it and to chain its predictions."""

    name: str
    patch: int
    """Image sides are multiples of this, px; 1 when any size will do."""
    max_pixels: Optional[int]
    """Images are scaled down to at most so many pixels; None: the backbone takes native size."""
    gauge: Literal['window', 'stream']
    """Poses are relative to the window, or to the whole stream."""
    scale: Literal['relative', 'metric']
    feed: Literal['all', 'new']
    """Windows repeat the overlap, or hold unseen frames only (a cache must not see one twice)."""
    align: str
    """The aligner that ``align: auto`` stands for."""
    max_side: Optional[int] = None
    """The longer side is scaled down to at most so many px; None: `max_pixels` alone counts."""
    enlarge: bool = False
    """Smaller images are scaled up to these limits: the net was trained on images of one size."""
    interpolation: Literal['area', 'bicubic', 'lanczos'] = 'area'
    """How images are resampled; the latter two as PIL does it, with antialiasing."""
    layerwise: bool = False
    """Its depth layers have scale errors of their own: ``layerwise.use: auto`` aligns layers."""
    needs_truth: bool = False
    """Predictions are made from true depth and poses, ``Frame.truth``; results must say so."""
    weights: Tuple[WeightsFile, ...] = ()
    """Checkpoints that were published for it, the usual one first."""
    weights_note: str = ''
    """Why weights are not among these, and what the user can do."""


class Backbone(abc.ABC):
    """A window predictor with explicit state. Subclasses are final and live one a file.

    The state is opaque to everyone else; the pipeline stores it unread and hands it back.
    """

    spec: BackboneSpec
    """Of the class: what holds by default. Of an object: with the limits of its `Config`."""
    Config: ClassVar[type]
    """Frozen dataclass in the same file, built by `config.build`."""
    is_untrained: bool = False
    """The weights of this object are random numbers: results mean nothing and must say so."""

    tiny: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Options that make it as light as it can be, for tests; the results may mean nothing."""

    def state_figures(self, state: Any) -> Mapping[str, float]:
        """Return figures about a state that a long run should keep an eye on, by name and unit."""
        return {}

    @classmethod
    def check_weights(cls, path: Path) -> None:
        """Raise WeightsError unless a file holds all tensors of this net, and none besides."""
        raise ConfigError(f'backbone {cls.spec.name} has no weights')

    def init(self) -> Any:
        """Return the state before the first window; ``()`` when stateless."""
        return ()

    @abc.abstractmethod
    def step(self, state: Any, window: Window) -> Tuple[Any, Prediction]:
        """Predict one window; return the next state (``state`` may be consumed) and the result.

        Another thread may read the result while the next step runs: it is not written to again.
        """


@dataclass(frozen=True, slots=True)
class Work:
    """What an offline run over a whole recording is given besides its windows."""

    folder: Path
    """A folder of its own: what it has reached is there after an interruption."""
    recording: str
    """Names the images and times of the windows: another recording has another name."""
    tell: Callable[[int, int], None] = lambda done, of: None
    """Is told how many steps are done, and of how many."""


class LockstepBackbone(Backbone):
    """A backbone whose exact form needs all windows at once; its `step` is something else."""

    step_caveat: ClassVar[str]
    """A sentence for readers of results that `step` gave."""

    is_offline_exact: bool = True
    """False on an object that was told to take offline runs by `step` as well."""

    @abc.abstractmethod
    def predict_all(self, windows: Sequence[Window], work: Work) -> Iterator[Prediction]:
        """Yield one prediction a window, in order.

        With what an interrupted run has left in the folder it goes on from there, to the same
        bytes; InputError where that belongs to another recording or to other parameters. Where
        several processes share the run, the one of rank 0 yields all, the others nothing;
        RunError when one of them is lost.
        """


class ExportableBackbone(Backbone):
    """A backbone whose network can be written as graphs for other runtimes (`export`)."""

    @abc.abstractmethod
    def export_net(self) -> Tuple[Any, str]:
        """Return the torch module, in float32 on the CPU, and which weights it has, in words."""


class NetworkBackbone(ExportableBackbone):
    """A backbone that puts each window through one network; its Config is a `NetworkConfig`.

    Subclasses say which network (`definition`) and what its result means (`predict`).
    """

    def __init__(self, config: Any = None):
        from ._network_config import feedforward
        self._config = self.Config() if config is None else config
        self.spec = self._config.limits(self.spec)
        self._nets = feedforward(self.spec.name)
        self._network = self._nets.Network(self.spec, self._config,
                                           self.definition(self._config.size))
        self.is_untrained = self._network.is_untrained

    @staticmethod
    @abc.abstractmethod
    def definition(size: str) -> Any:
        """Return the `Definition` of the network of a size; this may need torch."""

    @abc.abstractmethod
    def predict(self, memory: Any, window: Window, result: Any) -> Tuple[Any, Prediction]:
        """Return the memory after a window, and what the network's result says of it."""

    def init(self) -> Any:
        """Return the memory of a stream that has seen nothing."""
        return self._nets.Memory()

    def step(self, state: Any, window: Window) -> Tuple[Any, Prediction]:
        """Predict one window; frames of the last one are not encoded again."""
        memory, result = self._network.run(state, window)
        memory, prediction = self.predict(memory, window, result)
        return memory, self._network.describe(prediction)

    def export_net(self) -> Tuple[Any, str]:
        """Return the torch module, in float32 on the CPU, and which weights it has, in words."""
        return self._network.export_net()

    @classmethod
    def check_weights(cls, path: Path) -> None:
        """Raise WeightsError unless a file holds all tensors of the net, and none besides."""
        from ._network_config import feedforward
        feedforward(cls.spec.name).check_weights(cls.definition('large'), path, cls.spec.name)


class StatefulBackbone(Backbone):
    """A backbone whose state can outlast the process: a stream goes on from a file of it."""

    @abc.abstractmethod
    def save_state(self, state: Any, path: Path) -> None:
        """Write a state to a file, whole or not at all; OSError where that cannot be done."""

    @abc.abstractmethod
    def load_state(self, path: Path) -> Any:
        """Return the state of a file, on this object's device; InputError if it is none."""

    @abc.abstractmethod
    def adopt_state(self, state: Any) -> Any:
        """Return a state of another object of this class, moved to this object's device."""
