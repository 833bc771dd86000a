"""LoGeR and LoGeR* against their reference arrays: a layer, streams window by window, merging."""

from typing import Dict, List

from loger_merge import merged
from nets import compare_all, filled, images, Stages, watched
from reader import Case
from result import compare, Result
import torch
from torch.nn import functional

from longrecon_ros.nets import ttt
from longrecon_ros.nets.loger import DEAD, FastLayer, LogerNet, LogerSize, NOTHING, roles_of

_SAME_KERNEL = 0.02
"""Allowed of a bfloat16 orthogonalisation where the processor is another one."""


@torch.inference_mode()
def results(case: Case) -> List[Result]:
    """Compute every array of the case that is not an input, and compare it."""
    module = case.about['network'].get('module', '')
    if module.startswith('fast-weight'):
        return _unit(case)
    if module.startswith('window merging'):
        inputs = tuple(name for name in case.arrays if name.startswith('win'))
        return compare_all(case, merged(case.arrays, case.about['call']), inputs)
    return _streams(case)


def _unit(case: Case) -> List[Result]:
    about = case.about['network']
    layer = filled(case, lambda: FastLayer(about['dim'], about['head_dim'], about['inter_multi'],
                                           about['pre_norm']), 'unit.ttt.', DEAD + '$')
    numerics, found = ttt.Numerics(), []
    a = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    weights = layer.initial(1)
    for i in range(3):
        seen: Dict[str, ttt.FastWeights] = {}
        y, after = _watched_layer(layer, a[f'x{i}'].flatten(1, 2), weights, numerics, seen)
        found.append(_judge(case, f'y{i}', y.view_as(a[f'y{i}'])))
        for j in range(3):
            name = f'step{i}_'
            found.append(_judge(case, f'{name}G{j}', seen['direction'][j]))
            # stage by stage: what goes into each is the reference's
            step = ttt.orthogonalise(a[f'{name}G{j}'], numerics.orthogonal)
            found.append(compare(f'{name}NS{j}', step, case.arrays[f'{name}NS{j}'],
                                 _SAME_KERNEL))
        steps = ttt.FastWeights(*(a[f'step{i}_NS{j}'] for j in range(3)))
        after = ttt.add(weights, steps, numerics)
        found += [_judge(case, f'step{i}_w{j}_after', after[j]) for j in range(3)]
        weights = ttt.FastWeights(*(a[f'step{i}_w{j}_after'] for j in range(3)))
    return found


def _watched_layer(layer, x, weights, numerics, seen):
    gradients = ttt.gradients

    def keep(*arguments):
        seen['direction'] = gradients(*arguments)
        return seen['direction']
    ttt.gradients = keep
    try:
        return layer(x, weights, numerics)
    finally:
        ttt.gradients = gradients


def _judge(case: Case, name: str, value: torch.Tensor) -> Result:
    return compare(name, value.numpy(), case.arrays[name], case.tolerance(name))


def _streams(case: Case) -> List[Result]:
    net = filled(case, lambda: LogerNet(_size(case.about['network'])), ignored=DEAD + '$')
    is_short = case.about.get('newton_schulz_dtype', '').startswith('bfloat16')
    net.numerics = ttt.Numerics(orthogonal=torch.bfloat16 if is_short else torch.float32)
    found, windows = _stream(net, case)
    found.update({f'merged_{name}': value for name, value in merged(
        {key: value.numpy() for key, value in windows.items()}, case.about['call']).items()})
    for name, off in (('ttt_off', (True, False)), ('swa_off', (False, True)),
                      ('both_off', (True, True))):
        if any(key.startswith(name) for key in case.arrays):
            found.update(_switched_off(net, case, name, *off))
    return compare_all(case, found)


def _size(about: dict) -> LogerSize:
    return LogerSize(
        encoder_depth=len(about['keep_encoder_blocks']),
        decoder_depth=len(about['keep_decoder_blocks']),
        head_depth=len(about['keep_head_decoder_blocks']),
        fast_after=tuple(about['ttt_insert_after']),
        look_back_after=tuple(about['attn_insert_after']), fast_head_dim=about['ttt_head_dim'],
        fast_ratio=about['ttt_inter_multi'], has_pre_norm=about['ttt_pre_norm'])


def _stream(net: LogerNet, case: Case):
    """Return all stages of all windows, state carried, and the outputs of the windows."""
    x, call = images(case)[0], case.about['call']
    memory, found, windows = NOTHING, {}, {}
    gates = {'ttt': [], 'swa': []}
    for i, (start, end) in enumerate(_windows(len(x), call)):
        if call['reset_every'] and i and i % call['reset_every'] == 0:
            memory = memory.without_fast()
        stages, out, memory = _window(net, x[start:end], memory, call, i == 0, gates)
        outputs = {'camera_poses': out.T_world_camera, 'local_points': out.local_points,
                   'conf': out.confidence}
        windows.update({f'win{i}_{name}': value for name, value in outputs.items()})
        found.update({f'win{i}_{name}': value for name, value in {**stages, **outputs}.items()})
    for mode in ('none', 'se3', 'sim3'):
        found[f'merged_{mode}_avg_gate_scale'] = torch.stack(gates['ttt']).mean()[None]
        found[f'merged_{mode}_attn_gate_scale'] = torch.stack(gates['swa']).mean()[None]
    return found, windows


def _windows(n: int, call: dict):
    size, step, start = call['window_size'], call['window_size'] - call['overlap_size'], 0
    while True:
        yield start, min(start + size, n)
        if start + size >= n:
            return
        start += step


def _window(net, x, memory, call, is_first, gates):
    n, (height, width) = len(x), x.shape[-2:]
    modules = {'dec_block0': net.decoder[0], 'dec_block1': net.decoder[1]}
    for kind, layers in (('ttt', net.ttt_layers), ('swa', net.swa_layers)):
        projections = getattr(net, f'{kind}_gate_projs')
        modules.update({f'{kind}{j}_output': layer for j, layer in enumerate(layers)})
        modules.update({f'{kind}{j}_gate': layer for j, layer in enumerate(projections)})
    with watched(modules, {'decoder_out': net.point_decoder,
                           **{f'swa{j}_output': layer for j, layer
                              in enumerate(net.swa_gate_projs)}}) as seen:
        patches = net.encode(x)
        roles = roles_of(n, call['window_size'], call['overlap_size'])
        out, memory = net.decode(patches[None], (height, width), memory, roles)
    p = patches.shape[1] + net.n_special
    stages: Stages = {'encoder_tokens': patches}
    for name, value in seen.items():
        if name.endswith('_gate'):
            gate = functional.silu(value)
            gates[name[:3]].append(gate.abs().mean())
            stages[name] = gate.view(n, p)
        elif name.startswith('ttt'):
            stages[name] = value[0].view(1, n, p, -1)
        elif name.startswith('swa'):
            stages[name + '_no_history' * is_first] = value
        else:
            stages[name] = value
    stages['dec_block0'] = seen['dec_block0'].view(n, p, -1)
    for j, fast in enumerate(memory.fast):
        stages.update({f'ttt{j}_w{m}_after': w for m, w in enumerate(fast)})
    for j, past in enumerate(memory.past):
        stages[f'swa{j}_cacheK'], stages[f'swa{j}_cacheV'] = past
    return stages, out, memory


def _switched_off(net: LogerNet, case: Case, name: str, no_fast: bool, no_past: bool) -> Stages:
    """Return the merged stream with the gates of one memory, or both, at 0."""
    state = {key: value.clone() for key, value in net.state_dict().items() if 'gate_projs' in key}
    for kind, is_off in (('ttt', no_fast), ('swa', no_past)):
        for projection in getattr(net, f'{kind}_gate_projs') if is_off else ():
            projection.weight.zero_()
            projection.bias.zero_()
    _, windows = _stream(net, case)
    net.load_state_dict(state, strict=False)
    plain = merged({key: value.numpy() for key, value in windows.items()}, case.about['call'],
                   ('none',))
    return {f'{name}_{key.removeprefix("none_")}': value for key, value in plain.items()}
