"""Weights from a file into a net: all of them, of the right shapes, and nothing besides."""

from contextlib import contextmanager
import fnmatch
import logging
from pathlib import Path
import pickle
from typing import Any, Callable, Dict, Iterator, Mapping, Tuple
import zipfile

import torch
from torch import nn, Tensor

from ..errors import MissingDependency, WeightsError
from ..nets.policy import dtypes, Policy, set_parameter
from ._network_config import Definition

_N_NAMED = 3
_WRAPPED_NAMES = ('module.', 'net.')
"""Stand before all names where a net was trained on several devices, or inside of another one."""
_WRAPPERS = ('model', 'state_dict', 'model_state_dict')
"""Keys under which training code likes to put the tensors of a .pt file."""


_log = logging.getLogger(__name__)


class _Tensors:
    """The tensors of a file: names and shapes at once, contents when asked for."""

    def __init__(self, shapes: Mapping[str, Tuple[int, ...]], get: Callable[[str], Tensor]):
        self.shapes, self.get = shapes, get


def load(definition: Definition, path: Path, policy: Policy, name: str) -> nn.Module:
    """Return the net with the weights of a file, on the device and in the types of a policy.

    The net is made without memory and gets one tensor after the other, so that there is never a
    second copy. ``name`` is that of the backbone. Raises WeightsError as `check` does.
    """
    net = without_memory(definition.make)
    types = dtypes(net, policy)
    with _opened(Path(path)) as tensors:
        _compare(tensors.shapes, net, Path(path), name, definition)
        for key in types:
            values = _read(tensors, definition.rename(key), Path(path))
            set_parameter(net, key, values.to(policy.device, types[key], copy=True))
        state = net.state_dict(keep_vars=True)
        for key, buffer in net.named_buffers():
            # those that are constants of the net are no part of the file
            values = _read(tensors, definition.rename(key), Path(path)) if key in state else buffer
            buffer.data = values.to(policy.device, torch.float32, copy=True)
    return net.eval()


def check(definition: Definition, path: Path, name: str) -> None:
    """Raise WeightsError unless a file holds all tensors of a net, in their shapes, and no others.

    ``path`` is a .safetensors file, or a .pt file of tensors alone. The error names the file, the
    first tensors that are missing, unexpected or of another shape, and what to do.
    """
    with _opened(Path(path)) as tensors:
        _compare(tensors.shapes, without_memory(definition.make), Path(path), name, definition)
        if tensors.shapes:
            _read(tensors, next(reversed(tensors.shapes)), Path(path))


def without_memory(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a net whose parameters have shapes but no values yet."""
    with torch.device('meta'):
        return make()


def _compare(shapes: Mapping[str, Tuple[int, ...]], net: nn.Module, path: Path, name: str,
             definition: Definition) -> None:
    wanted = {definition.rename(key): tuple(value.shape)
              for key, value in net.state_dict().items()}
    missing = [key for key in wanted if key not in shapes]
    spare = [key for key in shapes if key not in wanted
             and any(fnmatch.fnmatchcase(key, pattern) for pattern in definition.ignored)]
    foreign = [key for key in shapes if key not in wanted and key not in spare]
    other = [f'{key} {shapes[key]}, not {wanted[key]}' for key in wanted
             if key in shapes and shapes[key] != wanted[key]]
    problems = [f'{len(keys)} {what} ({", ".join(keys[:_N_NAMED])}'
                f'{" ..." if len(keys) > _N_NAMED else ""})'
                for what, keys in (('missing', missing), ('unexpected', foreign),
                                   ('of another shape', other)) if keys]
    if problems:
        raise WeightsError(f'{path}: not the weights of {name}: of its {len(wanted)} tensors '
                           f'{"; ".join(problems)}; give the file that was made for {name}, or '
                           f'"longrecon weights fetch {name}"')
    if spare:
        _log.info('%s: %d tensors that nothing uses are not read (%s ...)', path, len(spare),
                  spare[0])


@contextmanager
def _opened(path: Path) -> Iterator[_Tensors]:
    if not path.is_file():
        raise WeightsError(f'{path}: there is no such file; "longrecon weights list" shows what '
                           'can be fetched')
    if path.suffix == '.safetensors':
        with _safetensors(path) as tensors:
            yield tensors
    else:
        tensors = _pickled(path)
        yield _Tensors({key: tuple(value.shape) for key, value in tensors.items()},
                       tensors.__getitem__)


@contextmanager
def _safetensors(path: Path) -> Iterator[_Tensors]:
    try:
        import safetensors
    except ImportError:
        raise MissingDependency(f'{path}: reading it needs safetensors: pip install safetensors'
                                ) from None
    try:
        file = safetensors.safe_open(str(path), framework='pt', device='cpu')
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from None
    with file:
        yield _Tensors({key: tuple(file.get_slice(key).get_shape()) for key in file.keys()},
                       file.get_tensor)


def _pickled(path: Path) -> Dict[str, Tensor]:
    with path.open('rb') as stream:
        start = stream.read(2)
    if start and not start.startswith((b'PK', b'\x80')):       # a zip archive, or a bare pickle
        raise _no_checkpoint(path)
    try:
        # mapped: a tensor is read when it is used
        values = torch.load(path, map_location='cpu', weights_only=True,
                            mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if 'Weights only load failed' in str(error):
            raise WeightsError(f'{path}: holds more than tensors, which could run code when it is '
                               'read; convert it to .safetensors where you trust it') from None
        raise _damaged(path, error) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None
    return _tensors_of(values, path)


def _tensors_of(values: Any, path: Path) -> Dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(values, dict) and isinstance(values.get(key), dict):
            values = values[key]
    if not isinstance(values, dict) or not values or \
            not all(isinstance(value, Tensor) for value in values.values()):
        raise _no_checkpoint(path)
    for prefix in _WRAPPED_NAMES:
        if all(key.startswith(prefix) for key in values):
            values = {key.removeprefix(prefix): value for key, value in values.items()}
    return values


def _read(tensors: _Tensors, key: str, path: Path) -> Tensor:
    try:
        return tensors.get(key)
    except (RuntimeError, OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _no_checkpoint(path: Path) -> WeightsError:
    return WeightsError(f'{path}: no checkpoint, which is a table of named tensors; give a '
                        '.safetensors file, or a .pt file of a state dict')


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = (str(error).splitlines() or ['empty'])[0].rstrip('.')
    return WeightsError(f'{path}: damaged or cut off ({path.stat().st_size} bytes; {reason}); '
                        'remove it and fetch it again')
