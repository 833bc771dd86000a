"""Network backbones on a GPU: what they say there is what they say on the CPU."""

import backbone_runs as runs
from backbone_runs import tiny, windows_of
import numpy as np
import pytest
from sfm_films import film
from sfm_runs import stream

from longrecon_ros.backbones.base import LockstepBackbone, Work

torch = pytest.importorskip('torch')

pytestmark = [pytest.mark.torch, pytest.mark.gpu]
EXACT = {'loger': {'orthogonal': 'float32'}, 'scal3r': {'orthogonal': 'float32'}}
NAMES = ('pi3', 'pi3x', 'vggt', 'stream3r', 'loger', 'scal3r')


@pytest.fixture(autouse=True)
def no_tf32():
    """Let float32 be float32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def make(name, **options):
    return tiny(name, **{**EXACT.get(name, {}), **options})


def on_gpu(name, like, precision):
    """Return the same net on the GPU: random weights of its own would be other ones."""
    backbone = make(name, device='cuda', precision=precision)
    with torch.no_grad():
        for ours, theirs in zip(backbone._network.net.parameters(),
                                like._network.net.parameters(), strict=True):
            ours.copy_(theirs.to(ours.device))
    return backbone


def predict(backbone, folder=None):
    """Return predictions window by window, or of all windows at once where there is a folder."""
    windows = windows_of(backbone, stream(film('indoor', 26)), 6, 2)
    if folder is not None:
        return list(backbone.predict_all(windows, Work(folder, 'film')))
    return runs.predict(backbone, windows)


def distance(predictions, others, field):
    """Return the largest relative distance of a field over all windows."""
    pairs = [[np.asarray(getattr(p, field), np.float64) for p in pair]
             for pair in zip(predictions, others, strict=True)]
    return max(np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in pairs)


@pytest.mark.parametrize('name', NAMES)
def test_the_gpu_says_what_the_cpu_says(name):
    plain = make(name, precision='float32')
    expected, found = predict(plain), predict(on_gpu(name, plain, 'float32'))
    for field in ('T_window_camera', 'local_points', 'confidence'):
        assert distance(expected, found, field) < 1e-4, field
    # fast weights of a random net amplify roundings
    short = predict(on_gpu(name, plain, 'bfloat16'))
    assert distance(expected, short, 'T_window_camera') < 0.1


def test_lock_step_on_the_gpu_from_memory_and_from_disk(tmp_path):
    plain = make('scal3r', precision='float32')
    assert isinstance(plain, LockstepBackbone)
    folders = [tmp_path / name for name in 'abc']
    for folder in folders:
        folder.mkdir()
    gpu = on_gpu('scal3r', plain, 'float32')
    expected, found = predict(plain, folders[0]), predict(gpu, folders[1])
    assert distance(expected, found, 'local_points') < 1e-4
    on_disk = on_gpu('scal3r', plain, 'float32')
    object.__setattr__(on_disk._config, 'memory_mb', 0)
    for a, b in zip(found, predict(on_disk, folders[2]), strict=True):
        np.testing.assert_array_equal(a.local_points, b.local_points)
