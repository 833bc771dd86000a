"""Where exactly an image shows a landmark: compared with the reference's image, not the last one.

Flow from image to image drifts: patches change their looks, each in its own direction, so errors
add up. Here the patch of the reference's image is warped to what pose and surface say it looks
like now, and found in the new image, so the error does not grow (as SVO does: Forster, Pizzoli
and Scaramuzza, ICRA 2014). All warped patches are laid into one image, for one call of OpenCV's
flow.
"""

from typing import Tuple

import cv2
import numpy as np

from .flow import as_bright, is_inside, one_way
from .history import Seen
from .points import Landmarks, predicted_warp

_RIM_PX = 2
"""Around a patch: gradients at its rim need it."""
_MAX_STRETCH = 3.0


def refine(landmarks: Landmarks, reference: Seen, seen: Seen, T_odom_camera: np.ndarray,
           which: np.ndarray, uv: np.ndarray, patch_px: int, max_move_px: float
           ) -> Tuple[np.ndarray, np.ndarray]:
    """Return pixels (n, 2) f32 where ``seen`` shows landmarks, and who was found (n,) bool.

    ``uv`` (n, 2) is where they are about, ``T_odom_camera`` (4, 4) the pose of ``seen``, about.
    Whoever moves by more than ``max_move_px`` is something else; a patch that looks three times
    as large or small as in the reference is not sought.
    """
    to, found = np.array(uv, np.float32), np.zeros(len(uv), bool)
    warp = predicted_warp(landmarks, T_odom_camera, seen.lens, which)
    side = patch_px + 2 * _RIM_PX
    able = np.flatnonzero(_is_mild(warp))
    gray = as_bright(reference.gray, reference.contrast, seen.contrast)
    n_tiles = max(1, _n_tiles(seen.gray.shape, side))
    # one round, but for small images
    for some in np.split(able, range(n_tiles, len(able), n_tiles)) if len(able) else ():
        mosaic, centres = _mosaic(gray, landmarks.uv[which[some]], warp[some], side)
        there, ok = one_way(mosaic, seen.gray, centres, to[some], patch_px, 0)
        # a patch that the border cuts is pulled there
        ok &= is_inside(there, seen.gray.shape, side // 2)
        ok &= np.linalg.norm(there - to[some], axis=1) < max_move_px
        to[some[ok]], found[some[ok]] = there[ok], True
    return to, found


def _is_mild(warp: np.ndarray) -> np.ndarray:
    """Which warps (n, 2, 2) neither mirror nor stretch much in any direction; NaN does not."""
    with np.errstate(invalid='ignore'):
        determinant = warp[:, 0, 0] * warp[:, 1, 1] - warp[:, 0, 1] * warp[:, 1, 0]
        return ((warp**2).sum(axis=(1, 2)) < 2 * _MAX_STRETCH**2) & (
            determinant > 1 / _MAX_STRETCH**2)


def _n_tiles(shape: Tuple[int, int], side: int) -> int:
    return (shape[0] // side) * (shape[1] // side)


def _mosaic(gray: np.ndarray, uv: np.ndarray, warp: np.ndarray, side: int):
    """Return an image as large as ``gray`` with the warped patches, and their centres (n, 2) f32.
    """
    h, w = gray.shape
    n_columns, n, half = w // side, len(uv), side // 2
    n_rows = -(-n // n_columns)
    offset = np.arange(-half, half + 1, dtype=np.float32)
    det = warp[:, 0, 0] * warp[:, 1, 1] - warp[:, 0, 1] * warp[:, 1, 0]
    back = np.zeros((n_rows * n_columns, 2, 2), np.float32)
    back[:n, 0, 0], back[:n, 1, 1] = warp[:, 1, 1] / det, warp[:, 0, 0] / det
    back[:n, 0, 1], back[:n, 1, 0] = -warp[:, 0, 1] / det, -warp[:, 1, 0] / det
    centre = np.zeros((n_rows * n_columns, 2), np.float32)
    centre[:n] = uv
    at = [(centre[:, k, None, None] + back[:, k, 0, None, None] * offset
           + back[:, k, 1, None, None] * offset[:, None])
          .reshape(n_rows, n_columns, side, side).swapaxes(1, 2)
          .reshape(n_rows * side, n_columns * side) for k in (0, 1)]
    image = np.zeros((h, w), np.uint8)
    image[:n_rows * side, :n_columns * side] = cv2.remap(
        gray, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    row, column = np.divmod(np.arange(n), n_columns)
    return image, (np.stack([column, row], axis=1) * side + half).astype(np.float32)
