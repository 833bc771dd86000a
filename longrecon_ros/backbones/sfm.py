"""``sfm``: the embedded default. Classical reconstruction of each window, on a CPU, no weights.

Points are tracked through the stream (`sfm.tracks`), poses and points of a window are solved by
growing and bundle adjustment (`sfm.window`), and new frames get dense depth from optical flow
(`sfm.dense`). A standing or merely turning camera is told from a moving one (`sfm.motion`). Where
nothing can be measured (no texture, a cut) frames are LOST and their confidence is 0.

Depth is given for the frames that are new in a window; the shared ones have it from the window
before, and are linked by landmarks.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import List, Tuple

import cv2
import numpy as np

from ..geometry import se3
from ..geometry.camera import pixel_grid, resize_K, unproject
from ..sfm import dense, self_calibration
from ..sfm.reconstruct import reconstruct, Reconstruction
from ..sfm.session import FrameRecord, Session
from ..sfm.tracks import Tracker, TrackerConfig
from ..sfm.window import SolverConfig
from ..types import Frame, FrameState, Prediction, Window
from ._sfm_bridge import landmarks_of, mend, outline
from .base import Backbone, BackboneSpec

_FULL_AREA_PX = 640 * 480
"""Smaller images get fewer points, down to 0.75 of them: they would stand too close."""
_DEPTH_SHARE = 0.8
"""Depth maps are at most this much of the image's width: flow is no finer than that."""


@dataclass(frozen=True, slots=True)
class SfmConfig:
    """Parameters of the ``sfm`` backbone; ``config/default.yaml`` explains them."""

    n_tracks: int = 400
    patch_px: int = 19
    final_patch_px: int = 9
    n_points: int = 240
    n_memory: int = 6
    focal_sigma: float = 0.01
    depth_width_px: int = 320
    depth_sources: int = 2

    def __post_init__(self):
        for name in ('n_tracks', 'n_points'):
            if getattr(self, name) < 50:
                raise ValueError(f'{name}: expected 50 or more, got {getattr(self, name)}')
        for name in ('patch_px', 'final_patch_px'):
            value = getattr(self, name)
            if value % 2 == 0 and value or value < 0 or value > 63:
                raise ValueError(f'{name}: expected an odd number up to 63, got {value}')
        if not 0 <= self.focal_sigma <= 0.2:
            raise ValueError(f'focal_sigma: expected 0 to 0.2, got {self.focal_sigma}')
        if self.depth_width_px < 64:
            raise ValueError(f'depth_width_px: expected 64 or more, got {self.depth_width_px}')
        if not 1 <= self.depth_sources <= 4:
            raise ValueError(f'depth_sources: expected 1 to 4, got {self.depth_sources}')


class SfmBackbone(Backbone):
    """Window reconstruction from tracks; see the module's docstring."""

    spec = BackboneSpec(name='sfm', patch=1, max_pixels=None, gauge='window', scale='relative',
                        feed='all', align='depth_ratio')
    Config = SfmConfig
    tiny = MappingProxyType({'n_tracks': 200, 'n_points': 100, 'depth_width_px': 160})

    def __init__(self, config: SfmConfig = SfmConfig()):
        self._config = config
        self._dense = dense.DenseConfig(width_px=config.depth_width_px,
                                        n_sources=config.depth_sources)

    def init(self) -> Session:
        """Return a session that has seen nothing."""
        return Session()

    def step(self, state: Session, window: Window) -> Tuple[Session, Prediction]:
        """Reconstruct one window; the overlap is recognised by frame ids and not done again."""
        session = state
        if session.K is None:
            self._begin(session, window.frames[0])
        window_ids = window.frame_ids.tolist()
        session.move_on(window_ids, self._config.n_memory)
        new = [f for f in window.frames if f.index not in session.records]
        for frame in new:
            self._track(session, frame)
        frame_ids = session.memory + window_ids
        result = reconstruct(session, frame_ids, session.solver)
        if session.outline is not None:
            result = mend(session, session.outline, frame_ids, result, session.solver)
        session.outline = outline(frame_ids, result, session.focal_px())
        for i, T, state_i in zip(frame_ids, result.T_gauge_camera, result.states):
            session.records[i].T_gauge_camera = None if state_i == FrameState.LOST else T
        session.points = result.points
        prediction = self._predict(session, window, frame_ids, result, {f.index for f in new})
        return session, prediction

    def _begin(self, session: Session, frame: Frame) -> None:
        c = self._config
        share = float(np.clip(np.sqrt(frame.size[0] * frame.size[1] / _FULL_AREA_PX), 0.75, 1))
        session.tracker = Tracker(TrackerConfig(
            n_tracks=round(share * c.n_tracks), patch_px=c.patch_px,
            final_patch_px=c.final_patch_px))
        session.solver = SolverConfig(n_points=round(share * c.n_points))
        session.size = frame.size
        session.is_calibrated = frame.K is not None
        session.K = frame.K if session.is_calibrated else self_calibration.usual_K(frame.size)
        sigma = c.focal_sigma if session.is_calibrated else self_calibration.SIGMA
        session.focal_information = 1.0 / sigma ** 2 if sigma else float('inf')

    def _track(self, session: Session, frame: Frame) -> None:
        gray = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        rgb = cv2.resize(frame.image, self._small_size(session), interpolation=cv2.INTER_AREA)
        session.records[frame.index] = FrameRecord(session.tracker.push(gray), rgb,
                                                   cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))

    def _small_size(self, session: Session) -> Tuple[int, int]:
        w, h = session.size
        width = min(self._config.depth_width_px, round(_DEPTH_SHARE * w))
        return width, max(1, round(h * width / w))

    def _predict(self, session: Session, window: Window, frame_ids: List[int],
                 result: Reconstruction, new: set) -> Prediction:
        size = self._small_size(session)
        K = resize_K(session.believed_K(), session.size, size)
        views = [dense.View(session.records[i].gray, K, T[:3, :3], T[:3, 3])
                 for i, T in zip(frame_ids, se3.inverse(result.T_gauge_camera))]
        offset = len(frame_ids) - len(window.frames)
        jobs = [k for k in range(offset, len(frame_ids))
                if frame_ids[k] in new and result.states[k] == FrameState.TRACKED]
        n, (w, h) = len(window.frames), size
        depth = np.ones((n, h, w), np.float32)
        confidence = np.zeros((n, h, w), np.float32)
        posed = [k for k in range(len(frame_ids)) if result.states[k] == FrameState.TRACKED]

        def densify(k):
            return k, self._depth_map(views, posed, k, result)
        with ThreadPoolExecutor(2) as pool:
            for k, (d, c) in pool.map(densify, jobs):
                depth[k - offset], confidence[k - offset] = d, c
        rgb = np.stack([session.records[i].rgb for i in frame_ids[offset:]])
        return Prediction(window.frame_ids, result.T_gauge_camera[offset:],
                          _rays(K, size) * depth[..., None], confidence, rgb,
                          np.broadcast_to(K, (n, 3, 3)), result.states[offset:],
                          landmarks_of(result.points, session.focal_px()))

    def _depth_map(self, views, posed, k, result):
        view = views[k]
        z = result.points.X @ view.R[2] + view.t[2]
        z = z[z > 0]
        empty = np.ones(view.gray.shape, np.float32), np.zeros(view.gray.shape, np.float32)
        if len(z) < 10:
            return empty
        sources = dense.choose_sources(view, [views[j] for j in posed if j != k],
                                       float(np.median(z)), self._dense)
        if not sources:
            return empty
        near, far = np.percentile(z, [2, 98])
        depth, confidence = dense.depth_map(view, sources, (near / 1.5, far * 2), self._dense)
        return depth * dense.scale_to_points(depth, confidence, view, result.points.X), confidence


def _rays(K: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Viewing rays (h, w, 3) f32 of all pixels, z = 1."""
    grid = pixel_grid(size)
    return unproject(grid, np.ones(grid.shape[:2]), K).astype(np.float32)


BACKBONE = SfmBackbone
