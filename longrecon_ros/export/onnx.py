"""Writes a net as graphs of ONNX, and lets ONNX Runtime repeat on them what torch says.

A folder of graphs holds ``encoder.onnx``, ``decoder.onnx`` or ``window.onnx``, the weights of each
beside it (``.onnx.data``: a file of ONNX holds at most 2 GB), and ``manifest.json``: sizes, where
the weights come from, versions, and the measured differences. `nets.runtime.GraphRuntime` reads
it. The graphs are plain: fixed shapes, operators of the standard set only, no control flow and
no float64, so that TensorRT builds an engine from the same files.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import dataclasses
import importlib
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple
import warnings

import numpy as np
import torch
from torch import nn

from .. import __version__
from ..atomic import atomic_folder, check_output_folder
from ..errors import ExportError, MissingDependency
from ..nets.runtime import MANIFEST, open_onnx
from .parts import fixed_positions, Part, PARTS, parts_of, Shape

OPSET = 18
"""What torch's exporter writes by itself; TensorRT 10 and ONNX Runtime 1.18 read it."""
TOLERANCE = 1e-4
"""Largest difference between torch and a graph, over the largest value that torch gives."""

_PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
_OLDEST_TORCH = (2, 5)
_SEED = 0
_TALKATIVE = ('torch.onnx', 'onnxscript', 'onnx_ir')
_log = logging.getLogger(__name__)


def check_packages() -> None:
    """Raise MissingDependency or ExportError unless everything is there to export with."""
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            raise MissingDependency(f'export onnx needs the package {name}: '
                                    f'pip install {" ".join(_PACKAGES)}') from None
    if tuple(map(int, torch.__version__.split('.')[:2])) < _OLDEST_TORCH:
        raise ExportError(f'export onnx needs torch 2.5 or newer, this is {torch.__version__}: '
                          'upgrade it, or export on another machine and copy the folder')


def export_onnx(net: nn.Module, backbone: str, weights: str, shape: Shape, folder: Path,
                parts: Sequence[str] = ('encoder', 'window'), tolerance: float = TOLERANCE,
                force: bool = False, is_untrained: bool = False) -> dict[str, Any]:
    """Write parts of a net into a folder, all or nothing; return what ``manifest.json`` holds.

    The net is in float32 on the CPU, as `ExportableBackbone.export_net` gives it; ``weights``
    says in words which ones it has, ``is_untrained`` that they are random numbers.

    Raises
    ------
    MissingDependency
        A package of the extra ``export`` is not installed.
    InputError
        The folder is not empty and ``force`` is False, or cannot be written.
    ExportError
        The net cannot be written, a graph does not run, or gives something else than torch.
    ValueError
        There are no parts, or unknown ones.

    """
    if not parts:
        raise ValueError(f'parts: expected some of {", ".join(PARTS)}, got none')
    check_packages()
    check_output_folder(folder, force)
    with atomic_folder(folder, force) as staging:
        with fixed_positions(net, shape):
            reports = {part.name: _export_part(part, staging, tolerance)
                       for part in parts_of(net, shape, parts, _SEED)}
        manifest = {'backbone': backbone, **dataclasses.asdict(shape),
                    'graphs': {name: report['file'] for name, report in reports.items()},
                    'is_untrained': is_untrained, 'weights': weights,
                    **_circumstances(net, tolerance), 'parts': reports}
        text = json.dumps(manifest, indent=2)
        (staging / MANIFEST).write_text(text + '\n', encoding='utf-8')
    return json.loads(text)


class Contents(NamedTuple):
    """What a graph is made of."""

    operators: Counter                      # name to number of nodes, DOMAIN::NAME for others'
    types: frozenset[str]                   # of all tensors, such as float32 and int64


def contents(path: Path) -> Contents:
    """Return the operators and the types of tensors in a graph; weights are not read."""
    import onnx
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False))
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    codes = {value.type.tensor_type.elem_type for value in values}
    codes |= {tensor.data_type for tensor in graph.initializer}
    codes |= {attribute.t.data_type for node in graph.node for attribute in node.attribute
              if attribute.HasField('t')}
    return Contents(
        Counter(f'{node.domain}::{node.op_type}' if node.domain else node.op_type
                for node in graph.node),
        frozenset(str(onnx.helper.tensor_dtype_to_np_dtype(code)) for code in codes if code))


def _export_part(part: Part, folder: Path, tolerance: float) -> dict[str, Any]:
    """Write and check one graph; return what the manifest says about it."""
    path = folder / f'{part.name}.onnx'
    _log.info('%s: writing', path.name)
    _write(part, path)
    _strip(path)
    found = contents(path)
    if 'float64' in found.types:
        raise ExportError(f'{path.name} has tensors of float64, which TensorRT refuses: use the '
                          'versions of torch and onnxscript in constraints.txt')
    _log.info('%s: comparing with torch', path.name)
    errors = compare(part, _run(path, part))
    for name, error in errors.items():
        if not error['relative'] <= tolerance:
            raise ExportError(
                f'{path.name} differs from torch in {name}: by {error["relative"]:.2g} of its '
                f'largest value, at most {tolerance:g} is allowed; use the versions of torch, '
                'onnxscript and onnxruntime in constraints.txt, or allow more with --tolerance')
    return {'file': path.name, 'n_operators': sum(found.operators.values()),
            'types': sorted(found.types), 'inputs': _shapes(part.inputs),
            'outputs': _shapes(part.outputs), 'errors': errors}


def _write(part: Part, path: Path) -> None:
    # Of the two exporters, the one by `torch.export`: it follows tensors, not Python, and folds
    # all that depends on shapes alone. The older one, by TorchScript, writes the same nets with
    # three times the operators, `If`, `CumSum` and `Range` among them, positions computed in
    # float64 when the graph runs, and no antialiased interpolation.
    with _quiet():
        try:
            torch.onnx.export(part.module.eval(), tuple(part.inputs.values()), str(path),
                              input_names=list(part.inputs), output_names=list(part.outputs),
                              opset_version=OPSET, dynamo=True, optimize=True,
                              external_data=True, verbose=False)
        except torch.onnx.OnnxExporterError as error:
            raise ExportError(f'{path.name} cannot be written: {str(error).splitlines()[0]}; use '
                              'the versions of torch and onnxscript in constraints.txt') from error


def _strip(path: Path) -> None:
    """Remove the exporter's notes, the paths of source files among them; weights stay outside."""
    import onnx
    model = onnx.load(str(path), load_external_data=False)
    for item in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output,
                 *model.graph.value_info, *model.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ''
    onnx.save(model, str(path))


def _run(path: Path, part: Part) -> dict[str, np.ndarray]:
    """Return what ONNX Runtime makes of the inputs of a part, on the CPU."""
    try:
        session = open_onnx(path, ['CPUExecutionProvider'])
        return session({name: tensor.numpy() for name, tensor in part.inputs.items()})
    except ValueError as error:
        raise ExportError(f'{error}; use the versions of torch, onnxscript and onnxruntime in '
                          'constraints.txt') from None


def compare(part: Part, found: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return by output how far a graph is from torch.

    ``max_abs`` is the largest difference, ``largest`` the largest value of torch, both in the unit
    of the output, and ``relative`` the first over the second.
    """
    errors = {}
    for name, tensor in part.outputs.items():
        wanted = tensor.numpy().astype(np.float64)
        max_abs = float(np.abs(wanted - found[name]).max())
        largest = float(np.abs(wanted).max())
        errors[name] = {'max_abs': max_abs, 'largest': largest,
                        'relative': max_abs / largest if largest else max_abs}
    return errors


def _circumstances(net: nn.Module, tolerance: float) -> dict[str, Any]:
    """Return what was exported by what, and how it was checked."""
    versions = {name: importlib.import_module(name).__version__ for name in ('torch', *_PACKAGES)}
    return {'precision': 'float32', 'opset': OPSET,
            'net': {'class': type(net).__name__, **dataclasses.asdict(net.size)},
            'versions': {'longrecon_ros': __version__, **versions},
            'check': {'runtime': 'onnxruntime, CPU', 'images': f'random, seed {_SEED}',
                      'tolerance': tolerance, 'passed': True}}


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the exporter keep its remarks about itself; what matters is measured afterwards."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
