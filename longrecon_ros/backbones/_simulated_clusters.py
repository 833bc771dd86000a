"""Correlation clustering by greedy joining: nodes that attract each other become one cluster.

Method: greedy additive edge contraction (Keuper et al., "Efficient decomposition of image and mesh
graphs by lifted multicuts", ICCV 2015, algorithm 1).
"""

import heapq
from typing import Dict, List, Tuple

import numpy as np


def cluster(n_nodes: int, pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the cluster (n_nodes,) i32 of every node, numbered by their first nodes.

    ``pairs`` (E, 2) are edges; those given several times add up. ``weights`` (E,) above 0 attract,
    below 0 repel. The edge that attracts most is contracted first, until none attracts.
    """
    near: List[Dict[int, float]] = [{} for _ in range(n_nodes)]
    for (a, b), weight in zip(np.asarray(pairs).tolist(), np.asarray(weights).tolist()):
        if a != b:
            near[a][b] = near[b][a] = near[a].get(b, 0.0) + weight
    heap = [(-w, a, b) for a in range(n_nodes) for b, w in near[a].items() if a < b and w > 0]
    heapq.heapify(heap)
    parents = list(range(n_nodes))
    while heap:
        negative, a, b = heapq.heappop(heap)
        if near[a].get(b) == -negative:         # else it has changed since
            if len(near[a]) < len(near[b]):
                a, b = b, a
            _contract(near, heap, a, b)
            parents[b] = a
    roots = np.array([_root(parents, node) for node in range(n_nodes)], np.int64)
    _, first, inverse = np.unique(roots, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int32)


def _contract(near: List[Dict[int, float]], heap: List[Tuple[float, int, int]], a: int,
              b: int) -> None:
    """Move the edges of b to a."""
    del near[a][b], near[b][a]
    for other, weight in near[b].items():
        del near[other][b]
        total = near[a].get(other, 0.0) + weight
        near[a][other] = near[other][a] = total
        if total > 0:
            heapq.heappush(heap, (-total, min(a, other), max(a, other)))
    near[b] = {}


def _root(parents: List[int], node: int) -> int:
    while parents[node] != node:
        node = parents[node]
    return node
