"""What all network backbones are told by their users, and what it means for their images.

Nothing here needs torch: what a backbone is can be asked without it.
"""

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Callable, Literal, Tuple

from ..errors import MissingDependency
from .base import BackboneSpec

PATCH = 14
"""Sides of images are multiples of this in all these nets, px."""

RANDOM = 'random'
"""In place of weights: an untrained net."""

TINY = MappingProxyType({'weights': RANDOM, 'size': 'tiny', 'device': 'cpu',
                         'max_pixels': 6_000})
"""The smallest configuration of any network backbone: it has no use but to try the machinery."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Parameters of a network backbone; ``config/default.yaml`` explains them."""

    weights: str = ''
    size: Literal['large', 'tiny'] = 'large'
    max_pixels: int = 0
    max_side_px: int = 0
    device: str = 'auto'
    precision: Literal['auto', 'float32', 'bfloat16', 'float16'] = 'auto'
    compile: Literal['off', 'default', 'reduce-overhead', 'max-autotune'] = 'off'
    reuse_tokens: bool = True
    pinhole: bool = True
    graphs: str = ''

    def __post_init__(self):
        for name, least in (('max_pixels', PATCH**2), ('max_side_px', PATCH)):
            if getattr(self, name) and getattr(self, name) < least:
                raise ValueError(f'{name}: expected 0 (no limit) or at least a patch, {least}, '
                                 f'got {getattr(self, name)}')
        if self.size == 'tiny' and not self.weights:
            raise ValueError('size: no weights are published for tiny; set weights to random or '
                             'to a file of yours, or size to large')

    def limits(self, spec: BackboneSpec) -> BackboneSpec:
        """Return the spec of a backbone with the limits of its images that were asked for."""
        if not self.max_pixels and not self.max_side_px:
            # without a size to grow to, images stay as they are
            spec = replace(spec, enlarge=False)
        return replace(spec, max_pixels=self.max_pixels or None,
                       max_side=self.max_side_px or None)


@dataclass(frozen=True, slots=True)
class Definition:
    """How a net is made, and what its checkpoints hold."""

    make: Callable[[], Any]
    """Returns the torch module; called under the meta device."""
    output: type
    """The named tuple that the module returns."""
    ignored: Tuple[str, ...] = ()
    """Patterns (of `fnmatch`) of tensors in its checkpoints that nothing here uses."""
    rename: Callable[[str], str] = str
    """Returns what its checkpoints call one of our tensors."""


def feedforward(name: str):
    """Return the module that runs networks; MissingDependency where there is no torch."""
    try:
        from . import _feedforward
    except ModuleNotFoundError as error:
        if error.name != 'torch':
            raise
        raise MissingDependency(f'backbone {name} needs torch: pip install torch safetensors '
                                '(on a Jetson the build of JetPack), or choose sfm') from None
    return _feedforward
