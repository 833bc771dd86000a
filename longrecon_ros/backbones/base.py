"""What a backbone is: the interchangeable predictor of window geometry."""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, Iterator, Literal, Optional, Sequence, Tuple

from ..types import Prediction, Window


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
    layerwise: bool = False
    """Its depth layers have scale errors of their own: ``layerwise.use: auto`` aligns layers."""
    needs_truth: bool = False
    """Predictions are made from true depth and poses, ``Frame.truth``; results must say so."""


class Backbone(abc.ABC):
    """A window predictor with explicit state. Subclasses are final and live one a file.

    The state is opaque to everyone else; the pipeline stores it unread and hands it back.
    """

    spec: ClassVar[BackboneSpec]
    Config: ClassVar[type]
    """Frozen dataclass in the same file, built by `config.build`."""

    def init(self) -> Any:
        """Return the state before the first window; ``()`` when stateless."""
        return ()

    @abc.abstractmethod
    def step(self, state: Any, window: Window) -> Tuple[Any, Prediction]:
        """Predict one window; return the next state (``state`` may be consumed) and the result.

        Another thread may read the result while the next step runs: it is not written to again.
        """


class LockstepBackbone(Backbone):
    """A backbone whose exact form needs all windows at once; offline runs only."""

    @abc.abstractmethod
    def predict_all(self, windows: Sequence[Window]) -> Iterator[Prediction]:
        """Yield one prediction a window, in order."""
