"""Training of small nets: it learns, goes on where it was cut off, and its memories take part."""

from dataclasses import replace
import json
import math

import numpy as np
import pytest

from longrecon_ros.cli.main import main
from longrecon_ros.errors import InputError, WeightsError

torch = pytest.importorskip('torch')

from longrecon_ros.nets.loger import NOTHING, roles_of  # noqa: E402
from longrecon_ros.train import ablation, data, loop, losses, shipped, variants  # noqa: E402
from longrecon_ros.train.evaluate import evaluate  # noqa: E402
from longrecon_ros.train.windows import windows_of  # noqa: E402

CPU = torch.device('cpu')
SETTING = replace(variants.TINY, n_windows=2, n_before=2, batch=2, n_rooms=2, n_pretrain=2,
                  n_steps=6, n_warm_up=2)
SHIPPED = shipped.FOLDER / 'loger_tiny.safetensors'


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    """Return a folder with short films, as the command keeps them."""
    return tmp_path_factory.mktemp('films')


@pytest.fixture(scope='module')
def laps(films):
    """Return two rooms filmed."""
    return data.film_once(films, 0, 2, SETTING.image)


# --- data ----------------------------------------------------------------------------------------

def test_films_are_kept_and_rooms_differ(films, laps, monkeypatch):
    monkeypatch.setattr(data, 'film', None)         # must not be called
    again = data.film_once(films, 0, 2, SETTING.image)
    assert all(np.array_equal(getattr(again, name), value) for name, value in vars(laps).items())
    assert np.abs(laps.images[0].astype(float) - laps.images[1]).mean() > 10
    assert (laps.depth > 0.2).all() and (laps.depth < 12).all()


def test_a_damaged_film_says_so(tmp_path):
    name = f'rooms_0_2_{SETTING.image[0]}x{SETTING.image[1]}_{data._GENERATION}.npz'
    (tmp_path / name).write_bytes(b'no film')
    with pytest.raises(InputError, match='delete it'):
        data.film_once(tmp_path, 0, 2, SETTING.image)


def test_sequences_are_true_and_follow_from_the_seed(laps):
    first, again = (laps.draw(np.random.default_rng(3), 6, 9, (4, 14)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert first.images.shape == (6, 9, 3, 28, 56) and first.depth.shape == (6, 9, 28, 56)
    R = first.T_world_camera[..., :3, :3].astype(float)
    np.testing.assert_allclose(R @ R.swapaxes(-1, -2), np.broadcast_to(np.eye(3), R.shape),
                               atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-5)
    # mirrored or not, the camera moves ahead, and where depth says so a point stays where it is
    T = np.linalg.inv(first.T_world_camera[:, :-1]) @ first.T_world_camera[:, 1:]
    assert (T[:, :, 2, 3] > 0).all()
    points = laps.rays * first.depth[..., None]
    world = np.einsum('bnij,bnhwj->bnhwi', R, points) \
        + first.T_world_camera[:, :, None, None, :3, 3]
    assert (np.abs(world[..., 2]).max((2, 3)) < 3).all()
    turns = np.arctan2(T[..., 0, 2], T[..., 2, 2]).mean(1)
    assert (turns > 0.05).any() and (turns < -0.05).any()


def test_the_light_goes_out_and_comes_back(laps):
    lit, batch = (laps.draw(np.random.default_rng(1), 8, 60, (4, 14), dark)
                  for dark in (None, (3, 9)))
    is_dark = (batch.images == 0).all((2, 3, 4))
    assert not is_dark[:, :5].any() and 0.2 < is_dark.mean() < 0.6
    assert np.array_equal((batch.depth == 0).all((2, 3)), is_dark)
    assert np.array_equal(batch.T_world_camera, lit.T_world_camera)
    assert np.array_equal(batch.images[~is_dark], lit.images[~is_dark])


def test_windows():
    assert windows_of(10, 4, 1) == [slice(0, 4), slice(3, 7), slice(6, 10)]
    assert SETTING.frames_of(3) == 10
    with pytest.raises(ValueError, match='multiple of 3'):
        windows_of(11, 4, 1)


# --- nets and losses -----------------------------------------------------------------------------

@pytest.mark.parametrize('variant, n_fast, n_past', [
    ('none', 0, 0), ('past', 0, 1), ('fast', 2, 0), ('both', 2, 1)])
def test_variants_have_their_layers(variant, n_fast, n_past):
    net = variants.new_net(SETTING, variant, 0)
    assert len(net.ttt_layers) == n_fast and len(net.swa_layers) == n_past
    again = variants.new_net(SETTING, variant, 0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters()))


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match='expected one of none, past, fast, both'):
        variants.new_net(SETTING, 'nothing', 0)


def test_a_stream_is_what_windows_one_by_one_are(laps):
    net = variants.new_net(SETTING, 'both', 1).eval()
    batch = laps.draw(np.random.default_rng(0), 2, SETTING.frames_of(3), SETTING.steps)
    images = torch.from_numpy(batch.images)
    with torch.inference_mode():
        outputs, after = net.stream(images, SETTING.window, SETTING.overlap)
        memory = NOTHING
        for out, frames in zip(outputs, windows_of(images.shape[1], 4, 1)):
            alone, memory = net(images[:, frames], memory, roles_of(4, 4, 1))
            for a, b in zip(out[:3], alone[:3]):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.fast[1].w0, memory.fast[1].w0, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_slow_weights_through_two_windows(laps):
    net = variants.new_net(SETTING, 'both', 0)
    batch = laps.draw(np.random.default_rng(0), 2, SETTING.frames_of(2), SETTING.steps)
    outputs, _ = net.stream(torch.from_numpy(batch.images), 4, 1)
    outputs[1].T_world_camera[:, :, :3, 3].square().sum().backward()
    for layer in net.ttt_layers:
        # what is stored reaches later windows alone; the rates only weight what is stored
        n = layer.to_qkv.weight.shape[0] // 3
        for gradient in (layer.to_qkv.weight.grad[n:], layer.lr_fc.weight.grad, layer.w0.grad):
            assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    assert net.swa_layers[0].attn.qkv.weight.grad.abs().max() > 0


def test_true_poses_cost_nothing_in_any_frame():
    T = torch.eye(4).repeat(1, 5, 1, 1)
    T[0, :, 0, 3] = torch.arange(5.0)
    angle = torch.tensor(0.7)
    moved = torch.eye(4)
    moved[:2, :2] = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    moved[1, 3] = 4.0
    turn, shift = losses.pair_errors(moved @ T, T)
    assert turn.abs().max() < 1e-4 and shift.abs().max() < 1e-4
    half = T.clone()
    half[0, 3:] = moved @ T[0, 3:]          # two windows, each right in a frame of its own
    turn, shift = losses.pair_errors(half, T)
    assert turn[0, 3:, 3:].max() < 1e-4 and shift[0, :3, :3].max() < 1e-4
    assert turn[0, 0, 4] == pytest.approx(2 * math.sin(0.35), abs=0.03) and shift[0, 0, 4] > 1


# --- the loop ------------------------------------------------------------------------------------

def test_steps_on_one_batch_reduce_the_loss(laps):
    torch.manual_seed(0)
    net = variants.new_net(SETTING, 'both', 0)
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    batch = laps.draw(np.random.default_rng(0), 2, SETTING.frames_of(3), SETTING.steps)
    found = []
    for _ in range(25):
        loss, _parts = loop.loss_of(net, batch, laps.rays, SETTING, 1)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        found.append(float(loss.detach()))
    assert min(found[-3:]) < 0.8 * found[0]


def test_what_is_cut_off_goes_on_to_the_same_result(laps, tmp_path):
    whole = loop.Training(SETTING, 'both', 5, CPU)
    assert loop.fit(whole, laps, tmp_path, every=100)
    cut = loop.Training(SETTING, 'both', 5, CPU)

    def stop(progress):
        if progress.step == 5:
            raise KeyboardInterrupt
    (tmp_path / 'cut').mkdir()
    with pytest.raises(KeyboardInterrupt):
        loop.fit(cut, laps, tmp_path / 'cut', every=2, update=stop)
    again = loop.Training(SETTING, 'both', 5, CPU)
    again.restore(tmp_path / 'cut' / loop.CHECKPOINT)
    assert again.n_done == 4
    assert loop.fit(again, laps, tmp_path / 'cut', every=2)
    for a, b in zip(whole.net.parameters(), again.net.parameters()):
        assert torch.equal(a, b)
    assert sorted(path.name for path in (tmp_path / 'cut').iterdir()) == [loop.CHECKPOINT]


def test_checkpoints_that_do_not_fit_are_refused(laps, tmp_path):
    path = tmp_path / loop.CHECKPOINT
    loop.Training(SETTING, 'none', 0, CPU).save(path)
    with pytest.raises(InputError, match='of another training .variant, seed'):
        loop.Training(SETTING, 'past', 1, CPU).restore(path)
    path.write_bytes(b'nothing')
    with pytest.raises(InputError, match='without --resume'):
        loop.Training(SETTING, 'none', 0, CPU).restore(path)


# --- evaluation ----------------------------------------------------------------------------------

class _TrueNet(torch.nn.Module):
    """Gives true poses; each window in a frame of its own if it is told so."""

    def __init__(self, batch, own_frames):
        super().__init__()
        self.batch, self.own_frames = batch, own_frames
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def stream(self, images, window, overlap, reset_every=0):
        from longrecon_ros.nets.pi3 import Pi3Output
        poses, depth = (torch.from_numpy(a) for a in (self.batch.T_world_camera, self.batch.depth))
        found = []
        for frames in windows_of(images.shape[1], window, overlap):
            T = poses[:, frames]
            if self.own_frames:
                T = torch.linalg.inv(T[:, :1]) @ T
            points = depth[:, frames, ..., None].repeat(1, 1, 1, 1, 3)
            found.append(Pi3Output(points, torch.zeros_like(points[..., :1]), T))
        return found, NOTHING


@pytest.mark.parametrize('own_frames', [False, True])
def test_the_truth_has_no_errors(laps, own_frames):
    batch = laps.draw(np.random.default_rng([0, 11]), 2, SETTING.frames_of(4), SETTING.steps,
                      SETTING.dark)
    found = evaluate(_TrueNet(batch, own_frames), laps, SETTING, 4, 2)
    assert found.ate_chained_m < 1e-4 and found.turn_deg < 0.01 and found.shift_percent < 0.01
    assert found.scale_spread < 1e-3 and found.depth_percent < 1e-3
    assert (found.ate_plain_m > 0.3) if own_frames else (found.ate_plain_m < 1e-4)
    assert 1 < found.blind_m < 3 and found.n_frames == 13


# --- the command ---------------------------------------------------------------------------------

SMALL = ['--steps', '2', '--pretrain', '2', '--rooms', '1', '-q']


@pytest.fixture(scope='module')
def quick(films):
    """Make tests of the command short."""
    patch = pytest.MonkeyPatch()
    patch.setattr(ablation, 'LENGTHS', {1: 1})
    patch.setattr('longrecon_ros.cli.train._N_TEST_ROOMS', 1)
    patch.setattr(variants, 'TINY', replace(SETTING))
    yield ['--films', str(films), *SMALL]
    patch.undo()


def test_the_command_trains_one(quick, tmp_path, capsys):
    out = tmp_path / 'one'
    assert main(['train', 'loger-tiny', '--out', str(out), '--variant', 'fast', *quick]) == 0
    assert 'synthetic rooms only' in capsys.readouterr().out
    record = json.loads((out / 'training.json').read_text())
    assert record['runs'][0]['variant'] == 'fast' and record['runs'][0]['n_steps'] == 2
    setting = replace(SETTING, n_steps=2)
    weights = out / 'loger_tiny.safetensors'
    assert len(shipped.load_weights(weights, setting, 'fast').ttt_layers) == 2
    assert 'no use on real images' in shipped.about_weights(weights)['label']
    with pytest.raises(WeightsError, match='longrecon train'):
        shipped.load_weights(weights, setting, 'both')
    assert main(['train', 'loger-tiny', '--out', str(out), '--variant', 'fast', *quick]) == 2
    assert 'not empty' in capsys.readouterr().err


def test_the_command_compares_and_goes_on(quick, tmp_path, capsys):
    arguments = ['train', 'loger-tiny', '--ablation', '--out', str(tmp_path / 'all'), *quick]
    assert main([*arguments, '--minutes', '0']) == 0
    assert 'stopped after 0 of 2' in capsys.readouterr().out
    assert main([*arguments, '--resume']) == 0
    text = (tmp_path / 'all' / 'ablation.md').read_text()
    assert all(f'| {name} |' in text for name in variants.VARIANTS.values())
    runs = json.loads((tmp_path / 'all' / 'ablation.json').read_text())['runs']
    assert [run['variant'] for run in runs] == list(variants.VARIANTS)
    capsys.readouterr()
    assert main([*arguments, '--resume']) == 0      # all there: nothing is trained again
    assert 'ATE plain' in capsys.readouterr().out


# --- what is shipped -----------------------------------------------------------------------------

@pytest.mark.skipif(not SHIPPED.exists(), reason='no weights are shipped')
def test_the_shipped_weights_have_learnt(tmp_path):
    about = shipped.about_weights(SHIPPED)
    assert about['licence'] == 'Apache-2.0' and 'synthetic' in about['label']
    assert SHIPPED.stat().st_size < 4e6
    rooms = data.film(30_000, 2, variants.TINY.image)       # seeds that nothing was trained on
    net = shipped.load_weights(SHIPPED, variants.TINY, about['variant'])
    untrained = variants.new_net(variants.TINY, about['variant'], 0).eval()
    trained, other = (evaluate(n, rooms, variants.TINY, 4, 8) for n in (net, untrained))
    assert trained.turn_deg < other.turn_deg / 4
    assert trained.shift_percent < other.shift_percent / 4
    assert trained.ate_chained_m < other.ate_chained_m / 3
