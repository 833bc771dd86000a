"""The configuration as ROS parameters: the same dotted names, described, ranged, read-only.

Everything comes from config/default.yaml; its comments are the descriptions.
"""

from dataclasses import dataclass
from pathlib import Path
import re
from typing import Any, Dict, Literal, Mapping, Tuple

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from ..config import as_flat_dict, build, Config, default_path, load
from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The section ``node`` of the configuration; config/default.yaml says what each one does."""

    image_transport: Literal['raw', 'compressed']
    image_qos: Literal['auto', 'reliable', 'best_effort']
    queue_policy: Literal['latest', 'keep_all']
    queue_size: int
    calibration_wait_s: float
    map_frame: str
    odom_frame: str
    base_frame: str
    publish_tf: bool
    use_extrinsic: Literal['auto', 'require', 'none']
    drift_ratio: float
    cloud_points: int
    cloud_period_s: float
    path_poses: int
    path_period_s: float
    status_period_s: float
    save_folder: str
    source: str
    groundtruth_file: str

    def __post_init__(self):
        for name, (low, high) in _NODE_RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f'{name}: expected {low} to {high}, got {getattr(self, name)}')
        frames = [self.map_frame, self.odom_frame, self.base_frame]
        for name, frame in zip(('map_frame', 'odom_frame', 'base_frame'), frames):
            if not frame or frame.startswith('/') or frames.count(frame) > 1:
                raise ValueError(f'{name}: expected a frame of its own without a leading slash, '
                                 f'got {frame!r}')
        if not self.save_folder:
            raise ValueError('save_folder: expected a folder, got nothing')


_NODE_RANGES: Mapping[str, Tuple[Any, Any]] = {
    'queue_size': (1, 10000),
    'calibration_wait_s': (0.0, 3600.0),
    'drift_ratio': (0.0, 1.0),
    'cloud_points': (1, 5_000_000),
    'cloud_period_s': (0.0, 3600.0),
    'path_poses': (2, 1_000_000),
    'path_period_s': (0.0, 3600.0),
    'status_period_s': (0.01, 3600.0),
}
RANGES: Mapping[str, Tuple[Any, Any]] = {
    'window.size': (2, 1000),
    'window.overlap': (0, 999),
    'map.voxel_m': (0.0, 1e6),
    'map.voxel_per_depth': (0.0, 1.0),
    'map.max_points': (1, 1_000_000_000),
    'map.min_confidence': (0.0, 1.0),
    'map.points_per_frame': (1, 100_000_000),
    **{f'node.{name}': limits for name, limits in _NODE_RANGES.items()},
}

_LINE = re.compile(r'^(?P<indent> *)(?P<key>[\w/*]+):(?P<value>[^#]*)(?:#\s*(?P<text>.*))?$')
_MORE = re.compile(r'^\s*#\s*(?P<text>.*)$')


def declare(node: Node) -> Tuple[Config, NodeConfig]:
    """Return the configuration that the parameter overrides of a node ask for, and declare it.

    The node must have been made with ``automatically_declare_parameters_from_overrides``, so that
    a mistyped name is noticed. Raises ConfigError for it, and for wrong types and values.
    """
    given = {name: parameter.value
             for name, parameter in node.get_parameters_by_prefix('').items()
             if not _is_of_ros(name)}
    config = load(overrides=given)
    node_config = build(NodeConfig, config.node)
    texts = descriptions(default_path())
    for name, value in as_flat_dict(config).items():
        if name in given:
            node.set_descriptor(name, _descriptor(name, given[name], texts.get(name, '')))
        else:
            value = list(value) if isinstance(value, tuple) else value
            node.declare_parameter(name, value, _descriptor(name, value, texts.get(name, '')))
    return config, node_config


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


def override(text: str) -> Tuple[str, str]:
    """Return (name, value) of ``name:=value``, as on a ROS command line."""
    name, mark, value = text.partition(':=')
    if not mark or not name.strip():
        raise ConfigError(f'{text!r}: expected NAME:=VALUE, for example window.size:=12')
    return name.strip(), value.strip()


def _is_of_ros(name: str) -> bool:
    """Say whether a parameter belongs to rclpy itself."""
    return name in ('use_sim_time', 'start_type_description_service') or \
        name.startswith('qos_overrides.')


def _descriptor(name: str, value: Any, text: str) -> ParameterDescriptor:
    kind = Parameter('_', value=value).type_
    descriptor = ParameterDescriptor(type=kind.value, description=text, read_only=True,
                                     dynamic_typing=value is None)
    low, high = RANGES.get(name, (None, None))
    if low is None:
        return descriptor
    if kind is Parameter.Type.INTEGER:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    elif kind is Parameter.Type.DOUBLE:
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low),
                                                              to_value=float(high))]
    return descriptor
