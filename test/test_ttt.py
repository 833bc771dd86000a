"""Fast weights: the written-out gradient, the step, and what stays as it was."""

import pytest

torch = pytest.importorskip('torch')

from longrecon_ros.nets import loger, policy, ttt  # noqa: E402

pytestmark = pytest.mark.torch
EXACT = ttt.Numerics(orthogonal=torch.float32)


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed),
                               dtype=torch.float64).float()


def problem(heads=3, n=50, d=8, e=16):
    weights = ttt.FastWeights(draw(heads, d, e, seed=1), draw(heads, e, d, seed=2),
                              draw(heads, d, e, seed=3))
    k, v = draw(heads, n, d, seed=4), draw(heads, n, d, seed=5)
    rates = tuple(draw(heads, n, 1, seed=6 + i).exp() for i in range(3))
    return weights, k, v, rates


@pytest.mark.parametrize('j', range(3))
def test_the_written_out_gradient_is_that_of_autograd(j):
    weights, k, v, rates = problem()
    double = ttt.Numerics(torch.float64)
    weights = ttt.FastWeights(*(w.double().requires_grad_() for w in weights))
    # each matrix has rates of its own: its gradient is that of the objective with them
    objective = (rates[j].double() * ttt.apply(weights, k, double) * v.double()).sum()
    expected, = torch.autograd.grad(objective, weights[j])
    found = ttt.gradients(weights, k, v, rates, double)[j]
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def test_a_step_makes_keys_answer_more_like_their_values():
    weights, k, v, rates = problem()
    k, v = (x / x.norm(dim=-1, keepdim=True) for x in (k, v))

    def agreement(w):
        return float((ttt.apply(w, k, EXACT) * v).sum())
    after = ttt.update(weights, ttt.gradients(weights, k, v, rates, EXACT), EXACT)
    assert agreement(after) > agreement(weights) + 1


@pytest.mark.parametrize('is_leaky', [False, True])
def test_columns_keep_their_length_but_for_the_leak_of_the_original(is_leaky):
    weights, k, v, rates = problem()
    now, n = weights, 400
    numerics = ttt.Numerics(orthogonal=torch.float32, is_leaky=is_leaky)
    for i in range(n):
        v = draw(*v.shape, seed=100 + i, scale=10.0**(i % 5 - 2))
        now = ttt.update(now, ttt.gradients(now, k, v, rates, numerics), numerics)
    for before, after in zip(weights, now):
        lengths = before.norm(dim=1)
        lost = lengths - after.norm(dim=1)
        if is_leaky:
            assert (lost > 0.3 * n * 1e-5).all() and (lost < 1.1 * n * 1e-5).all()
        else:
            assert lost.abs().max() < 5e-5 * lengths.max()
        assert (after - before).norm() > 0.3 * before.norm()


@pytest.mark.parametrize('shape', [(2, 8, 32), (2, 32, 8), (16, 16)])
def test_orthogonalising_pushes_singular_values_towards_1(shape):
    step = ttt.orthogonalise(draw(*shape), torch.float32)
    values = torch.linalg.svdvals(step)
    assert values.min() > 0.4 and values.max() < 1.6
    torch.testing.assert_close(ttt.orthogonalise(1e3 * draw(*shape), torch.float32), step,
                               atol=1e-4, rtol=1e-3)
    short = ttt.orthogonalise(draw(*shape), torch.bfloat16)
    assert short.dtype == torch.float32 and (short - step).abs().max() < 0.1


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_three_matrices_at_once_are_as_one_by_one(dtype):
    weights, k, v, rates = problem()
    direction = ttt.gradients(weights, k, v, rates, EXACT)
    together = ttt.steps(direction, ttt.Numerics(orthogonal=dtype))
    alone = ttt.steps(direction, ttt.Numerics(orthogonal=dtype, use_batch=False))
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for a, b in zip(together, alone):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_the_base_rate_is_what_softplus_gives_back():
    for rate in (1e-4, 0.01, 0.3):
        found = torch.nn.functional.softplus(torch.tensor(ttt.base_rate(rate)).double())
        assert float(found) == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize('n, roles', [(6, (2, 2, 2)), (4, (2, 2, 0)), (3, (2, 1, 0)),
                                      (1, (1, 0, 0))])
def test_roles_of_frames(n, roles):
    assert loger.roles_of(n, 6, 2) == roles
    assert sum(loger.roles_of(n, 6, 0)) == n


def test_a_layer_stores_what_it_is_shown_and_recalls_the_earlier_first():
    layer = loger.FastLayer(16, 8, 2, has_pre_norm=False)
    for p in layer.parameters():
        torch.nn.init.normal_(p, 0, 0.5, generator=torch.Generator().manual_seed(p.numel()))
    x, start = draw(1, 10, 16), layer.initial(1)
    with torch.no_grad():
        first, stored = layer(x, start, EXACT)
        again, _ = layer(x, start, EXACT)
        later, _ = layer(x, stored, EXACT)
    assert torch.equal(first, again), 'applied before it is updated, and start is not written to'
    assert (later - first).abs().max() > 1e-3


def test_streams_of_a_batch_have_memories_of_their_own():
    with torch.device('meta'):
        net = loger.LogerNet(loger.TINY)
    net = policy.fill_randomly(net, policy.choose('cpu'))
    net.numerics = EXACT
    x = torch.rand(2, 3, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        both, memory = net(x)
        both, _ = net(x, memory)
        for i in range(2):
            _, alone = net(x[i:i + 1])
            out, _ = net(x[i:i + 1], alone)
            torch.testing.assert_close(both.T_world_camera[i:i + 1], out.T_world_camera,
                                       atol=1e-4, rtol=1e-4)
