"""Points followed from one image into another, there and back.

Flow after Lucas and Kanade (IJCAI 1981) in pyramids (Bouguet 2000).
"""

from typing import Optional, Tuple

import cv2
import numpy as np

BLANK_CONTRAST = 3.0
"""Standard deviation of the grey levels of an image that shows nothing."""
_SAME_MEAN = 3.0
_SAME_CONTRAST = 1.05
_MIN_EIGENVALUE = 1e-4


def contrast(gray: np.ndarray) -> Tuple[float, float]:
    """Return mean and standard deviation of the grey levels of an image (H, W) uint8."""
    mean, deviation = cv2.meanStdDev(gray)
    return float(mean[0, 0]), float(deviation[0, 0])


def as_bright(gray: np.ndarray, own: Tuple[float, float], like: Tuple[float, float]) -> np.ndarray:
    """Return the image with another's mean and contrast: flow takes brightness for constant.

    ``own`` and ``like`` are what `contrast` says of both. Images much alike are left alone.
    """
    gain = like[1] / max(own[1], 1e-6)
    if abs(own[0] - like[0]) < _SAME_MEAN and 1 / _SAME_CONTRAST < gain < _SAME_CONTRAST:
        return gray
    table = like[0] + np.clip(gain, 0.33, 3.0) * (np.arange(256) - own[0])
    return cv2.LUT(gray, np.clip(np.rint(table), 0, 255).astype(np.uint8))


def follow(before: np.ndarray, after: np.ndarray, uv: np.ndarray, guess: np.ndarray,
           patch_px: int, levels: int, round_trip_px: Optional[float] = None
           ) -> Tuple[np.ndarray, np.ndarray]:
    """Follow points uv (n, 2) of one image (H, W) uint8 into another of the same size.

    ``guess`` (n, 2) is where each search begins; points whose guess is NaN or outside are not
    looked for. Returns where they are (n, 2) f32, and who was found (n,) bool: those that come
    home to within ``round_trip_px``; None: they are not asked to.
    """
    found, there = np.zeros(len(uv), bool), np.zeros((len(uv), 2), np.float32)
    here = np.flatnonzero(is_inside(guess, before.shape, 0))
    if not len(here):
        return there, found
    start = np.ascontiguousarray(uv[here], np.float32)
    to, ok = one_way(before, after, start, guess[here], patch_px, levels)
    ok &= is_inside(to, before.shape, 2)
    here, start, to = here[ok], start[ok], to[ok]
    if round_trip_px is None or not len(here):
        there[here], found[here] = to, True
        return there, found
    home, ok = one_way(after, before, to, start, patch_px, 0)
    ok &= np.linalg.norm(home - start, axis=1) < round_trip_px
    there[here], found[here] = to, ok
    return there, found


def is_inside(uv: np.ndarray, shape: Tuple[int, int], margin_px: float) -> np.ndarray:
    """Return which pixels (n, 2) lie in an image (h, w) and off its border (n,); NaN does not."""
    h, w = shape
    with np.errstate(invalid='ignore'):
        return ((uv >= margin_px) & (uv <= (w - 1 - margin_px, h - 1 - margin_px))).all(axis=1)


def one_way(before: np.ndarray, after: np.ndarray, uv: np.ndarray, guess: np.ndarray,
            patch_px: int, levels: int) -> Tuple[np.ndarray, np.ndarray]:
    """Follow points uv (n, 2) f32, n > 0: where they are (n, 2) f32, and who was found (n,)."""
    to, ok, _ = cv2.calcOpticalFlowPyrLK(
        before, after, uv, np.array(guess, np.float32), winSize=(patch_px, patch_px),
        maxLevel=levels, criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 15, 0.02),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW, minEigThreshold=_MIN_EIGENVALUE)
    return to, ok[:, 0] > 0
