"""Pictures of a coloured cloud, drawn point by point with numpy."""

from dataclasses import dataclass

import cv2
import numpy as np

from ..types import PointCloud

BACKGROUND = (16, 19, 24)
_PATH_COLOR = (255, 176, 32)
_MARGIN = 1.06
_FOCAL = 1.1                    # of the oblique view, in widths of the picture


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is drawn: points and path in view axes (forward, left, up), cut to where the map is."""

    points: np.ndarray                      # (P, 3) f32
    colors: np.ndarray                      # (P, 3) uint8 RGB
    path: np.ndarray                        # (K, 3) f64

    @classmethod
    def of(cls, cloud: PointCloud, path: np.ndarray, R_view_map: np.ndarray) -> 'Scene':
        """Turn a cloud and camera positions (K, 3) into view axes; drop far outliers."""
        points = cloud.points @ R_view_map.T.astype(np.float32)
        path = path @ R_view_map.T
        if not len(points):
            return cls(points, cloud.colors, path)
        low, high = np.quantile(points[::max(1, len(points) // 100_000)], [0.02, 0.98], axis=0)
        low, high = np.minimum(low, path.min(axis=0)), np.maximum(high, path.max(axis=0))
        room = 0.15 * (high - low)
        is_inside = ((points > low - room) & (points < high + room)).all(axis=1)
        return cls(points[is_inside], cloud.colors[is_inside], path)


def draw_above(scene: Scene, width: int) -> np.ndarray:
    """Return the scene from above (h, width, 3) uint8 RGB, forward to the right.

    What is above the cameras (ceilings, treetops) is left out, so that one sees in.
    """
    height_of_cameras = np.quantile(scene.path[:, 2], 0.9)
    room = 0.02 * np.ptp(scene.points[:, 2]) if len(scene.points) else 0.0
    is_below = scene.points[:, 2] <= height_of_cameras + room
    shown = Scene(scene.points[is_below], scene.colors[is_below], scene.path)
    everything = np.concatenate([shown.points[:, :2], shown.path[:, :2]])
    low, high = everything.min(axis=0), everything.max(axis=0)
    extent = np.maximum((high - low) * _MARGIN, 1e-6)
    height = int(np.clip(round(width * extent[1] / extent[0]), width // 5, width))
    scale = min(width / extent[0], height / extent[1])
    centre = (low + high) / 2

    def to_pixels(points: np.ndarray) -> np.ndarray:
        return np.stack([width / 2 + scale * (points[:, 0] - centre[0]),
                         height / 2 - scale * (points[:, 1] - centre[1]),
                         height_of_cameras - points[:, 2]], axis=1)

    return _draw(shown, to_pixels, (width, height))


def draw_oblique(scene: Scene, width: int) -> np.ndarray:
    """Return the scene (h, width, 3) uint8 RGB from behind the path, looking down on it."""
    height = width * 9 // 16
    everything = np.concatenate([scene.points[::7], scene.path])
    centre = np.median(everything, axis=0)
    radius = max(float(np.quantile(np.linalg.norm(everything - centre, axis=1), 0.95)), 1e-6)
    back = np.array([-0.62, -0.45, 0.64])
    back /= np.linalg.norm(back)
    eye = centre + 1.9 * radius * back
    right = np.cross(-back, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(-back, right), -back])     # x right, y down, z forward

    def to_pixels(points: np.ndarray) -> np.ndarray:
        local = (points - eye) @ R.T
        depth = np.where(local[:, 2] > 0.05 * radius, local[:, 2], np.nan)
        return np.stack([width / 2 + _FOCAL * width * local[:, 0] / depth,
                         height / 2 + _FOCAL * width * local[:, 1] / depth, depth], axis=1)

    return _draw(scene, to_pixels, (width, height))


def _draw(scene: Scene, to_pixels, size: tuple[int, int]) -> np.ndarray:
    """Draw points as blocks of 2 px, nearest last, then the path over them."""
    width, height = size
    picture = np.empty((height + 1, width + 1, 3), np.uint8)
    picture[:] = BACKGROUND
    xyd = to_pixels(scene.points)
    with np.errstate(invalid='ignore'):
        is_seen = (xyd[:, 0] >= 0) & (xyd[:, 0] < width) & (xyd[:, 1] >= 0) & (xyd[:, 1] < height)
    xyd, colors = xyd[is_seen], scene.colors[is_seen]
    order = np.argsort(-xyd[:, 2])
    x, y, colors = xyd[order, 0].astype(int), xyd[order, 1].astype(int), colors[order]
    for dy in (1, 0):
        for dx in (1, 0):
            picture[y + dy, x + dx] = colors
    picture = np.ascontiguousarray(picture[:height, :width])
    _draw_path(picture, to_pixels(scene.path)[:, :2])
    return picture


def _draw_path(picture: np.ndarray, xy: np.ndarray) -> None:
    """Draw the path in place; parts behind the viewer are NaN and left out."""
    xy = xy[np.isfinite(xy).all(axis=1)]
    if not len(xy):
        return
    line = np.round(np.clip(xy, -30_000, 30_000)).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(picture, [line], False, _PATH_COLOR, 2, cv2.LINE_AA)
    cv2.circle(picture, tuple(int(v) for v in line[0, 0]), 5, (64, 220, 120), -1, cv2.LINE_AA)
