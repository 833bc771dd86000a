"""Keyframes out of predictions: ORB features and the 3-D point under each of them.

ORB after Rublee et al., "ORB: an efficient alternative to SIFT or SURF" (ICCV 2011); the best
features of each cell of a grid are kept, as in ORB-SLAM (Mur-Artal et al., T-RO 2015), because
features that crowd one corner determine neither a place nor a pose.
"""

from typing import Optional, Tuple

import cv2
import numpy as np

from ..geometry.camera import estimate_K
from ..types import Keyframe, Prediction

_COLUMNS, _ROWS = 8, 6
_CROWD = 10
"""Corners looked for, as a multiple of the features kept: ORB itself takes the strongest, and a
single bush or bookcase can have all of these."""
_EDGE_PX = 19
"""What a rotated ORB patch needs around a feature of the first level."""
_FAST = 12
"""Least contrast of a corner, grey levels: above noise, and dim rooms have no better ones."""
_JUMP = 1.1
"""Largest ratio of the depths in a 3 x 3 neighbourhood that is a surface, not an edge."""
_MIN_SIDE_PX = 32
_STRIDE = 8
"""Step in px between the points that K is estimated from."""


def make_keyframe(prediction: Prediction, n: int, submap_id: int, T_submap_camera: np.ndarray,
                  n_features: int = 500, token: Optional[np.ndarray] = None
                  ) -> Optional[Keyframe]:
    """Return frame ``n`` of a prediction as a keyframe of at most ``n_features`` features.

    ``T_submap_camera`` is (4, 4) rigid, and ``token`` (D,) the backbone's description of the
    image or None. The points are in the camera frame, in the prediction's unit; they are NaN
    where one of the 3 x 3 pixels around the feature is undefined (confidence 0) or where these
    differ in depth by more than a tenth: beside a depth edge a point belongs to either side.

    Without ``prediction.K`` the intrinsics are estimated from the pointmap
    (`geometry.camera.estimate_K`), and the keyframe is None where that does not determine them,
    as in a lost frame. An image without texture gives a keyframe without features. Raises
    ``ValueError`` when ``n`` is no frame of the prediction or ``n_features`` is below 1.
    """
    if not 0 <= n < len(prediction.frame_ids):
        raise ValueError(f'n: expected 0 to {len(prediction.frame_ids) - 1}, got {n}')
    K = _intrinsics(prediction, n)
    if K is None:
        return None
    uv, features = find_features(prediction.rgb[n], n_features)
    points = read_points(prediction.local_points[n], prediction.confidence[n], uv)
    return Keyframe(int(prediction.frame_ids[n]), submap_id, T_submap_camera, K, uv, features,
                    points, token)


def find_features(rgb: np.ndarray, n_features: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return pixels uv (F, 2) f32 and ORB descriptors (F, 32) uint8 of an image (H, W, 3) uint8.

    F is at most ``n_features``: the strongest ones of each cell of a grid, cell by cell in turn.
    """
    if n_features < 1:
        raise ValueError(f'n_features: expected 1 or more, got {n_features}')
    if min(rgb.shape[:2]) < _MIN_SIDE_PX:
        return np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8)
    orb = cv2.ORB_create(_CROWD * n_features, edgeThreshold=_EDGE_PX, fastThreshold=_FAST)
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    corners = orb.detect(gray, None)
    if not corners:
        return np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8)
    response = np.array([corner.response for corner in corners])
    best = _spread(cv2.KeyPoint_convert(corners), response, rgb.shape[:2])[:n_features]
    kept, features = orb.compute(gray, [corners[at] for at in best])
    return cv2.KeyPoint_convert(kept), features


def read_points(local_points: np.ndarray, confidence: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Return the points (F, 3) f32 of a pointmap (H, W, 3) under pixels uv (F, 2).

    They are bilinear between the four pixels around; NaN as `make_keyframe` says. ``confidence``
    is (H, W).
    """
    h, w = confidence.shape
    if min(h, w) < 3:
        return np.full((len(uv), 3), np.nan, np.float32)
    x, y = np.rint(uv.astype(np.float64)).astype(np.int64).T
    is_inside = (x >= 1) & (x < w - 1) & (y >= 1) & (y < h - 1)
    x, y = np.where(is_inside, x, 1), np.where(is_inside, y, 1)
    rows, columns = (side.ravel() for side in np.mgrid[-1:2, -1:2])
    rows, columns = y[:, None] + rows, x[:, None] + columns             # (F, 9)
    near, sure = local_points[rows, columns], confidence[rows, columns]
    z = near[..., 2]
    with np.errstate(invalid='ignore'):                 # undefined points may hold anything
        is_defined = np.isfinite(near).all((1, 2)) & (z > 0).all(1)
        is_defined &= (np.isfinite(sure) & (sure > 0)).all(1)
        is_surface = is_inside & is_defined & (z.max(1) <= _JUMP * z.min(1))
        points = _bilinear(local_points, uv)
    return np.where(is_surface[:, None], points, np.nan).astype(np.float32)


def _intrinsics(prediction: Prediction, n: int) -> Optional[np.ndarray]:
    """Return K (3, 3) of one frame, given or estimated; None where nothing determines it."""
    if prediction.K is not None:
        return prediction.K[n]
    h, w = prediction.rgb.shape[1:3]
    start_y, start_x = ((h - 1) % _STRIDE) // 2, ((w - 1) % _STRIDE) // 2
    grid = np.s_[n, start_y::_STRIDE, start_x::_STRIDE]
    try:
        K = estimate_K(prediction.local_points[grid], np.nan_to_num(prediction.confidence[grid]))
    except ValueError:
        return None
    K[:2] *= _STRIDE
    K[:2, 2] = (w - 1) / 2, (h - 1) / 2
    return K


def _spread(uv: np.ndarray, response: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Return the order (F,) that takes the strongest of every cell first, then the second ones."""
    h, w = size
    column = (uv[:, 0] * (_COLUMNS / w)).astype(np.int64)
    row = (uv[:, 1] * (_ROWS / h)).astype(np.int64)
    cell = row * _COLUMNS + column
    order = np.lexsort((-response, cell))
    is_first = np.append(True, np.diff(cell[order]) != 0)
    start = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
    rank = np.arange(len(order)) - start
    return order[np.lexsort((-response[order], rank))]


def _bilinear(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Return image (H, W, C) at pixels uv (F, 2), none of them on the last row or column."""
    h, w = image.shape[:2]
    low = np.clip(np.floor(uv), 0, [w - 2, h - 2]).astype(np.int64)
    (x, y), (a, b) = low.T, (uv - low).T[:, :, None]
    top = (1 - a) * image[y, x] + a * image[y, x + 1]
    return (1 - b) * top + b * (image[y + 1, x] * (1 - a) + image[y + 1, x + 1] * a)
