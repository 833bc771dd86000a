"""The parts of a net that become graphs: tensors in, tensors out, every shape fixed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn, Tensor

from ..nets.policy import set_parameter
from ..nets.vit import PATCH, VisionTransformer

PARTS = ('encoder', 'decoder', 'window')
"""Images to tokens; tokens of a window to the result; images of a window to the result."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the graphs are fixed to."""

    height: int                             # px
    width: int                              # px
    frames: int                             # of a window
    encoder_frames: int                     # at a time

    def __post_init__(self):
        for name in ('height', 'width'):
            side = getattr(self, name)
            if side < PATCH or side % PATCH:
                raise ValueError(f'{name}: expected a multiple of {PATCH} px, got {side}; the '
                                 f'nearest is {max(PATCH, PATCH * round(side / PATCH))}')
        for name in ('frames', 'encoder_frames'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name}: expected 1 or more, got {getattr(self, name)}')


class Part(NamedTuple):
    """One graph to be: the module, inputs to try it on, and what torch makes of them."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class _Encoder(nn.Module):

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net.encode(images)


class _Decoder(nn.Module):

    def __init__(self, net: nn.Module, size: tuple[int, int]):
        super().__init__()
        self.net, self.size = net, size

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return tuple(_present(self.net.decode(tokens, self.size)).values())


class _Window(nn.Module):

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(_present(self.net(images)).values())


def parts_of(net: nn.Module, shape: Shape, names: Sequence[str], seed: int = 0) -> Iterator[Part]:
    """Yield the parts of a float32 net on the CPU, one by one: large nets have large results.

    Their inputs are random images, and for the decoder the tokens of such images. Inputs and
    outputs have the names, and the axis of windows, that `nets.runtime.GraphRuntime` relies on.
    """
    chance = torch.Generator().manual_seed(seed)
    for name in names:
        if name not in PARTS:
            raise ValueError(f'parts: expected some of {", ".join(PARTS)}, got {name!r}')
        n = shape.encoder_frames if name == 'encoder' else shape.frames
        images = torch.randint(256, (n, 3, shape.height, shape.width), generator=chance) / 255
        yield _part(net, name, images)


@torch.no_grad()
def _part(net: nn.Module, name: str, images: Tensor) -> Part:
    if name == 'encoder':
        return Part(name, _Encoder(net), {'images': images}, {'tokens': net.encode(images)})
    if name == 'window':
        return Part(name, _Window(net), {'images': images[None]}, _present(net(images[None])))
    tokens, size = net.encode(images)[None], tuple(images.shape[-2:])
    return Part(name, _Decoder(net, size), {'tokens': tokens}, _present(net.decode(tokens, size)))


@contextmanager
def fixed_positions(net: nn.Module, shape: Shape) -> Iterator[None]:
    """Make the position embedding of a net's encoder a constant, for images of one size.

    For another size than it was trained on it is resampled by an antialiased filter, which
    TensorRT has not got. The net is as before when the block ends.
    """
    encoders = [module for module in net.modules() if isinstance(module, VisionTransformer)]
    tables = [encoder.pos_embed for encoder in encoders]
    try:
        for encoder in encoders:
            set_parameter(encoder, 'pos_embed', encoder.position_embedding(
                shape.height // PATCH, shape.width // PATCH).detach())
        yield
    finally:
        for encoder, table in zip(encoders, tables):
            encoder.pos_embed = table


def _present(result: NamedTuple) -> dict[str, Tensor]:
    """Return the fields of a net's result that it has."""
    return {name: value for name, value in result._asdict().items() if value is not None}
