"""Inputs of the LASER cases: what a network would have said, and what is true."""

from dataclasses import dataclass
import json
import re
from typing import List

import numpy as np
from reader import Case
import torch

from longrecon_ros.geometry import se3
from longrecon_ros.types import Prediction


@dataclass(frozen=True)
class Stream:
    """Windows of a stream, and its truth. Confidence is that of the engine: logits."""

    windows: List[Prediction]
    depth: np.ndarray                       # (T, H, W) f32
    T_world_camera: np.ndarray              # (T, 4, 4)
    overlap: int
    confident_share: float
    is_noisy: bool


def scene(case: Case) -> Stream:
    """Rebuild the scene of a stream case from its file (README: LASER)."""
    with np.load(case.folder / case.about['input']['scene_file']) as file:
        c = {key: file[key] for key in file.files}
    p = json.loads(str(c['params_json']))
    quantised = np.cumsum(c['gt_depth_row_delta'], axis=-1, dtype=np.uint16)
    depth = quantised.astype(np.float32) * np.float32(2.0**-12)
    windows = [_scene_window(c, p, depth, k, first) for k, first in enumerate(p['first'])]
    share = case.about['engine'].get('top_conf_percentile', p['top_conf_percentile'])
    return Stream(windows, depth, c['gt_poses'], p['overlap'], share,
                  p['noise'] > 0 or p['outlier_fraction'] > 0)


def _scene_window(c, p, depth, k, first) -> Prediction:
    frames = slice(first, min(first + p['window'], len(depth)))
    z, layer = depth[frames], c['gt_layer'][frames]
    z = z * c['factor'][k][layer]
    draw = torch.rand((4, *z.shape), generator=torch.Generator().manual_seed(
        1000 + k + p['seed'])).numpy()
    z = z * (np.float32(1) + np.float32(p['noise']) * (draw[0] - np.float32(0.5)))
    bad = draw[1] < np.float32(p['outlier_fraction'])
    z = np.where(bad, z * (np.float32(1) + draw[2]), z).astype(np.float32)
    logit = (np.float32(2) * draw[3] - c['conf_layer_penalty'][layer]).astype(np.float32)
    if p['outlier_low_conf']:
        kept = draw[2] > np.float32(p['outlier_kept'])
        logit = np.where(bad & kept, logit - np.float32(3), logit).astype(np.float32)
    return _prediction(first, z, c['window_poses'][k][:len(z)], logit, (p['fx'], p['fy']))


def stub(case: Case) -> Stream:
    """Rebuild the stream that is given as a formula."""
    p = case.about['input']
    depth, layer = _stub_depth(p)
    poses = np.stack([_stub_pose(p['pose'], t) for t in range(p['T'])])
    windows, step, first, k = [], p['window'] - p['overlap'], 0, 0
    while first == 0 or p['T'] - first > p['overlap']:
        frames = slice(first, min(first + p['window'], p['T']))
        factors = np.float32([1, p['near'][k], p['mid'][k]])
        z = (depth[frames] * np.float32(p['global_'][k]) * factors[layer[frames]])
        T = se3.relative(poses[first], poses[frames])
        T[:, :3, 3] *= p['global_'][k]
        logit = torch.randn(z.shape, generator=torch.Generator().manual_seed(
            p['conf_seed'] + k)).numpy()
        windows.append(_prediction(first, z.astype(np.float32), T, logit, (p['f'], p['f'])))
        first, k = first + step, k + 1
    return Stream(windows, depth, poses, p['overlap'],
                  case.about['engine']['top_conf_percentile'], False)


def _stub_depth(p):
    """Return depth and layers (T, H, W) of the formula in words, later layers in front."""
    depth = np.zeros((p['T'], p['H'], p['W']))
    layer = np.zeros(depth.shape, np.int64)
    blocks = re.findall(r'layer (\d+): ([\d.]+)(?: on rows (\d+):(\d+), '
                        r'cols (\d+)([+-]\d+)t:(\d+)([+-]\d+)t)?', p['depth'])
    for number, value, *place in blocks:
        for t in range(p['T']):
            rows = columns = slice(None)
            if place[0]:
                top, bottom, left, left_step, right, right_step = map(int, place)
                rows, columns = slice(top, bottom), slice(left + left_step * t,
                                                          right + right_step * t)
            depth[t, rows, columns], layer[t, rows, columns] = float(value), int(number)
    slope = float(re.search(r'plus ([\d.]+)\*row', p['depth'])[1])
    return (depth + slope * np.arange(p['H'])[:, None]).astype(np.float32), layer


def _stub_pose(words: str, t: int) -> np.ndarray:
    yaw = float(re.search(r'yaw ([\d.]+) t', words)[1]) * t
    centre = [float(number) * (t if moves else 1) for number, moves in
              re.findall(r'([\d.]+)(t?)[,)]', words[words.index('('):])]
    return se3.from_parts(se3.so3_exp(np.array([0.0, yaw, 0.0])), np.array(centre))


def _prediction(first, z, poses, logit, focal) -> Prediction:
    h, w = z.shape[1:]
    u, v = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
    x = (u - np.float32(w / 2)) * z / np.float32(focal[0])
    y = (v - np.float32(h / 2)) * z / np.float32(focal[1])
    return Prediction(np.arange(first, first + len(z)), poses, np.stack([x, y, z], -1), logit,
                      np.zeros((*z.shape, 3), np.uint8))
