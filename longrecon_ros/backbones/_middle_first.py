"""A window as Scal3R takes it: frames with content, the middle one first; and the way back."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import List, Sequence, Tuple

import numpy as np

from ..nets.scal3r import middle_first
from ..types import Frame, Prediction, Window
from . import _feedforward as nets
from ._blank import is_blank


@dataclass(frozen=True)
class MiddleFirst:
    """A window, and its frames with content, ``good``, in their order."""

    window: Window
    good: Tuple[Frame, ...]

    @classmethod
    def of(cls, window: Window) -> 'MiddleFirst':
        """Find the frames with content."""
        return cls(window, tuple(f for f in window.frames if not is_blank(f.image)))

    @cached_property
    def _order(self) -> List[int]:
        return middle_first(len(self.good))

    @property
    def ordered(self) -> Window:
        """The frames with content in the order in which the net takes them."""
        return replace(self.window, frames=tuple(self.good[i] for i in self._order), n_overlap=0)

    def prediction(self, parts: Sequence[np.ndarray], use_calibration: bool) -> Prediction:
        """Return what encodings, depths and confidences of `ordered` say of the whole window."""
        back = np.argsort(self._order)
        content = replace(self.window, frames=self.good, n_overlap=0)
        prediction = nets.from_encodings(content, *(part[back] for part in parts),
                                         use_calibration)
        return nets.with_lost(prediction, self.window)
