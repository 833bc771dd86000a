"""What the sources of metres have in common."""

from typing import Sequence

import numpy as np

from .records import Measurement, WindowEvidence

NOTHING: Sequence[Measurement] = ()


class ScaleSource:
    """Makes measurements of the scale; a source overrides what it takes evidence from.

    Evidence of one kind comes in any order relative to that of another, some of it late, twice or
    broken. What cannot be used is left out without an error.
    """

    def add_wheel(self, stamp_ns: int, T_wheelodom_base: np.ndarray) -> Sequence[Measurement]:
        """Take a pose (4, 4) of the base, m, and return what it completes."""
        return NOTHING

    def add_depth(self, stamp_ns: int, depth_m: np.ndarray) -> Sequence[Measurement]:
        """Take a depth image (H, W), m, and return what it completes."""
        return NOTHING

    def add_window(self, window: WindowEvidence) -> Sequence[Measurement]:
        """Take an aligned window and return what it completes."""
        return NOTHING
