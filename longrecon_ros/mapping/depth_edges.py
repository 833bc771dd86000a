"""Pixels between two surfaces: depths that a network or sensor mixed where one hides another.

On a plane inverse depth is linear in the image, however slanted it is. So each side of a pixel,
continued linearly to the pixel itself, says what inverse depth it should have. On a surface it
agrees with at least one side, also beside an occlusion edge or at a crease; in curved places both
sides miss it in the same sense. Only where it was mixed does it lie between the two, off both.

Known from laser scanners as mixed pixels (Tang, Huber and Akinci 2007, "A comparative analysis of
depth-discontinuity and mixed-pixel detection algorithms"), from depth cameras as flying pixels.
Usual tests of the angle between ray and surface also find floors that recede into the distance.
"""

import cv2
import numpy as np

_AXES = ((0, 1), (1, 0), (1, 1), (1, -1))
_ROUGHNESS = np.float32(0.5)
"""Weight of the bend of the sides themselves: where they are noisy, more is allowed."""


def floating(depth: np.ndarray, is_defined: np.ndarray, tolerance: float = 0.03,
             reach_px: int = 2) -> np.ndarray:
    """Return the pixels (N, H, W) bool that lie between two surfaces, on neither.

    ``depth`` (N, H, W) along the optical axis, in any unit; ``is_defined`` (N, H, W) bool: what it
    leaves out is not found, nor are pixels one of whose sides it leaves out. A pixel is found
    where its inverse depth is off what its sides say by more than ``tolerance``, relative to
    itself: below one of them and above the other, along a row, a column or a diagonal. The sides
    begin ``reach_px`` away. So bands of mixed pixels are found if they are not wider than that,
    and surfaces may be if they are narrower than twice that. Raises ValueError for other shapes
    or parameters out of range.
    """
    if depth.ndim != 3 or depth.shape != is_defined.shape:
        raise ValueError(f'depth, is_defined: expected the same shape (N, H, W), got '
                         f'{depth.shape} and {is_defined.shape}')
    if not tolerance > 0 or reach_px < 1:
        raise ValueError(f'tolerance, reach_px: expected above 0 and 1 or more, got {tolerance} '
                         f'and {reach_px}')
    found = np.zeros(depth.shape, bool)
    for found_n, depth_n, defined_n in zip(found, depth, is_defined):
        _mark(found_n, _inverse(depth_n, defined_n), tolerance, reach_px)
    return found


def floating_at(depth: np.ndarray, is_defined: np.ndarray, pixels: np.ndarray,
                tolerance: float = 0.03, reach_px: int = 2) -> np.ndarray:
    """Return which of some pixels of one depth map (H, W) float, (P,) bool; see `floating`.

    ``pixels`` (P,) are flat positions. Costs what the pixels do, not the map.
    """
    inverse = _inverse(depth, is_defined)
    y, x = np.unravel_index(pixels, depth.shape)
    return _is_between(inverse, y, x, tolerance, reach_px) & (inverse[y, x] > 0)


def _inverse(depth: np.ndarray, is_defined: np.ndarray) -> np.ndarray:
    """Return the inverse (H, W) f32 of a depth map, 0 where undefined or no number above 0."""
    is_defined = is_defined & (depth > 0) & (depth < np.inf)
    return np.divide(1, depth, out=np.zeros(depth.shape, np.float32), where=is_defined,
                     dtype=np.float32, casting='same_kind')


def _mark(found: np.ndarray, inverse: np.ndarray, tolerance: float, reach: int) -> None:
    """Set the floating pixels of an inverse depth map (H, W), 0 where undefined, in ``found``."""
    y, x = np.nonzero(_may_float(inverse, tolerance, reach))
    found[y, x] = _is_between(inverse, y, x, tolerance, reach)


def _is_between(inverse: np.ndarray, y: np.ndarray, x: np.ndarray, tolerance: float,
                reach: int) -> np.ndarray:
    """Return for pixels (n,) whether they are between their sides and off both."""
    margin = reach + 2
    padded = cv2.copyMakeBorder(inverse, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    padded[padded == 0] = np.nan            # comparisons with it are false
    values, width = padded.ravel(), padded.shape[1]
    at = (y + margin) * width + x + margin
    own = values[at]
    allowed, is_between = np.float32(tolerance) * own, np.zeros(len(at), bool)
    for dy, dx in _AXES:
        step = dy * width + dx
        before, bend_before = _continued(values, at, -step, reach)
        after, bend_after = _continued(values, at, step, reach)
        inside = np.minimum(np.maximum(before, after) - own, own - np.minimum(before, after))
        is_between |= inside > allowed + _ROUGHNESS * np.maximum(bend_before, bend_after)
    return is_between


def _may_float(inverse: np.ndarray, tolerance: float, reach: int) -> np.ndarray:
    """Return the pixels (H, W) bool around which inverse depth differs enough; most do not."""
    kernel = np.ones((2 * reach + 1,) * 2, np.uint8)
    difference = cv2.dilate(inverse, kernel) - cv2.erode(inverse, kernel)
    return (inverse > 0) & (difference > 2 * np.float32(tolerance) * inverse)


def _continued(values: np.ndarray, at: np.ndarray, step: int, reach: int):
    """Return what one side says about the pixels ``at``, and the bend of that side, both (n,).

    The slope is the mean of the two between three pixels, but at most twice the smaller one, and
    0 where they differ in sign (the monotonised central limiter of van Leer 1977): so a jump
    further out is no slope.
    """
    a, b, c = (values[at + k * step] for k in range(reach, reach + 3))
    near, far = a - b, b - c
    mean = (near + far) / 2
    limit = 2 * np.minimum(np.abs(near), np.abs(far))
    slope = np.where(near * far > 0, np.clip(mean, -limit, limit), 0)
    return a + np.float32(reach) * slope, np.abs(near - far)
