"""Levenberg-Marquardt over similarities, with a robust kernel that narrows step by step."""

from typing import NamedTuple

import numpy as np

from ._normal_equations import NormalEquations
from ._sim3_batch import inverse_jacobians, Sim3Batch

_NARROWING = 16.0
"""The variance of closures shrinks about so much from one stage to the next."""
_MAX_STAGES = 12
_STAGE_STEPS = 8
_STAGE_GAIN = 0.1
"""A stage is over after a step that lowers the cost by less than this for each closure."""
_FRACTIONS = (1.0, 0.5, 0.25, 0.125)
"""Parts of a step that are tried before it is damped. Long steps go the right way, but straight
on, and tear what is stiff; damping holds up just those motions that the graph leaves free."""
_FIRST_DAMPING, _LAST_DAMPING = 1e-8, 1e8


class Edges(NamedTuple):
    """Measurements as arrays; ``target`` and ``source`` are rows of the poses."""

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


def minimise(edges: Edges, poses: Sim3Batch, held: np.ndarray, gate: float, max_iterations: int,
             tolerance: float) -> Minimum:
    """Minimise the cost of all edges over the poses (N) that are not ``held`` (N,) bool.

    Loop edges have the kernel of dynamic covariance scaling (Agarwal et al., "Robust map
    optimization using dynamic covariance scaling", ICRA 2013): a squared error x up to ``gate``
    counts in full, one beyond has the weight ``(2 gate / (gate + x))^2``. Drift makes good
    closures look false at first. So all closures start with a variance that admits the worst of
    them and get their own step by step (as in Yang et al., "Graduated non-convexity for robust
    spatial perception", RA-L 2020): they pull gently while many disagree, the good ones bend the
    map until they fit, and those that contradict it fall behind.
    """
    problem = Problem(edges)
    poses = poses.orthonormal()         # records are good to 1e-6 only
    before = problem.residuals(poses)
    search = _Search(problem, poses, before, held)
    for slack in _slacks(squares(before)[edges.is_loop], gate):
        n_steps = min(_STAGE_STEPS, max_iterations - search.n_iterations)
        search.descend(Kernel(edges.is_loop, gate, slack), n_steps, tolerance,
                       _STAGE_GAIN * edges.is_loop.sum())
    kernel = Kernel(edges.is_loop, gate)
    converged = search.descend(kernel, max_iterations - search.n_iterations, tolerance)
    weights = kernel.weights(squares(search.residuals))
    costs = [0.5 * float(weights @ squares(r)) for r in (before, search.residuals)]
    return Minimum(search.poses, weights, *costs, converged, search.n_iterations, search.n_moves)


def _slacks(loops: np.ndarray, gate: float) -> np.ndarray:
    """Return the factors of the variance of closures in all stages but the last, where it is 1."""
    ratio = loops.max(initial=0.0) / gate
    if not 1.0 < ratio < np.inf:
        return np.empty(0)
    n = min(int(np.ceil(np.log(ratio) / np.log(_NARROWING))), _MAX_STAGES)
    return ratio ** (np.arange(n, 0, -1) / n)


def squares(residuals: np.ndarray) -> np.ndarray:
    """Return the squared lengths (E,) of residuals (E, 7)."""
    return np.einsum('ek,ek->e', residuals, residuals)


class Kernel(NamedTuple):
    """What squared errors of edges cost, see `minimise`; ``gate`` may be infinite."""

    is_loop: np.ndarray                     # (E,) bool
    gate: float
    slack: float = 1.0                      # factor of the variance of loop edges

    def weights(self, squared: np.ndarray) -> np.ndarray:
        """Return the derivative (E,) of twice the cost by squared errors (E,)."""
        over = np.maximum(squared[self.is_loop] / self.slack / self.gate, 1.0)
        weights = np.ones(len(squared))
        weights[self.is_loop] = (2.0 / (1.0 + over)) ** 2 / self.slack
        return weights

    def cost(self, squared: np.ndarray) -> float:
        """Return half the sum of the kernel over squared errors (E,)."""
        loops = squared[self.is_loop] / self.slack
        over = np.maximum(loops / self.gate, 1.0)
        # beyond the gate it is gate (3 - 4 / (1 + over)): the integral of the weight
        beyond = (over > 1.0) * min(self.gate, np.finfo(float).max) * (2.0 - 4.0 / (1.0 + over))
        return 0.5 * float(squared[~self.is_loop].sum()
                           + (np.minimum(loops, self.gate) + beyond).sum())


class Problem:
    """Residuals of all edges in standard deviations, and their derivatives.

    The error of an edge is the tangent r of ``T_map_target^-1 T_map_source = P exp(r) S``, where
    ``P S`` is the measurement, P its translation and S its rotation and scale: the error of the
    source's origin, along the axes and in the units of the target, and the turn about it. A pose
    moves by ``T_map_node exp(d)``, so neither errors nor steps depend on the frame of the map.
    """

    def __init__(self, edges: Edges):
        self.edges = edges
        T = edges.T_target_source
        ones = np.broadcast_to(np.eye(3), T.R.shape)
        self._to_origin = Sim3Batch(np.ones_like(T.scale), ones, -T.t)              # P^-1
        turn = Sim3Batch(T.scale, T.R, np.zeros_like(T.t))                          # S
        self._to_source = turn.inverse()
        # P^-1 exp(-d) P = exp(-Ad(P^-1) d) on the left of exp(r), and so on
        self._by_target, self._by_source = -self._to_origin.adjoint(), turn.adjoint()

    def residuals(self, poses: Sim3Batch) -> np.ndarray:
        """Return the residuals (E, 7) at poses (N)."""
        T = poses[self.edges.target].inverse() @ poses[self.edges.source]
        return (self._to_origin @ T @ self._to_source).log() / self.edges.sigma

    def jacobians(self, residuals: np.ndarray):
        """Return the derivatives (E, 7, 7) of residuals (E, 7) by steps of target and source."""
        sigma = self.edges.sigma
        left, right = inverse_jacobians(residuals * sigma)
        return (left @ self._by_target / sigma[:, :, None],
                right @ self._by_source / sigma[:, :, None])


class _Search:
    """Poses on their way down, and the damping from step to step."""

    def __init__(self, problem: Problem, poses: Sim3Batch, residuals: np.ndarray,
                 held: np.ndarray):
        self.problem, self.poses, self.residuals = problem, poses, residuals
        self.n_iterations = self.n_moves = 0
        self._damping = 0.0
        self._is_free = not held.all()
        if self._is_free:
            edges = problem.edges
            self._equations = NormalEquations(edges.target, edges.source, held)

    def descend(self, kernel: Kernel, n_steps: int, tolerance: float, enough: float = 0.0) -> bool:
        """Take up to ``n_steps``; True when the next one would gain ``tolerance`` or less.

        Ends, too, after a step that lowered the cost by less than ``enough``.
        """
        if not self._is_free:
            return True
        cost = kernel.cost(squares(self.residuals))
        self._fill(kernel)
        for _ in range(n_steps):
            steps, gain = self._solve()
            if 0 <= gain <= tolerance:
                return True
            last, cost = cost, self._go(kernel, cost, steps) if gain > 0 else cost
            if cost < last:
                self._damping = self._damping / 10 if self._damping > _FIRST_DAMPING else 0.0
                if last - cost < enough:
                    break
                self._fill(kernel)
            elif self._damping < _LAST_DAMPING:
                self._damping = max(10 * self._damping, _FIRST_DAMPING)
            else:
                break
        return False

    def _solve(self):
        """Return the steps (N, 7) and the gain they promise, nan where there is no solution."""
        self.n_iterations += 1
        try:
            return self._equations.solve(self._damping)
        except RuntimeError:        # exactly singular
            return None, np.nan

    def _go(self, kernel: Kernel, cost: float, steps: np.ndarray) -> float:
        """Go the largest part of a step that lowers the cost, and return what it is then."""
        for fraction in _FRACTIONS:
            # beyond this, scales overflow
            if np.abs(fraction * steps[:, 6]).max() < 20.0:
                poses = self.poses @ Sim3Batch.exp(fraction * steps)
                residuals = self.problem.residuals(poses)
                new = kernel.cost(squares(residuals))
                if new < cost:
                    self.poses, self.residuals = poses, residuals
                    self.n_moves += 1
                    return new
        return cost

    def _fill(self, kernel: Kernel) -> None:
        root = np.sqrt(kernel.weights(squares(self.residuals)))
        by_target, by_source = self.problem.jacobians(self.residuals)
        self._equations.fill(by_target * root[:, None, None], by_source * root[:, None, None],
                             self.residuals * root[:, None])
