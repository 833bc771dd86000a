"""Short films with exact poses and pointmaps, and a run of the tracker over them."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import pointmap_from_depth, resize_K
from longrecon_ros.synthetic.camera import undistort
from longrecon_ros.synthetic.recipe import Production, Recipe
from longrecon_ros.tracking import Camera, Reference, TrackedPose, Tracker, TrackingConfig
from longrecon_ros.types import FrameState

SIZE, MAP_SIZE = (320, 240), (64, 48)
EXACT = TrackingConfig(sigma_log_depth=0.0, sigma_log_scale=0.0)
"""For references that are exact."""
PERIOD_NS = 33_333_333
N_FRAMES = 28


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """Consecutive frames of a world at 30 Hz, seen through a lens or not."""

    images: Tuple[np.ndarray, ...]          # (240, 320, 3) uint8
    camera: Camera                          # K (3, 3) px at 320 x 240
    T_odom_camera: np.ndarray               # (n, 4, 4) f64
    depth: np.ndarray                       # (n, 48, 64) f32, of the image without distortion

    @property
    def median_depth(self) -> float:
        """Median depth of all pixels."""
        return float(np.median(self.depth[self.depth > 0]))

    def reference(self, k: int, K: Optional[np.ndarray] = None) -> Reference:
        """Return the exact pointmap of a frame; ``K`` at 64 x 48 replaces the true pinhole."""
        K = resize_K(self.camera.K, SIZE, MAP_SIZE) if K is None else K
        return Reference(k, self.T_odom_camera[k], pointmap_from_depth(self.depth[k], K),
                         (self.depth[k] > 0).astype(np.float32), K)


@lru_cache(maxsize=None)
def shot(scene: str, frames: range = range(N_FRAMES), speed_mps: Optional[float] = None) -> Shot:
    """Film some frames of a world, once."""
    film = Production.of(Recipe(scene, n_frames=frames.stop, size=SIZE, fps=30.0,
                                speed_mps=speed_mps)).film
    frames = [film.frame(i) for i in frames]
    # the centre of 5x5 pixels is where the pixel of the small map is
    depth = np.stack([frame.depth[2::5, 2::5] for frame in frames])
    return Shot(tuple(frame.image for frame in frames), Camera(film.camera.K),
                np.stack([frame.T_world_camera for frame in frames]), depth)


def drive() -> Shot:
    """Return two seconds of the street at 10 m/s, straight on and round a corner."""
    return shot('street', range(18, 78), 10.0)


@lru_cache(maxsize=None)
def bent(scene: str, model: str, coefficients: Tuple[float, ...]) -> Shot:
    """Return a shot as a lens with the same K shows it."""
    straight, k = shot(scene), np.array(coefficients)
    K, (w, h) = straight.camera.K, SIZE
    x, y = np.meshgrid((np.arange(w) - K[0, 2]) / K[0, 0], (np.arange(h) - K[1, 2]) / K[1, 1])
    if model == 'equidistant':
        grid = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
        x, y = cv2.fisheye.undistortPoints(grid, np.eye(3), k).reshape(h, w, 2).transpose(2, 0, 1)
    else:
        x, y = undistort(x, y, k)
    u, v = (x * K[0, 0] + K[0, 2]).astype(np.float32), (y * K[1, 1] + K[1, 2]).astype(np.float32)
    return replace(straight, camera=Camera(K, k, model), images=tuple(
        cv2.remap(image, u, v, cv2.INTER_CUBIC) for image in straight.images))


def track(film: Shot, config: TrackingConfig = EXACT, every: int = 10, late: int = 12,
          images: Optional[Sequence[np.ndarray]] = None, camera: Optional[Camera] = None
          ) -> Dict[int, TrackedPose]:
    """Track a film with an exact reference every few frames, each so many frames late.

    ``images`` and ``camera`` replace the film's. Every image gets at most one pose; they come
    back by frame.
    """
    tracker, poses = Tracker(config), []
    for i, image in enumerate(film.images if images is None else images):
        poses += filter(None, [tracker.add(i, i * PERIOD_NS, image, camera or film.camera)])
        if i >= late and (i - late) % every == 0:
            poses += tracker.set_reference(film.reference(i - late))
    by_frame = {pose.frame_id: pose for pose in poses}
    assert len(by_frame) == len(poses)
    return by_frame


def tracked(poses: Dict[int, TrackedPose]) -> List[int]:
    """Return the frames that are not LOST, ascending."""
    return sorted(i for i, pose in poses.items() if pose.state == FrameState.TRACKED)


def errors(film: Shot, poses: Dict[int, TrackedPose]) -> np.ndarray:
    """Return xi (n, 6) of the tracked poses: T_true = T exp(xi), in ascending order of frames."""
    return np.stack([se3.log(se3.relative(poses[i].T_odom_camera, film.T_odom_camera[i]))
                     for i in tracked(poses)])


def worst(film: Shot, poses: Dict[int, TrackedPose]) -> Tuple[float, float]:
    """Return the largest error of the place, in median depths, and of the rotation, degrees."""
    way, turn = np.linalg.norm(errors(film, poses).reshape(-1, 2, 3), axis=2).max(axis=0)
    return way / film.median_depth, np.degrees(turn)


def normalised(film: Shot, poses: Dict[int, TrackedPose]) -> np.ndarray:
    """Return e^T C^-1 e / 6 (n,) of the tracked poses: about 1 where the covariance is right."""
    return np.array([xi @ np.linalg.solve(poses[i].covariance, xi) / 6
                     for xi, i in zip(errors(film, poses), tracked(poses))])
