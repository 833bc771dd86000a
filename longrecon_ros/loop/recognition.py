"""Which keyframes of the map may show the place of this one.

`PlaceIndex` proposes, `closure` disposes: a candidate looks alike and no more. Scores are taken
relative to that of two keyframes in a row, the normalised score of Galvez-Lopez and Tardos (T-RO
2012, eq. 4), so that one threshold serves all scenes, vocabularies and networks.
"""

from dataclasses import dataclass
import hashlib
from typing import Dict, List, Literal, Mapping, Optional

import numpy as np

from ..types import Keyframe
from .tokens import TokenIndex
from .words import WordIndex

_INDICES = {'words': WordIndex, 'tokens': TokenIndex}
_N_USUAL = 200
"""Steps from keyframe to keyframe whose median similarity is the usual one."""


@dataclass(frozen=True, slots=True)
class RecognitionConfig:
    """How candidates are chosen; counts are of keyframes."""

    top_k: int = 5
    """Candidates of one query, at most."""
    min_gap: int = 15
    """The newest ones are no candidates: they show the place because the camera is still there."""
    suppress: int = 3
    """Of candidates that are no more than this apart only the best stays."""
    min_score: float = 0.4
    """Least score, as a share of that of two keyframes in a row."""

    def __post_init__(self):
        if self.top_k < 1:
            raise ValueError(f'top_k: expected 1 or more, got {self.top_k}')
        for name in ('min_gap', 'suppress'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name}: expected 0 or more, got {getattr(self, name)}')
        if not 0 <= self.min_score <= 1:
            raise ValueError(f'min_score: expected 0 to 1, got {self.min_score}')


@dataclass(frozen=True, slots=True)
class Candidate:
    """A keyframe that may show the same place."""

    keyframe: int                           # position in the index
    score: float                            # similarity over that of two keyframes in a row


class PlaceIndex:
    """All keyframes of a map, to be asked which of them look like another one.

    ``kind`` says by what: ``words`` of the image, which every keyframe has, or the ``tokens`` of
    the backbone. The same keyframes in the same order give the same answers.
    """

    def __init__(self, config: RecognitionConfig, kind: Literal['words', 'tokens'] = 'words'):
        if kind not in _INDICES:
            raise ValueError(f"kind: expected 'words' or 'tokens', got {kind!r}")
        self._config, self._kind = config, kind
        self._index = _INDICES[kind]()
        self._marks: List[int] = []
        self._positions: Dict[int, int] = {}            # by mark
        self._steps: List[float] = []                   # the newest similarities in a row

    def __len__(self) -> int:
        return len(self._index)

    @property
    def n_read(self) -> int:
        """How many entries the last query has read: what its cost grows with."""
        return self._index.n_read

    def add(self, keyframe: Keyframe) -> int:
        """Take in the next keyframe and return its position.

        With ``tokens`` a keyframe without one, or with one of another size, is a ``ValueError``.
        """
        step = self._index.add(keyframe)
        mark = _mark(keyframe)
        self._positions[mark] = len(self._marks)
        self._marks.append(mark)
        if step > 0:
            self._steps = self._steps[1 - _N_USUAL:] + [step]
        return len(self._marks) - 1

    def query(self, keyframe: Keyframe, exclude_newest: Optional[int] = None) -> List[Candidate]:
        """Return the keyframes that look like this one, the best first, it itself never.

        It may be in the index or not. ``exclude_newest`` keyframes are left out; None: the
        ``min_gap`` of the configuration. In a new session on an old map pass the smaller one of
        ``min_gap`` and the keyframes added in this session, 0 at the very start.
        """
        n_newest = self._config.min_gap if exclude_newest is None else exclude_newest
        if n_newest < 0:
            raise ValueError(f'exclude_newest: expected 0 or more, got {n_newest}')
        end = max(0, len(self) - n_newest)
        own = self._positions.get(_mark(keyframe))
        scores = self._index.scores(keyframe)
        reference = self._reference(scores, len(self) - 1 if own is None else own - 1, end)
        scores = scores[:end]
        if own is not None and own < end:
            scores[own] = 0.0
        return self._best(scores / reference)

    def state(self) -> Dict[str, np.ndarray]:
        """Return plain arrays that `from_state` makes the same index of."""
        return {'kind': np.array(self._kind), 'marks': np.array(self._marks, np.uint64),
                'steps': np.array(self._steps, np.float64), **self._index.state()}

    @classmethod
    def from_state(cls, config: RecognitionConfig, state: Mapping[str, np.ndarray]
                   ) -> 'PlaceIndex':
        """Return the index of a `state`: it answers as that one would, to the last bit.

        Raises ``ValueError`` when the state lacks an array.
        """
        try:
            made = cls(config, str(state['kind']))
            made._index = _INDICES[made._kind].from_state(state)
            made._marks = state['marks'].tolist()
            made._steps = state['steps'].tolist()
        except KeyError as error:
            raise ValueError(f'state: lacks {error}') from None
        made._positions = {mark: position for position, mark in enumerate(made._marks)}
        return made

    def _reference(self, scores: np.ndarray, previous: int, end: int) -> float:
        """Return the similarity that counts as 1: that of the keyframe before.

        It is kept between half of the usual one and the usual one: after a sudden turn it is so
        low that everything would count as alike, and so high while the camera stands that nothing
        would. Without a keyframe before, it is the usual one.
        """
        usual = float(np.median(self._steps)) if self._steps else 1.0
        if previous < end:
            # that one is of another session
            return usual
        return min(usual, max(usual / 2, float(scores[previous])))

    def _best(self, scores: np.ndarray) -> List[Candidate]:
        """Return the best ones with their neighbours suppressed; changes ``scores``."""
        found: List[Candidate] = []
        reach = self._config.suppress
        while len(found) < min(self._config.top_k, len(scores)):
            best = int(scores.argmax())
            if not (scores[best] > 0 and scores[best] >= self._config.min_score):
                break
            found.append(Candidate(best, float(scores[best])))
            scores[max(0, best - reach):best + reach + 1] = 0.0
        return found


def _mark(keyframe: Keyframe) -> int:
    """Return a number of 64 bits by which a keyframe is known again, across sessions, too."""
    mark = hashlib.blake2b(np.array([keyframe.frame_id, keyframe.submap_id], np.int64),
                           digest_size=8)
    for part in (keyframe.uv, keyframe.features, keyframe.token):
        if part is not None:
            mark.update(np.ascontiguousarray(part))
    return int.from_bytes(mark.digest(), 'little')
