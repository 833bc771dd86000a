"""Exported graphs say what torch says, and stand where an engine of TensorRT will stand."""

import dataclasses
import gc
import json
import shutil
import sys

import pytest

from longrecon_ros.cli.main import main
from longrecon_ros.errors import ExportError, InputError, MissingDependency

torch = pytest.importorskip('torch')
pytest.importorskip('onnxruntime')

from longrecon_ros.export import onnx as export  # noqa: E402
from longrecon_ros.export.parts import fixed_positions, PARTS, parts_of, Shape  # noqa: E402
from longrecon_ros.nets import pi3, pi3x, policy, runtime, vggt  # noqa: E402

pytestmark = pytest.mark.torch

SHAPE = Shape(height=28, width=42, frames=3, encoder_frames=2)
TOLERANCE = 1e-5
"""Relative; both compute in float32, in another order."""
PI3_SIZE = pi3.Pi3Size(dim=32, heads=2, encoder_depth=1, decoder_depth=2, head_depth=1,
                       camera_dim=16, conv_channels=(32, 32, 32), metric_dim=32, metric_heads=2)
VGGT_SIZE = dataclasses.replace(vggt.TINY, depth=1, levels=(0, 0, 0, 0))
NETS = {'pi3': (pi3.Pi3Net, PI3_SIZE, pi3.Pi3Output),
        'pi3x': (pi3x.Pi3XNet, PI3_SIZE, pi3.Pi3Output),
        'vggt': (vggt.VggtNet, VGGT_SIZE, vggt.VggtOutput)}
OUTPUTS = {'pi3': ['local_points', 'confidence', 'T_world_camera'],
           'pi3x': ['local_points', 'confidence', 'T_world_camera', 'metric'],
           'vggt': ['encoding', 'depth', 'depth_confidence']}
CPU = policy.Policy(torch.device('cpu'), torch.float32)
BOTH, WINDOW = ('encoder', 'decoder'), ('window',)
# all parts of all nets take minutes: each net once, and each part
CHOSEN = [('pi3', BOTH), ('vggt', WINDOW)]
CONTROL_FLOW = {'If', 'Loop', 'Scan', 'NonZero', 'Range', 'SequenceConstruct'}


def make(name, seed=0):
    """Return a small net with random weights."""
    cls, size, _ = NETS[name]
    with torch.device('meta'):
        net = cls(size)
    return policy.fill_randomly(net, CPU, seed)


def write(net, name, folder, parts, **options):
    return export.export_onnx(net, name, 'random weights', SHAPE, folder, parts,
                              is_untrained=True, **options)


@pytest.fixture(scope='module')
def graphs(tmp_path_factory):
    """Return what makes a net and its graphs, (net, folder, manifest), once for each choice."""
    known = {}

    def get(name, parts):
        if (name, parts) not in known:
            net, folder = make(name), tmp_path_factory.mktemp(name) / 'graphs'
            known[name, parts] = net, folder, write(net, name, folder, parts, tolerance=TOLERANCE)
        return known[name, parts]
    # a quarter of the time is spent on looking for garbage
    gc.disable()
    yield get
    gc.enable()


@pytest.fixture(params=[*CHOSEN, *(pytest.param(choice, marks=pytest.mark.slow) for choice in (
                            ('pi3x', WINDOW), *((name, PARTS) for name in NETS)))],
                ids=lambda choice: f'{choice[0]}-{"-".join(choice[1])}')
def choice(request, graphs):
    """Return (name, parts, net, folder, manifest) of one choice."""
    return (*request.param, *graphs(*request.param))


def pictures(n, seed=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, SHAPE.height, SHAPE.width, 3), generator=generator,
                         dtype=torch.uint8)


def assert_close(found, wanted):
    """Compare two named tuples, by the largest value of each field."""
    assert type(found) is type(wanted)
    for key, value in wanted._asdict().items():
        other = getattr(found, key)
        if value is None:
            assert other is None
        else:
            assert other.shape == value.shape, key
            assert (other - value).abs().max() <= TOLERANCE * value.abs().max(), key


def test_graphs_say_what_torch_says(choice):
    name, parts, _, folder, manifest = choice
    assert manifest == json.loads((folder / 'manifest.json').read_text())
    assert list(manifest['parts']) == list(parts)
    for part, report in manifest['parts'].items():
        names = ['tokens'] if part == 'encoder' else OUTPUTS[name]
        assert list(report['errors']) == list(report['outputs']) == names
        for error in report['errors'].values():
            assert error['largest'] > 0 and error['relative'] <= TOLERANCE, report
    assert manifest['check']['passed'] and manifest['check']['tolerance'] == TOLERANCE


def test_manifest_says_what_the_graphs_are(choice):
    name, parts, _, folder, manifest = choice
    assert runtime.Manifest.read(folder) == runtime.Manifest(
        name, 3, 2, 28, 42, {part: f'{part}.onnx' for part in parts}, True)
    assert manifest['weights'] == 'random weights' and manifest['opset'] == 18
    assert manifest['net']['dim'] == NETS[name][1].dim
    assert set(manifest['versions']) == {'longrecon_ros', 'torch', 'onnx', 'onnxscript',
                                         'onnxruntime'}
    inputs = {'encoder': {'images': [2, 3, 28, 42]}, 'window': {'images': [1, 3, 3, 28, 42]},
              'decoder': {'tokens': [1, 3, 6, NETS[name][1].dim]}}
    for part in parts:
        assert manifest['parts'][part]['inputs'] == inputs[part]


def test_graphs_are_plain_enough_for_tensorrt(choice):
    _, parts, _, folder, _ = choice
    for part in parts:
        found = export.contents(folder / f'{part}.onnx')
        assert found.types <= {'float32', 'int64', 'bool'}
        assert not CONTROL_FLOW & set(found.operators)
        assert not [name for name in found.operators if '::' in name]
        # nothing of the machine that wrote it, and the weights lie beside it
        text = (folder / f'{part}.onnx').read_bytes()
        assert b'.py' not in text and b'site-packages' not in text
        assert (folder / f'{part}.onnx.data').stat().st_size > len(text) / 2


def test_positions_are_a_constant_only_while_a_net_is_exported():
    net = make('vggt')
    table, images = net.aggregator.patch_embed.pos_embed, torch.rand(1, 3, 28, 42)
    with torch.no_grad():
        wanted = net.encode(images)
        with fixed_positions(net, SHAPE):
            assert net.aggregator.patch_embed.pos_embed.shape == (1, 1 + 2 * 3, 64)
            assert torch.equal(net.encode(images), wanted)
    assert net.aggregator.patch_embed.pos_embed is table


@pytest.mark.parametrize('name, parts', CHOSEN, ids=lambda value: str(value))
def test_a_graph_runtime_equals_a_torch_runtime(graphs, name, parts):
    net, folder, _ = graphs(name, parts)
    output = NETS[name][2]
    ours, theirs = runtime.GraphRuntime(folder, output), runtime.TorchRuntime(net, CPU)
    images, size = pictures(5), (28, 42)
    # the second window takes over the entry of the frame that both have, and encodes new ones only
    first, wanted = ours.encode(images[:3]), theirs.encode(images)
    second = torch.cat([first[2:], ours.encode(images[3:])])
    assert_close(ours.decode(first, size), theirs.decode(wanted[:3], size))
    assert_close(ours.decode(second, size), theirs.decode(wanted[2:], size))
    # a short window is filled up with its last frame
    filled = theirs.decode(wanted[[0, 1, 1]], size)
    assert_close(ours.decode(first[:2], size), filled._replace(
        **{key: value[:, :2] for key, value in filled._asdict().items()
           if value is not None and value.ndim > 1}))


def test_other_sizes_and_longer_windows_are_refused(graphs):
    _, folder, _ = graphs('pi3', BOTH)
    graph = runtime.GraphRuntime(folder, pi3.Pi3Output)
    with pytest.raises(ValueError, match='the graphs are for 42x28 px, got 28x42'):
        graph.encode(pictures(1).transpose(1, 2))
    with pytest.raises(ValueError, match='windows of 3 frames, got 4'):
        graph.decode(graph.encode(pictures(4)), (28, 42))


class Recorder:
    """Opens sessions by another opener and keeps what they are given."""

    def __init__(self, opener):
        self._opener, self.paths, self.fed = opener, [], []

    def __call__(self, path):
        session = self._opener(path)
        self.paths.append(path.name)

        def run(inputs):
            self.fed.append({name: value.copy() for name, value in inputs.items()})
            return session(inputs)
        return run


def engines(net):
    """Return an opener of stand-ins for engines of TensorRT: fixed shapes, arrays in and out."""
    parts = {part.name: part for part in parts_of(net, SHAPE, PARTS)}

    def start(path):
        part = parts[path.stem]

        @torch.no_grad()
        def run(inputs):
            assert {key: value.shape for key, value in inputs.items()} \
                == {key: tuple(value.shape) for key, value in part.inputs.items()}
            found = part.module(*(torch.from_numpy(inputs[key]) for key in part.inputs))
            found = (found,) if part.name == 'encoder' else found
            return {key: value.numpy() for key, value in zip(part.outputs, found)}
        return run
    return start


@pytest.mark.parametrize('name, parts', [
    ('pi3', BOTH), pytest.param('pi3x', WINDOW, marks=pytest.mark.slow)], ids=str)
def test_an_engine_takes_the_same_calls_as_the_graphs(graphs, name, parts):
    net, folder, _ = graphs(name, parts)
    recorders = [Recorder(runtime.open_graph), Recorder(engines(net))]
    results = []
    for recorder in recorders:
        device = runtime.GraphRuntime(folder, pi3.Pi3Output, open_graph=recorder)
        results.append(device.decode(device.encode(pictures(3)), (28, 42)))
    assert_close(*results)
    graph, engine = recorders
    assert graph.paths == engine.paths == (
        ['encoder.onnx', 'decoder.onnx'] if name == 'pi3' else ['window.onnx'])
    assert len(graph.fed) == len(engine.fed) == (3 if name == 'pi3' else 1)
    for ours, theirs in zip(graph.fed, engine.fed):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value.dtype == theirs[key].dtype == 'float32'
            assert value.flags.c_contiguous and abs(value - theirs[key]).max() < 1e-4


def test_an_engine_needs_one_entry_and_a_manifest(graphs, tmp_path, monkeypatch):
    net, folder, manifest = graphs('vggt', WINDOW)
    monkeypatch.setitem(runtime.OPENERS, '.engine', engines(net))
    (tmp_path / 'manifest.json').write_text(
        json.dumps({**manifest, 'graphs': {'window': 'window.engine'}}))
    engine = runtime.GraphRuntime(tmp_path, vggt.VggtOutput)
    graph = runtime.GraphRuntime(folder, vggt.VggtOutput)
    images = graph.encode(pictures(3))
    assert_close(engine.decode(images, (28, 42)), graph.decode(images, (28, 42)))


def test_what_cannot_be_opened_is_told(graphs, tmp_path):
    _, folder, manifest = graphs('pi3', BOTH)
    broken = shutil.copytree(folder, tmp_path / 'broken')
    (broken / 'encoder.onnx').write_bytes((folder / 'encoder.onnx').read_bytes()[:1000])
    with pytest.raises(ValueError, match='encoder.onnx'):
        runtime.GraphRuntime(broken, pi3.Pi3Output)
    alone = {**manifest, 'graphs': {'decoder': 'decoder.onnx'}}
    (broken / 'manifest.json').write_text(json.dumps(alone))
    with pytest.raises(ValueError, match='expected encoder and decoder, or window, got decoder'):
        runtime.GraphRuntime(broken, pi3.Pi3Output)
    (broken / 'manifest.json').write_text(json.dumps(alone).replace('.onnx', '.plan'))
    with pytest.raises(ValueError, match='encoder and decoder'):
        runtime.GraphRuntime(broken, pi3.Pi3Output)
    with pytest.raises(ValueError, match='window.plan: expected a file that ends with .onnx'):
        runtime.open_graph(tmp_path / 'window.plan')


def test_a_graph_that_differs_leaves_nothing_behind(tmp_path, monkeypatch):
    true_write, net = export._write, make('pi3')

    def write_another(part, path):
        part.module.net = make('pi3', seed=1)
        true_write(part, path)
    monkeypatch.setattr(export, '_write', write_another)
    with pytest.raises(ExportError, match=r'encoder.onnx differs from torch in tokens: by .* of '
                                          r'its largest value, at most 0.0001 is allowed; use'):
        write(net, 'pi3', tmp_path / 'graphs', ('encoder',))
    assert list(tmp_path.iterdir()) == []
    assert net.encoder.pos_embed.shape == (1, 1370, 32)


def test_a_net_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    class Undecided(pi3.Pi3Net):
        def encode(self, images):
            return super().encode(images if images.sum() > 0 else -images)

    net = make('pi3')
    net.__class__ = Undecided
    with pytest.raises(ExportError, match='encoder.onnx cannot be written: .*; use the versions'):
        write(net, 'pi3', tmp_path / 'graphs', ('encoder',))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_kept(graphs, tmp_path):
    (tmp_path / 'manifest.json').write_text('mine')
    with pytest.raises(InputError, match='is not empty.*--force'):
        write(make('pi3'), 'pi3', tmp_path, BOTH)
    assert [path.name for path in tmp_path.iterdir()] == ['manifest.json']


@pytest.mark.parametrize('name', ['onnx', 'onnxscript', 'onnxruntime'])
def test_a_missing_package_is_named_with_the_line_that_brings_it(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=f'needs the package {name}: pip install onnx '
                                                'onnxscript onnxruntime$'):
        write(make('pi3'), 'pi3', tmp_path / 'graphs', ('encoder',))


def test_an_old_torch_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.4.1')
    with pytest.raises(ExportError, match='torch 2.5 or newer, this is 2.4.1: upgrade'):
        write(make('pi3'), 'pi3', tmp_path / 'graphs', ('encoder',))


@pytest.mark.parametrize('change, words', [
    ({'height': 30}, 'height: expected a multiple of 14 px, got 30; the nearest is 28'),
    ({'width': 0}, 'width: expected a multiple of 14 px, got 0; the nearest is 14'),
    ({'frames': 0}, 'frames: expected 1 or more, got 0')])
def test_a_shape_is_checked(change, words):
    with pytest.raises(ValueError, match=words):
        Shape(**{'height': 28, 'width': 42, 'frames': 3, 'encoder_frames': 2, **change})


def test_parts_are_checked(tmp_path):
    for parts in ((), ('head',)):
        with pytest.raises(ValueError, match='parts: expected some of encoder, decoder, window'):
            write(make('pi3'), 'pi3', tmp_path / 'graphs', parts)
    assert list(tmp_path.iterdir()) == []


def command(tmp_path, *more, backbone='pi3'):
    return main(['export', 'onnx', backbone, '--out', str(tmp_path / 'graphs'), *more])


def test_the_command_writes_graphs_and_prints_the_differences(tmp_path, capsys):
    assert command(tmp_path, '--size', '42x28', '--window', '8', '--parts', 'encoder', '--set',
                   'pi3.weights=random', '--set', 'pi3.size=tiny') == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ['graph', 'output', 'largest', 'difference', 'relative']
    assert lines[1].split()[:2] == ['encoder.onnx', 'tokens'] and len(lines) == 3
    assert 'pi3, windows of 8 frames of 42x28 px' in lines[2] and 'UNTRAINED' in lines[2]
    manifest = runtime.Manifest.read(tmp_path / 'graphs')
    assert (manifest.frames, manifest.encoder_frames) == (8, 2)      # the overlap is 6
    assert manifest.is_untrained


@pytest.mark.parametrize('more, words', [
    (('--size', '40x28'), '--size: width: expected a multiple of 14 px, got 40'),
    (('--size', '42'), 'expected WIDTHxHEIGHT'),
    (('--size', '42x28', '--parts', 'encoder,head'),
     '--parts encoder,head: choose some of encoder,decoder,window'),
    (('--size', '42x28', '--parts', ''), 'choose some of'),
    (('--size', '42x28', '--set', 'pi3.weights=nowhere.pt'), 'nowhere.pt'),
    ((), 'required: --size')])
def test_the_command_tells_what_is_wrong(tmp_path, capsys, more, words):
    assert command(tmp_path, *more) == 2
    out, err = capsys.readouterr()
    assert out == '' and words in err and err.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


def test_backbones_without_a_network_are_refused(tmp_path, capsys):
    assert command(tmp_path, '--size', '42x28', backbone='sfm') == 2
    assert capsys.readouterr().err == ('longrecon: error: backbone sfm cannot be exported; choose '
                                       'one of: pi3, pi3x, vggt\n')


@pytest.mark.slow
def test_weights_of_more_than_2_gb_lie_beside_the_graph(tmp_path):
    # two minutes, 7 GB of memory, 2.6 GB on the disk
    with torch.device('meta'):
        net = pi3.Pi3Net()
    net = policy.fill_randomly(net, CPU)
    manifest = export.export_onnx(net, 'pi3', 'random weights', Shape(28, 42, 2, 2),
                                  tmp_path / 'graphs', ('decoder',), tolerance=TOLERANCE)
    assert (tmp_path / 'graphs' / 'decoder.onnx.data').stat().st_size > 2**31
    assert all(error['relative'] > 0 for error in manifest['parts']['decoder']['errors'].values())
