"""Place recognition: binary words, whitened tokens, and the index."""

from functools import lru_cache
import io

import cv2
import numpy as np
import pytest

from longrecon_ros.geometry import se3
from longrecon_ros.loop.features import find_features
from longrecon_ros.loop.recognition import PlaceIndex, RecognitionConfig
from longrecon_ros.loop.tokens import TokenIndex, whitening
from longrecon_ros.loop.words import Vocabulary, WordIndex
from longrecon_ros.synthetic.effects import Effects
from longrecon_ros.synthetic.recipe import Production, Recipe
from longrecon_ros.synthetic.stream import Film
from longrecon_ros.types import Keyframe

# how far to the side the second lap goes, and from where another camera sees the same place [m]
WORLDS = {'indoor': (0.15, 0.6), 'street': (0.5, 3.5), 'eight': (0.2, 0.8)}
STEP = 24                                   # frames from keyframe to keyframe
SAME_VIEW_DEG = 25


def keyframe(features, frame_id=0, token=None, submap_id=0):
    n = len(features)
    return Keyframe(frame_id, submap_id, np.eye(4), np.eye(3), np.zeros((n, 2)), features,
                    np.zeros((n, 3)), token)


def blank(frame_id=0):
    return keyframe(np.zeros((0, 32), np.uint8), frame_id)


@lru_cache(maxsize=None)
def landmarks(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (40000, 32), dtype=np.uint8)


def on_the_way(place, visit=0, n=120, step=40, seed=0):
    """Return a keyframe that sees 120 landmarks, 80 of which the next one sees, too."""
    rng = np.random.default_rng([place, visit])
    seen = landmarks(seed)[place * step:place * step + n]
    flips = np.packbits(rng.random((len(seen), 256)) < 0.06, axis=1)
    return keyframe(seen ^ flips, 1000 * visit + place)


def walk(index, places, visit=0):
    for place in places:
        index.add(on_the_way(place, visit))
    return index


def found(candidates):
    return [candidate.keyframe for candidate in candidates]


class Sideways:
    """A motion seen by a camera that is mounted elsewhere."""

    def __init__(self, motion, T_camera_other):
        self._motion, self._T = motion, T_camera_other

    def pose(self, t_s):
        return self._motion.pose(t_s) @ self._T


@lru_cache(maxsize=None)
def production_of(name):
    return Production.of(Recipe(name, None, (320, 240), seed=1))


@lru_cache(maxsize=None)
def two_laps(name):
    """Return keyframes and true poses of two laps, the second one beside and between the first."""
    production = production_of(name)
    turned = se3.exp(np.array([WORLDS[name][0], 0, 0, 0, np.radians(5), 0]))
    keyframes, poses, lap = [], [], production.n_frames - 1
    for visit, T in enumerate((np.eye(4), turned)):
        film = Film(production.world.scene, Sideways(production.world.motion, T),
                    production.film.camera, Effects(noise=3, exposure=0.7), visit)
        for i in range(visit * STEP // 2, lap, STEP):
            shot = film.frame(i)
            features = find_features(shot.image, 500)[1]
            keyframes.append(keyframe(features, visit * lap + i))
            poses.append(shot.T_world_camera)
    return keyframes, np.array(poses)


def same_place(name, poses, a, b):
    is_near = np.linalg.norm(poses[a, :3, 3] - poses[b, :3, 3]) <= WORLDS[name][1]
    turn = se3.rotation_angle(poses[a, :3, :3].T @ poses[b, :3, :3])
    return is_near and np.degrees(turn) <= SAME_VIEW_DEG


@pytest.mark.parametrize('name', ['indoor', *(pytest.param(name, marks=pytest.mark.slow)
                                              for name in WORLDS if name != 'indoor')])
def test_second_laps_find_the_first(name):
    config = RecognitionConfig(min_gap=10)
    keyframes, poses = two_laps(name)
    index, hits, n_false = PlaceIndex(config), [], 0
    for n, query in enumerate(keyframes):
        assert index.add(query) == n
        candidates = index.query(query)
        is_true = [same_place(name, poses, n, at) for at in range(max(0, n + 1 - 10))]
        assert all(at <= n - 10 for at in found(candidates)) and len(candidates) <= config.top_k
        scores = [candidate.score for candidate in candidates]
        assert scores == sorted(scores, reverse=True) and min(scores, default=1) >= 0.4
        gaps = np.diff(sorted(found(candidates)))
        assert (gaps > config.suppress).all()
        if n >= len(keyframes) // 2 and any(is_true):
            hits.append(any(is_true[at] for at in found(candidates)))
        elif not any(is_true):
            n_false += len(candidates)
    assert len(hits) > 20 and np.mean(hits) >= 0.85
    # where there is nothing to find, little has to be verified
    assert n_false <= len(keyframes)


def test_the_keyframe_itself_and_the_newest_are_never_candidates():
    index = walk(PlaceIndex(RecognitionConfig(min_gap=12, suppress=0)), range(60))
    assert found(index.query(on_the_way(59))) == []
    assert found(index.query(on_the_way(20)))[0] in (19, 21)
    assert 20 not in found(index.query(on_the_way(20)))
    assert found(index.query(on_the_way(20, 1)))[0] == 20
    assert found(index.query(on_the_way(47, 1)))[0] == 47
    assert 48 not in found(index.query(on_the_way(48, 1)))
    assert found(index.query(on_the_way(59, 1), exclude_newest=0))[0] == 59
    assert found(index.query(on_the_way(20, 1), exclude_newest=60)) == []
    assert found(index.query(on_the_way(20, 1), exclude_newest=600)) == []
    with pytest.raises(ValueError, match='exclude_newest: expected 0'):
        index.query(on_the_way(3), exclude_newest=-1)


def test_neighbours_are_suppressed():
    index = walk(PlaceIndex(RecognitionConfig(suppress=0, min_score=0.1)), range(60))
    assert sorted(found(index.query(on_the_way(20, 1)))) == [18, 19, 20, 21, 22]
    index = walk(PlaceIndex(RecognitionConfig(suppress=2, min_score=0.1, top_k=2)), range(60))
    walk(index, range(60), 1)
    query = on_the_way(20, 2)
    assert found(index.query(query)) in ([20, 80], [80, 20])
    assert index.query(query)[0].score > 0.5


def test_a_new_session_asks_an_old_map():
    index = walk(PlaceIndex(RecognitionConfig(min_gap=15)), range(40))
    # its frame numbers begin anew, and it starts where the last one stopped
    for n, place in enumerate((39, 38, 37, 36)):
        query = keyframe(on_the_way(place, 5).features, frame_id=place)
        assert found(index.query(query, min(15, n)))[0] == place
        index.add(query)


def test_standing_still_hides_no_place():
    index = walk(PlaceIndex(RecognitionConfig(min_gap=10)), range(50))
    for visit in range(2, 12):
        index.add(on_the_way(49, visit))
    half = np.concatenate([on_the_way(20, 1).features[:60], landmarks()[30000:30060]])
    index.add(keyframe(half, 7777))
    assert found(index.query(keyframe(half, 7778)))[0] in (19, 20)
    # the one before shows the very same: beside its score nothing counts
    raw = index.query(keyframe(half, 7778))[0].score * np.median(index.state()['steps'])
    assert raw < 0.4


def test_blank_images_find_nothing():
    index = PlaceIndex(RecognitionConfig(min_gap=0))
    assert index.query(blank()) == index.query(on_the_way(3)) == []
    index.add(blank())
    assert index.query(blank(1)) == []
    walk(index, range(5))
    index.add(blank(2))
    assert index.query(blank(3)) == [] and len(index) == 7
    assert found(index.query(on_the_way(2, 1)))[0] == 3
    same = PlaceIndex.from_state(RecognitionConfig(min_gap=0), index.state())
    assert same.query(on_the_way(2, 1)) == index.query(on_the_way(2, 1))


def saved(index):
    """Return the state of an index after a way through a file."""
    file = io.BytesIO()
    np.savez(file, **index.state())
    file.seek(0)
    return dict(np.load(file))


def test_saved_words_answer_and_go_on_alike():
    config = RecognitionConfig(min_gap=10)
    keyframes, _ = two_laps('eight')
    n = len(keyframes) * 2 // 3
    first, again = PlaceIndex(config), PlaceIndex(config)
    for query in keyframes[:n]:
        first.add(query)
        again.add(query)
    loaded = PlaceIndex.from_state(config, saved(first))
    assert len(loaded) == n
    n_found = 0
    for query in keyframes[n:]:
        answer = first.query(query)
        n_found += len(answer)
        assert answer == again.query(query) == loaded.query(query)
        assert first.add(query) == again.add(query) == loaded.add(query)
    assert n_found > 10
    states = [index.state() for index in (first, again, loaded)]
    for name, value in states[0].items():
        assert all(np.array_equal(value, other[name]) for other in states[1:]), name


def test_an_empty_index_is_saved_too():
    for kind in ('words', 'tokens'):
        loaded = PlaceIndex.from_state(RecognitionConfig(), saved(
            PlaceIndex(RecognitionConfig(), kind)))
        assert len(loaded) == 0
        assert loaded.add(keyframe(landmarks()[:50], token=np.ones(4))) == 0


def test_state_misuse():
    state = walk(PlaceIndex(RecognitionConfig()), range(3)).state()
    del state['postings']
    with pytest.raises(ValueError, match="state: lacks 'postings'"):
        PlaceIndex.from_state(RecognitionConfig(), state)


def test_the_work_of_a_query_is_bounded():
    index, n_read = WordIndex(max_words=500, max_postings=1000), []
    for place in range(300):
        index.add(on_the_way(place % 150, place // 150))
        index.scores(on_the_way(place % 150, 7))
        n_read.append(index.n_read)
    assert len(index.vocabulary) == 500
    assert n_read[12] < n_read[18] < n_read[24] and max(n_read) <= 1000 < 1.2 * n_read[-1]
    # without a bound it grows with the map
    free = WordIndex(max_words=500, max_postings=10**9)
    for place in range(300):
        free.add(on_the_way(place % 150, place // 150))
    free.scores(on_the_way(149, 7))
    assert free.n_read > 3 * n_read[-1]


def test_rare_words_alone_find_the_place():
    index = WordIndex(max_postings=150)
    for place in range(100):
        index.add(on_the_way(place))
    hits = [index.scores(on_the_way(place, 1)).argmax() == place for place in range(100)]
    assert index.n_read <= 150 and np.mean(hits) > 0.9


def test_memory_of_a_keyframe_is_bounded():
    index, sizes = WordIndex(max_words=2000), []
    for visit in range(3):
        for place in range(100):
            index.add(on_the_way(place, visit))
        sizes.append(sum(value.nbytes for value in index.state().values()))
    assert len(index.vocabulary) == 2000
    assert sizes[2] - sizes[1] <= 100 * (120 * 4 + 8) + 1000


def test_scores_are_cosines():
    index = WordIndex()
    steps = [index.add(on_the_way(place)) for place in range(30)]
    assert steps[0] == 0 and all(0.3 < step < 0.9 for step in steps[2:])
    for place in (3, 17, 29):
        scores = index.scores(on_the_way(place))
        assert scores.argmax() == place and scores[place] == pytest.approx(1)
        assert 0 <= scores.min() and scores.max() <= 1 + 1e-12
        assert scores[(place + 10) % 30] == pytest.approx(0, abs=0.02)


def test_vocabulary_learns_what_is_far_until_it_is_full():
    vocabulary = Vocabulary(1000)
    vocabulary.learn(landmarks()[:300])
    assert len(vocabulary) == 300
    vocabulary.learn(on_the_way(0, 3).features)
    assert len(vocabulary) == 300
    vocabulary.learn(np.repeat(landmarks()[500:510], 2, axis=0))
    assert len(vocabulary) == 310
    vocabulary.learn(landmarks()[1000:3000])
    vocabulary.learn(landmarks()[3000:4000])
    assert len(vocabulary) == 1000
    assert vocabulary.nearest(landmarks()[:300])[0].tolist() == list(range(300))
    assert vocabulary.nearest(landmarks()[4000:4010])[1].min() > 55
    bag = vocabulary.bag(landmarks()[[7, 7, 2]])
    assert bag.words.tolist() == [2, 7] and bag.counts.tolist() == [1, 2]
    assert len(vocabulary.bag(landmarks()[:0]).words) == 0


def test_cells_find_most_words_that_a_full_search_finds():
    keyframes, _ = two_laps('eight')
    vocabulary = Vocabulary()
    for query in keyframes[:len(keyframes) // 2]:
        vocabulary.learn(query.features)
    words = vocabulary.state()['words']
    assert len(vocabulary.state()['centres']) == 64 and len(words) > 8000
    features = np.concatenate([query.features for query in keyframes[-10:]])
    full = cv2.batchDistance(features, words, dtype=cv2.CV_32S, normType=cv2.NORM_HAMMING,
                             K=1)[0][:, 0]
    distance = vocabulary.nearest(features)[1]
    assert (distance >= full).all() and (distance == full).mean() > 0.5
    assert vocabulary.nearest(words)[1].max() == 0


def tokens(n, visit, n_dims=96):
    """Return the tokens (n, D) of a way: the place, drowned in what all images share.

    40 numbers that change from place to place, projected at random, beside a constant and three
    directions of a strong variation (as of light) that differs from visit to visit.
    """
    rng, way = np.random.default_rng(5), np.random.default_rng([5, visit])
    place = cv2.GaussianBlur(rng.normal(size=(n, 40)), (1, 13), 2.0)
    light = np.sin(np.arange(n)[:, None] / [3.0, 5.0, 8.0] + way.uniform(0, 6, 3))
    values = (40 * rng.normal(size=n_dims) + place @ rng.normal(size=(40, n_dims))
              + 8 * light @ rng.normal(size=(3, n_dims)))
    return (values + 0.3 * way.normal(size=values.shape)).astype(np.float32)


def with_tokens(values, visit=0):
    return [keyframe(np.zeros((0, 32), np.uint8), 1000 * visit + n, value)
            for n, value in enumerate(values)]


def test_whitened_tokens_find_what_plain_ones_do_not():
    n, index = 200, PlaceIndex(RecognitionConfig(suppress=3), 'tokens')
    first, second = tokens(n, 0), tokens(n, 1)
    for query in with_tokens(first):
        index.add(query)
    whitened, plain = [], []
    unit = first / np.linalg.norm(first, axis=1, keepdims=True)
    for place, query in enumerate(with_tokens(second, 1)):
        answer = index.query(query, exclude_newest=0)
        whitened.append(bool(answer) and abs(answer[0].keyframe - place) <= 2)
        plain.append(abs((unit @ query.token).argmax() - place) <= 2)
    assert np.mean(whitened) > 0.95 and np.mean(plain) < 0.3
    assert index.n_read == n


def test_whitening_makes_axes_alike():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(800, 6)) * [100, 10, 3, 1, 1, 1] + 7
    mean, axes = whitening(values, 256)
    white = (values - mean) @ axes
    assert axes.shape == (6, 6) and np.abs(white.mean(axis=0)).max() < 1e-3
    spread = white.std(axis=0)
    # shrinkage leaves the strong above the weak, but little of their ratio of 100
    assert spread.max() < 1.05 and spread[0] / spread[1] < 5
    assert whitening(values[:20], 256)[1].shape == (6, 5)
    assert whitening(values, 2)[1].shape == (6, 2)
    assert whitening(values[:1], 256)[1].shape == (6, 0)
    assert whitening(np.ones((50, 6), np.float32), 256)[1].shape == (6, 0)


def test_saved_tokens_answer_and_go_on_alike():
    config = RecognitionConfig(min_gap=10)
    queries = with_tokens(tokens(120, 0)) + with_tokens(tokens(120, 1), 1)
    first = PlaceIndex(config, 'tokens')
    for query in queries[:150]:
        first.add(query)
    loaded = PlaceIndex.from_state(config, saved(first))
    n_found = 0
    for query in queries[150:]:
        answer = first.query(query)
        n_found += len(answer)
        assert answer == loaded.query(query)
        assert first.add(query) == loaded.add(query)
    assert n_found > 10
    states = first.state(), loaded.state()
    assert all(np.array_equal(value, states[1][name]) for name, value in states[0].items())


def test_token_misuse():
    index = PlaceIndex(RecognitionConfig(min_gap=0), 'tokens')
    with pytest.raises(ValueError, match='keyframe.token: expected the token'):
        index.add(blank())
    for n, query in enumerate(with_tokens(tokens(30, 0))):
        assert index.add(query) == n
    with pytest.raises(ValueError, match=r'keyframe.token: expected shape \(96,\), got \(5,\)'):
        index.add(keyframe(np.zeros((0, 32)), token=np.ones(5)))
    unknown = [keyframe(np.zeros((0, 32)), 9, np.full(96, value)) for value in (0, np.nan)]
    for query in unknown:
        assert index.query(query) == []
        index.add(query)
        assert np.isfinite(TokenIndex.from_state(index.state()).state()['vectors']).all()
    assert len(index) == 32


def test_configuration_is_checked():
    for arguments, words in (({'top_k': 0}, 'top_k: expected 1'),
                             ({'min_gap': -1}, 'min_gap: expected 0'),
                             ({'suppress': -1}, 'suppress: expected 0'),
                             ({'min_score': 1.5}, 'min_score: expected 0 to 1'),
                             ({'min_score': float('nan')}, 'min_score: expected 0 to 1')):
        with pytest.raises(ValueError, match=words):
            RecognitionConfig(**arguments)
    with pytest.raises(ValueError, match="kind: expected 'words' or 'tokens', got 'sift'"):
        PlaceIndex(RecognitionConfig(), 'sift')
