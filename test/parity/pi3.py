"""pi3 against its reference arrays, stage by stage."""

from typing import List

from nets import compare_all, filled, images, Stages, watched
from reader import Case
from result import Result
import torch

from longrecon_ros.nets.pi3 import N_SPECIAL, Pi3Net, Pi3Size
from longrecon_ros.nets.rope import grid_positions, rotate, rotation
from longrecon_ros.nets.vit import PATCH

_BLOCKS = Pi3Size(encoder_depth=1, decoder_depth=1, head_depth=1)
_SHORT = Pi3Size(encoder_depth=2, decoder_depth=4, head_depth=1)
_SIZES = {'full:pi3': Pi3Size(), 'pi3_trunc': _SHORT, 'pi3_e1d1h1': _BLOCKS}
_INPUTS = ('rope_in', 'rope_pos', 'camera_head_in', 'x', 'pos', 'head_in')


@torch.inference_mode()
def results(case: Case) -> List[Result]:
    """Compute every array of the case that is not an input, and compare it."""
    net = filled(case, lambda: Pi3Net(_SIZES[case.about['keys']]))
    a = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    if 'rope_in' in a:
        return compare_all(case, _units(net, a), _INPUTS)
    if 'head_in' in a:
        return compare_all(case, _blocks(net, a), _INPUTS)
    return compare_all(case, _whole(net, images(case)))


def _units(net: Pi3Net, a: Stages) -> Stages:
    by = rotation(a['rope_pos'], a['rope_in'].shape[-1])
    return {'rope_out': rotate(a['rope_in'], by),
            'camera_head_out': net.camera_head(a['camera_head_in']),
            'pos_embed_4x5': net.encoder.position_embedding(4, 5),
            'pos_embed_11x37': net.encoder.position_embedding(11, 37)}


def _blocks(net: Pi3Net, a: Stages) -> Stages:
    x = a['x']
    by = rotation(a['pos'], net.size.dim // net.size.heads)
    return {'decoder_block0': net.decoder[0](x, by),
            'encoder_block0': net.encoder.blocks[0](x), 'encoder_norm': net.encoder.norm(x),
            **{f'{head}_decoder': getattr(net, f'{head}_decoder')(a['head_in'], by)
               for head in ('point', 'conf', 'camera')}}


def _whole(net: Pi3Net, x: torch.Tensor) -> Stages:
    n, _, height, width = x.shape[1:]
    positions = grid_positions(height // PATCH, width // PATCH, N_SPECIAL, x.device)
    with watched({'enc_block0': net.encoder.blocks[0], 'dec_block0': net.decoder[0],
                  'dec_block1': net.decoder[1], 'point_hidden': net.point_decoder,
                  'conf_hidden': net.conf_decoder, 'camera_hidden': net.camera_decoder},
                 inputs_of={'decoder_out': net.point_decoder}) as seen:
        patches = net.encode(x[0])
        out = net.decode(patches[None], (height, width))
    T = out.T_world_camera
    points = torch.einsum('bnij,bnhwj->bnhwi', T[..., :3, :3], out.local_points)
    return {**seen, 'enc_patch_tokens': patches,
            'pos': positions.expand(n, -1, -1),
            'local_points': out.local_points, 'conf': out.confidence, 'camera_poses': T,
            'points': points + T[..., None, None, :3, 3]}
