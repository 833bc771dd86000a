"""Weights of small nets as files, and those that come with the package."""

import json
from pathlib import Path
from typing import Dict

from ..errors import MissingDependency, WeightsError
from .stream import StreamNet
from .variants import new_net, Setting

FOLDER = Path(__file__).resolve().parent / 'weights'
LABEL = ('trained on synthetic rooms only, for minutes; shows how the memories work, and is of '
         'no use on real images')


def save_weights(net: StreamNet, path: Path, about: Dict[str, str]) -> None:
    """Write the tensors of a net and what is to be known about them (.safetensors)."""
    save_file = _safetensors().torch.save_file
    tensors = {name: value.detach().cpu().contiguous()
               for name, value in net.state_dict().items()}
    save_file(tensors, str(path), {'label': LABEL, 'licence': 'Apache-2.0', **about})


def load_weights(path: Path, setting: Setting, variant: str) -> StreamNet:
    """Return a net with the weights of a file, on the CPU.

    Raises WeightsError unless the file holds all of its tensors and no others.
    """
    safetensors = _safetensors()
    net = new_net(setting, variant, 0)
    try:
        net.load_state_dict(safetensors.torch.load_file(str(path)), strict=True)
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise WeightsError(f'{path}: not the weights of this net ({str(error)[:200]}); train it '
                           'with "longrecon train"') from None
    return net.eval()


def about_weights(path: Path) -> Dict[str, str]:
    """Return what a file says about its weights."""
    with _safetensors().safe_open(str(path), framework='pt') as file:
        return dict(file.metadata())


def as_text(values) -> str:
    """Return plain values on one line, as the file can hold them."""
    return json.dumps(values, sort_keys=True)


def _safetensors():
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise MissingDependency('weights of nets need safetensors: pip install safetensors'
                                ) from None
    return safetensors
