"""The command line as users meet it: verbs, help, exit codes, one line an error."""

import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

from clips import FAKE, use_fake_backbone, write_clip
import cv2
import numpy as np
import pytest

from longrecon_ros import __version__
from longrecon_ros.cli.main import main, VERBS
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.io.trajectory_file import read_tum, write_kitti, write_tum
from longrecon_ros.types import Trajectory


@pytest.fixture
def clip(tmp_path_factory):
    """Return the folder of a clip of 40 frames with truth."""
    return write_clip(tmp_path_factory.mktemp('clip'))


@pytest.fixture
def fake_backbone(monkeypatch):
    """Let ``backbone=fake`` be the fake one."""
    use_fake_backbone(monkeypatch)


def _fails(capsys, *argv) -> str:
    """Run a command that must fail with one line on stderr and nothing on stdout; return it."""
    assert main([str(word) for word in argv]) == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith('longrecon: error: ')
    assert err.count('\n') == 1
    return err


def test_overview_and_version(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f'\n  {verb} ' in text for verb in VERBS)
    assert main(['--version']) == 0
    assert capsys.readouterr().out == f'longrecon {__version__}\n'


@pytest.mark.parametrize('verb', ['run', 'evaluate', 'info'])
def test_help_has_examples(capsys, verb):
    assert main([verb, '--help']) == 0
    text = capsys.readouterr().out
    assert f'usage: longrecon {verb}' in text
    assert 'examples:' in text


def test_unknown_verbs_get_a_suggestion(capsys):
    assert 'did you mean "evaluate"?' in _fails(capsys, 'evalute')
    assert 'verbs are run, replay' in _fails(capsys, 'xyzzy')


def test_wrong_arguments_are_one_line(capsys):
    assert 'see "longrecon run --help"' in _fails(capsys, 'run', 'a')
    assert 'whole number' in _fails(capsys, 'run', 'a', '--out', 'b', '--every', '0')


def test_verbs_are_imported_when_called_only():
    code = ('import sys, longrecon_ros.cli.main as m; m.main([]); '
            'print(sorted(set(sys.modules) & {"cv2", "numpy", "rclpy", "torch", "scipy"}))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == '[]'


# --- evaluate ----------------------------------------------------------------------------------

@pytest.fixture
def trajectories(tmp_path):
    """Write an estimate and its truth, which differ by a gauge and a little noise."""
    rng = np.random.default_rng(0)
    T = se3.exp(np.cumsum(rng.normal(size=(60, 6)) * 0.2, axis=0))
    gt = Trajectory(np.arange(60) * 10**8, T)
    gauge = Sim3(0.25, se3.so3_exp(np.array([1., 2, 3])), np.ones(3))
    est = Trajectory(gt.stamps_ns, gauge.apply_to_poses(
        T @ se3.exp(rng.normal(size=(60, 6)) * 0.01)))
    write_tum(tmp_path / 'gt.txt', gt)
    write_tum(tmp_path / 'trajectory.txt', est)
    write_kitti(tmp_path / 'kitti.txt', est)
    return tmp_path


def test_evaluate_prints_a_table(capsys, trajectories):
    assert main(['evaluate', str(trajectories / 'trajectory.txt'), str(trajectories / 'gt.txt')]) \
        == 0
    text = capsys.readouterr().out
    assert '60 of 60 poses paired' in text
    assert 'estimated unit: 4.0' in text
    assert 'ATE after Sim(3), m' in text
    assert 'shortened' in text


def test_evaluate_as_json(capsys, trajectories):
    assert main(['evaluate', str(trajectories), str(trajectories / 'gt.txt'), '--json']) == 0
    result = json.loads(capsys.readouterr().out)
    assert result['ate_sim3_m']['rmse'] < 0.05
    assert result['ate_se3_m']['rmse'] > 0.5
    assert result['scale'] == pytest.approx(4, rel=0.01)


def test_kitti_files_take_the_times_of_the_other(capsys, trajectories):
    for est in ('kitti.txt', 'trajectory.txt'):
        assert main(['evaluate', str(trajectories / est), str(trajectories / 'gt.txt'),
                     '--json', '--align', 'se3']) == 0
    first, second = capsys.readouterr().out.split('}\n{')
    assert json.loads(first + '}')['ate_sim3_m']['rmse'] == pytest.approx(
        json.loads('{' + second)['ate_sim3_m']['rmse'], rel=1e-4)


def test_evaluate_faults(capsys, trajectories):
    assert 'none.txt: cannot be read' in _fails(
        capsys, 'evaluate', trajectories / 'none.txt', trajectories / 'gt.txt')
    (trajectories / 'bad.txt').write_text('1 2 3\n')
    assert 'bad.txt:1: expected 8 numbers' in _fails(
        capsys, 'evaluate', trajectories / 'bad.txt', trajectories / 'gt.txt')
    (trajectories / 'short.txt').write_text('1 0 0 0 0 1 0 0 0 0 1 0\n')
    assert 'short.txt has no times' in _fails(
        capsys, 'evaluate', trajectories / 'trajectory.txt', trajectories / 'short.txt')
    (trajectories / 'late.txt').write_text('9000 0 0 0 0 0 0 1\n')
    assert 'check the time stamps' in _fails(
        capsys, 'evaluate', trajectories / 'trajectory.txt', trajectories / 'late.txt')


# --- info --------------------------------------------------------------------------------------

def test_info_without_input_tells_the_installation(capsys):
    assert main(['info', '--json']) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts['longrecon_ros'] == __version__
    assert facts['numpy'] == np.__version__
    assert Path(facts['parameters']).is_file()


def test_info_about_a_folder(capsys, clip):
    assert main(['info', str(clip)]) == 0
    text = capsys.readouterr().out
    assert f'{"frames":12}  40\n' in text
    assert '16 x 12 px' in text
    assert '10 a second' in text
    assert 'fx 12, fy 12, cx 7.5, cy 5.5 px, no distortion' in text
    assert '40 poses over' in text


def test_info_lists_the_topics_of_an_unclear_bag(capsys, tmp_path):
    pytest.importorskip('rosbags', reason='reading bags needs rosbags')
    from bag_files import Messages, STORE2, write_bag
    messages = Messages(STORE2)
    pixels = np.zeros((12, 16, 3), np.uint8)
    bag = write_bag(tmp_path / 'a', [(f'/{side}/image', messages.image(pixels, 10**9), 10**9)
                                     for side in ('left', 'right')])
    assert main(['info', str(bag)]) == 0
    text = capsys.readouterr().out
    assert '/left/image (sensor_msgs/msg/Image, 1 messages)' in text
    assert 'choose one with --topic' in text
    assert main(['info', str(bag), '--topic', '/left/image', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['size'] == '16 x 12 px'


def test_info_faults(capsys, tmp_path):
    assert 'no such file or folder' in _fails(capsys, 'info', tmp_path / 'none')


# --- run ---------------------------------------------------------------------------------------

def test_run_leaves_all_results(capsys, clip, fake_backbone, tmp_path):
    out = tmp_path / 'out'
    assert main(['run', str(clip), *FAKE, '--out', str(out)]) == 0
    printed, logged = capsys.readouterr()
    assert sorted(os.listdir(out)) == ['map', 'map.ply', 'odometry.txt', 'report.html',
                                       'result.json', 'trajectory.txt']
    assert 'ATE' in printed
    assert str(out / 'report.html') in printed
    result = json.loads((out / 'result.json').read_text())
    assert (result['frames'], result['poses']) == (40, 40)
    assert result['ate_sim3_m'] < 1e-3
    assert result['depth_absrel'] < 2e-3
    assert result['coverage'] == 1
    assert result['length_unit'] == 'm (by ground truth)'


def test_run_with_selected_frames_and_without_report(clip, fake_backbone, tmp_path):
    assert main(['run', str(clip), *FAKE, '--out', str(tmp_path / 'out'), '--every', '2',
                 '--max-frames', '12', '--set', 'window.size=8', '--set', 'window.overlap=3',
                 '--no-report']) == 0
    assert sorted(os.listdir(tmp_path / 'out')) == ['map', 'map.ply', 'odometry.txt',
                                                    'result.json', 'trajectory.txt']
    result = json.loads((tmp_path / 'out' / 'result.json').read_text())
    assert (result['frames'], result['config']['window.size']) == (12, 8)
    stamps_ns = read_tum(tmp_path / 'out' / 'trajectory.txt').stamps_ns
    assert np.diff(stamps_ns).tolist() == [200_000_000] * 11


def test_run_again_needs_force(capsys, clip, fake_backbone, tmp_path):
    argv = ['run', str(clip), *FAKE, '--out', str(tmp_path / 'out')]
    assert main(argv) == 0
    (tmp_path / 'out' / 'mine.txt').write_text('keep')
    capsys.readouterr()
    assert 'not empty' in _fails(capsys, *argv)
    assert main([*argv, '--force', '--no-report']) == 0
    assert sorted(os.listdir(tmp_path / 'out')) == [
        'map', 'map.ply', 'mine.txt', 'odometry.txt', 'result.json', 'trajectory.txt']


def test_run_with_ground_truth_of_a_file(clip, fake_backbone, tmp_path):
    (clip / 'gt_tum.txt').rename(tmp_path / 'truth.txt')
    assert main(['run', str(clip), *FAKE, '--out', str(tmp_path / 'a')]) == 0
    assert json.loads((tmp_path / 'a/result.json').read_text())['ate_sim3_m'] is None
    assert main(['run', str(clip), *FAKE, '--out', str(tmp_path / 'b'),
                 '--gt', str(tmp_path / 'truth.txt')]) == 0
    assert json.loads((tmp_path / 'b/result.json').read_text())['ate_sim3_m'] < 1e-3


def test_ground_truth_without_times_goes_by_the_frames(clip, fake_backbone, tmp_path):
    truth = read_tum(clip / 'gt_tum.txt')
    for name, n in (('all', 40), ('some', 30)):
        write_kitti(tmp_path / 'k.txt', Trajectory(truth.stamps_ns[:n], truth.T_map_camera[:n]))
        assert main(['run', str(clip), *FAKE, '--out', str(tmp_path / name),
                     '--gt', str(tmp_path / 'k.txt')]) == 0
    assert json.loads((tmp_path / 'all/result.json').read_text())['ate_sim3_m'] < 1e-3
    some = json.loads((tmp_path / 'some/result.json').read_text())
    assert some['ate_sim3_m'] is None
    assert any('not one pose a frame' in warning for warning in some['warnings'])


def test_ground_truth_of_other_times_is_a_warning_not_an_error(clip, fake_backbone, tmp_path):
    (tmp_path / 'truth.txt').write_text('1 0 0 0 0 0 0 1\n2 1 0 0 0 0 0 1\n3 1 1 0 0 0 0 1\n')
    assert main(['run', str(clip), *FAKE, '--out', str(tmp_path / 'out'),
                 '--gt', str(tmp_path / 'truth.txt')]) == 0
    result = json.loads((tmp_path / 'out/result.json').read_text())
    assert any('nothing was compared' in warning for warning in result['warnings'])


FAULTS = {
    'missing input': (['none'], 'none: there is no such file'),
    'unknown parameter': (['good', '--set', 'window.sise=12'], 'window.size'),
    'impossible value': (['good', '--set', 'window.overlap=99'], 'window'),
    'missing config': (['good', '--config', 'none.yaml'], 'none.yaml'),
    'unknown backbone': (['good', '--set', 'backbone=sfn'], 'sfn'),
    'missing truth': (['good', '--gt', 'none.txt'], 'none.txt: cannot be read'),
    'nan intrinsics': (['nan'], 'hold NaN'),
    'two sizes': (['sizes'], 'all images must have one size'),
    'topic of a folder': (['good', '--topic', '/cam'], '--topic does not go'),
    'half a video': (['half.avi'], 'the video breaks off'),
    'empty bag': (['empty.mcap'], 'the bag is empty'),
    'wrong topic': (['some.mcap', '--topic', '/x'], 'no topic /x; image topics are: /cam ('),
}


@pytest.fixture
def faulty_inputs(clip, tmp_path, monkeypatch):
    """Enter a folder with the inputs of `FAULTS`."""
    monkeypatch.chdir(tmp_path)
    clip.rename('good')
    for name in ('nan', 'sizes'):
        shutil.copytree('good', name)
    Path('nan/calib.json').write_text('{"fx": NaN, "fy": 1, "cx": 1, "cy": 1}')
    cv2.imwrite('sizes/rgb/000018.png', np.zeros((8, 8, 3), np.uint8))
    writer = cv2.VideoWriter('half.avi', cv2.VideoWriter_fourcc(*'MJPG'), 25.0, (64, 48))
    for seed in range(40):
        writer.write(np.random.default_rng(seed).integers(0, 256, (48, 64, 3)).astype(np.uint8))
    writer.release()
    data = Path('half.avi').read_bytes()
    Path('half.avi').write_bytes(data[:len(data) // 2])


def _write_bags():
    from bag_files import Messages, STORE2, write_bag
    image = Messages(STORE2).image(np.zeros((12, 16, 3), np.uint8), 10**9)
    for name, entries in (('empty', []), ('some', [('/cam', image, 10**9)])):
        next(write_bag(Path('bag'), entries).glob('*.mcap')).rename(f'{name}.mcap')
        shutil.rmtree('bag')


@pytest.mark.parametrize('fault', FAULTS)
def test_run_faults_are_one_line_and_leave_nothing(capsys, faulty_inputs, monkeypatch, fault):
    if fault in ('empty bag', 'wrong topic'):
        pytest.importorskip('rosbags', reason='reading bags needs rosbags')
        _write_bags()
    words, message = FAULTS[fault]
    if fault != 'unknown backbone':
        use_fake_backbone(monkeypatch)
        words = [*words, *FAKE]
    before = sorted(os.listdir())
    assert message in _fails(capsys, 'run', *words, '--out', 'out', '-q')
    assert sorted(os.listdir()) == before


def test_interrupted_run_leaves_nothing(clip, tmp_path):
    """Send the signal of Ctrl-C to a run that would last for long."""
    code = (f'import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})\n'
            'import longrecon_ros.backbones as b, fakes\n'
            'class Slow(fakes.FakeBackbone):\n'
            '    def step(self, state, window):\n'
            '        print("working", flush=True); time.sleep(60)\n'
            'b.load = lambda name: Slow\n'
            'from longrecon_ros.cli.main import main\n'
            f'sys.exit(main(["run", {str(clip)!r}, *{FAKE}, "--out", {str(tmp_path / "out")!r}]))')
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    assert process.stdout.readline() == 'working\n'
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == 'longrecon: interrupted'
    assert 'Traceback' not in err
    assert os.listdir(tmp_path) == []
