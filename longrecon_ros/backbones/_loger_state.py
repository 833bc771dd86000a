"""The state of a LoGeR stream: what it is, whether it is sound, and its place in a file."""

from pathlib import Path
import pickle
from typing import Any, Dict, Iterator, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..atomic import atomic_file
from ..errors import InputError
from ..nets.attention import KeysValues
from ..nets.loger import LogerNet, Memory as NetMemory
from ..nets.policy import Policy
from ..nets.ttt import FastWeights, Numerics
from ._feedforward import is_finite, Memory

_FORMAT = 1


class LogerState(NamedTuple):
    """All that a stream leaves for its next window; nothing in it is ever written to."""

    stream: Memory = Memory()               # tokens of the last window, K
    net: NetMemory = NetMemory()
    n_windows: int = 0                      # that the fast weights have stored or could have
    gauge: int = 0                          # times that they were reset


def set_numerics(config: Any, net: LogerNet, policy: Policy) -> None:
    """Tell a net how to compute its fast weights; ``config`` is a `LogerConfig`."""
    net.numerics = Numerics(policy.dtype, getattr(torch, config.orthogonal),
                            is_leaky=config.faithful, use_batch=not config.faithful)
    if config.faithful:
        net.angle_type = policy.dtype


def is_sound(net: NetMemory, *results: Tensor) -> bool:
    """Say whether a memory and a net's results are finite throughout; the host waits for it."""
    return is_finite(*_tensors(net), *results)


def growth(memory: NetMemory, net: LogerNet) -> float:
    """Return the norm of all fast weights over that of the ones that were learnt."""
    def square(all_weights):
        return sum(float(w.square().sum()) for weights in all_weights for w in weights)
    learnt = square(layer.initial(1) for layer in net.ttt_layers)
    return (square(memory.fast) / learnt)**0.5 if memory.fast and learnt else 1.0


def n_bytes(state: LogerState) -> int:
    """Return the size of the tensors of a state."""
    return sum(t.numel() * t.element_size()
               for t in [*_tensors(state.net), *state.stream.tokens.values()])


def _tensors(net: NetMemory) -> Iterator[Tensor]:
    for part in (*(net.fast or ()), *(net.past or ())):
        yield from part


def moved(state: LogerState, device: torch.device) -> LogerState:
    """Return a state with all its tensors on a device."""
    def move(group):
        return group and tuple(type(item)(*(t.to(device) for t in item)) for item in group)
    tokens = {key: value.to(device) for key, value in state.stream.tokens.items()}
    return state._replace(stream=state.stream._replace(tokens=tokens),
                          net=NetMemory(move(state.net.fast), move(state.net.past)))


def save(state: LogerState, path: Path, name: str) -> None:
    """Write the state of the backbone ``name`` to a file, whole or not at all."""
    with atomic_file(path) as stream:
        torch.save(_plain(state, name), stream)


def load(path: Path, name: str, device: torch.device) -> LogerState:
    """Return the state of a file, on a device; InputError when it is none of this backbone."""
    path = Path(path)
    try:
        values = torch.load(path, map_location=device, weights_only=True)
        if values['backbone'] != name or values['format'] != _FORMAT:
            raise InputError(f'{path}: the state of backbone {values["backbone"]}, format '
                             f'{values["format"]}; expected {name}, {_FORMAT}: begin a new stream')
        return _revived(values)
    except FileNotFoundError:
        raise InputError(f'{path}: there is no such file; check the path') from None
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError,
            pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or ['empty'])[0]
        raise InputError(f'{path}: no state of a stream, or damaged ({reason}); begin a new '
                         'stream') from None


def _plain(state: LogerState, name: str) -> Dict:
    stream, net = state.stream, state.net
    return {'backbone': name, 'format': _FORMAT, 'n_windows': state.n_windows,
            'gauge': state.gauge,
            'K': None if stream.K is None else torch.from_numpy(np.array(stream.K)),
            # a slice would be written with all that it is a slice of
            'tokens': {key: value.clone() for key, value in stream.tokens.items()},
            'fast': net.fast and [list(weights) for weights in net.fast],
            'past': net.past and [list(pair) for pair in net.past]}


def _revived(values: Dict) -> LogerState:
    K = values['K']
    net = NetMemory(values['fast'] and tuple(FastWeights(*w) for w in values['fast']),
                    values['past'] and tuple(KeysValues(*pair) for pair in values['past']))
    stream = Memory(values['tokens'], None if K is None else K.cpu().numpy())
    return LogerState(stream, net, values['n_windows'], values['gauge'])
