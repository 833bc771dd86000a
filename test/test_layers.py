"""The package's dependency rules, read from the source: who may import whom, and house rules.

    0  types  errors  atomic  frozen  geometry/  memory  resampling
                                                       numpy
    1  config  parameter_list  preprocess  windowing  spool  alignment/  mapping/  loop/  sfm/
       tracking/  scale/
                                                       + scipy, cv2, yaml; layer 0 and themselves
    -  nets/                                           torch; nothing of ours but themselves
    2  backbones/base        layer 0;  backbones/NAME: layers 0, 1, base, nets, torch
    3  chain  map_store  mapper  pipeline  overlap  checkpoint  tail
                             layers 0, 1, each other, and backbones by name only
    4  io  evaluation  synthetic  report  results  export  train  worker
                                                       layers 0 to 3, and each other without cycles
    5  cli/  ros/            anything; nothing imports them

rclpy and message packages only under ros/, torch only in backbones/NAME, nets, export and train,
evo nowhere. Extras are imported inside the function that needs them.
"""

import ast
from pathlib import Path
import sys
from typing import Iterator, List, NamedTuple, Tuple

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / 'longrecon_ros'
FILES = sorted(PACKAGE.rglob('*.py'))
MAX_LINES = 400

LAYERS = {'__init__': 0, 'types': 0, 'errors': 0, 'atomic': 0, 'frozen': 0, 'geometry': 0,
          'memory': 0, 'resampling': 0,
          'config': 1, 'parameter_list': 1, 'preprocess': 1, 'windowing': 1, 'spool': 1,
          'alignment': 1, 'mapping': 1, 'loop': 1, 'sfm': 1, 'tracking': 1, 'scale': 1, 'nets': 1,
          'backbones': 2, 'chain': 3, 'map_store': 3, 'mapper': 3, 'pipeline': 3, 'overlap': 3,
          'checkpoint': 3, 'tail': 3, 'io': 4, 'evaluation': 4, 'synthetic': 4, 'report': 4,
          'results': 4, 'export': 4, 'train': 4, 'worker': 4, 'cli': 5, 'ros': 5}
CORE = {'numpy', 'scipy', 'cv2', 'yaml'}
# inside functions: what is compared with the original, and what executes graphs
EXTRAS = {'alignment': {'skimage'}, 'backbones': {'safetensors'}, 'nets': {'onnxruntime'}}
ROS = {'rclpy', 'rosbag2_py', 'rosidl_runtime_py', 'cv_bridge', 'sensor_msgs_py', 'tf2_ros',
       'tf2_py', 'tf_transformations', 'ament_index_python', 'launch', 'launch_ros',
       'builtin_interfaces', 'diagnostic_msgs', 'geometry_msgs', 'nav_msgs', 'rcl_interfaces',
       'rosgraph_msgs',
       'sensor_msgs', 'std_msgs', 'std_srvs', 'tf2_msgs', 'visualization_msgs'}


class Import(NamedTuple):
    """One import: dotted name (ours begin with longrecon_ros), line, inside a function or not."""

    name: str
    line: int
    is_lazy: bool


def imports(tree: ast.AST, package: Tuple[str, ...]) -> Iterator[Import]:
    """Yield all imports of a module of ``package`` (its dotted parts), relative ones resolved."""
    lazy = {id(node) for block in ast.walk(tree)
            if isinstance(block, (ast.FunctionDef, ast.AsyncFunctionDef))
            for node in ast.walk(block)}
    for node in ast.walk(tree):
        is_lazy = id(node) in lazy
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, is_lazy)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else ()
            parts = base + tuple(filter(None, (node.module or '').split('.')))
            for alias in node.names:
                yield Import('.'.join(parts + (alias.name,)), node.lineno, is_lazy)


def violations(source: str, relative: str) -> List[str]:
    """Return what a module breaks; ``relative`` is its path inside the package."""
    tree = ast.parse(source)
    parts = Path(relative).with_suffix('').parts
    found = []
    for item in imports(tree, ('longrecon_ros',) + parts[:-1]):
        name = item.name.split('.')
        if name[0] == 'longrecon_ros':
            problem = _own(parts, name[1:])
        else:
            problem = _foreign(parts, name[0], item.is_lazy)
        if problem:
            found.append(f'{relative}:{item.line}: imports {item.name}: {problem}')
    return found + _house_rules(tree, relative, parts)


def _own(parts: Tuple[str, ...], target: List[str]) -> str:
    unit, other = parts[0], (target or ['__init__'])[0]
    if other not in LAYERS:
        # a name out of the package's own __init__, such as the version
        return ''
    mine, theirs = LAYERS[unit], LAYERS[other]
    if unit in ('cli', 'ros'):
        return ''
    if other in ('cli', 'ros'):
        return 'nothing imports cli or ros'
    if unit == other:
        is_private = unit == 'backbones' and parts[-1] != '__init__'
        is_shared = bool(target[1:]) and (target[1] == 'base' or target[1].startswith('_'))
        return 'a backbone imports no other one' if is_private and not is_shared else ''
    if unit == 'nets':
        return 'nets import nothing of ours'
    if other == 'nets' and (unit != 'backbones' or parts[-1] in ('base', '__init__')):
        return '' if unit in ('export', 'train') else 'only backbones, export and train use nets'
    if unit == 'backbones' and parts[-1] in ('base', '__init__') and theirs > 0:
        return 'the base of the backbones uses layer 0 only'
    if mine == 3 and other == 'backbones' and target[1:2] not in ([], ['base']):
        return 'the pipeline loads backbones by name'
    if mine == 0 and theirs == 0:
        return ''
    if theirs < mine or mine == theirs >= 3:
        return ''
    return f'layer {mine} does not use layer {theirs}'


def _foreign(parts: Tuple[str, ...], name: str, is_lazy: bool) -> str:
    unit = parts[0]
    if name == 'evo':
        return 'evo is GPL: tests only'
    if name in ROS:
        return '' if unit == 'ros' else 'ROS packages only under ros/'
    if name == 'torch':
        is_backbone = unit == 'backbones' and parts[-1] not in ('base', '__init__')
        allowed = is_backbone or unit in ('nets', 'export', 'train')
        return '' if allowed else 'torch only in backbones/NAME, nets, export and train'
    if name in sys.stdlib_module_names:
        return ''
    if LAYERS[unit] in (0, 3):
        return '' if name == 'numpy' else 'numpy only'
    if name in CORE or (is_lazy and (LAYERS[unit] >= 4 or name in EXTRAS.get(unit, ()))):
        return ''
    return 'not a dependency of the core; import extras inside the function that needs them'


def _house_rules(tree: ast.AST, relative: str, parts: Tuple[str, ...]) -> List[str]:
    found = []
    for node in ast.walk(tree):
        line = f'{relative}:{getattr(node, "lineno", 0)}: '
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            if any(alias.name == '*' for alias in node.names):
                found.append(line + 'import * hides where names come from')
            if (isinstance(node, ast.ImportFrom) and node.level == 0
                    and (node.module or '').split('.')[0] == 'longrecon_ros'):
                found.append(line + 'imports inside the package are relative')
        elif isinstance(node, ast.ExceptHandler):
            caught = ast.dump(node.type) if node.type else 'everything'
            is_wide = caught == 'everything' or any(
                f"id='{name}'" in caught for name in ('Exception', 'BaseException'))
            # cleaning up and raising again is no hiding
            is_raised = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if is_wide and not is_raised:
                found.append(line + 'catches everything')
        elif (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
              and node.func.id == 'print' and parts[0] not in ('cli',)):
            found.append(line + 'prints; the library logs')
        elif isinstance(node, ast.Attribute) and node.attr == 'path' \
                and isinstance(node.value, ast.Name) and node.value.id == 'sys':
            found.append(line + 'touches sys.path')
    return found


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_keeps_the_rules(path):
    relative = path.relative_to(PACKAGE)
    unit = relative.parts[0].removesuffix('.py')
    assert unit in LAYERS, f'{relative}: give {unit} a layer'
    assert relative.name != 'utils.py', f'{relative}: name the concept'
    source = path.read_text(encoding='utf-8')
    assert violations(source, str(relative)) == []
    assert source.count('\n') <= MAX_LINES, f'{relative}: split it'
    assert ast.get_docstring(ast.parse(source)), f'{relative}: no module docstring'


def test_units_of_one_layer_do_not_import_in_circles():
    edges = {}
    for path in FILES:
        parts = path.relative_to(PACKAGE).with_suffix('').parts
        tree = ast.parse(path.read_text(encoding='utf-8'))
        for item in imports(tree, ('longrecon_ros',) + parts[:-1]):
            name = item.name.split('.')
            if name[0] == 'longrecon_ros' and len(name) > 1 and name[1] != parts[0] \
                    and LAYERS.get(name[1]) == LAYERS[parts[0]] not in (0, 5):
                edges.setdefault(parts[0], set()).add(name[1])
    free = {unit for unit in LAYERS if unit not in edges}
    while edges:
        ready = [unit for unit, targets in edges.items() if targets <= free]
        assert ready, f'circle among {edges}'
        for unit in ready:
            free.add(unit)
            del edges[unit]


@pytest.mark.parametrize('relative, source, words', [
    ('types.py', 'import scipy', 'numpy only'),
    ('geometry/se3.py', 'from ..config import load', 'layer 0 does not use layer 1'),
    ('windowing.py', 'from .mapping import submap', 'layer 1 does not use layer 1'),
    ('sfm/bundle.py', 'from ..alignment.base import apply', 'layer 1 does not use layer 1'),
    ('sfm/bundle.py', 'import torch', 'torch only in'),
    ('nets/vit.py', 'from ..types import Frame', 'nets import nothing of ours'),
    ('mapping/submap.py', 'from ..nets import vit', 'only backbones, export and train'),
    ('backbones/base.py', 'from ..config import build', 'layer 0 only'),
    ('backbones/pi3.py', 'from .vggt import VggtBackbone', 'imports no other one'),
    ('backbones/pi3.py', 'from ..pipeline import Pipeline', 'layer 2 does not use layer 3'),
    ('pipeline.py', 'from .backbones.sfm import BACKBONE', 'loads backbones by name'),
    ('pipeline.py', 'from .io import source', 'layer 3 does not use layer 4'),
    ('chain.py', 'import scipy', 'numpy only'),
    ('chain.py', 'from .backbones.sfm import BACKBONE', 'loads backbones by name'),
    ('pipeline.py', 'def f():\n    import rclpy', 'only under ros/'),
    ('io/bag.py', 'import rosbags', 'import extras inside'),
    ('alignment/published_layers.py', 'import skimage', 'import extras inside'),
    ('alignment/surfaces.py', 'def f():\n    import rosbags', 'import extras inside'),
    ('io/bag.py', 'from ..cli import main', 'nothing imports cli or ros'),
    ('io/bag.py', 'def f():\n    from sensor_msgs.msg import Image', 'only under ros/'),
    ('evaluation/trajectory.py', 'def f():\n    import evo.core', 'evo is GPL'),
    ('cli/main.py', 'import torch', 'torch only in'),
    ('cli/main.py', 'import rich', 'import extras inside'),
    ('mapping/submap.py', 'from longrecon_ros.types import Submap', 'are relative'),
    ('config.py', 'from .errors import *', 'import *'),
    ('config.py', 'try:\n    pass\nexcept Exception:\n    pass', 'catches everything'),
    ('config.py', 'try:\n    pass\nexcept (OSError, Exception):\n    pass', 'catches everything'),
    ('config.py', 'try:\n    pass\nexcept:\n    pass', 'catches everything'),
    ('config.py', 'print(3)', 'the library logs'),
    ('config.py', 'import sys\nsys.path.append(1)', 'sys.path'),
])
def test_the_check_finds(relative, source, words):
    assert any(words in problem for problem in violations(source, relative))


@pytest.mark.parametrize('relative, source', [
    ('types.py', 'import numpy as np\nfrom enum import IntEnum'),
    ('geometry/umeyama.py', 'from ..errors import AlignmentError\nfrom .sim3 import Sim3'),
    ('backbones/pi3.py', 'import torch\nfrom ..nets import vit\nfrom .base import Backbone'),
    ('train/loop.py', 'import torch\nfrom ..nets.loger import LogerNet\nfrom .data import Laps'),
    ('backbones/sfm.py', 'from ..sfm.window import solve\nfrom ..types import Frame'),
    ('pipeline.py', 'from . import backbones\nfrom .backbones.base import Backbone'),
    ('io/bag.py', 'def f():\n    import rosbags'),
    ('alignment/published_layers.py', 'def f():\n    import skimage'),
    ('synthetic/writer.py', 'from ..atomic import atomic_write'),
    ('report/page.py', 'from .. import __version__'),
    ('atomic.py', 'try:\n    f()\nexcept BaseException:\n    g()\n    raise'),
    ('cli/run.py', 'from ..pipeline import Pipeline\nprint(3)'),
    ('ros/node.py', 'import rclpy\nfrom nav_msgs.msg import Odometry'),
])
def test_the_check_allows(relative, source):
    assert violations(source, relative) == []
