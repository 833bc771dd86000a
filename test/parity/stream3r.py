"""STream3R against its reference arrays: whole sequences at once, and frame by frame."""

from typing import Dict, List

from nets import compare_all, filled, images, Stages, watched
from reader import Case
from result import Result
import torch
from vggt import size_of

from longrecon_ros.nets.kv_cache import KvCache
from longrecon_ros.nets.stream3r import camera_layer, N_RECENT, Stream3rNet, tokens_layer
from longrecon_ros.nets.vggt import VggtOutput

_BATCH_RECENT = N_RECENT - 1
"""The original's batch form of ``window`` sees one frame less than the one frame by frame."""
_OUTPUTS = {'pose_enc': 'encoding', 'depth': 'depth', 'depth_conf': 'depth_confidence',
            'world_points': 'points', 'world_points_conf': 'points_confidence'}


@torch.inference_mode()
def results(case: Case) -> List[Result]:
    """Compute every array of the case, and compare it."""
    net = filled(case, lambda: Stream3rNet(size_of(case.about['network'])))
    run = _stream if case.about['path'].startswith('session') else _batch
    return compare_all(case, run(net, images(case), case.about['mode']))


def _batch(net: Stream3rNet, x: torch.Tensor, mode: str) -> Stages:
    aggregator = net.aggregator
    blocks = {f'{kind}_block{i}': block for kind in ('frame', 'global')
              for i, block in enumerate(getattr(aggregator, f'{kind}_blocks'))}
    with watched({**blocks, 'dino_patch_tokens': aggregator.patch_embed,
                  'pose_enc_iterations': net.camera_head}) as seen:
        out = net(x, use_points=True, mode=mode, n_recent=_BATCH_RECENT)
    return {**seen, **_outputs(out)}


def _stream(net: Stream3rNet, x: torch.Tensor, mode: str) -> Stages:
    cache = KvCache(N_RECENT if mode == 'window' else None)
    blocks = {f'global_block{i}': block for i, block in enumerate(net.aggregator.global_blocks)}
    stages: Dict[str, List[torch.Tensor]] = {}
    for frame in x[0]:
        with watched(blocks) as seen:
            out = net.decode(net.encode(frame[None])[None], x.shape[-2:], cache, use_points=True)
        cache.advance()
        lengths = [cache.kept(layer).keys.shape[2] for layer in (tokens_layer(0),
                                                                 camera_layer(0, 0))]
        for name, value in {**seen, **_outputs(out), 'cache_lengths': torch.tensor(lengths)
                            }.items():
            stages.setdefault(name, []).append(value)
    found = {name: torch.cat(values, dim=1) if name in _OUTPUTS else torch.stack(values)
             for name, values in stages.items()}
    for name, layer in (('kv_cache_layer2', tokens_layer(2)),
                        ('camera_cache_it3_blk0', camera_layer(3, 0))):
        found[f'{name}_K'], found[f'{name}_V'] = cache.kept(layer)
    return found


def _outputs(out: VggtOutput) -> Stages:
    return {name: getattr(out, field) for name, field in _OUTPUTS.items()}
