"""The cache of keys and values: exact, bounded, and forgetting what was not kept."""

import pytest

torch = pytest.importorskip('torch')

from longrecon_ros.nets.attention import attend  # noqa: E402
from longrecon_ros.nets.kv_cache import KvCache, Looks  # noqa: E402

B, HEADS, P, D = 2, 3, 4, 8
pytestmark = pytest.mark.torch


def frame(t, dtype=torch.float32, p=P):
    """Return queries, keys and values of frame t."""
    generator = torch.Generator().manual_seed(t)
    return [torch.randn(B, HEADS, p, D, generator=generator).to(dtype) for _ in range(3)]


def seen_by(t, n_recent):
    """Return the frames that frame t should look at, itself included."""
    return [s for s in range(t + 1) if s == 0 or n_recent is None or s >= t - n_recent]


def reference(t, n_recent):
    """Return what frame t finds, from the definition: nothing is cached."""
    k, v = (torch.cat([frame(s)[part] for s in seen_by(t, n_recent)], dim=2) for part in (1, 2))
    return attend(frame(t)[0], k, v)


@pytest.mark.parametrize('n_recent', [None, 0, 1, 3, 5])
def test_a_frame_finds_what_is_in_the_frames_that_it_should_see_and_nothing_else(n_recent):
    cache = KvCache(n_recent)
    for t in range(20):
        mixed = cache.mix('a')(*frame(t))
        torch.testing.assert_close(mixed, reference(t, n_recent), atol=1e-6, rtol=0)
        cache.advance()
        wanted = seen_by(t + 1, n_recent)[:-1]
        assert cache.frames == tuple(wanted)
        for part, kept in ((1, cache.kept('a').keys), (2, cache.kept('a').values)):
            assert torch.equal(kept, torch.cat([frame(s)[part] for s in wanted], dim=2))


@pytest.mark.parametrize('n_recent', [None, 0, 1, 3, 5])
def test_all_frames_at_once_find_the_same(n_recent):
    n = 9
    q, k, v = (torch.cat([frame(t)[part] for t in range(n)], dim=2) for part in range(3))
    expected = torch.cat([reference(t, n_recent) for t in range(n)], dim=1)
    torch.testing.assert_close(Looks(n, n_recent)(q, k, v), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize('n_recent', [None, 2])
def test_a_frame_that_is_not_kept_leaves_nothing_behind(n_recent):
    cache = KvCache(n_recent)
    for t in range(12):
        bad = [part * torch.nan for part in frame(99)]
        assert cache.mix('a')(*bad).isnan().all()
        torch.testing.assert_close(cache.mix('a')(*frame(t)), reference(t, n_recent), atol=1e-6,
                                   rtol=0)
        cache.advance()


def test_a_window_takes_all_its_memory_at_once_and_in_the_types_of_its_layers():
    cache, seen = KvCache(5), set()
    for t in range(50):
        cache.mix('short')(*frame(t, torch.bfloat16))
        cache.mix('camera')(*frame(t, p=1))
        cache.advance()
        seen.add((cache.n_bytes, *(buffer.data_ptr() for layer in cache._layers.values()
                                   for buffer in layer)))
    assert len(seen) == 1
    assert seen.pop()[0] == 7 * 2 * B * HEADS * D * (P * 2 + 1 * 4)
    assert cache.kept('short').keys.dtype == torch.bfloat16
    assert cache.kept('camera').values.dtype == torch.float32


def test_memory_without_a_window_doubles_up_to_its_limit_and_then_there_is_an_end():
    cache, sizes = KvCache(max_frames=20), []
    for t in range(20):
        cache.mix('a')(*frame(t))
        cache.advance()
        sizes.append(cache.n_bytes // (2 * B * HEADS * P * D * 4))
    assert sizes == 8 * [8] + 8 * [16] + 4 * [20]
    with pytest.raises(ValueError, match='full, it has room for 20 frames'):
        cache.mix('a')(*frame(20))
    assert cache.frames == tuple(range(20)) and cache.kept('a').keys.shape[2] == 20 * P


def test_frames_of_another_size_are_refused():
    cache = KvCache(3)
    cache.mix('a')(*frame(0))
    with pytest.raises(ValueError, match=r'holds \(2, 3, 4, 8\) .* a frame, got \(2, 3, 5, 8\)'):
        cache.mix('a')(*frame(0, p=5))
    for wrong in ({'n_recent': -1}, {'max_frames': 0}):
        with pytest.raises(ValueError, match=f'{next(iter(wrong))}: expected'):
            KvCache(**wrong)


def test_no_gradient_flows_back_through_a_cache():
    cache, parts = KvCache(3), [part.requires_grad_() for part in frame(0)]
    cache.mix('a')(*parts).sum().backward()
    cache.advance()
    assert parts[0].grad is not None and parts[1].grad is None
    assert not any(buffer.requires_grad for buffer in cache._layers['a'])
