"""Sparse Levenberg-Marquardt over similarities, with a robust kernel that narrows step by step."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.sparse.linalg import splu

from ._sim3_batch import inverse_jacobians, Sim3Batch

_STAGE_STEPS = 4
"""Steps of one width of the kernel before the next; the last width has all the others."""
_MAX_STAGES = 20
_NARROWING = 16.0
_STAGE_TOLERANCE = 1e-2
_MAX_DAMPING = 1e8
_NEGLIGIBLE_COST = 1e-9


class Edges(NamedTuple):
    """Measurements as arrays; rows of ``target`` and ``source`` index the poses."""

    target: np.ndarray                      # (E,) i64
    source: np.ndarray                      # (E,) i64
    T_target_source: Sim3Batch              # (E)
    sigma: np.ndarray                       # (E, 7) f64
    is_loop: np.ndarray                     # (E,) bool


class Minimum(NamedTuple):
    """Where `minimise` ended."""

    poses: Sim3Batch                        # (N)
    weights: np.ndarray                     # (E,) f64 of the robust kernel, 1 for odometry
    cost_before: float                      # with these weights
    cost_after: float
    converged: bool
    n_iterations: int                       # linear systems solved
    n_moves: int                            # steps taken


class Problem:
    """Whitened residuals of all edges and their derivatives.

    The error of an edge is the tangent r of ``T_map_target^-1 T_map_source = P exp(r) S``, where
    ``P S`` is the measurement, P its translation and S its rotation and scale: the error of the
    source's origin, along the axes and in the units of the target, and the turn about it. A pose
    moves by ``T_map_node exp(d)``, so neither errors nor steps depend on the frame of the map.
    """

    def __init__(self, edges: Edges):
        self.edges = edges
        T = edges.T_target_source
        zero, one = np.zeros_like(T.t), np.broadcast_to(np.eye(3), T.R.shape)
        self._to_origin = Sim3Batch(np.ones_like(T.scale), one, -T.t)               # P^-1
        self._to_source = Sim3Batch(T.scale, T.R, zero).inverse()                   # S^-1
        self._by_target = -self._to_origin.adjoint()
        self._by_source = self._to_source.inverse().adjoint()

    def residuals(self, poses: Sim3Batch) -> np.ndarray:
        """Return the errors (E, 7) in standard deviations."""
        T = poses[self.edges.target].inverse() @ poses[self.edges.source]
        return (self._to_origin @ T @ self._to_source).log() / self.edges.sigma

    def jacobians(self, residuals: np.ndarray):
        """Return the derivatives (E, 7, 7) of the residuals by the steps of target and source."""
        sigma = self.edges.sigma
        left, right = inverse_jacobians(residuals * sigma)
        return (left @ self._by_target / sigma[:, :, None],
                right @ self._by_source / sigma[:, :, None])

    def weights(self, squares: np.ndarray, gate: float, slack: float = 1.0) -> np.ndarray:
        """Return the weights (E,) of squared errors (E,), see `minimise`."""
        loops = squares[self.edges.is_loop] / slack
        weights = np.ones(len(squares))
        weights[self.edges.is_loop] = (2.0 / (1.0 + np.maximum(loops / gate, 1.0))) ** 2 / slack
        return weights

    def cost(self, squares: np.ndarray, gate: float, slack: float = 1.0) -> float:
        """Return half the sum of the kernel over squared errors (E,)."""
        loops = squares[self.edges.is_loop] / slack
        over = np.maximum(loops / gate, 1.0)
        # beyond the gate: gate (3 x - gate) / (x + gate)
        kernel = np.minimum(loops, gate) + np.where(over > 1.0, gate, 0.0) * (
            (3.0 * over - 1.0) / (over + 1.0) - 1.0)
        return 0.5 * float(squares[~self.edges.is_loop].sum() + kernel.sum())


class NormalEquations:
    """The matrix of the normal equations, whose pattern and ordering stay while values change.

    ``held`` (N,) bool: poses that are no unknowns. Blocks of 7 x 7 are ordered by minimum degree
    on the graph of the poses; the factorisation then keeps that order.
    """

    def __init__(self, edges: Edges, held: np.ndarray):
        self._n = int((~held).sum())
        self._place = np.full(len(held), -1)
        self._place[~held] = np.arange(self._n)
        self._place[~held] = self._ordering(edges)
        target, source = self._place[edges.target], self._place[edges.source]
        # the four blocks of each edge: (target, target), (target, source) and so on
        rows = np.concatenate([target, target, source, source])
        columns = np.concatenate([target, source, target, source])
        self._kept = (rows >= 0) & (columns >= 0)
        self._layout(rows[self._kept], columns[self._kept])
        self._free, self._target, self._source = ~held, target, source

    def _ordering(self, edges: Edges) -> np.ndarray:
        """Return the place of each unknown pose, by the minimum degree of its graph."""
        target, source = self._place[edges.target], self._place[edges.source]
        both = (target >= 0) & (source >= 0)
        target, source = target[both], source[both]
        link = sparse.coo_matrix((np.full(len(target), -1.0), (target, source)),
                                 (self._n, self._n))
        link = (link + link.T).tocsc()
        degree = -np.asarray(link.sum(axis=0)).ravel()
        return _factor(link + sparse.diags(degree + 1.0), 'MMD_AT_PLUS_A').perm_c

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
        data, gradient = self._data.copy(), self._gradient[:-1].ravel()
        diagonal = data[self._diagonal]
        data[self._diagonal] += damping * diagonal
        H = sparse.csc_matrix((data, self._indices, self._indptr), (7 * self._n, 7 * self._n))
        d = -_factor(H, 'NATURAL').solve(gradient)
        steps = np.zeros((len(self._place), 7))
        steps[self._free] = d.reshape(-1, 7)[self._place[self._free]]
        return steps, 0.5 * float(damping * (diagonal * d * d).sum() - gradient @ d)


def _factor(H, ordering: str):
    # symmetric and positive definite: the diagonal may be the pivot, which keeps the ordering
    return splu(H, permc_spec=ordering, diag_pivot_thresh=0.0, options={'SymmetricMode': True})


class Tree:
    """A spanning forest of the graph, rooted in the held poses, of odometry where there is any.

    Steps are carried out as motions of each pose in its parent. The edges of the tree then change
    as the linear model says, however far the poses travel; poses that move one by one disagree
    with their neighbours on the way (the tree is that of Grisetti et al., "Non-linear constraint
    network optimization for efficient map learning", T-ITS 2009).
    """

    def __init__(self, edges: Edges, held: np.ndarray):
        n = len(held)
        roots = np.flatnonzero(held)
        ends = np.sort(np.stack([np.append(edges.target, roots),
                                 np.append(edges.source, np.full(len(roots), n))], axis=1))
        length = np.append(np.where(edges.is_loop, 3.0, 2.0), np.ones(len(roots)))
        order = np.argsort(length, kind='stable')
        # of parallel edges the shortest
        first = order[np.unique(ends[order] @ [n + 1, 1], return_index=True)[1]]
        links = sparse.coo_matrix((length[first], ends[first].T), (n + 1, n + 1))
        self._parent = breadth_first_order(minimum_spanning_tree(links), n, directed=False)[1][:n]
        self._parent[roots] = roots
        self._roots = roots

    def move(self, poses: Sim3Batch, steps: np.ndarray) -> Sim3Batch:
        """Return poses (N) moved by steps (N, 7), to first order ``T exp(step)``."""
        parent = self._parent
        moved = poses[parent].inverse() @ poses
        carried = (moved.inverse().adjoint() @ steps[parent][:, :, None])[:, :, 0]
        moved = moved @ Sim3Batch.exp(steps - carried)
        moved.scale[self._roots], moved.R[self._roots], moved.t[self._roots] = 1.0, np.eye(3), 0.0
        # products along the paths to the roots, each round twice as long
        while not np.array_equal(parent, parent[parent]):
            moved, parent = moved[parent] @ moved, parent[parent]
        # products lose a few digits, which the next ones would multiply
        return (poses[parent] @ moved).orthonormal()


def minimise(edges: Edges, poses: Sim3Batch, held: np.ndarray, gate: float, max_iterations: int,
             tolerance: float) -> Minimum:
    """Minimise the cost of all edges over the poses (N) that are not ``held`` (N,) bool.

    Loop edges have the kernel of dynamic covariance scaling (Agarwal et al., "Robust map
    optimization using dynamic covariance scaling", ICRA 2013): a squared error x up to ``gate``
    counts in full, one beyond has the weight ``(2 gate / (gate + x))^2``. So that a good closure
    is not mistaken for a false one before the map has bent, the gate first admits all edges and
    then narrows (Yang et al., "Graduated non-convexity for robust spatial perception", RA-L 2020).
    """
    problem = Problem(edges)
    before = problem.residuals(poses)
    search = _Search(problem, poses, before, held)
    for slack in _slacks(_squares(before)[edges.is_loop], gate):
        search.descend(gate, slack, _STAGE_STEPS, _STAGE_TOLERANCE)
    converged = search.descend(gate, 1.0, max_iterations - search.n_iterations, tolerance)
    weights = problem.weights(_squares(search.residuals), gate)
    costs = [0.5 * float((weights * _squares(r)).sum()) for r in (before, search.residuals)]
    return Minimum(search.poses, weights, *costs, converged, search.n_iterations,
                   search.n_moves)


def _slacks(loops: np.ndarray, gate: float) -> np.ndarray:
    """Return factors of the variance of closures: from one that admits all errors towards 1."""
    ratio = loops.max(initial=0.0) / gate
    if ratio <= 1.0:
        return np.empty(0)
    n = min(int(np.ceil(np.log(ratio) / np.log(_NARROWING))), _MAX_STAGES)
    return ratio ** (np.arange(n, 0, -1) / n)


def _squares(residuals: np.ndarray) -> np.ndarray:
    return np.einsum('ek,ek->e', residuals, residuals)


class _Search:
    """Poses on their way down, and the damping from step to step."""

    def __init__(self, problem, poses, residuals, held):
        self.problem, self.poses, self.residuals = problem, poses, residuals
        self.n_iterations = self.n_moves = 0
        self._equations = None if held.all() else NormalEquations(problem.edges, held)
        self._tree = Tree(problem.edges, held)
        self._damping = 0.0

    def descend(self, gate: float, slack: float, n_steps: int, tolerance: float) -> bool:
        """Take up to ``n_steps``; True when the next one would gain less than the tolerance."""
        if self._equations is None:
            return True
        self._fill(gate, slack)
        for _ in range(n_steps):
            cost = self.problem.cost(_squares(self.residuals), gate, slack)
            self.n_iterations += 1
            try:
                steps, gain = self._equations.solve(self._damping)
            except RuntimeError:
                gain = np.nan
            if gain <= tolerance * (cost + _NEGLIGIBLE_COST):
                return True
            if np.isfinite(gain) and self._accept(steps, cost, gate, slack):
                self._damping = self._damping / 10 if self._damping > 1e-8 else 0.0
                self._fill(gate, slack)
            elif self._damping < _MAX_DAMPING:
                self._damping = max(10 * self._damping, 1e-6)
            else:
                return False
        return False

    def _accept(self, steps, cost, gate, slack) -> bool:
        if not np.abs(steps[:, 6]).max() < 20.0:
            return False        # a scale that overflows
        poses = self._tree.move(self.poses, steps)
        residuals = self.problem.residuals(poses)
        if not self.problem.cost(_squares(residuals), gate, slack) < cost:
            return False
        self.poses, self.residuals = poses, residuals
        self.n_moves += 1
        return True

    def _fill(self, gate, slack):
        root = np.sqrt(self.problem.weights(_squares(self.residuals), gate, slack))
        by_target, by_source = self.problem.jacobians(self.residuals)
        self._equations.fill(by_target * root[:, None, None], by_source * root[:, None, None],
                             self.residuals * root[:, None])
