"""LASER's single functions against their reference values."""

from typing import Callable, Dict, List

import numpy as np
from reader import Case
from result import BORDER_SHARE, compare, compare_partitions, match_labels, Result

from longrecon_ros.alignment import published_layers
from longrecon_ros.alignment.anchors import kabsch_anchors
from longrecon_ros.alignment.confidence import threshold
from longrecon_ros.alignment.intrinsics import published_K
from longrecon_ros.alignment.irls import l1_scale, ScaleSolver
from longrecon_ros.alignment.segments import count, iou, merge_close, overlap_counts
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.types import Frame
from longrecon_ros.windowing import Windower

_RUNS = ((10, 0.05), (0, 0.05), (1, 0.05), (3, 0.05), (100, 1e-7))
_EXACT_SCALE, _NOISY_SCALE = 1.4, 1.35
_INPUTS = ('irls_src', 'irls_tgt', 'irls_mask', 'kabsch_src', 'kabsch_tgt', 'kabsch_tgt_noisy',
           'intr_points', 'seg_depth', 'conf', 'conf_threshold_p', 'graph_prev_depth',
           'graph_cur_depth')


def results(case: Case) -> List[Result]:
    """Compute every array of the case that is not an input, and compare it."""
    found = []
    for name, reference in case.arrays.items():
        if name in _INPUTS:
            continue
        maker = next((make for prefix, make in _MAKERS.items() if name.startswith(prefix)), None)
        if maker is None:
            found.append(Result(name, np.inf, 0.0, 'no such output'))
        elif name.startswith('seg_') or name == 'graph_cur_labels':
            share = 0.0 if name.startswith('seg_') else BORDER_SHARE
            found.append(compare_partitions(name, maker(case.arrays, name), reference, share))
        else:
            found.append(compare(name, maker(case.arrays, name), reference, case.tolerance(name)))
    return found


def _irls(a, name):
    mask = a['irls_mask']
    source, target = a['irls_src'][mask], a['irls_tgt'][mask]
    start = None
    if name == 'irls_depth_scale':
        source, target = source[:, 2:], target[:, 2:]
        start = float(target.mean() / source.mean())
    return np.array([l1_scale(source, target, solver=ScaleSolver(n, tolerance, False, 1e-8),
                              start=start) for n, tolerance in _RUNS])


def _kabsch(a, name):
    source = a['kabsch_src'].astype(np.float64)
    is_noisy = 'noisy' in name
    scale = _NOISY_SCALE if is_noisy else _EXACT_SCALE
    target = a['kabsch_tgt_noisy' if is_noisy else 'kabsch_tgt'].astype(np.float64)
    R, t = kabsch_anchors(source, target, scale)
    if name == 'kabsch_applied':
        R, t = kabsch_anchors(source, a['kabsch_tgt'].astype(np.float64), _EXACT_SCALE)
        candidates = [Sim3(_EXACT_SCALE, R, t).apply_to_poses(source)]
        R, t = kabsch_anchors(source, a['kabsch_tgt_noisy'].astype(np.float64), _NOISY_SCALE)
        candidates.append(Sim3(_NOISY_SCALE, R, t).apply_to_poses(source))
        return min(candidates, key=lambda poses: np.abs(poses - a[name]).max())
    return R if name.endswith('R') else t


def _intrinsics(a, name):
    if name == 'intr_K':
        return np.stack([published_K(points) for points in a['intr_points']])
    # with the camera that the reference was unprojected with, which is not stored beside it
    K = published_K(a[name][0])
    z = a['intr_points'][..., 2]
    h, w = z.shape[1:]
    u, v = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
    return np.stack([(u - K[0, 2]) * z / K[0, 0], (v - K[1, 2]) * z / K[1, 1], z], axis=-1)


def _segments(a, name):
    return published_layers.segment(a['seg_depth'] * np.float32(name[len('seg_labels_x'):]))


def _merged(a, name):
    value, _, offset = name[len('seg_merged_t'):].partition('_')
    return merge_close(published_layers.segment(a['seg_depth']), a['seg_depth'], float(value),
                       is_first_alone=not offset)


def _thresholds(a, _):
    return np.array([threshold(a['conf'], float(p)) for p in a['conf_threshold_p']])


def _windows(a, name):
    rows = []
    for T, size, overlap in dict.fromkeys(map(tuple, a[name][:, :3].tolist())):
        windower = Windower(size, overlap)
        image = np.zeros((1, 1, 3), np.uint8)
        windows = [windower.push(Frame(t, t, image)) for t in range(T)] + [windower.flush()]
        rows += [(T, size, overlap, w.frames[0].index, len(w.frames)) for w in windows if w]
    return np.array(rows)


def _graph(a, name):
    depth = a['graph_cur_depth']
    layers = published_layers.depth_layers(depth, np.ones(depth.shape, bool))
    if name == 'graph_cur_labels':
        return layers
    if name.startswith('graph_scale_map_overlap'):
        n = int(name[len('graph_scale_map_overlap'):])
        before = a['graph_prev_depth']
        previous = published_layers.depth_layers(before, np.ones(before.shape, bool))
        scales = published_layers.layer_scales(before[-n:], previous[-n:], depth, layers)
        return published_layers.scale_map(layers, scales)
    return _edges(layers, a['graph_cur_labels'])[name == 'graph_cur_edge_iou']


def _edges(layers, reference):
    """Return edges (t, i, j) with the reference's names of the layers, and their IoU."""
    numbers, edges = count(layers), []
    for t in range(len(layers) - 1):
        weights = iou(overlap_counts(layers[t], layers[t + 1], numbers[t], numbers[t + 1]))
        called, called_next = (match_labels(layers[s], reference[s] - reference[s].min())
                               for s in (t, t + 1))
        edges += [(t, called[i], called_next[j], weights[i, j])
                  for i, j in zip(*np.nonzero(weights >= published_layers.IOU_INSIDE))]
    edges = np.array(sorted(edges))
    return edges[:, :3].astype(np.int64), edges[:, 3]


_MAKERS: Dict[str, Callable] = {
    'irls_': _irls, 'kabsch_': _kabsch, 'intr_': _intrinsics, 'seg_labels_x': _segments,
    'seg_merged_t': _merged, 'conf_threshold': _thresholds, 'sliding_windows': _windows,
    'graph_': _graph}
