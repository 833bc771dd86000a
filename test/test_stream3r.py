"""STream3R: a stream frame by frame is what the whole sequence is at once, and does not grow."""

import dataclasses
from functools import partial
import json

import backbone_runs as runs
from backbone_runs import predict, run, tiny
import numpy as np
import pytest
from sfm_films import film
from sfm_runs import stream

from longrecon_ros import backbones, config
from longrecon_ros.cli.main import main
from longrecon_ros.errors import ConfigError, InputError
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.types import FrameState

torch = pytest.importorskip('torch')

from longrecon_ros.nets import policy, vggt  # noqa: E402
from longrecon_ros.nets.kv_cache import KvCache, Looks  # noqa: E402
from longrecon_ros.nets.stream3r import camera_layer, Stream3rNet, tokens_layer  # noqa: E402

SHAPE, N = (42, 70), 12
pytestmark = pytest.mark.torch


def tiny_net(precision='float32'):
    """Return a net whose frames matter to each other, and whose first frame is special."""
    with torch.device('meta'):
        net = Stream3rNet(vggt.TINY)
    net = policy.fill_randomly(net, policy.choose('cpu', precision))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in net.named_parameters():
        if name.endswith('gamma'):
            parameter.fill_(0.5)
        elif name.endswith('_token'):
            parameter.normal_(0, 1, generator=generator)
        elif parameter.dim() > 1:
            parameter.normal_(0, parameter[0].numel()**-0.5, generator=generator)
    return net


def images(n=N, b=1, seed=0):
    return torch.rand(b, n, 3, *SHAPE, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def one_by_one(net, x, cache):
    """Return the encodings and maps of a stream, (B, N, ...) each."""
    found = []
    for i in range(x.shape[1]):
        result = net.decode(net.encode(x[:, i])[:, None], SHAPE, cache, use_points=True)
        cache.advance()
        found.append(result._asdict())
    return {key: torch.cat([values[key] for values in found], dim=1) for key in found[0]}


@pytest.mark.parametrize('mode, n_recent, b', [
    ('causal', 5, 1), ('window', 5, 1), ('window', 2, 2), ('window', 1, 1)])
def test_frame_by_frame_is_the_same_as_all_at_once(mode, n_recent, b):
    net, x = tiny_net(), images(b=b)
    with torch.inference_mode():
        whole = net(x, use_points=True, mode=mode, n_recent=n_recent)._asdict()
    alone = one_by_one(net, x, KvCache(n_recent if mode == 'window' else None))
    for key, values in whole.items():
        torch.testing.assert_close(alone[key], values, atol=1e-5, rtol=1e-5)


def test_modes_differ_where_they_should_and_only_there():
    net, x = tiny_net(), images()
    with torch.inference_mode():
        full, causal, window = (net(x, mode=mode).encoding[0]
                                for mode in ('full', 'causal', 'window'))
        as_vggt = vggt.VggtNet.decode(net, net.encode(x[0])[None], SHAPE).encoding[0]
        with pytest.raises(ValueError, match="expected causal, window or full, got 'all'"):
            net(x, mode='all')
    assert torch.equal(full, as_vggt)
    assert (full - causal).abs().max(dim=1).values[:-1].min() > 1e-3
    # the last frame sees all of them in either mode, but they have not seen it
    assert (full - causal)[-1].abs().max() > 1e-4
    apart = (causal - window).abs().max(dim=1).values
    assert apart[:7].max() < 1e-5 < 1e-4 < apart[7:].min(), 'frame 7 is the first to miss one'


def test_a_frame_does_not_know_of_those_after_it_nor_of_those_that_are_gone():
    net, x = tiny_net(), images()
    changed = x.clone()
    changed[:, 3] = images(1, seed=7)[:, 0]
    # one pair of blocks: what a frame has seen does not come back through others
    net.aggregator.global_blocks = net.aggregator.global_blocks[:1]
    net.aggregator._size = dataclasses.replace(net.size, depth=1, levels=(0, 0, 0, 0))
    looks = Looks(N, 2)
    with torch.inference_mode():
        before, after = (net.aggregator(net.encode(y[0])[None], 3, 5,
                                        vggt.Sight(lambda _pair: looks))[-1] for y in (x, changed))
    moved = (before - after).abs().amax(dim=(0, 2, 3))
    assert moved[:3].max() == 0 and moved[3:6].min() > 1e-3 and moved[6:].max() == 0


def test_the_cache_has_the_types_of_the_net():
    net, cache = tiny_net('bfloat16'), KvCache(2)
    one_by_one(net, images(4), cache)
    assert {cache.kept(tokens_layer(i)).keys.dtype for i in range(2)} == {torch.bfloat16}
    assert {cache.kept(tokens_layer(i)).values.dtype for i in range(2)} == {torch.bfloat16}
    # the camera head stays float32, and has a cache for each of its rounds
    assert [cache.kept(camera_layer(i, 0)).keys.dtype for i in range(4)] == 4 * [torch.float32]
    assert not torch.equal(*(cache.kept(camera_layer(i, 0)).keys for i in (0, 1)))


def replayed(call, _device):
    """Do what a recorded graph does, on a CPU: the same calls on the same memory."""
    output = call()
    parts = [output] if isinstance(output, torch.Tensor) else [p for p in output if p is not None]

    def replay():
        again = call()
        again = [again] if isinstance(again, torch.Tensor) else [p for p in again if p is not None]
        for part, new in zip(parts, again, strict=True):
            part.copy_(new)
        return output
    return replay


def streamed(runtime, x, cache, drop=()):
    """Return the encodings of a stream of images (N, H, W, 3) uint8; some are not kept."""
    found = []
    for i, image in enumerate(x):
        result = runtime.decode(runtime.encode(image[None]), SHAPE, cache)
        found.append(torch.cat([result.encoding.flatten(), result.depth.flatten()]).clone())
        if i not in drop:
            cache.advance()
    return torch.stack(found)


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def test_a_recorded_stream_is_the_same(device):
    from longrecon_ros.nets.recording import record, RecordedRuntime
    from longrecon_ros.nets.runtime import TorchRuntime
    chosen = policy.choose(device, 'float32')
    runtime = TorchRuntime(policy.place(tiny_net(), chosen), chosen)
    recordings = []

    def recorder(call, where):
        recordings.append(call)
        return (record if device == 'cuda' else replayed)(call, where)
    recorded = RecordedRuntime(runtime, recorder)
    generator = torch.Generator().manual_seed(0)
    for n_streams in (1, 2):
        x = torch.randint(0, 256, (N, *SHAPE, 3), dtype=torch.uint8, generator=generator)
        plain = streamed(runtime, x, KvCache(3), drop={7, 8})
        again = streamed(recorded, x, KvCache(3), drop={7, 8})
        torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-4)
        # the encoder once, and the decoder of each stream once its cache is full
        assert len(recordings) == 1 + n_streams
    causal = streamed(recorded, x, KvCache())
    torch.testing.assert_close(causal, streamed(runtime, x, KvCache()), atol=1e-5, rtol=1e-4)
    assert len(recordings) == 3, 'a cache that grows is not recorded'


@pytest.mark.gpu
def test_the_backbone_records_where_it_can():
    from longrecon_ros.nets.recording import RecordedRuntime
    for options, expected in (({}, True), ({'cuda_graph': False}, False),
                              ({'mode': 'causal'}, False)):
        backbone = make(device='cuda', **options)
        assert isinstance(backbone._network._runtime, RecordedRuntime) == expected


def test_only_one_frame_at_a_time():
    net = tiny_net()
    with torch.inference_mode(), pytest.raises(ValueError, match='one frame at a time, got 2'):
        net.decode(net.encode(images(2)[0])[None], SHAPE, KvCache())


# the backbone

make = partial(tiny, 'stream3r')


def windows_of(backbone, n=20, size=6, overlap=2, pictures=None):
    return runs.windows_of(backbone, stream(pictures or film('indoor', n)), size, overlap)


def joined(predictions, field):
    return np.concatenate([getattr(p, field) for p in predictions])


@pytest.mark.parametrize('mode', ['window', 'causal'])
def test_how_frames_are_put_into_windows_does_not_matter(mode):
    backbone = make(mode=mode)
    few = predict(backbone, windows_of(backbone))
    single = predict(backbone, windows_of(backbone, size=2, overlap=1))
    assert [len(p.frame_ids) for p in few] == [6, 4, 4, 4, 2]
    assert [len(p.frame_ids) for p in single] == [2] + 18 * [1]
    for field in ('T_window_camera', 'local_points', 'confidence', 'rgb', 'frame_ids'):
        np.testing.assert_allclose(joined(few, field), joined(single, field), atol=1e-5,
                                   rtol=1e-5)


def test_the_mode_decides_what_the_pipeline_does():
    spec = make().spec
    assert (spec.gauge, spec.feed, spec.align, spec.layerwise) == \
        ('stream', 'new', 'identity', False)
    full = make(mode='full')
    assert (full.spec.gauge, full.spec.feed, full.spec.align, full.spec.layerwise) == \
        ('window', 'all', 'sim3', True)
    predictions = predict(full, windows_of(full))
    other = backbones.load('vggt')
    other = other(config.build(other.Config, other.tiny))
    for a, b in zip(predictions, predict(other, windows_of(other))):
        np.testing.assert_array_equal(a.local_points, b.local_points)
        np.testing.assert_array_equal(a.T_window_camera, b.T_window_camera)


def test_causal_has_an_end_that_says_what_to_do():
    backbone = make(mode='causal', max_frames=11)
    windows = windows_of(backbone)
    (*_, state), _ = run(backbone, windows[:2])
    with pytest.raises(InputError, match='max_frames: the stream remembers 10 frames .* pass 11 '
                                         'with those from 10 to 13; .*stream3r.mode to window'):
        backbone.step(state, windows[2])
    assert backbone.state_figures(state)['cached frames'] == 10


def spoil(backbone, frame_ids, value=torch.nan):
    """Let tokens of some frames, in the order in which they are encoded, be no numbers."""
    runtime, count = backbone._network._runtime, [0]
    encode = runtime.encode

    def spoilt(pictures):
        tokens = encode(pictures).clone()
        for i in range(len(tokens)):
            if count[0] + i in frame_ids:
                tokens[i, 0, 0] = value
        count[0] += len(tokens)
        return tokens
    runtime.encode = spoilt


@pytest.mark.parametrize('mode', ['window', 'causal'])
@pytest.mark.parametrize('bad', [(0,), (3,), (9, 10), (0, 1, 2, 3, 4, 5), tuple(range(6, 14))])
def test_frames_that_are_not_finite_are_lost_and_not_remembered(mode, bad, caplog):
    backbone, healthy = make(mode=mode), make(mode=mode)
    spoil(backbone, bad)
    pictures = film('indoor', 20)
    (*_, state), predictions = run(backbone, windows_of(backbone))
    good = [i for i in range(20) if i not in bad]
    # the others are as if the bad ones had never come
    expected = predict(healthy, windows_of(healthy, pictures=[pictures[i] for i in good]))
    states = joined(predictions, 'states')
    assert states.tolist() == [FrameState.LOST if i in bad else FrameState.TRACKED
                               for i in range(20)]
    T, confidence = joined(predictions, 'T_window_camera'), joined(predictions, 'confidence')
    np.testing.assert_allclose(T[good], joined(expected, 'T_window_camera'), atol=1e-5)
    np.testing.assert_allclose(confidence[good], joined(expected, 'confidence'), atol=1e-5)
    for i in bad:
        np.testing.assert_array_equal(T[i], T[i - 1] if i else np.eye(4))
    assert not confidence[list(bad)].any() and state.cache.n_frames == len(good)
    assert caplog.text.count('it is not remembered') == len(bad)


def test_blank_images_never_reach_the_net():
    backbone = make()
    pictures = list(film('indoor', 20))
    for i in (0, 7, *range(10, 14)):
        blank = np.full_like(pictures[i].image, 255 * (i % 2))
        pictures[i] = dataclasses.replace(pictures[i], image=blank)
    (*_, state), predictions = run(backbone, windows_of(backbone, pictures=pictures))
    states = joined(predictions, 'states')
    assert np.flatnonzero(states == FrameState.LOST).tolist() == [0, 7, 10, 11, 12, 13]
    assert state.cache.n_frames == 14
    T = joined(predictions, 'T_window_camera')
    assert np.isfinite(T).all() and np.isfinite(joined(predictions, 'local_points')).all()
    for i in (7, 10, 11, 12, 13):
        np.testing.assert_array_equal(T[i], T[i - 1])


@pytest.mark.parametrize('n', [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_long_stream_takes_no_more_memory_and_no_more_keys(n):
    net, cache, seen = tiny_net(), KvCache(5), set()
    x = net.encode(images()[0])
    with torch.inference_mode():
        for i in range(n):
            assert net.decode(x[i % N][None, None], SHAPE, cache).encoding.isfinite().all()
            cache.advance()
            seen.add(cache.n_bytes)
            assert cache.frames == (0, *range(max(1, i - 4), i + 1))
    p = 5 + SHAPE[0] * SHAPE[1] // 14**2
    layers = vggt.TINY.depth * p * vggt.TINY.dim + 4 * vggt.TINY.camera_depth * 2 * vggt.TINY.dim
    assert seen == {7 * 2 * 4 * layers}


@pytest.mark.parametrize('options, words', [
    ({'n_recent': 0}, 'n_recent: expected 1 or more'), ({'max_frames': 0}, 'max_frames: expected'),
    ({'graphs': 'folder'}, 'graphs: .* leave it empty'), ({'compile': 'default'}, 'choose mode'),
    ({'mode': 'session'}, 'expected one of window, causal, full')])
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        make(**options)


def test_the_pipeline_refuses_to_align_a_stream():
    loaded = config.load(overrides={'backbone': 'stream3r', 'align': 'sim3'})
    loaded = dataclasses.replace(loaded, backbone_options={
        **loaded.backbone_options, **backbones.load('stream3r').tiny})
    with pytest.raises(ConfigError, match='sees every frame once'):
        Pipeline.from_config(loaded)


def test_tensors_of_training_are_found_under_their_prefix(tmp_path):
    tensors = make()._network._build(policy.choose('cpu'))[0].state_dict()
    path = tmp_path / 'last.ckpt'
    torch.save({'state_dict': {f'net.{key}': value for key, value in tensors.items()}}, path)
    loaded, random = make(weights=str(path)), make()
    assert random.is_untrained and not loaded.is_untrained
    windows = windows_of(random, 8)
    for a, b in zip(predict(random, windows), predict(loaded, windows)):
        np.testing.assert_array_equal(a.local_points, b.local_points)


def test_published_weights_and_their_licence_are_known():
    file, = backbones.load('stream3r').spec.weights
    assert (file.repository, file.file) == ('yslan/STream3R', 'model.safetensors')
    assert 'S-Lab' in file.licence and 'non-commercial' in file.licence


@pytest.mark.parametrize('window', [(16, 6), (2, 1)])
def test_an_untrained_net_goes_all_the_way_and_says_what_it_is(window, tmp_path, capsys):
    assert main(['synth', str(tmp_path / 'clip'), '--scene', 'indoor', '--frames', '20', '--size',
                 '160x120', '-q']) == 0
    out = tmp_path / 'out'
    options = {'backbone': 'stream3r', 'window.size': window[0], 'window.overlap': window[1],
               **{f'stream3r.{key}': value
                  for key, value in backbones.load('stream3r').tiny.items()}}
    assert main(['run', str(tmp_path / 'clip'), '--out', str(out), *(
        word for key, value in options.items() for word in ('--set', f'{key}={value}'))]) == 0
    assert 'stream3r (UNTRAINED)' in capsys.readouterr().out
    summary = json.loads((out / 'result.json').read_text())
    assert summary['untrained'] and summary['poses'] == 20 and summary['n_unlinked'] == 0


@pytest.mark.parametrize('mode', ['window', 'causal'])
def test_the_bench_prints_a_row_for_each_block(mode, capsys):
    assert main(['bench', 'stream', '--tiny', '--device', 'cpu', '--size', '70x42', '--frames',
                 '25', '--block', '10', '--mode', mode]) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines() if line[:1].isdigit()]
    assert [row[0] for row in rows] == ['10', '20', '25']
    assert [row[4] for row in rows] == (3 * ['6'] if mode == 'window' else ['10', '20', '25'])
    assert 'TINY, random weights' in printed
    assert main(['bench', 'stream', '--frames', '0']) == 2
    assert '--frames: expected 1 or more' in capsys.readouterr().err
