"""The documents agree with what they describe, and the list of parameters behind them is whole."""

import ast
import dataclasses
import importlib
import importlib.util
import json
from pathlib import Path
import re
import subprocess
import sys
import typing

import pytest
import yaml

from longrecon_ros import alignment, parameter_list
from longrecon_ros.alignment import LayerwiseConfig
from longrecon_ros.backbones import available
from longrecon_ros.config import default_path, load, MapConfig, PipelineConfig, WindowConfig
from longrecon_ros.loop.settings import LoopConfig
from longrecon_ros.ros import node_config
from longrecon_ros.scale import ScaleConfig
from longrecon_ros.tracking.settings import TrackingConfig

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = parameter_list.read(default_path())
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')), ROOT / 'docker' / 'README.md']
TOOL = ROOT / 'tools' / 'make_docs.py'


def sections():
    """Return {section: its dataclass} of all that have one and can be imported here."""
    found = {'window': WindowConfig, 'map': MapConfig, 'pipeline': PipelineConfig,
             'layerwise': LayerwiseConfig, 'loop': LoopConfig, 'scale': ScaleConfig,
             'tracking': TrackingConfig, 'node': node_config.NodeConfig}
    for name in available():
        if importlib.util.find_spec('torch') or name in ('sfm', 'simulated'):
            found[name] = importlib.import_module(f'longrecon_ros.backbones.{name}') \
                .BACKBONE.Config
    return found


def literals():
    """Yield (dotted name, choices) of every parameter that is a Literal in its dataclass."""
    for section, cls in sections().items():
        for field, hint in typing.get_type_hints(cls).items():
            if typing.get_origin(hint) is typing.Literal and f'{section}.{field}' in PARAMETERS:
                yield f'{section}.{field}', typing.get_args(hint)


def codes():
    """Return the diagnostic codes, read from the source: importing it needs rclpy."""
    tree = ast.parse((ROOT / 'longrecon_ros' / 'ros' / 'findings.py').read_text(encoding='utf-8'))
    value = next(node.value for node in tree.body if isinstance(node, ast.Assign)
                 and node.targets[0].id == 'Code')
    return [item.value for item in value.slice.elts]


@pytest.fixture
def make_docs():
    """Return tools/make_docs.py as a module."""
    spec = importlib.util.spec_from_file_location('make_docs', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_parameters_is_up_to_date():
    done = subprocess.run([sys.executable, TOOL, '--check'], capture_output=True, text=True,
                          timeout=60)
    assert (done.returncode, done.stdout) == (0, ''), done.stdout + done.stderr


def test_a_stale_page_is_told_and_mended(make_docs, monkeypatch, tmp_path, capsys):
    page = tmp_path / 'parameters.md'
    monkeypatch.setattr(make_docs, 'PAGE', page)
    assert make_docs.main(['--check']) == 1 and not page.exists()
    assert capsys.readouterr().out == \
        'docs/parameters.md is out of date: python tools/make_docs.py\n'
    assert make_docs.main([]) == 0 and make_docs.main(['--check']) == 0
    page.write_text(page.read_text().replace('2 to 1000', '2 to 1001'))
    assert make_docs.main(['--check']) == 1


def test_the_page_names_every_parameter_once(make_docs):
    rows = [line for line in make_docs.page().splitlines() if line.startswith('| `')]
    assert [row.split('`')[1] for row in rows] == list(PARAMETERS)
    assert all(len(re.findall(r'(?<!\\)\|', row)) == 7 for row in rows)


def test_the_list_is_what_the_configuration_reads():
    tree = yaml.safe_load(default_path().read_text())['/**']['ros__parameters']
    assert {name for name in PARAMETERS if '.' not in name} == \
        {name for name, value in tree.items() if not isinstance(value, dict)}
    assert PARAMETERS['window.size'].default == load().window.size
    assert PARAMETERS['window.size'].group == 'window' and PARAMETERS['align'].group == ''


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameters_are_whole(name):
    one = PARAMETERS[name]
    assert len(one.text) > 10, f'{name}: write a comment in config/default.yaml'
    assert one.kind in ('bool', 'integer', 'double', 'string') or one.kind.endswith('_array')
    assert one.problem(one.default) == ''
    if one.kind in ('integer', 'double'):
        assert one.low is not None and one.low < one.high, f'{name}: give it a range'
    if ' | ' in re.sub(r'\([^()]*\)', '', one.text):
        assert one.choices or one.text.endswith('...'), f'{name}: its choices are not understood'


@pytest.mark.parametrize('name, choices', list(literals()))
def test_choices_are_those_of_the_dataclass(name, choices):
    told = PARAMETERS[name].choices
    if PARAMETERS[name].text.startswith('must be '):
        assert set(told) < set(choices)
    else:
        assert sorted(told) == sorted(choices), \
            f'{name}: say "one | two" in config/default.yaml'


def test_choices_of_alignment_are_what_there_is():
    assert set(PARAMETERS['align'].choices) == {'auto', *alignment.available()}


def test_what_may_change_is_of_the_node_and_exists():
    assert parameter_list.RUNTIME <= set(PARAMETERS)
    assert {name.partition('.')[0] for name in parameter_list.RUNTIME} == {'node'}


@pytest.mark.parametrize('section', sections())
def test_both_ends_of_a_range_are_taken_or_nearly(section):
    # the ends may be exclusive or depend on another field: never more than that
    cls = sections()[section]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    defaults = {name: PARAMETERS[f'{section}.{name}'].default for name in fields
                if f'{section}.{name}' in PARAMETERS}
    needed = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if not defaults or needed - set(defaults):
        pytest.skip(f'config/default.yaml does not have the section {section} yet')
    for field in defaults:
        one = PARAMETERS[f'{section}.{field}']
        if one.low is None:
            continue
        for value in (one.low, one.high):
            try:
                cls(**{**defaults, field: value})
            except ValueError as error:
                assert re.search(r'above 0|below|odd|at most n_|at least a patch|\(m|a height',
                                 str(error)), str(error)


@pytest.mark.parametrize('text, choices', [
    ('how: one | two', ('one', 'two')),
    ('how: one (first | really) | two (a (nested) one; or: not) | three', ('one', 'two', 'three')),
    ('one | two; the second takes minutes', ('one', 'two')),
    ('kind, off | reduce-overhead', ('off', 'reduce-overhead')),
    ('auto (a GPU) | cpu | cuda | cuda:0 ...', ()),
    ('a or b | c of many', ()),
    ('must be off', ('off',)),
    ('must be empty', ()),
    ('as other.name', ('x', 'y')),
    ('of updates, as other.name', ('x', 'y')),
    ('as other.name, in mode full', ('x', 'y')),
    ('as other.thing', ()),
    ('as one.name', ()),
    ('frames a window, 2 or more', ())])
def test_choices_are_read_from_a_text(text, choices):
    texts = {'one.name': text, 'other.name': 'x | y', 'other.thing': 'p | q'}
    assert parameter_list.choices('one.name', texts) == choices


def test_texts_that_refer_to_each_other_end():
    assert parameter_list.choices('a.x', {'a.x': 'as b.x', 'b.x': 'as a.x'}) == ()


def test_comments_above_groups_introduce_them(tmp_path):
    file = tmp_path / 'a.yaml'
    file.write_text('# file\n/**:\n  ros__parameters:\n    one: 1   # first\n\n    # About it,\n'
                    '    # at length.\n    group:\n      two: x   # second\n             # more\n'
                    '    # no intro: no empty line\n    other:\n      three: 3.0  # third\n')
    assert parameter_list.introductions(file) == {'group': 'About it, at length.'}
    found = parameter_list.read(file)
    assert {name: one.kind for name, one in found.items()} == {
        'one': 'integer', 'group.two': 'string', 'other.three': 'double'}


@pytest.mark.parametrize('value, kind', [
    (True, 'bool'), (3, 'integer'), (3.0, 'double'), ('x', 'string'), ([1.5], 'double_array')])
def test_kinds_are_those_of_ros(value, kind):
    assert parameter_list.kind_of(value) == kind


@pytest.mark.parametrize('value', [None, [], {}, [None]])
def test_what_is_no_parameter_is_refused(value):
    with pytest.raises(ValueError, match='value: expected'):
        parameter_list.kind_of(value)


def test_a_bad_value_is_told():
    size, use = PARAMETERS['window.size'], PARAMETERS['layerwise.use']
    assert size.problem(1) == 'window.size: expected 2 to 1000, got 1'
    assert use.problem('maybe') == \
        "layerwise.use: expected one of auto, always, never, got 'maybe'"
    assert size.problem(2) == size.problem(1000) == use.problem('never') == ''


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    text = page.read_text(encoding='utf-8')
    anchors = {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-')
               for title in re.findall(r'^#+ (.*)$', text, re.MULTILINE)}
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        path, _, anchor = target.partition('#')
        if path.startswith(('http://', 'https://', 'mailto:')):
            continue
        assert (page.parent / path).exists(), target
        assert path or anchor in anchors, target


def test_parameters_that_the_pages_name_exist():
    groups = {one.group for one in PARAMETERS.values()} - {''}
    for page in PAGES:
        for name in re.findall(r'`(\w+\.\w+)(?:`|: )', page.read_text(encoding='utf-8')):
            group, _, last = name.partition('.')
            if group in groups and last not in ('ply', 'md', 'yaml', 'json'):
                assert name in PARAMETERS, f'{page.name}: {name}'


def test_every_diagnostic_code_is_explained():
    rows = re.findall(r'^\| `([A-Z_]+)` \|', (ROOT / 'docs' / 'ros.md').read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(codes())


def test_foxglove_layout_is_whole():
    layout = json.loads((ROOT / 'foxglove' / 'longrecon.json').read_text())
    panels = set()

    def walk(node):
        if isinstance(node, str):
            panels.add(node)
            return
        assert node['direction'] in ('row', 'column') and 0 < node['splitPercentage'] < 100
        walk(node['first'])
        walk(node['second'])

    walk(layout['layout'])
    assert panels == set(layout['configById'])
    kinds = {name.partition('!')[0] for name in panels}
    assert kinds == {'3D', 'Image', 'DiagnosticSummary', 'DiagnosticStatusPanel', 'Plot'}
    topics = layout['configById']['3D!map']['topics']
    described = (ROOT / 'docs' / 'ros.md').read_text()
    assert all(f'`~/{topic.removeprefix("/longrecon/")}`' in described for topic in topics)


def test_foxglove_plots_figures_that_the_node_sends():
    text = (ROOT / 'foxglove' / 'longrecon.json').read_text()
    sources = ''.join(path.read_text() for path in (ROOT / 'longrecon_ros' / 'ros').glob('*.py'))
    keys = re.findall(r'key==\\"([^"\\]+)\\"', text)
    assert keys and all(f"'{key}'" in sources for key in keys)


def test_containers_name_what_exists():
    compose = yaml.safe_load((ROOT / 'docker' / 'compose.yaml').read_text())
    services = compose['services']
    assert set(services) == {'robot', 'replay', 'jetson'}
    for service in services.values():
        assert (ROOT / service['build']['dockerfile']).is_file()
        launch, *arguments = service['command'].split()[3:]
        source = (ROOT / 'launch' / launch).read_text()
        for argument in arguments:
            assert f"'{argument.partition(':=')[0]}'" in source, argument
    for service in ('robot', 'jetson'):     # the host's network and /dev/shm: both or neither
        assert (services[service]['network_mode'], services[service]['ipc']) == ('host', 'host')
    assert services['replay']['shm_size'] and 'network_mode' not in services['replay']


@pytest.mark.parametrize('name', ['desktop', 'jetson'])
def test_images_run_as_a_user_and_copy_what_exists(name):
    text = (ROOT / 'docker' / f'Dockerfile.{name}').read_text()
    steps = re.findall(r'^([A-Z]+) (.*)$', text, re.MULTILINE)
    user = max(i for i, (step, _) in enumerate(steps) if step == 'USER')
    assert steps[user][1] == 'longrecon'
    assert not [step for step, _ in steps[user:] if step in ('RUN', 'COPY')]
    assert any(step == 'ENTRYPOINT' for step, _ in steps)
    for step, rest in steps:
        if step == 'COPY':
            source = rest.split()[-2]
            assert (ROOT / source).exists(), source
    assert (ROOT / 'docker' / f'Dockerfile.{name}.dockerignore').is_file()
    assert (ROOT / 'docker' / 'entrypoint.sh').stat().st_mode & 0o100
