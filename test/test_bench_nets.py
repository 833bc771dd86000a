"""`longrecon bench nets`: counts of FLOP, options, a run on the CPU, and what a GPU must show."""

from dataclasses import replace
import json
from pathlib import Path
import subprocess
import sys
import threading
import time

import pytest

from longrecon_ros.cli.main import main

OTHERS = ('cv2', 'scipy', 'yaml', 'skimage', 'rich', 'rosbags', 'safetensors', 'rclpy')
SHAPES = [((154, 518), 20), ((392, 518), 20), ((392, 518), 30)]
PI3_SHALLOW = {'encoder_depth': 2, 'decoder_depth': 4, 'head_depth': 1}
SHALLOW = {'pi3': PI3_SHALLOW, 'pi3x': PI3_SHALLOW,
           'vggt': {'encoder_depth': 2, 'depth': 2, 'levels': (0, 1, 1, 1), 'camera_depth': 2}}
TRY = ['bench', 'nets', '--tiny', '--sizes', '42x28', '--windows', '3/1', '--device', 'cpu', '-q']


@pytest.fixture
def measures():
    """Return the module; one thread, as two of a busy machine wait for each other."""
    torch = pytest.importorskip('torch')
    from longrecon_ros.nets import benchmark
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield benchmark
    torch.set_num_threads(n_threads)


@pytest.fixture
def quick(measures, monkeypatch):
    """Let a run take little time: small products only."""
    monkeypatch.setattr(measures, '_PRODUCTS', {'cpu': (128, 256), 'cuda': (1024,)})
    return measures


def counted(kind, size, shape, n_frames, **options):
    """Return the FLOP of a window as torch counts them, without computing anything."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    with torch.device('meta'):
        net = kind.make(size).requires_grad_(False)
        images = torch.empty(1, n_frames, 3, *shape)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net.to('meta')(images, **options)
    return counter.get_total_flops()


def run_without(*modules, words=()):
    """Run the command of a GPU machine where some modules cannot be imported."""
    code = (f'import runpy, sys\nsys.modules.update(dict.fromkeys({modules}))\n'
            'runpy.run_module("longrecon_ros.cli.bench_nets", run_name="__main__", '
            'alter_sys=True)\n')
    return subprocess.run([sys.executable, '-c', code, *words], capture_output=True, text=True,
                          timeout=200, cwd=Path(__file__).parent.parent)


# --- FLOP --------------------------------------------------------------------------------------

@pytest.mark.torch
@pytest.mark.parametrize('shape, n_frames', SHAPES)
@pytest.mark.parametrize('net', SHALLOW)
def test_costs_are_those_that_torch_counts(measures, net, shape, n_frames):
    kind = measures.NETS[net]
    size = replace(kind.size(False), **SHALLOW[net])        # of full width: what is fast to count
    cost = kind.cost(shape, n_frames, size)
    assert cost.window() == pytest.approx(counted(kind, size, shape, n_frames), rel=1e-3)


@pytest.mark.torch
@pytest.mark.parametrize('net', ['pi3', pytest.param('pi3x', marks=pytest.mark.slow),
                                 pytest.param('vggt', marks=pytest.mark.slow)])
def test_costs_of_released_sizes(measures, net):
    kind = measures.NETS[net]
    cost = kind.cost((154, 518), 20, kind.size(False))
    assert cost.window() == pytest.approx(counted(kind, kind.size(False), (154, 518), 20),
                                          rel=1e-3)


@pytest.mark.torch
def test_cost_of_the_points_of_vggt(measures):
    from longrecon_ros.nets import flops
    kind = measures.NETS['vggt']
    size = replace(kind.size(False), **SHALLOW['vggt'])
    assert flops.vggt((70, 126), 3, size, use_points=True).window() == pytest.approx(
        counted(kind, size, (70, 126), 3, use_points=True), rel=1e-3)


def published(height, width, n, d=1024):
    """Return the FLOP a frame of pi3 by the formula that its surveyors give."""
    patches = height // 14 * (width // 14)
    tokens = patches + 5

    def block(context):
        return 24 * tokens * d * d + 4 * tokens * context * d
    total = 2 * patches * 588 * d + 24 * block(tokens) + 18 * (block(tokens) + block(n * tokens))
    for out in (1024, 1024, 512):
        total += 5 * block(tokens) + 2 * tokens * (2 * d * d + d * out)
    return total + 2 * patches * 1024 * 4 * 196 + 12 * patches * 512 * 512


@pytest.mark.torch
@pytest.mark.parametrize('shape, n_frames', SHAPES)
def test_cost_of_pi3_is_the_published_one(measures, shape, n_frames):
    cost = measures.NETS['pi3'].cost(shape, n_frames)
    assert cost.frame() == pytest.approx(published(*shape, n_frames), rel=1e-4)


@pytest.mark.torch
def test_costs_of_new_frames(measures):
    cost = measures.NETS['pi3'].cost((154, 518), 20)
    assert cost.new_frame(5, use_tokens=False) == pytest.approx(1.44e12, rel=0.01)
    saved = cost.new_frame(5, use_tokens=False) - cost.new_frame(5)
    assert saved == pytest.approx(5 / 15 * cost.encode_frame)
    assert cost.window(20) == cost.decode


# --- options -----------------------------------------------------------------------------------

@pytest.mark.parametrize('option, value, words', [
    ('--sizes', '518', 'expected WIDTHxHEIGHT, such as 518x154'),
    ('--sizes', '518x154,', 'expected WIDTHxHEIGHT'),
    ('--sizes', '518x150', '518x150: both sides must be multiples of 14 px'),
    ('--sizes', '0x14', 'multiples of 14 px'),
    ('--windows', '20', 'expected FRAMES/OVERLAP, such as 20/5'),
    ('--windows', '20/5,5/5', '5/5: the overlap must be less than the window'),
    ('--windows', '-3/1', 'expected'),
])
def test_wrong_sizes_and_windows(capsys, option, value, words):
    assert main(['bench', 'nets', option, value]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.count('\n') == 1 and words in err


@pytest.mark.torch
@pytest.mark.parametrize('words, message', [
    (['--net', 'pi4'], '--net pi4: choose among pi3, pi3x, vggt'),
    (['--modes', 'eager,fast'], '--modes fast: choose among eager, graph'),
    (['--device', 'abacus'], 'device: expected auto, cpu'),
    (['--precision', 'int3'], 'precision: expected auto'),
    (['--json', '/no/such/folder/a.json'], 'cannot be written'),
])
def test_what_cannot_be_measured_is_one_line(measures, capsys, words, message):
    assert main([*TRY, *words]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.count('\n') == 1 and message in err


def test_help_names_the_command_for_a_gpu_machine(capsys):
    assert main(['bench', 'nets', '--help']) == 0
    text = capsys.readouterr().out
    assert 'usage: longrecon bench nets' in text
    assert 'python -m longrecon_ros.cli.bench_nets --json nets.json' in text
    assert main(['bench', '-v', 'nets']) == 2
    assert 'bench nets' in capsys.readouterr().err


def test_torch_that_is_absent_is_named():
    done = run_without('torch', *OTHERS)
    assert done.returncode == 2
    assert done.stderr.startswith('longrecon: error: bench nets needs torch')
    assert 'pip install torch' in done.stderr and done.stderr.count('\n') == 1


@pytest.mark.torch
def test_cases_begin_with_what_is_quick(measures):
    todo = measures.cases(['pi3'], [(14, 28)], [(3, 1), (2, 0)], ['compile', 'eager', 'graph'])
    assert [(case.mode, case.window) for case in todo] == [
        ('eager', 3), ('eager', 2), ('graph', 3), ('graph', 2), ('compile', 3), ('compile', 2)]


# --- a run -------------------------------------------------------------------------------------

@pytest.mark.torch
def test_a_run_on_the_cpu(quick, capsys, tmp_path):
    path = tmp_path / 'nets.json'
    assert main([*TRY, '--net', 'pi3,pi3x,vggt', '--modes', 'eager,graph', '--json',
                 str(path)]) == 0
    text, found = capsys.readouterr().out, json.loads(path.read_text())
    assert 'TINY nets' in text and 'CUDA graphs need a CUDA device' in text
    assert found['tiny'] and found['precision'] == 'float32'
    assert found['matmul_tflops'] == max(found['matmul_tflops_measured'])
    assert len(found['matmul_tflops_measured']) == 2
    rows = found['rows']
    assert [(row['net'], row['mode'], row['status']) for row in rows] == [
        (net, mode, status) for mode, status in (('eager', 'ok'), ('graph', 'failed'))
        for net in ('pi3', 'pi3x', 'vggt')]
    for row in rows[:3]:
        assert row['size'] == '42x28' and row['window'] == '3/1' and row['n_timed'] >= 1
        assert row['ms_new_frame'] == pytest.approx(row['ms_window'] / 2)
        assert row['gflop_new_frame'] == pytest.approx(row['gflop_window'] / 2)
        assert row['tflops'] == pytest.approx(row['gflop_window'] / row['ms_window'])
        assert row['share'] == pytest.approx(row['tflops'] / found['matmul_tflops'])
        assert row['gain_over_eager'] == 1
        assert row['peak_bytes'] > found['nets'][row['net']]['weight_bytes']
        assert row['ms_new_frame_all_encoded'] > 0
        assert row['gflop_new_frame_all_encoded'] > row['gflop_new_frame']
        assert f'{row["ms_window"]:.2f}' in text


@pytest.mark.torch
def test_a_run_without_a_gpu_is_of_tiny_nets(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(quick, 'bench', lambda todo, *_: [
        quick.Row(case, None, 'not wanted', is_tried=False) for case in todo])
    path = tmp_path / 'a.json'
    for words, is_tiny, size in (([], True, '112x70'), (['--no-tiny'], False, '518x154')):
        assert main(['bench', 'nets', '--device', 'cpu', *words, '--json', str(path)]) == 0
        found = json.loads(path.read_text())
        assert found['tiny'] is is_tiny and found['rows'][0]['size'] == size
        assert {row['mode'] for row in found['rows']} == {'eager'}
    assert found['nets']['pi3'] == {'parameters': 958_696_732, 'weight_bytes': 4 * 958_696_732}


@pytest.mark.torch
def test_faults_and_a_spent_budget_are_rows(quick, monkeypatch, capsys, tmp_path):
    path = tmp_path / 'a.json'

    def measure(case, policy, use_tiny):
        if case.mode == 'compile':
            time.sleep(30)
        raise RuntimeError('\nout of memory\nmore words')
    monkeypatch.setattr(quick, 'measure', measure)
    for name, value in (('_QUICK_LEAST_S', 0.0), ('_COMPILE_LEAST_S', 0.0),
                        ('_COMPILE_LIMIT_S', 0.2)):
        monkeypatch.setattr(quick, name, value)
    assert main([*TRY, '--modes', 'eager,compile', '--json', str(path)]) == 0
    rows = json.loads(path.read_text())['rows']
    assert [row['status'] for row in rows] == ['failed', 'failed']
    assert rows[0]['reason'] == 'RuntimeError: out of memory more words'
    assert rows[1]['reason'].startswith('TimeoutError: took longer than')
    assert 'eager: failed: RuntimeError: out of memory' in capsys.readouterr().out
    assert main([*TRY, '--budget-s', '0', '--json', str(path)]) == 0
    row, = json.loads(path.read_text())['rows']
    assert row['status'] == 'not run' and 'budget' in row['reason'] and 'ms_window' not in row


@pytest.mark.torch
def test_a_compiler_that_fails_is_a_row(quick, monkeypatch):
    import torch

    from longrecon_ros.nets import policy

    def no_compiler(*_args, **_options):
        raise torch._dynamo.exc.BackendCompilerFailed('inductor', OSError('no compiler'), None)
    monkeypatch.setattr(torch, 'compile', no_compiler)
    case = quick.Case('pi3', (14, 28), 2, 1, 'compile')
    row, = quick.bench([case], policy.choose('cpu'), True, 100.0)
    assert row.measured is None and row.is_tried and 'no compiler' in row.reason


@pytest.mark.torch
def test_limits_of_time_end_with_their_block(measures):
    with pytest.raises(TimeoutError), measures.time_limit(0.05):
        time.sleep(30)
    with measures.time_limit(0.05):
        pass
    time.sleep(0.1)
    passed = []

    def elsewhere():
        with measures.time_limit(0.01):
            time.sleep(0.1)
        passed.append(True)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert passed


@pytest.mark.torch
@pytest.mark.parametrize('net', SHALLOW)
@pytest.mark.parametrize('overlap', [0, 1, 2])
def test_windows_keep_the_tokens_of_their_last_frames(measures, net, overlap):
    import torch

    from longrecon_ros.nets import policy
    case = measures.Case(net, (14, 28), 3, overlap, 'eager')
    windows = measures.make_windows(case, policy.choose('cpu'), True)
    place = windows._kept.data_ptr()
    first, _, third = windows(), windows(), windows()
    assert first[0].shape[:2] == windows.all_encoded()()[0].shape[:2] == (1, 3)
    tokens = windows._runtime.encode(windows._images)
    known = min(overlap, len(tokens))
    assert torch.equal(windows._kept[overlap - known:], tokens[len(tokens) - known:])
    assert windows._kept.data_ptr() == place and third[0].isfinite().all()


@pytest.mark.torch
@pytest.mark.parametrize('net', SHALLOW)
@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def test_short_types_hardly_change_the_result(measures, device, net):
    from longrecon_ros.nets import policy
    case = measures.Case(net, (70, 112), 4, 1, 'eager')
    exact, short = (measures.make_windows(case, policy.choose(device, precision), True)()
                    for precision in ('float32', 'bfloat16'))
    for name, a, b in zip(exact._fields, exact, short):
        if a is not None:
            assert ((a - b).norm() / a.norm()).item() < 2e-2, name


@pytest.mark.torch
def test_only_torch_and_numpy_are_needed(tmp_path):
    pytest.importorskip('torch')
    path = tmp_path / 'nets.json'
    done = run_without(*OTHERS, words=[*TRY[2:], '--json', str(path)])
    assert done.returncode == 0, done.stderr
    assert 'pi3, TINY' in done.stdout
    assert json.loads(path.read_text())['rows'][0]['status'] == 'ok'


# --- on a GPU ----------------------------------------------------------------------------------

@pytest.mark.gpu
@pytest.mark.parametrize('net', SHALLOW)
def test_no_window_waits_for_the_device(net):
    import torch

    from longrecon_ros.nets import benchmark as measures, policy
    device = policy.choose('cuda')
    windows = measures.make_windows(measures.Case(net, (70, 112), 4, 1, 'eager'), device, True)
    windows()
    assert measures.synchronisation(windows, device.device) == 'none'
    found = measures.synchronisation(lambda: torch.ones(1, device='cuda').item(), device.device)
    assert found.startswith('RuntimeError')


@pytest.mark.gpu
@pytest.mark.parametrize('net', SHALLOW)
def test_recorded_windows_equal_the_others(net):
    import torch

    from longrecon_ros.nets import benchmark as measures, policy
    device = policy.choose('cuda')
    windows = measures.make_windows(measures.Case(net, (70, 112), 5, 2, 'eager'), device, True)
    replay = measures.record(windows, device.device)

    def copied(run):
        return [part.clone() for part in run() if part is not None]
    before = copied(windows)
    # a graph must read what is in the same places now: images, and tokens of the window before
    windows._images.copy_(torch.randint_like(windows._images, 256))
    copied(windows)
    for recorded, eager, old in zip(copied(replay), copied(windows), before):
        assert ((recorded - eager).norm() / eager.norm()).item() < 1e-2
        assert not torch.equal(recorded, old)


@pytest.mark.gpu
def test_a_run_on_the_gpu(capsys, tmp_path):
    path = tmp_path / 'nets.json'
    assert main(['bench', 'nets', '--tiny', '--device', 'cuda', '--modes', 'eager,graph',
                 '--net', 'pi3,pi3x,vggt', '--json', str(path), '-q']) == 0
    found = json.loads(path.read_text())
    for row in found['rows']:
        assert row['status'] == 'ok', row['reason']
        assert found['nets'][row['net']]['weight_bytes'] < row['peak_bytes'] \
            <= row['reserved_bytes']
        assert row['synchronisation'] == ('none' if row['mode'] == 'eager' else None)
