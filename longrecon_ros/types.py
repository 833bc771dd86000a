"""All records that flow between the stages of the pipeline.

Records are frozen, their arrays are read-only, and shapes are checked on construction. Unit **m**
means metres if and only if the backbone's scale is ``metric``; otherwise it is the odometry's own,
arbitrary unit. Cameras have OpenCV axes (x right, y down, z forward). ``T_a_b`` maps coordinates
in ``b`` to ``a``.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Mapping, Optional, Tuple

import numpy as np

from .frozen import freeze
from .geometry.sim3 import Sim3


class FrameState(IntEnum):
    """What is known about the motion up to one frame."""

    TRACKED = 0
    """The pose is measured."""
    STATIONARY = 1
    """The camera stood still: the pose repeats, depth is not renewed."""
    ROTATION_ONLY = 2
    """The camera turned without parallax: orientation is measured, the position is repeated."""
    LOST = 3
    """The pose is a guess (no texture, a cut, a break); confidence is 0 everywhere."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameTruth:
    """What is true about one image; only a backbone with ``spec.needs_truth`` may read it.

    The depth is registered to the image and of any size; `preprocess` brings it to the image's.
    """

    depth: np.ndarray                       # (H, W) f32 m along the optical axis, 0: unmeasured
    T_world_camera: np.ndarray              # (4, 4) f64 m, rigid

    def __post_init__(self):
        freeze(self, 'depth', np.float32, None, None)
        freeze(self, 'T_world_camera', np.float64, 4, 4)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of the stream.

    ``K`` is in pixels of ``image``; None when no calibration is known. ``distortion`` holds the
    OpenCV coefficients of ``distortion_model`` (``plumb_bob``, ``rational_polynomial`` or
    ``equidistant``) and is None once the image is rectified.
    """

    index: int
    stamp_ns: int
    image: np.ndarray                       # (H0, W0, 3) uint8 RGB
    K: Optional[np.ndarray] = None          # (3, 3) f64 px
    distortion: Optional[np.ndarray] = None     # (n,) f64
    distortion_model: str = 'plumb_bob'
    truth: Optional[FrameTruth] = None      # set only where a source was asked for it

    def __post_init__(self):
        freeze(self, 'image', np.uint8, None, None, 3)
        if self.K is not None:
            K = freeze(self, 'K', np.float64, 3, 3)
            if not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
                raise ValueError(f'Frame.K: focal lengths must be finite and positive, got\n{K}')
        if self.distortion is not None:
            freeze(self, 'distortion', np.float64, None)

    @property
    def size(self) -> Tuple[int, int]:
        """(width, height) of the image, px."""
        return self.image.shape[1], self.image.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Consecutive frames given to one backbone step."""

    index: int
    frames: Tuple[Frame, ...]
    n_overlap: int                          # leading frames that the previous window had, too
    usual_size: int = 0                     # frames of most windows of the stream; 0: unknown
    usual_overlap: int = 0                  # leading frames of theirs that are shared

    def __post_init__(self):
        object.__setattr__(self, 'frames', tuple(self.frames))
        if not self.frames:
            raise ValueError('Window.frames: a window holds at least one frame')
        if not 0 <= self.n_overlap < len(self.frames):
            raise ValueError(f'Window.n_overlap: expected 0 to {len(self.frames) - 1}, '
                             f'got {self.n_overlap}')

    @property
    def frame_ids(self) -> np.ndarray:
        """(N,) i64 indices of the frames."""
        return np.array([frame.index for frame in self.frames], dtype=np.int64)

    @property
    def stamps_ns(self) -> np.ndarray:
        """(N,) i64 times of the frames."""
        return np.array([frame.stamp_ns for frame in self.frames], dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """Sparse points of one window whose ids are the same in every window of the stream.

    ``sigma_log_depth`` is the expected standard deviation of the logarithm of a point's depth.
    """

    ids: np.ndarray                         # (L,) i64, ascending
    points: np.ndarray                      # (L, 3) f64 m, window frame
    sigma_log_depth: np.ndarray             # (L,) f64

    def __post_init__(self):
        n = len(freeze(self, 'ids', np.int64, None))
        freeze(self, 'points', np.float64, n, 3)
        freeze(self, 'sigma_log_depth', np.float64, n)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a backbone says about one window, in the window's own gauge.

    After `alignment.base.apply` the same record is in odom: then ``T_window_camera`` is
    ``T_odom_camera`` and all lengths are in odom units. ``confidence`` 0 means that the point is
    undefined. ``landmarks`` is set by backbones that identify points across windows, ``layers``
    by layer-wise alignment.
    """

    frame_ids: np.ndarray                   # (N,) i64
    T_window_camera: np.ndarray             # (N, 4, 4) f64, camera to window
    local_points: np.ndarray                # (N, H, W, 3) f32 m, camera frame
    confidence: np.ndarray                  # (N, H, W) f32 in [0, 1]
    rgb: np.ndarray                         # (N, H, W, 3) uint8
    K: Optional[np.ndarray] = None          # (N, 3, 3) f32 px at H x W
    states: Optional[np.ndarray] = None     # (N,) uint8 of FrameState; None: all TRACKED
    landmarks: Optional[Landmarks] = None
    layers: Optional[np.ndarray] = None     # (N, H, W) i16, number of each pixel's depth layer
    layer_variance: Optional[np.ndarray] = None     # (N, L) f32, of the log scale of each layer
    gauge: Optional[int] = None             # windows of one number lie in one frame, at one scale
    T_odom_gauge: Optional[Sim3] = None     # set once the window is in odom
    tokens: Optional[np.ndarray] = None     # (N, D) f32, a network's description of each image

    def __post_init__(self):
        n = len(freeze(self, 'frame_ids', np.int64, None))
        freeze(self, 'T_window_camera', np.float64, n, 4, 4)
        points = freeze(self, 'local_points', np.float32, n, None, None, 3)
        h, w = points.shape[1:3]
        freeze(self, 'confidence', np.float32, n, h, w)
        freeze(self, 'rgb', np.uint8, n, h, w, 3)
        if self.K is not None:
            freeze(self, 'K', np.float32, n, 3, 3)
        if self.states is None:
            object.__setattr__(self, 'states', np.zeros(n, np.uint8))
        freeze(self, 'states', np.uint8, n)
        if self.layers is not None:
            freeze(self, 'layers', np.int16, n, h, w)
        for name in ('layer_variance', 'tokens'):
            if getattr(self, name) is not None:
                freeze(self, name, np.float32, n, None)

    @property
    def depth(self) -> np.ndarray:
        """(N, H, W) f32 m, along the optical axis; meaningless where confidence is 0."""
        return self.local_points[..., 2]


@dataclass(frozen=True, slots=True, eq=False)
class PointCloud:
    """An unordered coloured cloud."""

    points: np.ndarray                      # (P, 3) f32 m
    colors: np.ndarray                      # (P, 3) uint8 RGB
    normals: Optional[np.ndarray] = None    # (P, 3) f32, unit length, towards the cameras; 0: none

    def __post_init__(self):
        n = len(freeze(self, 'points', np.float32, None, 3))
        freeze(self, 'colors', np.uint8, n, 3)
        if self.normals is not None:
            freeze(self, 'normals', np.float32, n, 3)

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def empty(cls) -> 'PointCloud':
        """Return a cloud without points."""
        return cls(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One image with its depth map, kept for others: meshes, occupancy, exports."""

    frame_id: int
    stamp_ns: int
    T_submap_camera: np.ndarray             # (4, 4) f64 rigid, odom units; or T_map_camera
    K: np.ndarray                           # (3, 3) f64 px at H x W
    rgb: np.ndarray                         # (H, W, 3) uint8
    depth: np.ndarray                       # (H, W) f32 m along the optical axis, 0: undefined

    def __post_init__(self):
        freeze(self, 'T_submap_camera', np.float64, 4, 4)
        freeze(self, 'K', np.float64, 3, 3)
        h, w = freeze(self, 'rgb', np.uint8, None, None, 3).shape[:2]
        freeze(self, 'depth', np.float32, h, w)


@dataclass(frozen=True, slots=True, eq=False)
class Keyframe:
    """What is kept of one image to find its place again: features with their 3-D points."""

    frame_id: int
    submap_id: int
    T_submap_camera: np.ndarray             # (4, 4) f64 rigid, odom units
    K: np.ndarray                           # (3, 3) f64 px of ``uv``
    uv: np.ndarray                          # (F, 2) f32 px
    features: np.ndarray                    # (F, 32) uint8, ORB: 256 bits
    points: np.ndarray                      # (F, 3) f32 m, camera frame; NaN where undefined
    token: Optional[np.ndarray] = None      # (D,) f32, the backbone's own description of the image

    def __post_init__(self):
        freeze(self, 'T_submap_camera', np.float64, 4, 4)
        freeze(self, 'K', np.float64, 3, 3)
        n = len(freeze(self, 'uv', np.float32, None, 2))
        freeze(self, 'features', np.uint8, n, 32)
        freeze(self, 'points', np.float32, n, 3)
        if self.token is not None:
            freeze(self, 'token', np.float32, None)


@dataclass(frozen=True, slots=True, eq=False)
class Submap:
    """The new part of one aligned window, kept in the map; its points never move inside it."""

    id: int
    frame_ids: np.ndarray                   # (N,) i64
    stamps_ns: np.ndarray                   # (N,) i64
    T_submap_camera: np.ndarray             # (N, 4, 4) f64 rigid, odom units
    points: np.ndarray                      # (P, 3) f32 m, submap frame
    colors: np.ndarray                      # (P, 3) uint8
    weights: Optional[np.ndarray] = None    # (P,) f32, confidence in (0, 1]; None: all 1
    views: Tuple[View, ...] = ()
    keyframes: Tuple[Keyframe, ...] = ()

    def __post_init__(self):
        n = len(freeze(self, 'frame_ids', np.int64, None))
        freeze(self, 'stamps_ns', np.int64, n)
        freeze(self, 'T_submap_camera', np.float64, n, 4, 4)
        p = len(freeze(self, 'points', np.float32, None, 3))
        freeze(self, 'colors', np.uint8, p, 3)
        if self.weights is not None:
            freeze(self, 'weights', np.float32, p)
        object.__setattr__(self, 'views', tuple(self.views))
        object.__setattr__(self, 'keyframes', tuple(self.keyframes))

    @property
    def n_bytes(self) -> int:
        """Size of all arrays."""
        records = (self, *self.views, *self.keyframes)
        return sum(value.nbytes for record in records
                   for value in (getattr(record, name) for name in type(record).__slots__)
                   if isinstance(value, np.ndarray))


@dataclass(frozen=True, slots=True, eq=False)
class LoopClosure:
    """A verified revisit: where one submap lies in another."""

    target_id: int
    source_id: int
    T_target_source: Sim3
    n_inliers: int
    sigma: float                            # expected error of the transform over scene depth


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Camera poses over time."""

    stamps_ns: np.ndarray                   # (K,) i64, ascending
    T_map_camera: np.ndarray                # (K, 4, 4) f64 m

    def __post_init__(self):
        n = len(freeze(self, 'stamps_ns', np.int64, None))
        freeze(self, 'T_map_camera', np.float64, n, 4, 4)

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def positions(self) -> np.ndarray:
        """(K, 3) f64 m, camera centres."""
        return self.T_map_camera[:, :3, 3]


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """What one window adds: poses of its K new frames, fresh points, where map is over odom.

    ``prediction`` is the whole aligned window in odom units (its overlap revises poses that an
    earlier update gave); ``cloud`` holds the points of the new frames in odom.
    """

    frame_ids: np.ndarray                   # (K,) i64, new frames only
    stamps_ns: np.ndarray                   # (K,) i64
    T_odom_camera: np.ndarray               # (K, 4, 4) f64
    states: np.ndarray                      # (K,) uint8 of FrameState
    T_map_odom: np.ndarray                  # (4, 4) f64 rigid
    cloud: PointCloud
    prediction: Prediction
    linked: bool = True                     # False: not aligned to the last window
    log_scale: float = 0.0                  # ln of the window-to-odom scale over the last one's
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    spans_s: Mapping[str, Tuple[float, float]] = field(default_factory=dict)
    """Start and end of ``backbone`` and ``register``, since the first frame of the stream."""
    closures: Tuple[LoopClosure, ...] = ()  # that became sure since the last update
    covariance: Optional[np.ndarray] = None     # (K, 6, 6) f64, odom units^2 and rad^2
    """Of T_odom_camera relative to the first camera: translation x y z, then rotation about x y z,
    in odom axes, at the camera (`alignment.uncertainty`). NaN where nothing is known: LOST frames.
    """

    def __post_init__(self):
        n = len(freeze(self, 'frame_ids', np.int64, None))
        freeze(self, 'stamps_ns', np.int64, n)
        freeze(self, 'T_odom_camera', np.float64, n, 4, 4)
        freeze(self, 'states', np.uint8, n)
        freeze(self, 'T_map_odom', np.float64, 4, 4)
        if self.covariance is None:
            object.__setattr__(self, 'covariance', np.full((n, 6, 6), np.nan))
        freeze(self, 'covariance', np.float64, n, 6, 6)
