"""The blocks of the networks: what they promise, beside being equal to the official ones."""

import ast
import os
from pathlib import Path
import sys

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from longrecon_ros.nets import pi3, pi3x, policy, rope, rotation, stream3r, vggt  # noqa: E402
from longrecon_ros.nets.runtime import TorchRuntime  # noqa: E402

NETS = Path(policy.__file__).parent
PARITY = Path(os.environ.get('LONGRECON_PARITY',
                             Path(__file__).parents[2] / 'shared' / 'parity'))
MAKERS = {'pi3': (pi3.Pi3Net, pi3.TINY, pi3.LARGE), 'pi3x': (pi3x.Pi3XNet, pi3.TINY, pi3.LARGE),
          'vggt': (vggt.VggtNet, vggt.TINY, vggt.LARGE),
          'stream3r': (stream3r.Stream3rNet, vggt.TINY, vggt.LARGE)}
pytestmark = pytest.mark.torch


def on_meta(name, size=2):
    """Return a net without memory: the tiny (1) or the full size (2) one."""
    with torch.device('meta'):
        return MAKERS[name][0](MAKERS[name][size])


def tiny(name, precision='float32'):
    return policy.fill_randomly(on_meta(name, 1), policy.choose('cpu', precision))


def images(n=3, h=42, w=56, seed=0):
    return torch.rand(1, n, 3, h, w, generator=torch.Generator().manual_seed(seed))


def fields(result):
    return {key: value for key, value in result._asdict().items() if value is not None}


def test_attention_is_computed_at_one_place():
    calls = [f'{path.name}:{node.lineno}' for path in NETS.glob('*.py')
             for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Call)
             and ast.unparse(node.func).endswith('scaled_dot_product_attention')]
    assert len(calls) == 1 and calls[0].startswith('attention.py')


@pytest.mark.parametrize('name', MAKERS)
def test_a_forward_pass_never_looks_at_a_value(name):
    # a meta tensor has none: .item(), .cpu(), a branch on data would raise
    net = on_meta(name).to('meta')
    with torch.inference_mode():
        result = net(torch.empty(1, 3, 3, 154, 518, device='meta'))
    for key, value in fields(result).items():
        assert value.device.type == 'meta' and value.dtype == torch.float32, key


@pytest.mark.parametrize('name, n_parameters, bf16_gb', [
    ('pi3', 958_696_732, (1.91, 1.94)), ('pi3x', 992_465_329, (1.95, 2.05)),
    ('vggt', 1_190_596_120, (2.9, 3.0)), ('stream3r', 1_190_596_120, (2.9, 3.0))])
def test_large_matrices_are_in_the_short_type_once_and_heads_are_not(name, n_parameters, bf16_gb):
    net = on_meta(name)
    types = policy.dtypes(net, policy.Policy(torch.device('cpu'), torch.bfloat16))
    sizes = {key: p.numel() for key, p in net.named_parameters()}
    assert sum(sizes.values()) == n_parameters and set(types) == set(sizes)
    gb = sum(sizes[key] * types[key].itemsize for key in sizes) / 1e9
    assert bf16_gb[0] < gb < bf16_gb[1]
    for key, dtype in types.items():
        if key.split('.')[0] in net.full_precision or key.endswith(('gamma', '_token', 'embed')):
            assert dtype == torch.float32, key
    assert types[next(key for key in types if key.endswith('blocks.0.attn.qkv.weight'))] == \
        torch.bfloat16


@pytest.mark.parametrize('name', MAKERS)
def test_short_types_change_little_and_results_stay_float32(name):
    exact, short = (fields(tiny(name, precision)(images()))
                    for precision in ('float32', 'bfloat16'))
    for key in exact:
        assert short[key].dtype == torch.float32, key
        scale = float(exact[key].abs().max())
        assert 0 < float((exact[key] - short[key]).abs().max()) < 0.03 * scale, key


@pytest.mark.parametrize('name', MAKERS)
def test_placing_a_net_gives_what_filling_it_there_gives(name):
    net = policy.place(tiny(name), policy.choose('cpu', 'bfloat16'))
    for (key, a), (_, b) in zip(net.named_parameters(), tiny(name, 'bfloat16').named_parameters()):
        assert a.dtype == b.dtype and torch.equal(a, b) and not a.requires_grad, key


def test_a_policy_that_is_not_to_be_had_is_refused():
    with pytest.raises(ValueError, match='precision: expected auto or one of float32'):
        policy.choose('cpu', 'int8')
    with pytest.raises(ValueError, match='device: expected auto, cpu'):
        policy.choose('gpu')
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='there is no cuda'):
            policy.choose('cuda')
        assert policy.choose() == policy.Policy(torch.device('cpu'), torch.float32)


@pytest.mark.parametrize('name', ['pi3', 'pi3x'])
def test_pi3_treats_all_frames_alike(name):
    net, x, order = tiny(name), images(4), [2, 0, 3, 1]
    straight, turned = fields(net(x)), fields(net(x[:, order]))
    for key in ('local_points', 'confidence', 'T_world_camera'):
        torch.testing.assert_close(turned[key], straight[key][:, order], atol=2e-5, rtol=1e-4)


def test_the_first_frame_of_vggt_is_special():
    net, x = tiny('vggt'), images(3)
    with torch.no_grad():
        net.aggregator.camera_token[:, 0] += 1.0
    straight, turned = net(x), net(x[:, [1, 0, 2]])
    assert (straight.encoding[:, [1, 0, 2]] - turned.encoding).abs().max() > 1e-4


@pytest.mark.parametrize('name', MAKERS)
def test_sequences_of_a_batch_do_not_mix(name):
    net, x = tiny(name), torch.cat([images(seed=1), images(seed=2)])
    both = fields(net(x))
    for i in range(2):
        for key, value in fields(net(x[i:i + 1])).items():
            torch.testing.assert_close(both[key][i:i + 1], value, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize('name', MAKERS)
def test_frames_are_encoded_one_by_one(name):
    net, x = tiny(name), images(5)[0]
    together = net.encode(x)
    torch.testing.assert_close(torch.cat([net.encode(x[:2]), net.encode(x[2:])]), together,
                               atol=1e-5, rtol=0)


def test_the_runtime_takes_camera_images():
    net, n = tiny('pi3'), 3
    pictures = torch.randint(0, 256, (n, 42, 56, 3), dtype=torch.uint8,
                             generator=torch.Generator().manual_seed(0))
    runtime = TorchRuntime(net, policy.choose('cpu'))
    result = runtime.decode(runtime.encode(pictures), (42, 56))
    direct = net(pictures.permute(0, 3, 1, 2)[None] / 255)
    torch.testing.assert_close(result.local_points, direct.local_points, atol=1e-5, rtol=0)
    assert not result.local_points.requires_grad


def test_the_nearest_rotation_is_that_of_the_svd():
    generator = torch.Generator().manual_seed(0)
    M = torch.randn(2000, 3, 3, generator=generator)        # half of them reflect
    U, S, Vt = np.linalg.svd(M.double().numpy())
    d = np.sign(np.linalg.det(U @ Vt))
    expected = (U * np.stack([np.ones_like(d), np.ones_like(d), d], -1)[:, None]) @ Vt
    error = np.abs(rotation.nearest(M).numpy() - expected).max(axis=(1, 2))
    # how well M fixes the rotation: near 0 two answers are equally near
    gap = S[:, 1] + d * S[:, 2]
    assert (d < 0).sum() > 500
    assert error[gap > 0.05 * S[:, 0]].max() < 2e-5
    assert np.median(error) < 5e-7
    R = rotation.nearest(M)
    torch.testing.assert_close(R @ R.transpose(1, 2), torch.eye(3).expand(2000, 3, 3),
                               atol=2e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(2000), atol=2e-6, rtol=0)


@pytest.mark.parametrize('M', [np.eye(3), np.diag([1.0, -1, -1]), np.diag([-1.0, -1, 1]),
                               1e-3 * np.eye(3), np.diag([1.0, 1, -1]), np.ones((3, 3))])
def test_the_nearest_rotation_of_special_matrices_is_a_rotation(M):
    R = rotation.nearest(torch.tensor(M, dtype=torch.float32)[None])[0].double().numpy()
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=2e-6)
    assert np.linalg.det(R) == pytest.approx(1, abs=1e-5)
    best = np.linalg.svd(M)[1] @ [1, 1, np.sign(np.linalg.det(M)) or 1]
    assert np.trace(R.T @ M) == pytest.approx(best, rel=1e-5)


def test_quaternions_of_any_length_make_the_same_rotation():
    q = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotation.from_quaternion(q), rotation.from_quaternion(-3 * q))
    R = rotation.from_quaternion(torch.tensor([0.0, 0, 0.5**0.5, 0.5**0.5]))    # 90 deg about z
    torch.testing.assert_close(R, torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
                               atol=1e-6, rtol=0)


def test_rotary_attention_sees_differences_of_positions_only():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 64, generator=generator)

    def score(at_q, at_k):
        turned = [rope.rotate(x, rope.rotation(torch.tensor([at]), 64))
                  for x, at in ((q, at_q), (k, at_k))]
        return float((turned[0] * turned[1]).sum())
    assert score((3, 5), (4, 9)) == pytest.approx(score((13, 25), (14, 29)), abs=1e-4)
    assert abs(score((3, 5), (4, 9)) - score((5, 3), (9, 4))) > 1e-3, 'rows are not columns'
    assert score((0, 0), (0, 0)) == pytest.approx(float((q * k).sum()), abs=1e-5)


def test_positions_of_special_tokens_do_not_turn():
    positions = rope.grid_positions(2, 3, 5, torch.device('cpu'))
    assert positions.tolist() == [[0, 0]] * 5 + [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]


@pytest.mark.skipif(not (PARITY / 'recipe.py').is_file(),
                    reason=f'no recipe of weights in {PARITY}; set LONGRECON_PARITY')
def test_pi3x_gives_the_published_values(monkeypatch):
    # of the original with these weights: metric, then mean and deviation of points and the like
    monkeypatch.setattr(sys, 'path', [str(PARITY), *sys.path])
    import recipe
    net = pi3x.Pi3XNet(pi3.Pi3Size(encoder_depth=2, decoder_depth=4, head_depth=1)).eval()
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    head = [{'match': r'^(point|conf)_head\..*', 'mul': 0.25}]
    plain, scaled = recipe.fill(shapes), recipe.fill(shapes, head)
    net.load_state_dict({key: scaled[key] if plain[key].dim() > 1 else plain[key]
                         for key in shapes})
    with torch.inference_mode():
        result = net(recipe.images(0, 1, 2, 3, 56, 70))
    assert float(result.metric) == pytest.approx(0.9741748, abs=2e-6)
    local, T = result.local_points, result.T_world_camera
    assert float(local.mean()) == pytest.approx(0.3355305, abs=2e-6)
    assert float(local.std()) == pytest.approx(0.4552029, abs=2e-6)
    points = torch.einsum('bnij,bnhwj->bnhwi', T[..., :3, :3], local) + T[..., None, None, :3, 3]
    assert float(points.mean()) == pytest.approx(0.3747813, abs=2e-6)
    assert float(points.flatten()[0]) == pytest.approx(0.707162, abs=2e-6)
    ray = local[0, 0, 0, 0] / local[0, 0, 0, 0].norm()
    assert ray.tolist() == pytest.approx([0.018789, 0.009412, 0.999779], abs=2e-6)
    assert float(T.std()) == pytest.approx(0.4696338, abs=2e-6)
