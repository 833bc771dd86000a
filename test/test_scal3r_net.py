"""Scal3R's net in lock step: what windows share, and what they do not."""

import pytest

torch = pytest.importorskip('torch')

from longrecon_ros.nets import policy, scal3r  # noqa: E402
from longrecon_ros.nets.lockstep import LockStep  # noqa: E402
from longrecon_ros.nets.ranks import Ranks  # noqa: E402

pytestmark = pytest.mark.torch
H, W = 2, 3
SIZE = scal3r.TINY


@pytest.fixture(scope='module')
def net():
    with torch.device('meta'):
        made = scal3r.Scal3rNet(SIZE)
    made = policy.fill_randomly(made, policy.choose('cpu'))
    made.orthogonal = torch.float32
    return made


@pytest.fixture(scope='module')
def patches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, H * W, SIZE.dim, generator=generator) for n in (3, 2, 3)]


def through(net, patches, ranks=None):
    run = LockStep(net, (14 * H, 14 * W), len(patches), lambda k: net.begin(patches[k]),
                   ranks=ranks)
    return [window for _, window in run.run()]


def test_a_window_alone_differs_from_one_that_shares_its_memory(net, patches):
    alone, together = through(net, patches[:1])[0], through(net, patches)[0]
    assert (alone.tokens - together.tokens).abs().max() > 1e-3
    out = net.read(together, (14 * H, 14 * W))
    assert out.encoding.shape == (1, 3, 9) and out.depth.shape == (1, 3, 28, 42, 1)


def test_the_order_of_the_windows_does_not_matter(net, patches):
    straight, turned = through(net, patches), through(net, patches[::-1])
    for a, b in zip(straight, turned[::-1]):
        torch.testing.assert_close(a.tokens, b.tokens, atol=0, rtol=0)
        assert a.levels.keys() == b.levels.keys() == {0, 1}


def test_processes_that_add_up_their_directions_are_as_one(net, patches):
    class Told(Ranks):
        """One of three processes, which is told what the sum of all is."""

        def summed(self, tensors):
            own.append(tensors)
            return tensors if self.size == 1 else totals[len(own) - 1]

        def first_with(self, has):
            return None
    own = []
    whole, totals = through(net, patches, Told()), own
    own = []
    one, = through(net, patches, Told(1, 3))
    torch.testing.assert_close(one.tokens, whole[1].tokens, atol=0, rtol=0)
    assert len(own) == len(totals) == 2
    for total, part in zip(totals, own):
        assert all(t.dtype == torch.float64 and (t - o).abs().max() > 1e-6
                   for t, o in zip(total, part))


def test_special_tokens_recall_nothing_and_learnt_weights_stay(net, patches):
    unit = net.aggregator.global_blocks[0].ttt
    before = [w.clone() for w in unit.learnt]
    place = net.place(H, W, torch.device('cpu'))
    with torch.inference_mode():
        window = net.mix(0, net.begin(patches[0]), place)
        weights = net.store(0, net.gradient(0, window, place))
        after = net.recall(0, window, place, weights)
    assert torch.equal(after.tokens[:, :, :5], window.tokens[:, :, :5])
    assert (after.tokens[:, :, 5:] - window.tokens[:, :, 5:]).abs().max() > 1e-3
    assert all(torch.equal(a, b) for a, b in zip(before, unit.learnt))
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(weights, before))


def test_the_causal_form_is_exact_for_the_first_window_and_remembers_after_it(net, patches):
    stored, outputs = {}, []
    with torch.inference_mode():
        for tokens in patches:
            before = {i: [g.clone() for g in direction] for i, direction in stored.items()}
            out, after = net.decode(tokens[None], (14 * H, 14 * W), stored)
            assert all(torch.equal(a, b) for i in before for a, b in zip(before[i], stored[i]))
            outputs.append(out)
            stored = after
        alone = net.decode(patches[1][None], (14 * H, 14 * W))[0]
    first = net.read(through(net, patches[:1])[0], (14 * H, 14 * W))
    torch.testing.assert_close(outputs[0].encoding, first.encoding, atol=1e-6, rtol=0)
    assert (outputs[1].encoding - alone.encoding).abs().max() > 1e-4


def test_the_reference_is_the_middle_frame():
    assert scal3r.middle_first(1) == [0] and scal3r.middle_first(2) == [0, 1]
    assert scal3r.middle_first(5) == [2, 0, 1, 3, 4]
    assert scal3r.middle_first(60)[0] == 29
