"""Images that show nothing: a memory must not take them in."""

import numpy as np

_MIN_DEVIATION = 1.5
"""Of grey levels in an image with content."""


def is_blank(image: np.ndarray) -> bool:
    """Say whether an image (H, W, 3) uint8 shows nothing: black, washed out, one colour."""
    return float(image[::4, ::4].std(axis=(0, 1)).max()) < _MIN_DEVIATION
