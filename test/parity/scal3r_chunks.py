"""Chunks of Scal3R put together by our aligner, as the original puts them together."""

from typing import Callable, Dict, List, Sequence, Tuple

import numpy as np
import torch

from longrecon_ros.alignment import make_aligner
from longrecon_ros.alignment.base import Alignment, apply
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import pointmap_from_depth
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.nets.vggt import VggtOutput
from longrecon_ros.types import Prediction


def merged(outputs: Sequence[VggtOutput], ids: Sequence[List[int]], size: Tuple[int, int],
           cameras: Callable) -> Dict[str, torch.Tensor]:
    """Return ``post{0,1}_c2w`` and ``post{0,1}_ixt`` of all frames, in the order of the frames.

    0: chunks are aligned by depth and cameras, 1: by the points of the point head.
    """
    found = {}
    for mode in (0, 1):
        poses, Ks = {}, {}
        placed = _place([_prediction(out, order, size, cameras, mode)
                         for out, order in zip(outputs, ids)])
        for k, (T, prediction) in enumerate(placed):
            K = cameras(outputs[k].encoding[0], size)[1].numpy()
            for n, frame in enumerate(ids[k]):
                if k and frame in ids[k - 1] and _is_first_half(frame, ids[k - 1], ids[k]):
                    continue        # the first half of an overlap is the earlier chunk's
                poses[frame], Ks[frame] = _scaled(T) @ prediction.T_window_camera[n], K[n]
        order = sorted(poses)
        found[f'post{mode}_c2w'] = np.stack([poses[i] for i in order]).astype(np.float32)
        found[f'post{mode}_ixt'] = np.stack([Ks[i] for i in order])
    return {name: torch.from_numpy(value) for name, value in found.items()}


def _scaled(T: Sim3) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = T.scale * T.R, T.t
    return matrix


def _is_first_half(frame: int, before: List[int], now: List[int]) -> bool:
    shared = sorted(set(before) & set(now))
    return shared.index(frame) < len(shared) / 2


def _place(predictions: List[Prediction]):
    aligner = make_aligner('sim3_points', faithful=True)
    T, placed = Sim3.identity(), []
    for k, prediction in enumerate(predictions):
        if k:
            T = aligner.align(placed[-1][2], prediction).T_odom_window
        placed.append((T, prediction, apply(Alignment(T), prediction)))
    return [(T, prediction) for T, prediction, _ in placed]


def _prediction(out: VggtOutput, order: List[int], size: Tuple[int, int], cameras: Callable,
                mode: int) -> Prediction:
    T_camera_world, K = (part.double().numpy() for part in cameras(out.encoding[0], size))
    T = se3.inverse(se3.from_parts(T_camera_world[:, :, :3], T_camera_world[:, :, 3]))
    if mode:
        world = out.points[0].numpy()
        points = np.stack([se3.apply(se3.inverse(pose), p) for pose, p in zip(T, world)])
        confidence = out.points_confidence[0].numpy()
    else:
        K[:, :2, 2] -= 0.5              # rays through the centres of pixels
        points = pointmap_from_depth(out.depth[0, ..., 0].numpy(), K)
        confidence = out.depth_confidence[0].numpy()
    return Prediction(np.array(order), T, points, confidence, np.zeros(points.shape, np.uint8))
