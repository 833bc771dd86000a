"""What executes a net: torch itself, or graphs exported from it. One call whatever it is.

A runtime has two calls. ``encode`` turns images into tokens, frame by frame; ``decode`` turns the
tokens of a window into the net's result. `TorchRuntime` runs the net; `GraphRuntime` runs the
graphs that `export.onnx` wrote. A session is any callable from named arrays to named arrays: that
of ONNX Runtime is made by `open_graph`, and an engine of TensorRT, built from the same graphs,
takes its place by an entry in `OPENERS`.
"""

from contextlib import contextmanager
from dataclasses import dataclass
import json
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Mapping,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    Type,
)

import numpy as np
import torch
from torch import nn, Tensor

from .policy import Policy

Session = Callable[[Mapping[str, np.ndarray]], Dict[str, np.ndarray]]
MANIFEST = 'manifest.json'


class Runtime(Protocol):
    """Executes a net on one device."""

    def encode(self, images: Tensor) -> Tensor:
        """Return the tokens of RGB images (F, H, W, 3) uint8, one entry a frame."""

    def decode(self, tokens: Tensor, size: Tuple[int, int]) -> NamedTuple:
        """Return the net's result for the tokens of the N frames of a window; B is 1."""


class TorchRuntime:
    """Runs a net in torch; results stay on the device.

    ``compile_mode`` is one of `torch.compile` (``default``, ``reduce-overhead``, which records
    CUDA graphs, ``max-autotune``), or empty for none; compiling takes minutes at the first window
    of each length. Nothing here waits for the device.
    """

    def __init__(self, net: nn.Module, policy: Policy, compile_mode: str = ''):
        self._policy, self._is_compiled = policy, bool(compile_mode)
        self._encode, self._decode = net.encode, net.decode
        if compile_mode:
            self._encode, self._decode = (torch.compile(part, dynamic=False, mode=compile_mode)
                                          for part in (net.encode, net.decode))

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._policy.device

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Return the patch tokens (F, h w, C) of RGB images (F, H, W, 3) uint8."""
        images = images.to(self._policy.device, non_blocking=True)
        tokens = self._encode(images.permute(0, 3, 1, 2).to(torch.float32) / 255)
        # a recorded graph writes its next result to the same place
        return tokens.clone() if self._is_compiled else tokens

    @torch.inference_mode()
    def decode(self, tokens: Tensor, size: Tuple[int, int], *state: Any) -> NamedTuple:
        """Return the net's result for tokens (N, h w, C); B is 1. ``state`` is handed on to it."""
        return self._decode(tokens[None], size, *state)


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says of the graphs beside it: sizes are fixed."""

    backbone: str
    frames: int                             # N of the window and decoder graphs
    encoder_frames: int                     # F of the encoder graph
    height: int
    width: int
    graphs: Mapping[str, str]               # encoder, decoder, window: file
    is_untrained: bool                      # the weights are random numbers

    @classmethod
    def read(cls, folder: Path) -> 'Manifest':
        """Read it; OSError where there is none, ValueError where it says something else."""
        values = json.loads((Path(folder) / MANIFEST).read_text(encoding='utf-8'))
        try:
            return cls(**{name: values[name] for name in cls.__dataclass_fields__})
        except (KeyError, TypeError) as error:
            raise ValueError(f'{MANIFEST}: no manifest of exported graphs ({error})') from None


class GraphRuntime:
    """Runs exported graphs, on windows of one length and size.

    With the encoder and the decoder graph, tokens are patch tokens and those of an overlap can be
    used again. With the window graph alone, tokens are the images themselves. A shorter window is
    filled up with its last frame.
    """

    def __init__(self, folder: Path, output: Type[NamedTuple],
                 open_graph: Optional[Callable[[Path], Session]] = None):
        folder, self._output = Path(folder), output
        self.manifest = Manifest.read(folder)
        graphs, start = self.manifest.graphs, open_graph or globals()['open_graph']
        has_both = {'encoder', 'decoder'} <= set(graphs)
        if not has_both and 'window' not in graphs:
            raise ValueError(f'{MANIFEST}: expected encoder and decoder, or window, got '
                             f'{", ".join(graphs)}')
        # a graph that is not needed is not opened: each holds its own copy of the weights
        self._encoder = start(folder / graphs['encoder']) if has_both else None
        self._decoder = start(folder / graphs['decoder' if has_both else 'window'])

    def encode(self, images: Tensor) -> Tensor:
        """Return one entry a frame of RGB images (F, H, W, 3) uint8."""
        m, size = self.manifest, tuple(images.shape[1:3])
        if size != (m.height, m.width):
            raise ValueError(f'images: the graphs are for {m.width}x{m.height} px, got '
                             f'{size[1]}x{size[0]}')
        images = images.permute(0, 3, 1, 2).float() / 255
        if self._encoder is None:
            return images
        parts = [self._encoder({'images': _filled(part, m.encoder_frames).numpy()})['tokens']
                 for part in images.split(m.encoder_frames)]
        return torch.from_numpy(np.concatenate(parts)[:len(images)])

    def decode(self, tokens: Tensor, size: Tuple[int, int]) -> NamedTuple:
        """Return the net's result for the tokens of N frames; B is 1."""
        n, most = len(tokens), self.manifest.frames
        if n > most:
            raise ValueError(f'tokens: the graphs are for windows of {most} frames, got {n}')
        name = 'images' if self._encoder is None else 'tokens'
        found = self._decoder({name: _filled(tokens, most)[None].numpy()})
        return self._output(**{key: torch.from_numpy(value[:, :n]) if value.ndim > 1
                               else torch.from_numpy(value) for key, value in found.items()})


def _filled(x: Tensor, n: int) -> Tensor:
    """Return n entries: those of x, and its last one again."""
    return torch.cat([x, x[-1:].expand(n - len(x), *x.shape[1:])])


def open_graph(path: Path) -> Session:
    """Return what executes a graph; ImportError or ValueError where nothing can."""
    path = Path(path)
    if path.suffix not in OPENERS:
        raise ValueError(f'{path}: expected a file that ends with {" or ".join(OPENERS)}')
    return OPENERS[path.suffix](path)


def open_onnx(path: Path, providers: Optional[Sequence[str]] = None) -> Session:
    """Return what executes a graph by ONNX Runtime; ``providers`` are all that there are.

    Raises ImportError without ONNX Runtime, and ValueError, from the session too, for what it
    refuses.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state
    # they have no common base
    failures = tuple(kind for kind in vars(state).values()
                     if isinstance(kind, type) and issubclass(kind, Exception))

    @contextmanager
    def one_kind_of_error():
        try:
            yield
        except failures as error:
            raise ValueError(f'{path.name}: {error}') from None

    with one_kind_of_error():
        session = onnxruntime.InferenceSession(
            str(path), providers=list(providers or onnxruntime.get_available_providers()))
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        with one_kind_of_error():
            return dict(zip(names, session.run(names, dict(inputs))))
    return run


OPENERS: Dict[str, Callable[[Path], Session]] = {'.onnx': open_onnx}
"""Suffix of a graph or an engine to what opens it."""
