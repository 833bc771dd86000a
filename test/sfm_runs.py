"""The sfm backbone through the pipeline, and how far the outcome is from the truth."""

from dataclasses import dataclass, replace
from typing import List, Sequence

import numpy as np

from longrecon_ros import config
from longrecon_ros.config import WindowConfig
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.umeyama import umeyama
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.types import Frame, FrameTruth, Update

PERIOD_NS = 10**8


@dataclass(frozen=True, eq=False)
class Run:
    """What a stream gave."""

    pipeline: Pipeline
    updates: List[Update]

    @property
    def T(self) -> np.ndarray:
        """(K, 4, 4) poses of all frames."""
        return self.pipeline.trajectory().T_map_camera

    @property
    def states(self) -> np.ndarray:
        """(K,) state of each frame."""
        return self.pipeline.states()

    def new(self, field: str) -> np.ndarray:
        """Return an array of the predictions, of each frame where it was new."""
        return np.concatenate([getattr(u.prediction, field)[-len(u.frame_ids):]
                               for u in self.updates])


def run(frames: Sequence[Frame], size: int = 16, overlap: int = 6, **options) -> Run:
    """Push frames through a new pipeline with the default configuration but for these."""
    loaded = config.load()
    pipeline = Pipeline.from_config(replace(
        loaded, backbone='sfm', window=WindowConfig(size, overlap),
        backbone_options={**loaded.backbone_options, **options}))
    updates = [pipeline.push(frame) for frame in frames] + [pipeline.flush()]
    return Run(pipeline, [u for u in updates if u is not None])


def stream(pictures, use_truth: bool = False) -> List[Frame]:
    """Return what a camera driver would make of pictures (synthetic frames), in this order.

    With ``use_truth`` the frames carry depth and pose of the pictures.
    """
    return [Frame(i, i * PERIOD_NS, p.image, p.K, getattr(p, 'distortion', None),
                  truth=FrameTruth(p.depth, p.T_world_camera) if use_truth else None)
            for i, p in enumerate(pictures)]


def with_noise(frames: Sequence[Frame], deviation: float) -> List[Frame]:
    """Return the frames with sensor noise, another one each."""
    return [replace(f, image=np.clip(
        f.image + np.random.default_rng(f.index).normal(0, deviation, f.image.shape),
        0, 255).astype(np.uint8)) for f in frames]


def ate_percent(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the rms position error after Sim(3) alignment, % of the path length."""
    a, b = found[:, :3, 3], truth[:, :3, 3]
    miss = np.linalg.norm(umeyama(a, b).apply(a) - b, axis=1)
    return float(100 * np.sqrt((miss**2).mean()) / path_length(truth))


def path_length(T: np.ndarray) -> float:
    """Return the length of the way of some poses."""
    return float(np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1).sum())


def rotation_errors_deg(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the errors (n,) of the orientations relative to the first one."""
    a, b = (se3.relative(T[0], T)[:, :3, :3] for T in (found, truth))
    return np.degrees(se3.rotation_angle(np.swapaxes(a, 1, 2) @ b))


def scale(found: np.ndarray, truth: np.ndarray) -> float:
    """Return true metres a unit, by the lengths of the ways."""
    return path_length(truth) / path_length(found)
