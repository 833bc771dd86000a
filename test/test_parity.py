"""The parity runner on the fixtures: it passes, and it finds what is wrong."""

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import pytest

RUNNER = Path(__file__).parent / 'parity' / 'run.py'
FOLDER = Path(os.environ.get('LONGRECON_PARITY',
                             RUNNER.parents[3] / 'shared' / 'parity'))
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not (FOLDER / 'cases.json').is_file(),
                       reason=f'no parity fixtures in {FOLDER}; set LONGRECON_PARITY')]


def run(*arguments):
    pytest.importorskip('torch')
    pytest.importorskip('skimage')
    return subprocess.run([sys.executable, str(RUNNER), *map(str, arguments)],
                          capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_laser_equals_the_official_code():
    done = run(FOLDER, '--model', 'laser')
    assert done.returncode == 0, done.stdout
    assert 'FAIL' not in done.stdout and '3 cases run, 0 not run' in done.stdout
    for name in ('irls_points_scale', 'seg_merged_t100', 'graph_scale_map_overlap2',
                 'scale_map_window7', 'refine_depth@f10s2'):
        assert f'ok   {name} ' in done.stdout
    ours = [line for line in done.stdout.splitlines() if 'our default' in line]
    assert len(ours) == 8 and all(line.strip().startswith('ok') for line in ours), \
        'our default is no worse than the original on its own scenes'


@pytest.mark.parametrize('model, n, slow', [
    ('pi3', 4, 1), pytest.param('vggt', 3, 0, marks=pytest.mark.slow),
    pytest.param('stream3r', 6, 0, marks=pytest.mark.slow)])
def test_a_net_equals_the_official_one(model, n, slow):
    done = run(FOLDER, '--model', model)
    assert done.returncode == 0, done.stdout
    assert 'FAIL' not in done.stdout and f'{n} cases run, {slow} not run, 0 arrays' in done.stdout


@pytest.mark.parametrize('case', [
    'loger_ttt_unit', 'loger_merge', 'loger_merge_reset',
    *(pytest.param(name, marks=pytest.mark.slow) for name in
      ('loger_star_3chunks_ns32', 'loger_star_3chunks', 'loger_star_reset_ns32',
       'loger_prenorm_3chunks_ns32'))])
def test_loger_equals_the_official_one_window_by_window(case):
    done = run(FOLDER, '--case', case)
    assert done.returncode == 0, done.stdout
    assert 'FAIL' not in done.stdout and '1 cases run, 0 not run, 0 arrays' in done.stdout


@pytest.mark.parametrize('case', [
    'scal3r_memory_unit', 'scal3r_3chunks_ns32',
    *(pytest.param(name, marks=pytest.mark.slow) for name in ('scal3r_1chunk', 'scal3r_3chunks'))])
def test_scal3r_equals_the_official_one_in_lock_step(case):
    done = run(FOLDER, '--case', case)
    assert done.returncode == 0, done.stdout
    assert 'FAIL' not in done.stdout and '1 cases run, 0 not run, 0 arrays' in done.stdout


@pytest.mark.slow
def test_the_full_size_net_equals_the_official_one():
    done = run(FOLDER, '--case', 'pi3_full')
    assert done.returncode == 0, done.stdout
    assert '1 cases run, 0 not run, 0 arrays' in done.stdout and 'ok   camera_poses' in done.stdout


@pytest.mark.parametrize('model', ['pi3', 'vggt', 'stream3r', 'scal3r', 'loger', 'loger_star'])
def test_full_size_nets_have_the_official_tensors(model):
    torch = pytest.importorskip('torch')
    from longrecon_ros.nets import loger, pi3, scal3r, stream3r, vggt
    makers = {'pi3': pi3.Pi3Net, 'vggt': vggt.VggtNet, 'stream3r': stream3r.Stream3rNet,
              'scal3r': scal3r.Scal3rNet,
              'loger': lambda: loger.LogerNet(loger.LARGE),
              'loger_star': lambda: loger.LogerNet(loger.LARGE_STAR)}
    with torch.device('meta'):
        net = makers[model]()
    official = json.loads((FOLDER / 'keys.json').read_text())[model]
    dead = {key for key in official if key.endswith(loger.DEAD)}
    assert len(dead) == (18 if 'loger' in model else 0)
    rename = scal3r.official_name if model == 'scal3r' else str
    assert {rename(key): list(value.shape) for key, value in net.state_dict().items()} == \
        {key: shape for key, shape in official.items() if key not in dead}


def test_a_wrong_array_is_found(tmp_path):
    for name in ('cases.json', 'keys_cases.json', 'case_laser_functions.npz'):
        shutil.copy(FOLDER / name, tmp_path)
    with np.load(tmp_path / 'case_laser_functions.npz') as file:
        arrays = dict(file)
    arrays['kabsch_t'] = arrays['kabsch_t'] + np.float32(1e-4)
    np.savez(tmp_path / 'case_laser_functions.npz', **arrays)
    done = run(tmp_path, '--case', 'laser_functions')
    assert done.returncode == 1
    assert 'FAIL kabsch_t' in done.stdout and '1 arrays beyond' in done.stdout


def test_what_cannot_be_run_is_said(tmp_path):
    assert run(tmp_path).returncode != 0
    done = run(FOLDER, '--case', 'nonsense')
    assert done.returncode == 1 and 'there is no case' in done.stdout
    assert run(FOLDER, '--model', 'nonsense').returncode == 2
