"""VGGT against its reference arrays, stage by stage."""

from typing import List

from nets import compare_all, filled, images, Stages, watched
from reader import Case
from result import Result
import torch

from longrecon_ros.nets.dpt import DptSize
from longrecon_ros.nets.rope import rotation
from longrecon_ros.nets.vggt import (
    cameras,
    depth_and_confidence,
    points_and_confidence,
    VggtNet,
    VggtSize,
)

_ENCODERS = {'dinov2_vits14_reg': (12, 6), 'dinov2_vitl14_reg': (24, 16)}   # depth, heads
_LAST_CHANNELS = 32
_INPUTS = ('x', 'pos', 'x_camera', 'tokens_head')


def size_of(network: dict) -> VggtSize:
    """Return the size of a reduced network as cases.json describes it."""
    depth, heads = _ENCODERS[network['patch_embed']]
    kept = network['dino_blocks_kept']
    return VggtSize(
        dim=network['embed_dim'], heads=network['aggregator_heads'],
        encoder_depth=depth if isinstance(kept, str) else len(kept), encoder_heads=heads,
        depth=network['aggregator_depth'], levels=tuple(network['dpt_levels']),
        dpt=DptSize(network['dpt_features'], tuple(network['dpt_out_channels']), _LAST_CHANNELS),
        camera_depth=network['camera_trunk_depth'], camera_heads=network['camera_heads'])


@torch.inference_mode()
def results(case: Case) -> List[Result]:
    """Compute every array of the case that is not an input, and compare it."""
    net = filled(case, lambda: VggtNet(size_of(case.about['network'])))
    if 'tokens_head' in case.arrays:
        a = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
        return compare_all(case, _units(net, a), _INPUTS)
    return compare_all(case, _whole(net, images(case)))


def _units(net: VggtNet, a: Stages) -> Stages:
    x, camera, aggregator = a['x'], a['x_camera'], net.aggregator
    tokens = a['tokens_head']
    by = rotation(a['pos'], net.size.dim // net.size.heads)
    patches = [tokens[0, :, 5:]] * 4
    depth, depth_conf = depth_and_confidence(net.depth_head(patches, 3, 4))
    points, _ = points_and_confidence(net.point_head(patches, 3, 4))
    return {'frame_block0': aggregator.frame_blocks[0](x, by),
            'dino_block0': aggregator.patch_embed.blocks[0](x),
            'dino_norm': aggregator.patch_embed.norm(x),
            'camera_trunk0': net.camera_head.trunk[0](camera),
            'camera_token_norm': net.camera_head.token_norm(camera),
            'camera_trunk_norm': net.camera_head.trunk_norm(camera),
            'camera_adaln_norm': net.camera_head.modulation_norm(camera),
            'dpt_norm': net.depth_head.norm(camera),
            'camera_head_iterations': net.camera_head(tokens[:, :, 0]),
            'depth': depth[None], 'depth_conf': depth_conf[None], 'world_points': points[None],
            'pos_embed_11x37': aggregator.patch_embed.position_embedding(11, 37)}


def _whole(net: VggtNet, x: torch.Tensor) -> Stages:
    aggregator = net.aggregator
    blocks = {f'{kind}_block{i}': block for kind in ('frame', 'global')
              for i, block in enumerate(getattr(aggregator, f'{kind}_blocks'))}
    with watched({**blocks, 'dino_patch_tokens': aggregator.patch_embed,
                  'pose_enc_iterations': net.camera_head}) as seen:
        out = net(x, use_points=True)
    T_camera_world, K = cameras(out.encoding, x.shape[-2:])
    return {**seen, 'pose_enc': out.encoding,
            'depth': out.depth, 'depth_conf': out.depth_confidence,
            'world_points': out.points, 'world_points_conf': out.points_confidence,
            'extrinsic_w2c': T_camera_world, 'intrinsic': K}
