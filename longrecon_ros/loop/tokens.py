"""Places by the tokens of a network, whitened with what the robot has seen so far.

Pooled tokens of one network are alike for all images: they share a mean, and a few directions
carry most of their variance. Both are removed by whitening with the mean and the principal axes
of the tokens seen (Jegou and Chum, "Negative evidences and co-occurences in image retrieval: the
benefit of PCA and whitening", ECCV 2012), whose variances are shrunk towards their mean as a few
samples demand (Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance
matrices", J. Multivariate Analysis 2004). No training: the statistics are those of the session.
"""

from typing import Dict, Mapping, Optional, Tuple

import numpy as np

from ..types import Keyframe

_MAX_DIMS = 128
_MAX_SAMPLES = 512
"""Tokens that the statistics are taken from, evenly spread over all."""
_SAMPLES_PER_DIM = 4
"""With more axes than this allows, any two samples come out as equally unlike."""
_MIN_SHRINKAGE = 0.05
"""Images in a row are no independent samples, as the estimate of the shrinkage takes them for."""
_GROWTH = 1.25
"""The axes are renewed when the index has grown by this factor: O(1) a keyframe on average."""


class TokenIndex:
    """Whitened tokens of all keyframes, at most 128 numbers each, compared by their cosine.

    A query is one product with a matrix, of 0.5 kB a keyframe.
    """

    def __init__(self):
        self.n_read = 0
        """Vectors that the last query read."""
        self._n = 0
        self._tokens: Optional[np.ndarray] = None       # (capacity, D) f16, unit length
        self._vectors: Optional[np.ndarray] = None      # (capacity, dims) f32, unit length or 0
        self._mean = np.zeros(0, np.float32)            # (D,)
        self._axes = np.zeros((0, 0), np.float32)       # (D, dims), scaled
        self._n_whitened = 0

    def __len__(self) -> int:
        return self._n

    def add(self, keyframe: Keyframe) -> float:
        """Take in a keyframe; return its similarity to the one before, 0 for the first.

        Raises ``ValueError`` when it has no token, or one of another size than those before.
        """
        token = self._unit_token(keyframe)
        self._reserve(len(token))
        self._tokens[self._n] = token
        self._n += 1
        if self._n >= _GROWTH * self._n_whitened:
            self._renew()
        else:
            self._vectors[self._n - 1] = self._project(self._tokens[self._n - 1:self._n])[0]
        if self._n == 1:
            return 0.0
        return float(self._vectors[self._n - 2] @ self._vectors[self._n - 1])

    def scores(self, keyframe: Keyframe) -> np.ndarray:
        """Return the cosine (n,) f64 in [-1, 1] of a keyframe to each one in the index."""
        token = self._unit_token(keyframe)
        self.n_read = self._n
        if self._n == 0:
            return np.zeros(0)
        vector = self._project(token[None].astype(np.float16))[0]
        return (self._vectors[:self._n] @ vector).astype(np.float64)

    def state(self) -> Dict[str, np.ndarray]:
        """Return everything that `from_state` needs: plain arrays."""
        tokens = np.zeros((0, 0), np.float16) if self._tokens is None else self._tokens
        vectors = np.zeros((0, 0), np.float32) if self._vectors is None else self._vectors
        return {'tokens': tokens[:self._n].copy(), 'vectors': vectors[:self._n].copy(),
                'mean': self._mean.copy(), 'axes': self._axes.copy(),
                'n_whitened': np.array(self._n_whitened)}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> 'TokenIndex':
        """Return the index that `state` described; it answers and goes on as that one would."""
        made = cls()
        made._n = len(state['tokens'])
        if made._n:
            made._tokens, made._vectors = state['tokens'].copy(), state['vectors'].copy()
        made._mean, made._axes = state['mean'].copy(), state['axes'].copy()
        made._n_whitened = int(state['n_whitened'])
        return made

    def _unit_token(self, keyframe: Keyframe) -> np.ndarray:
        """Return the token (D,) f32 at unit length, all 0 where it is not finite."""
        token = keyframe.token
        if token is None:
            raise ValueError('keyframe.token: expected the token of a backbone, got None; '
                             "use kind 'words'")
        if self._n and len(token) != self._tokens.shape[1]:
            raise ValueError(f'keyframe.token: expected shape ({self._tokens.shape[1]},), '
                             f'got {token.shape}')
        token = token if np.isfinite(token).all() else np.zeros_like(token)
        return token / max(float(np.linalg.norm(token)), 1e-12)

    def _reserve(self, n_dims: int) -> None:
        """Make room for one more token: twice as much whenever it is used up."""
        if self._tokens is None:
            self._tokens = np.zeros((16, n_dims), np.float16)
            self._vectors = np.zeros((16, 0), np.float32)
        elif self._n == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.zeros_like(self._tokens)])
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])

    def _renew(self) -> None:
        """Find mean and axes anew, and put all vectors into them."""
        self._n_whitened = self._n
        step = np.linspace(0, self._n - 1, min(self._n, _MAX_SAMPLES)).astype(np.int64)
        self._mean, self._axes = whitening(self._tokens[step].astype(np.float32), _MAX_DIMS)
        vectors = np.zeros((len(self._tokens), self._axes.shape[1]), np.float32)
        vectors[:self._n] = self._project(self._tokens[:self._n])
        self._vectors = vectors

    def _project(self, tokens: np.ndarray) -> np.ndarray:
        """Return tokens (n, D) f16 as whitened vectors (n, dims) f32 of unit length, or 0."""
        is_known = tokens.any(axis=1)
        vectors = (tokens.astype(np.float32) - self._mean) @ self._axes
        length = np.linalg.norm(vectors, axis=1)
        is_known &= length > 1e-6
        return vectors * (is_known / np.maximum(length, 1e-6))[:, None].astype(np.float32)


def whitening(tokens: np.ndarray, max_dims: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return mean (D,) and axes (D, dims) of tokens (n, D): vectors are (token - mean) @ axes.

    The axes are the principal ones, each divided by its shrunk standard deviation; there are at
    most ``max_dims``, and a quarter as many as tokens.
    """
    n, n_dims = tokens.shape
    mean = tokens.mean(axis=0)
    centred = (tokens - mean).astype(np.float64)
    gram = centred @ centred.T / n                      # its spectrum is that of the covariance
    variance, basis = np.linalg.eigh(gram)
    n_kept = min(max_dims, n_dims, n // _SAMPLES_PER_DIM)
    variance, basis = variance[::-1][:n_kept], basis[:, ::-1][:, :n_kept]
    is_real = variance > 1e-9 * max(float(np.trace(gram)), 1e-30)
    variance, basis = variance[is_real], basis[:, is_real]
    axes = centred.T @ basis / np.sqrt(n * variance)    # (D, dims), unit columns
    shrinkage, mean_variance = _shrinkage(gram, n_dims)
    shrunk = (1 - shrinkage) * variance + shrinkage * mean_variance
    return mean, (axes / np.sqrt(shrunk)).astype(np.float32)


def _shrinkage(gram: np.ndarray, n_dims: int) -> Tuple[float, float]:
    """Return the weight of the mean variance, and this, after Ledoit and Wolf (lemma 3.2-3.4).

    ``gram`` (n, n) holds the products of centred samples over n.
    """
    n = len(gram)
    mean_variance = float(np.trace(gram)) / n_dims
    square = float((gram**2).sum())                     # |S|^2
    spread = max(square - n_dims * mean_variance**2, 1e-30)             # |S - mean I|^2
    error = (float((n * np.diag(gram)**2).sum()) - square) / n          # mean |x x' - S|^2 / n
    return min(1.0, max(_MIN_SHRINKAGE, error / spread)), mean_variance
