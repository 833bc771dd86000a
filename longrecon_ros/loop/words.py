"""Places as bags of binary words, learnt while the robot drives: nothing is downloaded or trained.

An image is a histogram of visual words weighted by term frequency and inverse document frequency
(Sivic and Zisserman, "Video Google", ICCV 2003), the words are ORB descriptors (Galvez-Lopez and
Tardos, "Bags of binary words for fast place recognition", T-RO 2012) and come from the images
themselves (Angeli et al., "Fast and incremental method for loop-closure detection using bags of
visual words", T-RO 2008; Garcia-Fidalgo and Ortiz, "iBoW-LCD", RA-L 2018): a feature that is far
from all words is a new one until the vocabulary is full, after some 50 keyframes. From then on it
serves as a general one, as a vocabulary from elsewhere would.
"""

from array import array
from typing import Dict, Iterable, List, Mapping, NamedTuple, Tuple

import cv2
import numpy as np

from ..types import Keyframe

_MAX_WORDS = 16384
"""0.5 MB. Half as many find places as often, but with several times the false candidates."""
_RADIUS_BITS = 55
"""Features further apart make different words; ORB's matches differ in 20 to 50 bits of 256."""
_N_CELLS, _N_PROBES = 64, 2
_SPLIT_AT = 2048
"""Words from which on there are cells."""
_N_MAJORITY_STEPS = 6
_MAX_POSTINGS = 200_000
"""Postings that one query reads; the rarest words, which tell most, come first."""
_MIX = 40503
"""An odd number: its multiples modulo 2^16 visit all numbers in no order (Knuth's hashing)."""
_GROWTH = 1.1
"""Weights are renewed when the index has grown by this factor: O(1) a keyframe on average."""
_PIECE = 1 << 16
"""Postings that are worked on at once."""
_COUNT_BITS = 8
_MAX_COUNT = (1 << _COUNT_BITS) - 1
_TERMS = np.sqrt(np.arange(_MAX_COUNT + 1.0))


class Bag(NamedTuple):
    """The words of one image."""

    words: np.ndarray                       # (n,) i64, ascending
    counts: np.ndarray                      # (n,) i64, of features


class Vocabulary:
    """Binary words in cells: a feature is compared with the words of the nearest cells only.

    The cells are found by k-majority (Grana et al., "A fast approach for integrating ORB
    descriptors in the bag of words model", 2013) once there are words enough. There are at most
    ``max_words``; the same features in the same order make the same words.
    """

    def __init__(self, max_words: int = _MAX_WORDS):
        self._max_words = max_words
        self._words = np.zeros((0, 32), np.uint8)
        self._centres = np.zeros((1, 32), np.uint8)
        self._cells: List[np.ndarray] = [np.zeros(0, np.int64)]
        # a keyframe is asked for, learnt from and put in: its features are compared once
        self._asked: Tuple = (None, 0, None)            # features, number of words, answer

    def __len__(self) -> int:
        return len(self._words)

    def learn(self, features: np.ndarray) -> None:
        """Make words of those features (F, 32) that are far from all words and from each other."""
        n_free = self._max_words - len(self)
        if n_free == 0 or len(features) == 0:
            return
        novel = features[self.nearest(features)[1] > _RADIUS_BITS]
        novel = novel[_leaders(novel, _RADIUS_BITS)][:n_free]
        ids = len(self) + np.arange(len(novel))
        self._words = np.concatenate([self._words, novel])
        self._put(ids)
        if len(self._centres) == 1 and len(self) >= _SPLIT_AT:
            self._centres = _k_majority(self._words, _N_CELLS)
            self._cells = [np.zeros(0, np.int64)] * len(self._centres)
            self._put(np.arange(len(self)))

    def nearest(self, features: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return word (F,) i64 and distance (F,) i64 [bits] of each of the features (F, 32).

        The word is -1, and the distance 257, where the nearest cells hold none.
        """
        if self._asked[0] is not features or self._asked[1] != len(self):
            self._asked = features, len(self), self._compared(features)
        return self._asked[2]

    def _compared(self, features: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return what `nearest` does, computed."""
        word, distance = np.full(len(features), -1), np.full(len(features), 257)
        if len(features) == 0 or len(self) == 0:
            return word, distance
        n_probes = min(_N_PROBES, len(self._centres))
        probes = _nearest(features, self._centres, n_probes)[0].ravel()
        by_cell = np.argsort(probes, kind='stable')
        starts = np.searchsorted(probes[by_cell], np.arange(len(self._cells) + 1))
        for ids, start, end in zip(self._cells, starts[:-1], starts[1:]):
            asked = by_cell[start:end] // n_probes
            if len(asked) == 0 or len(ids) == 0:
                continue
            at, bits = (value[:, 0] for value in _nearest(features[asked], self._words[ids], 1))
            is_nearer = bits < distance[asked]
            word[asked[is_nearer]] = ids[at[is_nearer]]
            distance[asked[is_nearer]] = bits[is_nearer]
        return word, distance

    def bag(self, features: np.ndarray) -> Bag:
        """Return the words of features (F, 32), each one's nearest."""
        word = self.nearest(features)[0]
        words, counts = np.unique(word[word >= 0], return_counts=True)
        return Bag(words, np.minimum(counts, _MAX_COUNT))

    def state(self) -> Dict[str, np.ndarray]:
        """Return everything that `from_state` needs."""
        cell = np.zeros(len(self), np.uint8)
        for number, ids in enumerate(self._cells):
            cell[ids] = number
        return {'max_words': np.array(self._max_words), 'words': self._words.copy(),
                'cell': cell, 'centres': self._centres.copy()}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> 'Vocabulary':
        """Return the vocabulary that `state` described."""
        made = cls(int(state['max_words']))
        made._words, made._centres = state['words'].copy(), state['centres'].copy()
        made._cells = [np.flatnonzero(state['cell'] == number)
                       for number in range(len(made._centres))]
        return made

    def _put(self, ids: np.ndarray) -> None:
        if len(ids) == 0:
            return
        cell = _nearest(self._words[ids], self._centres, 1)[0][:, 0]
        for number in np.unique(cell):
            self._cells[number] = np.append(self._cells[number], ids[cell == number])


class WordIndex:
    """Bags of words of all keyframes as inverted lists, compared by the cosine of their vectors.

    A query reads at most ``max_postings`` entries, however many keyframes there are.
    """

    def __init__(self, max_words: int = _MAX_WORDS, max_postings: int = _MAX_POSTINGS):
        self.vocabulary = Vocabulary(max_words)
        self.n_read = 0
        """Postings that the last query read."""
        self._max_postings = max_postings
        # a posting is (keyframe << 8) + count; array appends in O(1) and lends itself to numpy
        self._postings: List[array] = []
        self._newest = Bag(np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._n_weighed = 0
        self._weights = np.zeros(0)         # (words,) idf at the last renewal
        self._norms = array('d')            # of each keyframe's vector

    def __len__(self) -> int:
        return len(self._norms)

    def add(self, keyframe: Keyframe) -> float:
        """Take in a keyframe; return its similarity to the one before, 0 for the first."""
        self.vocabulary.learn(keyframe.features)
        bag = self.vocabulary.bag(keyframe.features)
        n_new = len(self.vocabulary) - len(self._postings)
        self._postings.extend(array('I') for _ in range(n_new))
        entries = ((len(self) << _COUNT_BITS) + bag.counts).tolist()
        for word, entry in zip(bag.words.tolist(), entries):
            self._postings[word].append(entry)
        self._norms.append(self._norm(bag))
        if len(self) >= _GROWTH * self._n_weighed:
            self._renew()
        before, self._newest = self._newest, bag
        return self._cosine(before, bag)

    def scores(self, keyframe: Keyframe) -> np.ndarray:
        """Return the similarity (n,) f64 in [0, 1] of a keyframe to each one in the index."""
        bag = self.vocabulary.bag(keyframe.features)
        weights = self._weight(bag.words)
        lists = [self._postings[word] for word in bag.words.tolist()]
        lengths = np.array([len(entries) for entries in lists], np.int64)
        # among equally rare ones in a mixed order: by number, those of older places came first
        rarest = np.lexsort((bag.words * _MIX & 0xffff, lengths))
        rarest = rarest[np.cumsum(lengths[rarest]) <= self._max_postings]
        self.n_read = int(lengths[rarest].sum())
        if self.n_read == 0:
            return np.zeros(len(self))
        factor = (_term(bag.counts) * weights**2)[rarest]
        keyframe_ids, terms = _unpack(lists[at] for at in rarest.tolist())
        products = np.repeat(factor, lengths[rarest]) * terms
        sums = np.bincount(keyframe_ids, products, len(self))
        return sums / np.maximum(np.frombuffer(self._norms) * self._norm(bag), 1e-12)

    def state(self) -> Dict[str, np.ndarray]:
        """Return everything that `from_state` needs: plain arrays."""
        lengths = [len(entries) for entries in self._postings]
        entries = np.frombuffer(b''.join(self._postings), np.uint32)
        return {**self.vocabulary.state(), 'max_postings': np.array(self._max_postings),
                'postings': entries, 'lengths': np.array(lengths, np.int64),
                'newest_words': self._newest.words.copy(),
                'newest_counts': self._newest.counts.copy(),
                'n_weighed': np.array(self._n_weighed), 'weights': self._weights.copy(),
                'norms': np.array(self._norms)}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> 'WordIndex':
        """Return the index that `state` described; it answers and goes on as that one would."""
        made = cls(max_postings=int(state['max_postings']))
        made.vocabulary = Vocabulary.from_state(state)
        ends = np.cumsum(state['lengths'])
        made._postings = [array('I', part.tobytes())
                          for part in np.split(state['postings'], ends[:-1]) if len(ends)]
        made._newest = Bag(state['newest_words'].copy(), state['newest_counts'].copy())
        made._n_weighed, made._weights = int(state['n_weighed']), state['weights'].copy()
        made._norms = array('d', state['norms'].tobytes())
        return made

    def _renew(self) -> None:
        """Weigh all words by how many keyframes have them, and measure all vectors again."""
        self._n_weighed = n = len(self)
        lengths = np.array([len(entries) for entries in self._postings], np.int64)
        self._weights = np.log((n + 1) / np.maximum(lengths, 1))
        squares = np.zeros(n)
        # in pieces that stay in the processor's cache: five times as fast as in one
        n_pieces = int(lengths.sum()) // _PIECE + 1
        for words in np.array_split(np.arange(len(lengths)), n_pieces):
            at, terms = _unpack(self._postings[word] for word in words.tolist())
            values = np.repeat(self._weights[words], lengths[words]) * terms
            squares += np.bincount(at, values**2, n)
        self._norms = array('d', np.sqrt(squares).tobytes())

    def _weight(self, words: np.ndarray) -> np.ndarray:
        """Return the weights (n,); words since the last renewal count as seen in one keyframe."""
        weights = np.full(len(words), np.log(self._n_weighed + 1))
        is_known = words < len(self._weights)
        weights[is_known] = self._weights[words[is_known]]
        return weights

    def _norm(self, bag: Bag) -> float:
        return float(np.sqrt(((_term(bag.counts) * self._weight(bag.words))**2).sum()))

    def _cosine(self, a: Bag, b: Bag) -> float:
        words, at_a, at_b = np.intersect1d(a.words, b.words, assume_unique=True,
                                           return_indices=True)
        dot = (_term(a.counts[at_a]) * _term(b.counts[at_b]) * self._weight(words)**2).sum()
        return float(dot / max(self._norm(a) * self._norm(b), 1e-12))


def _unpack(lists: Iterable[array]) -> Tuple[np.ndarray, np.ndarray]:
    """Return keyframes (n,) u32 and term frequencies (n,) f64 of the postings in some lists."""
    entries = np.frombuffer(b''.join(lists), np.uint32)
    return entries >> _COUNT_BITS, _term(entries & _MAX_COUNT)


def _term(counts: np.ndarray) -> np.ndarray:
    """Return the term frequencies of words: the root of their counts.

    Words come in bursts, and the tenth window of one house tells less than the first (Jegou et
    al., "On the burstiness of visual elements", CVPR 2009).
    """
    return _TERMS[counts]


def _nearest(features: np.ndarray, others: np.ndarray, k: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return indices (F, k) and distances (F, k) [bits] of the k nearest rows of ``others``."""
    distance, index = cv2.batchDistance(features, others, dtype=cv2.CV_32S,
                                        normType=cv2.NORM_HAMMING, K=k)
    return index, distance


def _leaders(features: np.ndarray, radius: int) -> np.ndarray:
    """Return which (F,) bool of the features (F, 32) are further than that from leaders before."""
    is_leader = np.ones(len(features), bool)
    if len(features) < 2:
        return is_leader
    bits = np.unpackbits(features, axis=1).astype(np.float32)
    # |a xor b| = |a| + |b| - 2 a b, exact in f32
    n_ones = bits.sum(axis=1)
    is_far = n_ones[:, None] + n_ones - 2 * (bits @ bits.T) > radius
    for i in range(len(features) - 1):
        if is_leader[i]:
            is_leader[i + 1:] &= is_far[i, i + 1:]
    return is_leader


def _k_majority(features: np.ndarray, k: int) -> np.ndarray:
    """Return k centres (k, 32) uint8 of features (F, 32), each bit by majority; F >= k.

    Begins with features at equal steps, so that the same features give the same centres.
    """
    centres = features[np.linspace(0, len(features) - 1, k).astype(np.int64)]
    bits = np.unpackbits(features, axis=1).astype(np.float32)
    for _ in range(_N_MAJORITY_STEPS):
        is_member = np.zeros((k, len(features)), np.float32)
        is_member[_nearest(features, centres, 1)[0][:, 0], np.arange(len(features))] = 1
        sizes = is_member.sum(axis=1, keepdims=True)
        majority = np.packbits(2 * (is_member @ bits) > sizes, axis=1)
        centres = np.where(sizes > 0, majority, centres)
    return centres
