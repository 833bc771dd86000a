"""Configuration: one YAML file of defaults, overrides on top, frozen records out.

``config/default.yaml`` holds every parameter once and is the list of what exists. A stage's
parameters become a frozen dataclass by `build`, which refuses unknown keys, wrong types and
missing values and says where a bad value came from. Range checks belong into ``__post_init__`` of
the dataclass as ``ValueError('field: what is wrong')``.
"""

from collections.abc import Mapping
import dataclasses
import difflib
import os
from pathlib import Path
import site
import sys
import sysconfig
import types
import typing
from typing import Any, Dict, Iterator, List, Optional, Tuple

import yaml

from .errors import ConfigError

# libyaml where PyYAML has it: ten times as fast
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)

_OVERRIDE = 'override'
_NOTHING: Mapping = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True, slots=True)
class WindowConfig:
    """How frames are cut into windows."""

    size: int                               # frames a window
    overlap: int                            # frames shared with the previous window

    def __post_init__(self):
        if self.size < 2:
            raise ValueError(f'size: expected 2 frames or more, got {self.size}')
        if not 0 <= self.overlap < self.size:
            raise ValueError(f'overlap: expected 0 to {self.size - 1} (below window.size), '
                             f'got {self.overlap}')


@dataclasses.dataclass(frozen=True, slots=True)
class MapConfig:
    """How the cloud is thinned and bounded."""

    voxel_m: float                          # odom units; 0: from the first window's median depth
    voxel_per_depth: float
    max_points: int
    min_confidence: float
    points_per_frame: int
    budget_mb: float
    thin_share: float
    keep_views: bool
    remove_floating: bool
    remove_contradicted: bool

    def __post_init__(self):
        if not 1 <= self.budget_mb < float('inf'):
            raise ValueError(f'budget_mb: expected 1 or more, got {self.budget_mb}')
        if not 0 < self.thin_share <= 1:
            raise ValueError(f'thin_share: expected above 0 and at most 1, got {self.thin_share}')
        if not 0 <= self.voxel_m < float('inf'):
            raise ValueError(f'voxel_m: expected 0 (automatic) or more, got {self.voxel_m}')
        if not 0 < self.voxel_per_depth <= 1:
            raise ValueError('voxel_per_depth: expected above 0 and at most 1, got '
                             f'{self.voxel_per_depth}')
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f'min_confidence: expected 0 to 1, got {self.min_confidence}')
        for name in ('max_points', 'points_per_frame'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name}: expected 1 or more, got {getattr(self, name)}')


@dataclasses.dataclass(frozen=True, slots=True)
class PipelineConfig:
    """How the pipeline is run; the results are the same whatever is chosen."""

    use_thread: bool                        # registration beside inference


class Section(Mapping):
    """A read-only group of raw parameters that knows its dotted name and where each came from.

    Nested groups are sections, too. Give one to `build` to have it checked.
    """

    def __init__(self, values: Mapping, name: str = '', origins: Mapping = _NOTHING):
        self.name = name
        self._values = dict(values)
        self._origins = dict(origins)       # a mapping proxy could not go to another process

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        if isinstance(value, Mapping):
            return Section(value, self.dotted(key), self._origins)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f'Section({self.name!r}, {self._values!r})'

    def dotted(self, key: str) -> str:
        """Return the full dotted name of a key of this section."""
        return f'{self.name}.{key}' if self.name else key

    def error(self, key: str, problem: str) -> ConfigError:
        """Return the error for one key: where it came from, its dotted name, the problem."""
        dotted = self.dotted(key)
        origin = self._origins.get(dotted)
        return ConfigError(f'{origin}: {dotted}: {problem}' if origin else f'{dotted}: {problem}')


@dataclasses.dataclass(frozen=True)
class Config:
    """All parameters of one run. Only `Pipeline.from_config` and the front ends see the whole."""

    backbone: str
    align: str
    window: WindowConfig
    map: MapConfig
    pipeline: PipelineConfig
    layerwise: Section
    """For ``build(alignment.LayerwiseConfig, ...)``."""
    loop: Section
    """For ``build(loop.settings.LoopConfig, ...)``."""
    tracking: Section
    """For ``build(tracking.TrackingConfig, ...)``; the node's."""
    scale: Section
    """For ``build(scale.ScaleConfig, ...)``; the node's."""
    backbone_options: Section
    """The section named after the backbone, for ``build(Backbone.Config, ...)``."""
    node: Section
    """The ROS node's section, for ``build(NodeConfig, ...)`` on the ROS side."""


def load(path: Optional[Path] = None, overrides: Mapping = _NOTHING) -> Config:
    """Read the defaults, then the file at ``path``, then dotted overrides, and check the result.

    Raises ConfigError naming the dotted key, where it came from and the nearest valid key.
    """
    defaults = _read(default_path())
    values, origins = dict(defaults), {}
    layers = [] if path is None else [(str(path), _read(Path(path)))]
    layers.append((_OVERRIDE, _flatten(overrides)))
    for origin, layer in layers:
        for key, value in layer.items():
            _check_known(key, value, defaults, origin)
            values[key] = value
            origins[key] = origin
    root = Section(_nest(values), '', origins)
    backbone = root['backbone']
    if not isinstance(backbone, str):
        raise root.error('backbone', f'expected a name, got {backbone!r}')
    return Config(
        backbone=backbone,
        align=_convert(str, root['align'], root, 'align'),
        window=build(WindowConfig, root['window']),
        map=build(MapConfig, root['map']),
        pipeline=build(PipelineConfig, root['pipeline']),
        layerwise=root['layerwise'],
        loop=root['loop'],
        tracking=root['tracking'],
        scale=root['scale'],
        backbone_options=root[backbone] if isinstance(root.get(backbone), Section)
        else Section({}, backbone),
        node=root['node'])


def build(cls: type, mapping: Mapping):
    """Return the frozen dataclass ``cls`` filled from a mapping (best: a `Section` of a Config).

    Understands int, float, bool, str, Literal, Optional, ``Tuple[x, ...]`` and nested
    dataclasses. Raises ConfigError for unknown keys, wrong types, missing values, and for what
    ``cls.__post_init__`` refuses with a ValueError.
    """
    section = mapping if isinstance(mapping, Section) else Section(mapping)
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in section:
        if key not in fields:
            raise section.error(key, 'unknown parameter; ' + _suggest(key, list(fields)))
    arguments = {key: _convert(hints[key], section[key], section, key) for key in section}
    for name, field in fields.items():
        if (name not in arguments and field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING):
            raise section.error(name, 'missing; give it a value')
    try:
        return cls(**arguments)
    except ValueError as error:
        name, _, problem = str(error).partition(': ')
        if name not in fields:
            raise ConfigError(f'{section.name or cls.__name__}: {error}') from None
        raise section.error(name, problem) from None


def as_flat_dict(config: Config) -> Dict[str, Any]:
    """Return all parameters of the run with dotted names and plain values."""
    tree = {'backbone': config.backbone, 'align': config.align,
            'window': dataclasses.asdict(config.window), 'map': dataclasses.asdict(config.map),
            'pipeline': dataclasses.asdict(config.pipeline), 'layerwise': config.layerwise,
            'loop': config.loop, 'tracking': config.tracking, 'scale': config.scale,
            config.backbone: config.backbone_options, 'node': config.node}
    return {key: value for key, value in _flatten(tree).items() if value != {}}


def parse_override(text: str) -> Tuple[str, Any]:
    """Return (dotted key, value) of ``'window.size=12'``; the value is read as YAML."""
    key, equals, value = text.partition('=')
    if not equals or not key.strip():
        raise ConfigError(f'{text!r}: expected KEY=VALUE, for example window.size=12')
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f'{text!r}: the value is not YAML; quote it if it is text') from None


def default_path() -> Path:
    """Return where config/default.yaml is; ConfigError naming the places searched when absent."""
    share = Path('share') / 'longrecon_ros' / 'config'
    prefixes = [sys.prefix, sysconfig.get_path('data'), site.getuserbase()]
    prefixes += filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep))
    folders = [Path(__file__).resolve().parent.parent / 'config']
    folders += [Path(prefix) / share for prefix in dict.fromkeys(prefixes)]
    for folder in folders:
        if (folder / 'default.yaml').is_file():
            return folder / 'default.yaml'
    raise ConfigError('default.yaml not found in ' + ', '.join(map(str, folders))
                      + '; install the package again, or source the ROS workspace')


def _read(path: Path) -> Dict[str, Any]:
    """Return the parameters of a YAML file, ROS form or plain, flat with dotted names."""
    try:
        tree = yaml.load(path.read_text(encoding='utf-8'), _LOADER)
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read ({error.strerror}); check the path') from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, 'problem_mark', None)
        where = f' in line {place.line + 1}' if place else ''
        raise ConfigError(f'{path}: not valid YAML{where}; mend the syntax') from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f'{path}: expected parameters as KEY: VALUE lines, '
                          f'got {type(tree).__name__}')
    flat = {}
    ros_groups = [group['ros__parameters'] for group in tree.values()
                  if isinstance(group, dict) and 'ros__parameters' in group]
    for group in ros_groups or [tree]:
        flat.update(_flatten(group or {}))
    return flat


def _flatten(tree: Mapping, prefix: str = '') -> Dict[str, Any]:
    """Return leaves by dotted name; an empty group is a leaf ``{}``."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f'{prefix}{key}.'))
        else:
            flat[f'{prefix}{key}'] = {} if isinstance(value, Mapping) else value
    return flat


def _nest(flat: Mapping) -> Dict[str, Any]:
    tree: Dict[str, Any] = {}
    for dotted, value in flat.items():
        *groups, leaf = dotted.split('.')
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        if value != {} or leaf not in node:
            node[leaf] = dict(value) if isinstance(value, Mapping) else value
    return tree


def _check_known(key: str, value, defaults: Mapping, origin: str) -> None:
    """Refuse a key that default.yaml lacks; a group it leaves empty is checked by `build`."""
    if key in defaults and (defaults[key] != {} or value == {}):
        return
    parts = key.split('.')
    if any(defaults.get('.'.join(parts[:n])) == {} for n in range(1, len(parts))):
        return
    members = [known for known in defaults if known.startswith(key + '.')]
    if key in defaults or members:
        if value == {} or value is None:
            raise ConfigError(f'{origin}: {key}: an empty group; remove the line')
        raise ConfigError(f'{origin}: {key}: this is a group of parameters, not a value'
                          + (f'; set for example {members[0]}' if members else ''))
    raise ConfigError(f'{origin}: unknown parameter {key}; ' + _suggest(key, list(defaults)))


def _suggest(key: str, known: List[str]) -> str:
    close = difflib.get_close_matches(key, known, 1, 0.6)
    last = key.rsplit('.', 1)[-1]
    by_last = {name.rsplit('.', 1)[-1]: name for name in known}
    close = close or [by_last[name] for name in difflib.get_close_matches(last, by_last, 1, 0.6)]
    if close:
        return f'did you mean {close[0]}?'
    return 'known here: ' + ', '.join(known[:12]) if known else 'there are none here'


def _convert(hint, value, section: Section, key: str):
    """Return ``value`` as the type ``hint`` says; ConfigError when it is of another type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union or origin is types.UnionType:
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, section, key)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise section.error(key, f'expected one of {", ".join(map(str, arguments))}, '
                                 f'got {value!r}')
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise section.error(key, f'expected a list, got {value!r}')
        return tuple(_convert(arguments[0], item, section, key) for item in value)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Section):
            raise section.error(key, f'this is a group of parameters, got the value {value!r}')
        return build(hint, value)
    return _scalar(hint, value, section, key)


def _scalar(hint: type, value, section: Section, key: str):
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        # YAML 1.1 reads 1e-3 as text
        try:
            return float(value)
        except ValueError:
            pass
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    words = {int: 'a whole number', float: 'a number', bool: 'true or false', str: 'text'}
    raise section.error(key, f'expected {words[hint]}, got {value!r}')
