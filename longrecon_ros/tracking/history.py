"""The last images, kept small and grey: a reference belongs to one of them."""

from collections import deque
from dataclasses import dataclass
from typing import Deque, List, Optional, Tuple

import cv2
import numpy as np

from .flow import BLANK_CONTRAST, contrast
from .lens import Lens
from .records import Camera


@dataclass(slots=True, eq=False)
class Seen:
    """One image at working size, and what became of it."""

    frame_id: int
    stamp_ns: int
    gray: np.ndarray                    # (h, w) uint8
    contrast: Tuple[float, float]       # mean and deviation of the grey levels
    lens: Lens
    T_odom_camera: Optional[np.ndarray] = None      # (4, 4) f64 once measured
    is_answered: bool = False           # a pose was given for it, LOST or not

    @property
    def is_blank(self) -> bool:
        """True for an image that shows nothing."""
        return self.contrast[1] < BLANK_CONTRAST


class History:
    """A bounded number of images of one stream, all of one size, in order."""

    def __init__(self, n: int, width_px: int):
        self._images: Deque[Seen] = deque(maxlen=n)
        self._width_px = width_px
        self._size0: Optional[Tuple[int, int]] = None
        self._camera, self._lens = None, None

    def __len__(self) -> int:
        return len(self._images)

    def add(self, frame_id: int, stamp_ns: int, image: np.ndarray, camera: Camera) -> Seen:
        """Keep an image (H0, W0[, 3]) uint8; the oldest makes room.

        Raises ValueError for another type, another size than the first one's, or a frame that
        does not come after the last one.
        """
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0 or (
                image.ndim == 3 and image.shape[2] != 3):
            raise ValueError(f'image: expected (H, W) or (H, W, 3) uint8, got {image.shape} '
                             f'{image.dtype}')
        size0 = image.shape[1], image.shape[0]
        if self._size0 not in (None, size0):
            raise ValueError(f'image: expected {self._size0[0]}x{self._size0[1]} px as before, '
                             f'got {size0[0]}x{size0[1]}; reset the tracker for another camera')
        if self._images and frame_id <= self._images[-1].frame_id:
            raise ValueError(f'frame_id: expected more than {self._images[-1].frame_id}, got '
                             f'{frame_id}')
        self._size0 = size0
        gray = self._small(image)
        seen = Seen(frame_id, stamp_ns, gray, contrast(gray), self._lens_of(camera))
        self._images.append(seen)
        return seen

    def since(self, frame_id: int) -> List[Seen]:
        """Return the image of a frame and all later ones; nothing where it is not kept."""
        for i, seen in enumerate(self._images):
            if seen.frame_id == frame_id:
                return list(self._images)[i:]
        return []

    def _working_size(self) -> Tuple[int, int]:
        w, h = self._size0
        scale = min(1.0, self._width_px / w)
        return max(1, round(w * scale)), max(1, round(h * scale))

    def _small(self, image: np.ndarray) -> np.ndarray:
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
        size = self._working_size()
        if size != self._size0:
            return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        # the caller may write the next image to the same place
        return gray if image.ndim == 3 else np.array(gray, order='C')

    def _lens_of(self, camera: Camera) -> Lens:
        if self._camera is None or not camera.is_like(self._camera):
            self._camera = camera
            self._lens = Lens(camera, self._size0, self._working_size())
        return self._lens
