"""Where a net lives and how precise it is: decided here, carried out once, when it gets weights.

As under the authors' mixed precision, large matrices are in a short type while norms, scales and
tokens stay float32, and with them the sum that runs through encoder and mixing blocks; decoders
without scales run in the short type altogether; what a net calls ``full_precision`` stays float32.
There is one copy of every weight.
"""

from dataclasses import dataclass
from typing import Dict

import torch
from torch import nn

from .attention import Attention, CrossAttention
from .launched import local_rank
from .layers import Mlp
from .loger import FastLayer
from .pi3_heads import FrameDecoder
from .pi3x import MetricDecoder
from .vit import PatchEmbedding

PRECISIONS = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
_SHORT = (Attention, CrossAttention, Mlp, FrameDecoder, MetricDecoder, PatchEmbedding)
_LAST_OF_HEADS = ('_head.proj.weight', 'output_conv2.2.weight', '0.2.weight', '1.2.weight')
_SHORT_PARTS = {FastLayer: ('to_qkv', 'c_proj')}
"""Modules of which some matrices are in the short type, and which; the rest stays float32."""


@dataclass(frozen=True)
class Policy:
    """A device, and the type of the large matrices."""

    device: torch.device
    dtype: torch.dtype


def choose(device: str = 'auto', precision: str = 'auto') -> Policy:
    """Return the policy; ``auto`` is a GPU where there is one, and there bfloat16 (float16 on old
    ones), else the CPU in float32.

    Raises ValueError for a device that is not there, or a precision that is unknown.
    """
    chosen = _device(device)
    if precision == 'auto':
        if chosen.type != 'cuda':
            return Policy(chosen, torch.float32)
        major, _ = torch.cuda.get_device_capability(chosen)
        return Policy(chosen, torch.bfloat16 if major >= 8 else torch.float16)
    if precision not in PRECISIONS:
        raise ValueError(f'precision: expected auto or one of {", ".join(PRECISIONS)}, '
                         f'got {precision!r}')
    return Policy(chosen, PRECISIONS[precision])


def dtypes(net: nn.Module, policy: Policy) -> Dict[str, torch.dtype]:
    """Return the type of each parameter of a net, by its name."""
    parts = [(name, module) for name, module in net.named_modules()
             if name.split('.')[0] not in net.full_precision]
    short = tuple([f'{name}.' for name, module in parts if isinstance(module, _SHORT)]
                  + [f'{name}.{part}.' for name, module in parts
                     for part in _SHORT_PARTS.get(type(module), ())])
    return {name: policy.dtype if name.startswith(short) else torch.float32
            for name, _ in net.named_parameters()}


def place(net: nn.Module, policy: Policy) -> nn.Module:
    """Move a net and set the types of its parameters, one at a time; return the net."""
    types = dtypes(net, policy)
    for name, parameter in net.named_parameters():
        parameter.data = parameter.data.to(policy.device, types[name])
    for buffer in net.buffers():
        buffer.data = buffer.data.to(policy.device)
    return net.eval().requires_grad_(False)


def fill_randomly(net: nn.Module, policy: Policy, seed: int = 0) -> nn.Module:
    """Give a net without weights (on the meta device) random ones; return the net.

    Meaningless numbers of a sane size: for tests, benchmarks and to try a pipeline.
    """
    types = dtypes(net, policy)
    generator = torch.Generator(policy.device).manual_seed(seed)
    for name, parameter in list(net.named_parameters()):
        values = torch.empty(parameter.shape, device=policy.device)
        if parameter.dim() > 1:
            values.normal_(0, _deviation(name, parameter), generator=generator)
        else:
            values.fill_(0.2 if name.endswith('gamma') else not name.endswith('bias'))
        set_parameter(net, name, values.to(types[name]))
    for buffer in net.buffers():
        buffer.data = buffer.data.to(policy.device)
    return net.eval()


def _deviation(name: str, parameter: torch.Tensor) -> float:
    """Return the spread that keeps the size of what goes through; tokens are as large as that."""
    if name.endswith(('token', 'tokens', 'embed')) or 'pe_token' in name:
        return 0.5
    if name.startswith(('point_head', 'depth_head')) and name.endswith(_LAST_OF_HEADS):
        return 0.02                         # what comes out is a logarithm
    # of matrices (out, in, ...), and of fast weights (heads, in, out)
    n_in = parameter.shape[1] if name.endswith(('.w0', '.w1', '.w2')) else parameter[0].numel()
    return n_in**-0.5


def set_parameter(net: nn.Module, name: str, values: torch.Tensor) -> None:
    """Put a tensor in the place of a parameter, without a copy."""
    owner, _, leaf = name.rpartition('.')
    setattr(net.get_submodule(owner), leaf, nn.Parameter(values, requires_grad=False))


def n_bytes(net: nn.Module) -> int:
    """Return the size of all parameters, in bytes."""
    return sum(p.numel() * p.element_size() for p in net.parameters())


def _device(name: str) -> torch.device:
    if name in ('auto', 'cuda') and torch.cuda.is_available():
        # of the processes that torchrun has started on this machine, each has a GPU of its own
        return torch.device('cuda', local_rank() % torch.cuda.device_count())
    if name == 'auto':
        return torch.device('cpu')
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f'device: expected auto, cpu, cuda or cuda:0, got {name!r}') from None
    if device.type == 'cuda' and not (torch.cuda.is_available()
                                      and (device.index or 0) < torch.cuda.device_count()):
        raise ValueError(f'device: there is no {name}; torch {torch.__version__} sees '
                         f'{torch.cuda.device_count()} CUDA devices; use auto or cpu')
    return device
