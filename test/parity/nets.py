"""Building our networks for a case, filling them, and watching what goes on inside."""

from contextlib import contextmanager
import importlib.util
import re
from types import MappingProxyType
from typing import Callable, Dict, Iterator, List, Mapping

import numpy as np
from reader import Case, Fixtures, view
from result import compare, Result
import torch

Stages = Dict[str, torch.Tensor]


def recipe(case: Case):
    """Return the module ``recipe`` that lies beside the fixtures, or beside the keys."""
    folder = case.folder if (case.folder / 'recipe.py').is_file() else case.keys_folder
    spec = importlib.util.spec_from_file_location('parity_recipe', folder / 'recipe.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filled(case: Case, make: Callable[[], torch.nn.Module], prefix: str = '',
           ignored: str = '$.', rename: Callable[[str], str] = str) -> torch.nn.Module:
    """Return the net of a case with its deterministic weights; names and shapes must agree.

    It is built without memory and takes the tensors as they are: there is one copy of them.
    ``prefix`` stands before its names in the case, ``rename`` turns ours into the official ones;
    those that match ``ignored`` are not built.
    """
    keys = {key: shape for key, shape in Fixtures(case.folder, case.keys_folder).keys(
        case.name).items() if not re.search(ignored, key)}
    with torch.device('meta'):
        net = make()
    names = {prefix + rename(key): key for key in net.state_dict()}
    ours = {prefix + rename(key): tuple(value.shape) for key, value in net.state_dict().items()}
    if ours != keys:
        different = sorted(set(ours.items()) ^ set(keys.items()))
        raise SystemExit(f'{case.name}: names and shapes differ from the official ones, first: '
                         f'{different[:4]}')
    weights = recipe(case).fill(keys, case.about['rules'])
    net.load_state_dict({names[key]: value for key, value in weights.items()}, strict=True,
                        assign=True)
    return net.eval()


def images(case: Case) -> torch.Tensor:
    """Return the input images of a case."""
    about = case.about['input']
    return recipe(case).images(about['seed'], *about['shape'])


@contextmanager
def watched(modules: Mapping[str, torch.nn.Module],
            inputs_of: Mapping[str, torch.nn.Module] = MappingProxyType({})) -> Iterator[Stages]:
    """Collect outputs of some modules, and first inputs of others, while the block runs."""
    seen: Stages = {}

    def keep(name, is_input):
        def hook(_module, inputs, output):
            seen[name] = inputs[0] if is_input else output
        return hook
    handles = [module.register_forward_hook(keep(name, is_input))
               for group, is_input in ((modules, False), (inputs_of, True))
               for name, module in group.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def compare_all(case: Case, found: Mapping[str, torch.Tensor],
                inputs: tuple = ()) -> List[Result]:
    """Compare every array of a case that is no input with the full array of the same name."""
    results = []
    for name, reference in case.arrays.items():
        if name in inputs:
            continue
        full = found.get(name.split('@')[0])
        if full is None:
            results.append(Result(name, np.inf, 0.0, 'no such output'))
        else:
            results.append(compare(name, view(name, full.detach().numpy()), reference,
                                   case.tolerance(name)))
    return results
