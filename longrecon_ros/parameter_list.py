"""The list of all parameters: name, default, type, range, choices and what each one means.

Made of ``config/default.yaml``, whose comments are the texts, and of the ranges below. ROS
descriptors (``ros/parameters.py``) and ``docs/parameters.md`` come from it. Needs no ROS.

A text that names all choices has the form ``what it is: one | two (remark) | three``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
import re
from typing import Any, Dict, Optional, Tuple, Union

import yaml

# libyaml where PyYAML has it: ten times as fast
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)

Number = Union[int, float]

_COUNT = (1, 1_000_000)
_TIME_S = (0.0, 3600.0)
_RATIO = (0.0, 1.0)
_NETS = ('pi3', 'pi3x', 'vggt', 'scal3r', 'loger', 'stream3r')

RANGES: Mapping[str, Tuple[Number, Number]] = {
    'window.size': (2, 1000),
    'window.overlap': (0, 999),
    'layerwise.jump': _RATIO,
    'layerwise.min_share': _RATIO,
    'layerwise.work_pixels': (100, 100_000_000),
    'map.voxel_m': (0.0, 1e6),
    'map.voxel_per_depth': _RATIO,
    'map.max_points': (1, 1_000_000_000),
    'map.min_confidence': _RATIO,
    'map.points_per_frame': (1, 100_000_000),
    'map.budget_mb': (1.0, 1e9),
    'map.thin_share': _RATIO,
    'loop.max_waiting': _COUNT,
    'loop.n_features': (50, 1_000_000),
    'loop.top_k': _COUNT,
    'loop.min_gap': (0, 1_000_000),
    'loop.min_score': _RATIO,
    'loop.min_inliers': (6, 1_000_000),
    'loop.min_share': _RATIO,
    'loop.max_drift': _RATIO,
    'loop.n_confirm': _COUNT,
    'loop.drift_translation': (0.0, 10.0),
    'loop.drift_depth': (0.0, 10.0),
    'loop.drift_rotation_deg': (0.0, 10.0),
    'loop.drift_log_scale': (0.0, 10.0),
    'sfm.n_tracks': (50, 1_000_000),
    'sfm.patch_px': (3, 63),
    'sfm.final_patch_px': (0, 63),
    'sfm.n_points': (50, 1_000_000),
    'sfm.n_memory': (0, 10_000),
    'sfm.focal_sigma': (0.0, 0.2),
    'sfm.depth_width_px': (64, 100_000),
    'sfm.depth_sources': (1, 4),
    'simulated.seed': (0, 2**31 - 1),
    'simulated.scale_sigma': (0.0, 2.0),
    'simulated.layer_sigma': _RATIO,
    'simulated.layer_own_share': _RATIO,
    'simulated.layer_step': (0.01, 1.0),
    'simulated.layer_contact': (0.0, 10.0),
    'simulated.warp_sigma': (0.0, 0.5),
    'simulated.pose_translation': (0.0, 0.5),
    'simulated.pose_rotation_deg': (0.0, 20.0),
    'simulated.depth_noise': (0.0, 0.5),
    'simulated.outlier_share': (0.0, 0.3),
    'simulated.edge_px': (0, 5),
    'simulated.confidence_noise': _RATIO,
    **{f'{net}.max_pixels': (0, 1_000_000_000) for net in _NETS},
    **{f'{net}.max_side_px': (0, 100_000) for net in _NETS},
    'scal3r.memory_mb': (0, 1_000_000_000),
    'scal3r.rank_timeout_s': (0.0, 1e6),
    'loger.reset_every': (0, 1_000_000),
    'stream3r.n_recent': _COUNT,
    'stream3r.max_frames': _COUNT,
    'scale.metric_sigma': _RATIO,
    'scale.min_sigma': _RATIO,
    'scale.min_measurements': (3, 10_000),
    'scale.memory': (3, 10_000),
    'scale.adapt_rate': _RATIO,
    'scale.metres_per_unit': (0.0, 1e6),
    'scale.constant_sigma': _RATIO,
    'scale.camera_height_m': (0.0, 1000.0),
    'scale.min_distance_m': (0.0, 1000.0),
    'scale.wheel_sigma': _RATIO,
    'scale.min_depth_m': (0.0, 1000.0),
    'scale.max_depth_m': (0.0, 10_000.0),
    'scale.depth_tolerance_s': (0.0, 1.0),
    'tracking.n_points': (30, 5000),
    'tracking.width_px': (64, 4096),
    'tracking.n_history': (2, 1000),
    'tracking.n_catch_up': (1, 100),
    'tracking.min_confidence': _RATIO,
    'tracking.patch_px': (5, 63),
    'tracking.levels': (0, 6),
    'tracking.round_trip_px': (0.0, 10.0),
    'tracking.sigma_px': (0.0, 10.0),
    'tracking.sigma_log_depth': _RATIO,
    'tracking.sigma_log_scale': _RATIO,
    'tracking.sigma_acceleration': (0.0, 1000.0),
    'tracking.min_inliers': (8, 1000),
    'tracking.min_share': _RATIO,
    'tracking.max_rmse_px': (0.0, 100.0),
    'tracking.max_step': (0.0, 10.0),
    'tracking.max_turn_deg': (0.0, 180.0),
    'node.queue_size': (1, 10_000),
    'node.latency_budget_s': (0.01, 3600.0),
    'node.calibration_wait_s': _TIME_S,
    'node.gap_s': (0.01, 3600.0),
    'node.tf_rate_hz': (0.0, 1000.0),
    'node.tf_tolerance_s': (0.0, 10.0),
    'node.extrinsic_wait_s': _TIME_S,
    'node.slew_s': (0.0, 60.0),
    'node.cloud_points': (1, 500_000),
    'node.cloud_period_s': _TIME_S,
    'node.tile_points': (1000, 500_000),
    'node.path_poses': (2, 1_000_000),
    'node.path_period_s': _TIME_S,
    'node.grid_resolution_m': (0.005, 10.0),
    'node.status_period_s': (0.01, 3600.0),
    'node.worker_timeout_s': (1.0, 86_400.0),
    'node.worker_deaths': (0, 1000),
    'node.worker_memory_mb': (0.0, 1e9),
}
"""Lowest and highest value of numbers, both allowed unless the configuration says otherwise."""

RUNTIME = frozenset({
    'node.latency_budget_s', 'node.tf_tolerance_s', 'node.slew_s', 'node.cloud_points',
    'node.path_poses', 'node.path_period_s', 'node.map_name'})
"""Parameters that a running node takes over; all others are read-only."""

_KINDS = {bool: 'bool', int: 'integer', float: 'double', str: 'string'}
_LINE = re.compile(r'^(?P<indent> *)(?P<key>[\w/*]+):(?P<value>[^#]*)(?:#\s*(?P<text>.*))?$')
_MORE = re.compile(r'^\s*#\s*(?P<text>.*)$')
_INNERMOST = re.compile(r'\s*\([^()]*\)')
_CHOICES = re.compile(
    r'(?:^|[:,;] )(?P<list>[\w./+-]+(?: \| [\w./+-]+)+)(?P<rest>$|[;,.](?: |$))')
_SAME_AS = re.compile(r'(?:^|, )as (?P<name>\w+(?:\.\w+)+)(?=$|[;,.](?: |$))')
_ONLY = re.compile(r'^must be (?P<value>[\w-]+)(?=$|[;,.(\s])')


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; ``kind`` is the ROS type: bool, integer, double, string, or one's array.

    ``low`` and ``high`` are None without a range; ``choices`` is empty where any text will do.
    """

    name: str
    default: Any
    kind: str
    text: str
    low: Optional[Number] = None
    high: Optional[Number] = None
    choices: Tuple[str, ...] = ()
    is_runtime: bool = False

    @property
    def group(self) -> str:
        """Return the first part of the dotted name; empty for those at the top."""
        return self.name.partition('.')[0] if '.' in self.name else ''

    def problem(self, value: Any) -> str:
        """Say in a line why a value (of the right type) will not do; empty if it will."""
        if self.low is not None and not self.low <= value <= self.high:
            return f'{self.name}: expected {self.low} to {self.high}, got {value}'
        if self.choices and value not in self.choices:
            return f'{self.name}: expected one of {", ".join(self.choices)}, got {value!r}'
        return ''


def read(path: Path) -> Dict[str, Parameter]:
    """Return all parameters of a YAML file in ROS form, by dotted name, in its order."""
    tree = yaml.load(path.read_text(encoding='utf-8'), _LOADER)
    texts = descriptions(path)
    found = {}
    for name, default in _leaves(tree['/**']['ros__parameters']):
        low, high = RANGES.get(name, (None, None))
        found[name] = Parameter(name, default, kind_of(default), texts.get(name, ''), low, high,
                                choices(name, texts), name in RUNTIME)
    return found


def descriptions(path: Path) -> Dict[str, str]:
    """Return the comment of every parameter of a YAML file in ROS form, by dotted name."""
    texts: Dict[str, str] = {}
    stack = []                              # (indent, key) of the groups around the line
    name = None
    for line in path.read_text(encoding='utf-8').splitlines():
        found, more = _LINE.match(line), _MORE.match(line)
        if found:
            indent = len(found['indent'])
            while stack and stack[-1][0] >= indent:
                stack.pop()
            stack.append((indent, found['key']))
            name = '.'.join(key for _, key in stack[2:])    # without /**: and ros__parameters:
            texts[name] = found['text'] or ''
        elif more and name:
            texts[name] = f'{texts[name]} {more["text"]}'.strip()
        else:
            name = None
    return texts


def introductions(path: Path) -> Dict[str, str]:
    """Return the comment above every group of a YAML file in ROS form, after an empty line."""
    found: Dict[str, str] = {}
    block = None                            # the comment since an empty line, if it is only that
    for line in path.read_text(encoding='utf-8').splitlines():
        key, more = _LINE.match(line), _MORE.match(line)
        if not line.strip():
            block = []
        elif more and block is not None:
            block.append(more['text'])
        else:
            if key and block and not key['value'].strip() and len(key['indent']) == 4:
                found[key['key']] = ' '.join(block)
            block = None
    return found


def kind_of(value: Any) -> str:
    """Return the ROS type of a default; ValueError for what no parameter can hold."""
    if isinstance(value, (list, tuple)) and value and type(value[0]) in _KINDS:
        return kind_of(value[0]) + '_array'
    if type(value) not in _KINDS:
        raise ValueError(f'value: expected a bool, number, text or a list of them, got {value!r}')
    return _KINDS[type(value)]


def choices(name: str, texts: Mapping) -> Tuple[str, ...]:
    """Return the values that the text of a parameter names; empty if it names no complete list.

    ``texts`` are all `descriptions`: a text may say ``as pi3.size`` and have that one's choices.
    """
    text = _without_remarks(texts.get(name, ''))
    listed, only, same = _CHOICES.search(text), _ONLY.search(text), _SAME_AS.search(text)
    if listed:
        return tuple(listed['list'].split(' | '))
    if only and only['value'] != 'empty':
        return (only['value'],)
    if same and same['name'] != name and same['name'] in texts \
            and same['name'].rpartition('.')[2] == name.rpartition('.')[2]:
        return choices(same['name'], {key: texts[key] for key in texts if key != name})
    return ()


def _without_remarks(text: str) -> str:
    """Return a text without what stands in brackets, nested ones included."""
    while _INNERMOST.search(text):
        text = _INNERMOST.sub('', text)
    return text


def _leaves(tree: Mapping, prefix: str = ''):
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value
