"""Images become frames: calibration is attached, and sizes are checked."""

import numpy as np

from ..errors import InputError
from ..types import Frame
from .calibration import Calibration, size_text


class FrameMaker:
    """Makes the frames of one stream; all must have the size of the first, and of the calibration.

    ``origin`` says in errors where the calibration is from.
    """

    def __init__(self, calibration: Calibration | None, origin: str):
        self._calibration = calibration
        self._origin = origin
        self._first: tuple[str, tuple[int, int]] | None = None

    def make(self, index: int, stamp_ns: int, image: np.ndarray, name: str) -> Frame:
        """Return a frame of an (H, W, 3) uint8 RGB image; ``name`` says in errors which it is."""
        size = (image.shape[1], image.shape[0])
        if self._first is None:
            self._check_calibration(name, size)
            self._first = (name, size)
        first_name, first_size = self._first
        if size != first_size:
            raise InputError(f'{name} is {size_text(size)}, but {first_name} is '
                             f'{size_text(first_size)}: all images must have one size')
        if self._calibration is None:
            return Frame(index, stamp_ns, image)
        return Frame(index, stamp_ns, image, self._calibration.K, self._calibration.distortion,
                     self._calibration.distortion_model)

    def _check_calibration(self, name: str, size: tuple[int, int]) -> None:
        expected = self._calibration and self._calibration.size
        if expected and expected != size:
            raise InputError(f'{self._origin} is for images of {size_text(expected)}, but {name} '
                             f'is {size_text(size)}: correct the calibration, or give one with '
                             '--calib')
