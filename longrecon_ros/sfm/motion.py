"""What kind of motion a window holds: parallax, a turn on the spot, or none."""

from typing import Optional

import numpy as np

from .two_view import rank_pairs, rotation_between

STILL_PX = 0.5
NO_PARALLAX_PX = 1.0
_MIN_COMMON = 15


def has_parallax(xy: np.ndarray, seen: np.ndarray, focal_px: float, enough_px: float,
                 tries: int = 4) -> bool:
    """Tell whether some pair of frames moves in a way that no rotation explains.

    The 80th percentile of what is left after the best rotation must exceed 1 px: at rest and in
    pure rotation it stays below 0.8 px, in real motion it is 2 to 20 px.
    """
    for a, b in rank_pairs(xy, seen, focal_px, enough_px)[:tries]:
        both = seen[a] & seen[b]
        _, residual = rotation_between(xy[a, both], xy[b, both], focal_px)
        if np.percentile(residual, 80) > NO_PARALLAX_PX:
            return True
    return False


def turn_on_the_spot(xy: np.ndarray, seen: np.ndarray, focal_px: float, known: np.ndarray,
                     R: np.ndarray) -> Optional[np.ndarray]:
    """Orientations (F, 3, 3) of frames without parallax, window to camera.

    ``known`` (F,) tells which of ``R`` are given; every other frame is turned against the known
    frame that shares most tracks with it. Frames that share none keep nan.
    """
    known = known.copy()
    R = np.where(known[:, None, None], R, np.nan)
    common = (seen[:, None] & seen[None]).sum(axis=2)
    while not known.all():
        links = np.where(known[:, None] & ~known[None], common, 0)
        a, b = np.unravel_index(int(np.argmax(links)), links.shape)
        if links[a, b] < _MIN_COMMON:
            break
        both = seen[a] & seen[b]
        step, _ = rotation_between(xy[a, both], xy[b, both], focal_px)
        R[b] = step @ R[a]
        known[b] = True
    return R
