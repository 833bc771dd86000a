"""A few frames of an ablation, kept to be shown."""

from dataclasses import dataclass
from typing import List, Mapping, Optional

import cv2
import numpy as np

_MAX_SAMPLES = 16
_MAX_WIDTH_PX = 520


@dataclass(frozen=True, slots=True, eq=False)
class FrameSample:
    """One frame as each variant has it; (h, w) is at most 520 px wide."""

    number: int                             # of the frame, from 0
    rgb: np.ndarray                         # (h, w, 3) uint8
    ratios: Mapping[str, np.ndarray]        # variant to predicted over true depth (h, w) f16;
                                            # NaN where unknown
    layers: Optional[np.ndarray]            # (h, w) i16, labels of the layers; None: none
    factors: Optional[np.ndarray]           # (h, w) f32, what the layers are multiplied by


class FrameSamples:
    """Keeps at most 16 frames, thinned out evenly as the run gets longer."""

    def __init__(self):
        self._samples: List[FrameSample] = []
        self._n_seen, self._stride = 0, 1

    def is_wanted(self) -> bool:
        """Tell if the next frame will be kept; call `add` or `skip` then."""
        return self._n_seen % self._stride == 0

    def skip(self) -> None:
        """Leave out the next frame."""
        self._n_seen += 1

    def add(self, sample: FrameSample) -> None:
        """Keep the next frame."""
        self._n_seen += 1
        self._samples.append(sample)
        if len(self._samples) > _MAX_SAMPLES:
            del self._samples[1::2]
            self._stride *= 2

    def samples(self) -> tuple:
        """Return what is kept, in order."""
        return tuple(self._samples)


def shrink(image: np.ndarray, interpolation: int = cv2.INTER_NEAREST) -> np.ndarray:
    """Return an image or map (H, W[, 3]) at most 520 px wide, in memory of its own."""
    h, w = image.shape[:2]
    if w <= _MAX_WIDTH_PX:
        return image.copy()
    size = (_MAX_WIDTH_PX, max(1, round(h * _MAX_WIDTH_PX / w)))
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=interpolation)
