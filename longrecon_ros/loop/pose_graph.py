"""A graph of similarities between submaps, and the poses that fit all of them best."""

from dataclasses import dataclass
import math
from operator import index
from typing import Dict, Iterable, List, Mapping, Set, Tuple

import numpy as np

from ..geometry.sim3 import Sim3
from ._graph_solver import Edges, minimise
from ._sim3_batch import Sim3Batch

LOOP_GATE = 18.5
"""The squared error in standard deviations that 99 % of good closures stay below (chi^2 of 7)."""


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """A constraint: where the submap ``source`` lies in the submap ``target``.

    ``sigma`` holds the standard deviations of (u, w, l): of the position of the source's origin,
    along the axes and in the units of the target; of the rotation about it, rad, along the same
    axes; and of the logarithm of the scale. Raises ValueError naming the field.
    """

    target: int
    source: int
    T_target_source: Sim3
    sigma: np.ndarray                       # (7,) f64
    is_loop: bool = False                   # a closure, which may be false: has a robust kernel

    def __post_init__(self):
        target = _integer('Edge.target', self.target)
        source = _integer('Edge.source', self.source)
        if target == source:
            raise ValueError(f'Edge.source: must differ from the target, both are {target}')
        _check_transform('Edge.T_target_source', self.T_target_source)
        sigma = np.array(self.sigma, np.float64)
        if sigma.shape != (7,) or not (np.isfinite(sigma) & (sigma > 0)).all():
            raise ValueError(f'Edge.sigma: expected 7 finite numbers above 0, got {self.sigma}')
        sigma.flags.writeable = False
        for name, value in (('target', target), ('source', source), ('sigma', sigma),
                            ('is_loop', bool(self.is_loop))):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, eq=False)
class GraphSolution:
    """What `PoseGraph.solve` found.

    Costs are half the sums of squared errors in standard deviations, both with the final weights:
    a loop edge that was found to be false counts neither before nor after.
    """

    T_map_node: Dict[int, Sim3]
    cost_before: float
    cost_after: float
    converged: bool                         # False: cut short, closures may not be sorted out
    n_iterations: int                       # linear systems solved
    loop_weights: np.ndarray                # (loop edges,) f64 in [0, 1], in the order they came


class PoseGraph:
    """Submaps (nodes) and constraints between them (edges).

    ``loop_gate`` is the squared error, in standard deviations, up to which a loop edge counts in
    full; infinity makes it an edge like any other. One thread at a time may use a graph: to solve
    beside others that add to it, solve a `copy` and `move` the original afterwards.
    """

    def __init__(self, loop_gate: float = LOOP_GATE):
        if not loop_gate > 0:
            raise ValueError(f'loop_gate: expected a number above 0, got {loop_gate}')
        self._loop_gate = float(loop_gate)
        self._poses: Dict[int, Sim3] = {}
        self._edges: List[Edge] = []
        self._fixed: Set[int] = set()

    @property
    def poses(self) -> Dict[int, Sim3]:
        """``T_map_node`` of each node, in the order of adding."""
        return dict(self._poses)

    @property
    def edges(self) -> Tuple[Edge, ...]:
        """All edges, in the order of adding."""
        return tuple(self._edges)

    def add_node(self, id: int, T_map_node: Sim3) -> None:  # noqa: A002
        """Add a node with a first guess of its pose; ValueError for an id that is there."""
        node = _integer('id', id)
        if node in self._poses:
            raise ValueError(f'id: node {node} is in the graph already')
        _check_transform('T_map_node', T_map_node)
        self._poses[node] = T_map_node

    def add_edge(self, edge: Edge) -> None:
        """Add a constraint between two nodes; ValueError for a node that is not there."""
        if not isinstance(edge, Edge):
            raise ValueError(f'edge: expected an Edge, got {type(edge).__name__}')
        self._check_known('edge.target', edge.target)
        self._check_known('edge.source', edge.source)
        self._edges.append(edge)

    def fix(self, ids: Iterable[int]) -> None:
        """Hold nodes where they are from now on, in addition to those fixed before."""
        nodes = [_integer('ids', node) for node in ids]
        for node in nodes:
            self._check_known('ids', node)
        self._fixed.update(nodes)

    def move(self, T_map_node: Mapping[int, Sim3]) -> None:
        """Replace poses, e.g. by those that a copy of the graph was solved for."""
        for node, T in T_map_node.items():
            self._check_known('T_map_node', node)
            _check_transform('T_map_node', T)
        self._poses.update(T_map_node)

    def copy(self) -> 'PoseGraph':
        """Return a graph of its own with the same contents, which are shared: none changes."""
        other = PoseGraph(self._loop_gate)
        other._poses, other._edges = dict(self._poses), list(self._edges)
        other._fixed = set(self._fixed)
        return other

    def solve(self, max_iterations: int = 100, tolerance: float = 1e-6) -> GraphSolution:
        """Move the nodes to where all edges fit best, starting from where they are.

        Fixed nodes stay. In each connected part of the graph without any, the node added first
        stays (the gauge); parts that nothing connects do not move against each other. Ends when
        a step promises to lower the cost by ``tolerance`` or less: 1e-6 is a 700th of a standard
        deviation of the solution. ``max_iterations`` bounds the linear systems to be solved.

        Loop edges that contradict the rest lose their weight. One that stands alone is believed
        while the way round it is off by less than about ``2 sqrt(loop_gate)`` times what the
        sigmas of its edges let expect, and several that agree while it is off by more: sigmas of
        odometry have to cover its bias, too. The method is told at `_graph_solver.minimise`.
        """
        if _integer('max_iterations', max_iterations) < 1:
            raise ValueError(f'max_iterations: expected 1 or more, got {max_iterations}')
        if not 0 < tolerance < math.inf:
            raise ValueError(f'tolerance: expected a finite number above 0, got {tolerance}')
        edges, nodes = self._edge_arrays(), list(self._poses)
        held = self._held(edges)
        found = minimise(edges, Sim3Batch.from_records(list(self._poses.values())), held,
                         self._loop_gate, max_iterations, tolerance)
        if found.n_moves:
            free = np.flatnonzero(~held)
            self._poses.update(zip((nodes[i] for i in free), found.poses[free].records()))
        return GraphSolution(self.poses, found.cost_before, found.cost_after, found.converged,
                             found.n_iterations, found.weights[edges.is_loop])

    def _edge_arrays(self) -> Edges:
        row = {node: i for i, node in enumerate(self._poses)}
        return Edges(np.array([row[edge.target] for edge in self._edges], np.int64),
                     np.array([row[edge.source] for edge in self._edges], np.int64),
                     Sim3Batch.from_records([edge.T_target_source for edge in self._edges]),
                     np.array([edge.sigma for edge in self._edges]).reshape(-1, 7),
                     np.array([edge.is_loop for edge in self._edges], bool))

    def _held(self, edges: Edges) -> np.ndarray:
        """Return which nodes (N,) stay: the fixed ones, and one of each part without any."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components
        n = len(self._poses)
        held = np.array([node in self._fixed for node in self._poses], bool)
        if n:
            links = coo_matrix((np.ones(len(edges.target)), (edges.target, edges.source)), (n, n))
            n_parts, part = connected_components(links, directed=False)
            has_fixed = np.bincount(part[held], minlength=n_parts) > 0
            first = np.unique(part, return_index=True)[1]
            held[first[~has_fixed]] = True
        return held

    def _check_known(self, name: str, node: int) -> None:
        if node not in self._poses:
            raise ValueError(f'{name}: there is no node {node}; add it first')


def _integer(name: str, value) -> int:
    try:
        return index(value)
    except TypeError:
        raise ValueError(f'{name}: expected an integer, got {value!r}') from None


def _check_transform(name: str, value) -> None:
    if not isinstance(value, Sim3):
        raise ValueError(f'{name}: expected a Sim3, got {type(value).__name__}')
