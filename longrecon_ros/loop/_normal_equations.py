"""Sparse normal equations of a graph of similarities, in blocks of 7 x 7.

SciPy is imported where it is used: a stream without closures, and most commands, do not need it.
"""

import numpy as np


class NormalEquations:
    """Normal equations of steps (7,) of poses, whose pattern and ordering stay as values change.

    Edges are between poses ``target`` and ``source`` (E,) i64; ``held`` (N,) bool tells the poses
    that are no unknowns. Blocks of 7 x 7 are ordered by minimum degree on the graph of the poses,
    and the factorisation keeps that order.
    """

    def __init__(self, target: np.ndarray, source: np.ndarray, held: np.ndarray):
        self._n = int((~held).sum())
        self._place = np.full(len(held), -1)
        self._place[~held] = np.arange(self._n)
        self._place[~held] = _minimum_degree(self._place[target], self._place[source], self._n)
        target, source = self._place[target], self._place[source]
        # the four blocks of each edge: (target, target), (target, source) and so on
        rows = np.concatenate([target, target, source, source])
        columns = np.concatenate([target, source, target, source])
        self._kept = (rows >= 0) & (columns >= 0)
        self._layout(rows[self._kept], columns[self._kept])
        self._free, self._target, self._source = ~held, target, source

    def _layout(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Find where entries of blocks lie in a compressed matrix, column by column."""
        blocks, block = np.unique(columns * self._n + rows, return_inverse=True)
        column, self._rows = blocks // self._n, blocks % self._n
        first = np.searchsorted(column, np.arange(self._n + 1))
        height = np.diff(first)                                             # blocks in a column
        start = 49 * first[column] + 7 * (np.arange(len(blocks)) - first[column])
        entry = (start[:, None, None] + np.arange(7)[:, None]
                 + 7 * height[column][:, None, None] * np.arange(7))        # (blocks, row, column)
        self._entry = entry[block].ravel()
        self._indices = np.empty(49 * len(blocks), np.int32)
        self._indices[entry] = (7 * self._rows[:, None, None] + np.arange(7)[:, None])
        self._indptr = np.append(0, np.cumsum(np.repeat(7 * height, 7))).astype(np.int32)
        self._diagonal = entry[column == self._rows][:, np.arange(7), np.arange(7)].ravel()

    def fill(self, by_target: np.ndarray, by_source: np.ndarray, residuals: np.ndarray) -> None:
        """Take the weighted Jacobians (E, 7, 7) and residuals (E, 7) of all edges."""
        Jt, Js = np.swapaxes(by_target, 1, 2), np.swapaxes(by_source, 1, 2)
        cross = Jt @ by_source
        blocks = np.concatenate([Jt @ by_target, cross, np.swapaxes(cross, 1, 2), Js @ by_source])
        self._data = np.bincount(self._entry, blocks[self._kept].ravel(), len(self._indices))
        self._gradient = np.zeros((self._n + 1, 7))     # the last row is that of held poses
        np.add.at(self._gradient, self._target, (Jt @ residuals[:, :, None])[:, :, 0])
        np.add.at(self._gradient, self._source, (Js @ residuals[:, :, None])[:, :, 0])

    @property
    def n_entries(self) -> int:
        """Number of entries of the matrix."""
        return len(self._indices)

    def solve(self, damping: float):
        """Return the steps (N, 7), and the decrease of cost they promise.

        The diagonal is raised by its ``damping``-fold. Raises RuntimeError when singular.
        """
        from scipy import sparse
        data, gradient = self._data.copy(), self._gradient[:-1].ravel()
        diagonal = data[self._diagonal]
        data[self._diagonal] += damping * diagonal
        H = sparse.csc_matrix((data, self._indices, self._indptr), (7 * self._n, 7 * self._n))
        d = -_factor(H, 'NATURAL').solve(gradient)
        steps = np.zeros((len(self._place), 7))
        steps[self._free] = d.reshape(-1, 7)[self._place[self._free]]
        return steps, 0.5 * float(damping * (diagonal * d * d).sum() - gradient @ d)


def _minimum_degree(target: np.ndarray, source: np.ndarray, n: int) -> np.ndarray:
    """Return the place of each of n unknown poses; edges with an end of -1 do not count."""
    from scipy import sparse
    both = (target >= 0) & (source >= 0)
    link = sparse.coo_matrix((np.full(both.sum(), -1.0), (target[both], source[both])), (n, n))
    link = link + link.T
    degree = -np.asarray(link.sum(axis=0)).ravel()
    # SuperLU has the algorithm, and gives it away only with a factorisation
    return _factor((link + sparse.diags(degree + 1.0)).tocsc(), 'MMD_AT_PLUS_A').perm_c


def _factor(H, ordering: str):
    from scipy.sparse.linalg import splu
    # symmetric and positive definite: the diagonal may be the pivot, which keeps the ordering
    return splu(H, permc_spec=ordering, diag_pivot_thresh=0.0, options={'SymmetricMode': True})
