"""Scal3R against its reference arrays: a memory unit, and chunks in lock step."""

from typing import Dict, List

from nets import compare_all, filled, images, Stages
import numpy as np
from reader import Case
from result import compare, Result
from scal3r_chunks import merged
import torch
from vggt import size_of

from longrecon_ros.nets import ttt
from longrecon_ros.nets.lockstep import LockStep
from longrecon_ros.nets.rope import rotation
from longrecon_ros.nets.scal3r import (
    MemoryUnit,
    middle_first,
    official_name,
    Scal3rNet,
    Scal3rSize,
)
from longrecon_ros.nets.vggt import cameras

_SAME_KERNEL = 0.02
"""Allowed of a bfloat16 orthogonalisation where the processor is another one."""


@torch.inference_mode()
def results(case: Case) -> List[Result]:
    """Compute every array of the case that is not an input, and compare it."""
    return _unit(case) if 'module' in case.about['network'] else _chunks(case)


def _unit(case: Case) -> List[Result]:
    """Compare stage by stage: what goes into each is the reference's."""
    about = case.about['network']
    unit = filled(case, lambda: MemoryUnit(about['dim'], about['hidden'] // about['dim']),
                  'unit.ttt.')
    a = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    is_patch = a['pos'][0].sum(-1) > 0
    by, found = rotation(a['pos'][0, is_patch], about['dim']), []

    def judge(name, value, tolerance=None):
        found.append(compare(name, value.numpy(), case.arrays[name],
                             case.tolerance(name) if tolerance is None else tolerance))

    def recalled(x, weights):
        y = torch.zeros_like(x)
        y[:, is_patch] = unit(x[:, is_patch], by, weights)
        return y
    directions = [unit.gradient(a[f'x{k}'][:, is_patch], by) for k in range(2)]
    for k, direction in enumerate(directions):
        for j in range(3):
            judge(f'chunk{k}_G{j}', direction[j])
    for j in range(3):
        judge(f'Gsum{j}', directions[0][j] + directions[1][j])
        step = ttt.orthogonalise(a[f'Gsum{j}'], torch.bfloat16)
        judge(f'NS{j}', step, max(_SAME_KERNEL, case.tolerance(f'NS{j}')))
    steps = ttt.FastWeights(*(a[f'NS{j}'] for j in range(3)))
    for j, w in enumerate(ttt.add(unit.learnt, steps, ttt.Numerics())):
        judge(f'W{j}_new', w)
    shared = ttt.FastWeights(*(a[f'W{j}_new'] for j in range(3)))
    for k in range(2):
        name = f'y{k}_with_shared_memory'
        judge(name, recalled(a[f'x{k}'], shared), 1e-5 * max(1, np.abs(case.arrays[name]).max()))
    alone = ttt.update(unit.learnt, directions[0], ttt.Numerics())
    judge('y0_single_chunk', recalled(a['x0'], alone), _SAME_KERNEL)
    return found


def _chunks(case: Case) -> List[Result]:
    net = _net(case)
    x, chunking = images(case), case.about['chunking']
    height, width = x.shape[-2:]
    ids = [[start + i for i in middle_first(end - start)] for start, end in chunking['chunks']]
    encoded = [net.encode(x[order]) for order in ids]
    found: Stages = {f'chunk{k}_dino_tokens': tokens for k, tokens in enumerate(encoded)}
    found.update({f'chunk{k}_frame_ids': torch.tensor(order) for k, order in enumerate(ids)})
    run = LockStep(net, (height, width), len(ids), lambda k: net.begin(encoded[k]))
    with _recording(net, found):
        windows = list(run.run())
    outputs = []
    for k, window in windows:
        out = net.read(window, (height, width), use_points=True)
        outputs.append(out)
        found.update({f'chunk{k}_pose_enc': out.encoding, f'chunk{k}_depth': out.depth[..., 0],
                      f'chunk{k}_depth_conf': out.depth_confidence,
                      f'chunk{k}_world_points': out.points,
                      f'chunk{k}_world_points_conf': out.points_confidence})
    if any(name.startswith('post') for name in case.arrays):
        found.update(merged(outputs, ids, (height, width), cameras))
    return compare_all(case, found)


def _net(case: Case) -> Scal3rNet:
    about = case.about['network']
    size = size_of({**about, 'dino_blocks_kept': 'all', 'camera_trunk_depth':
                    about['camera_trunk_depth']})
    size = Scal3rSize(**{name: getattr(size, name) for name in size.__dataclass_fields__},
                      memory_after=tuple(about['memory_layers']),
                      memory_ratio=about['memory']['inter_multi'])
    net = filled(case, lambda: Scal3rNet(size), rename=official_name)
    if not case.about.get('newton_schulz_dtype', '').startswith('bfloat16'):
        net.orthogonal = torch.float32
    return net


class _recording:       # noqa: N801 -- used as a function
    """Collects what goes on in the memory units while the block runs."""

    def __init__(self, net: Scal3rNet, found: Stages):
        self._net, self._found, self._seen = net, found, {}

    def __enter__(self):
        net, found = self._net, self._found
        counts: Dict[tuple, int] = {}

        def number(kind, i):
            counts[kind, i] = counts.get((kind, i), -1) + 1
            return counts[kind, i]

        def mix(i, window, place):
            after = Scal3rNet.mix(net, i, window, place)
            found[f'chunk{number("mix", i)}_layer{i}_tokens'] = after.tokens
            return after

        def gradient(i, window, place):
            direction, k = Scal3rNet.gradient(net, i, window, place), number('gradient', i)
            for j, g in enumerate(direction):
                found[f'chunk{k}_layer{i}_G{j}'] = g
                found[f'chunk{k}_layer{i}_G{j}_norm'] = g.norm()[None]
            return direction

        def store(i, total):
            weights = Scal3rNet.store(net, i, total)
            for j in range(3):
                found[f'layer{i}_Gsum{j}_norm'] = total[j].norm()[None]
                found[f'layer{i}_W{j}_shared'] = weights[j]
            return weights

        def recall(i, window, place, weights):
            after = Scal3rNet.recall(net, i, window, place, weights)
            found[f'chunk{number("recall", i)}_layer{i}_tokens_after_memory'] = after.tokens
            return after
        for method in (mix, gradient, store, recall):
            setattr(net, method.__name__, method)

    def __exit__(self, *problem):
        for name in ('mix', 'gradient', 'store', 'recall'):
            delattr(self._net, name)


