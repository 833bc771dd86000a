"""Configuration: layers of values, and one clear line for every mistake."""

from dataclasses import dataclass
import pickle
from typing import Literal, Optional, Tuple

import pytest
import yaml

from longrecon_ros import config
from longrecon_ros.backbones import available, load as load_backbone
from longrecon_ros.config import build, Section, WindowConfig
from longrecon_ros.errors import ConfigError


@pytest.fixture
def defaults(tmp_path, monkeypatch):
    """Defaults that do not change with the product."""
    path = tmp_path / 'default.yaml'
    path.write_text("""
/**:
  ros__parameters:
    backbone: sfm
    align: auto
    window: {size: 16, overlap: 6}
    map: {voxel_m: 0.0, voxel_per_depth: 0.01, max_points: 100, min_confidence: 0.5,
          points_per_frame: 10, budget_mb: 100.0, thin_share: 0.25, keep_views: true,
          remove_floating: true, remove_contradicted: true}
    loop: {use: true}
    tracking: {use: true}
    scale: {source: none}
    pipeline: {use_thread: true}
    layerwise: {use: auto}
    sfm: {}
    pi3: {weights: none, depth: {near: 1.0, far: 2.0}}
    node: {image_topic: /image, rate_hz: 10.0}
""")
    monkeypatch.setattr(config, 'default_path', lambda: path)
    return path


def test_file_then_overrides(defaults, tmp_path):
    mine = tmp_path / 'mine.yaml'
    mine.write_text('/slam_node:\n  ros__parameters:\n    window: {size: 20, overlap: 4}\n')
    loaded = config.load(mine, {'window.size': 12, 'map': {'max_points': 7}})
    assert (loaded.window.size, loaded.window.overlap, loaded.map.max_points) == (12, 4, 7)
    plain = tmp_path / 'plain.yaml'
    plain.write_text('window:\n  size: 20\n')
    assert config.load(plain).window.size == 20
    (tmp_path / 'empty.yaml').write_text('# nothing\n')
    assert config.load(tmp_path / 'empty.yaml').window.size == 16


def test_sections_of_backbones_and_of_the_node_stay_raw(defaults):
    loaded = config.load(overrides={'backbone': 'pi3', 'pi3.depth.far': 9})
    assert loaded.backbone_options['weights'] == 'none'
    assert dict(loaded.backbone_options['depth']) == {'near': 1.0, 'far': 9}
    assert dict(loaded.node) == {'image_topic': '/image', 'rate_hz': 10.0}
    assert dict(config.load(overrides={'sfm.anything': 3}).backbone_options) == {'anything': 3}


def test_flat_dict_loads_to_the_same_config(defaults):
    loaded = config.load(overrides={'backbone': 'pi3', 'pi3.depth.far': 9})
    flat = config.as_flat_dict(loaded)
    assert flat['window.size'] == 16 and flat['pi3.depth.far'] == 9
    assert 'sfm' not in flat and flat['node.image_topic'] == '/image'
    assert config.as_flat_dict(config.load(overrides=flat)) == flat


@pytest.mark.parametrize('text, words', [
    ('window: {siez: 3}', 'mine.yaml: unknown parameter window.siez; did you mean window.size?'),
    ('size: 3', 'mine.yaml: unknown parameter size; did you mean window.size?'),
    ('zzz: 3', 'mine.yaml: unknown parameter zzz; known here: backbone, align'),
    ('window: {size: many}', "mine.yaml: window.size: expected a whole number, got 'many'"),
    ('window: {size: true}', 'window.size: expected a whole number, got True'),
    ('window: {size: 5}', 'window.overlap: expected 0 to 4'),
    ('window: {size: 1}', 'mine.yaml: window.size: expected 2 frames or more, got 1'),
    ('window: 5', 'mine.yaml: window: this is a group of parameters, not a value; set for '
                  'example window.size'),
    ('window: {}', 'mine.yaml: window: an empty group'),
    ('sfm: 4', 'mine.yaml: sfm: this is a group'),
    ('map: {min_confidence: 1.5}', 'map.min_confidence: expected 0 to 1, got 1.5'),
    ('map: {max_points: 0}', 'map.max_points: expected 1 or more'),
    ('map: {voxel_m: -1}', 'map.voxel_m: expected 0'),
    ('map: {voxel_m: .nan}', 'map.voxel_m: expected 0'),
    ('backbone: [a]', 'backbone: expected a name'),
    ('align: 3', 'align: expected text, got 3'),
    ('pi3: {depth: {fra: 1}}', 'unknown parameter pi3.depth.fra; did you mean pi3.depth.far?'),
    ('node: {image_topik: a}', 'did you mean node.image_topic?'),
    ('a: [', 'mine.yaml: not valid YAML in line'),
    ('- 3', 'expected parameters as KEY: VALUE lines, got list'),
])
def test_mistakes_are_named(defaults, tmp_path, text, words):
    mine = tmp_path / 'mine.yaml'
    mine.write_text(text + '\n')
    with pytest.raises(ConfigError) as caught:
        config.load(mine)
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)


def test_files_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match='no.yaml: cannot be read'):
        config.load(tmp_path / 'no.yaml')
    monkeypatch.setattr(config, '__file__', str(tmp_path / 'a' / 'config.py'))
    monkeypatch.setattr(config.sys, 'prefix', str(tmp_path))
    monkeypatch.setattr(config.sysconfig, 'get_path', lambda name: str(tmp_path))
    monkeypatch.setattr(config.site, 'getuserbase', lambda: str(tmp_path))
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'ros'))
    with pytest.raises(ConfigError, match='default.yaml not found in .*ros.share'):
        config.default_path()
    installed = tmp_path / 'ros' / 'share' / 'longrecon_ros' / 'config'
    installed.mkdir(parents=True)
    (installed / 'default.yaml').write_text('')
    assert config.default_path() == installed / 'default.yaml'


@dataclass(frozen=True)
class Inner:
    near: float
    far: float = 2.0


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner
    mode: Literal['fast', 'good'] = 'fast'
    ratio: float = 1.0
    use_it: bool = False
    name: Optional[str] = None
    sizes: Tuple[int, ...] = (1, 2)

    def __post_init__(self):
        if self.count == 13:
            raise ValueError('unlucky altogether')


def test_build_converts():
    built = build(Outer, {'count': 1, 'inner': {'near': 3}, 'ratio': '1e-3', 'sizes': [4, 5],
                          'name': 'x', 'mode': 'good'})
    assert built == Outer(1, Inner(3.0), 'good', 1e-3, False, 'x', (4, 5))
    assert build(Outer, {'count': 1, 'inner': {'near': 1}, 'name': None}).name is None


@pytest.mark.parametrize('values, words', [
    ({'inner': {'near': 1}}, 'foo.count: missing'),
    ({'count': 1.0, 'inner': {'near': 1}}, 'foo.count: expected a whole number, got 1.0'),
    ({'count': 1, 'inner': 3}, 'foo.inner: this is a group'),
    ({'count': 1, 'inner': {'near': 1, 'fra': 1}}, 'foo.inner.fra: unknown parameter; did you '
                                                   'mean far?'),
    ({'count': 1, 'inner': {'near': True}}, 'foo.inner.near: expected a number, got True'),
    ({'count': 1, 'inner': {'near': 1}, 'mode': 'slow'}, 'expected one of fast, good, got '
                                                         "'slow'"),
    ({'count': 1, 'inner': {'near': 1}, 'use_it': 1}, 'foo.use_it: expected true or false'),
    ({'count': 1, 'inner': {'near': 1}, 'sizes': 3}, 'foo.sizes: expected a list'),
    ({'count': 13, 'inner': {'near': 1}}, 'foo: unlucky altogether'),
])
def test_build_refuses(values, words):
    with pytest.raises(ConfigError) as caught:
        build(Outer, Section(values, 'foo'))
    assert words in str(caught.value)


def test_a_config_goes_to_another_process(defaults):
    loaded = config.load(overrides={'backbone': 'other', 'window.size': 12})
    there = pickle.loads(pickle.dumps(loaded))
    assert config.as_flat_dict(there) == config.as_flat_dict(loaded)
    assert there.window == loaded.window and there.backbone_options.name == 'other'


def test_overrides_from_the_command_line():
    assert config.parse_override('window.size=12') == ('window.size', 12)
    assert config.parse_override(' a.b =x: 1')[1] == {'x': 1}
    for bad in ('window.size', '=3', 'a=['):
        with pytest.raises(ConfigError, match='a=|KEY=VALUE'):
            config.parse_override(bad)


def test_the_real_defaults_load_and_say_their_units():
    loaded = config.load()
    assert loaded.window == WindowConfig(16, 6)
    assert loaded.backbone in yaml.safe_load(
        config.default_path().read_text())['/**']['ros__parameters']
    for line in config.default_path().read_text().splitlines():
        name, colon, value = line.partition(':')
        if value.split('#')[0].strip() not in ('', '{}'):
            assert '#' in line, f'no comment for: {line}'


def test_unknown_backbones_are_named():
    assert 'base' not in available()
    with pytest.raises(ConfigError, match="backbone: there is no 'nope'"):
        load_backbone('nope')
