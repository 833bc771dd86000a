"""The configuration as ROS parameters: the same dotted names, described, ranged, read-only or not.

Everything comes from `parameter_list`, and so from config/default.yaml.
"""

from typing import Any, List, Tuple

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from ..config import as_flat_dict, build, Config, default_path, load, Section
from ..errors import LongreconError
from ..parameter_list import Parameter, read, RUNTIME
from .engine import check_sections
from .node_config import Live, map_folder, NodeConfig


def declare(node: Node) -> Tuple[Config, Live]:
    """Return the configuration that the parameter overrides of a node ask for, and declare it.

    The node must have been made with ``automatically_declare_parameters_from_overrides``, so that
    a mistyped name is noticed. Raises ConfigError for it, and for wrong types and values.
    """
    given = {name: parameter.value
             for name, parameter in node.get_parameters_by_prefix('').items()
             if not _is_of_ros(name)}
    config = load(overrides=given)
    live = Live(build(NodeConfig, config.node))
    check_sections(config)
    known = read(default_path())
    for name, value in as_flat_dict(config).items():
        descriptor = _descriptor(known.get(name), given.get(name, value))
        if name in given:
            node.set_descriptor(name, descriptor)
        else:
            value = list(value) if isinstance(value, tuple) else value
            node.declare_parameter(name, value, descriptor)
    return config, live


def watch(node: Node, live: Live) -> None:
    """Take over changes of parameters that may change; all of one call, or none."""

    def take(parameters: List[RosParameter]) -> SetParametersResult:
        ours = {p.name: p.value for p in parameters if p.name in RUNTIME}
        try:
            changed = {**_section(live.config), **{
                name.partition('.')[2]: value for name, value in ours.items()}}
            config = build(NodeConfig, Section(changed, 'node'))
            if 'node.map_name' in ours:
                map_folder(config, config.map_name)
        except LongreconError as error:
            return SetParametersResult(successful=False, reason=str(error))
        live.config = config
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(take)


def _section(config: NodeConfig) -> dict:
    return {name: getattr(config, name) for name in config.__slots__}


def _is_of_ros(name: str) -> bool:
    """Say whether a parameter belongs to rclpy itself."""
    return name in ('use_sim_time', 'start_type_description_service') or \
        name.startswith('qos_overrides.')


def _descriptor(parameter: Any, value: Any) -> ParameterDescriptor:
    kind = RosParameter('_', value=value).type_
    known: Parameter = parameter
    text = '' if known is None else known.text
    descriptor = ParameterDescriptor(type=kind.value, description=text,
                                     read_only=known is None or not known.is_runtime,
                                     dynamic_typing=value is None)
    if known is not None and known.choices:
        descriptor.additional_constraints = 'one of ' + ', '.join(known.choices)
    if known is None or known.low is None:
        return descriptor
    if kind is RosParameter.Type.INTEGER:
        descriptor.integer_range = [IntegerRange(from_value=int(known.low),
                                                 to_value=int(known.high))]
    elif kind is RosParameter.Type.DOUBLE:
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(known.low),
                                                              to_value=float(known.high))]
    return descriptor
