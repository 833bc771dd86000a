"""Graphs over poses on a circle, with errors of odometry and of closures."""

import numpy as np
from test_sim3 import assert_same

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.loop.pose_graph import Edge, LOOP_GATE, PoseGraph

ODOMETRY = np.repeat([0.02, 0.005, 0.005], [3, 3, 1])
HEADING_AND_SCALE = np.array([0, 0, 0, 0, 0, 1, 1])
CLOSURE = np.repeat([0.05, 0.02, 0.02], [3, 3, 1])


def circle(n, per_lap=None, radius=10.0):
    """Return n poses on a circle, one round of which takes per_lap poses."""
    poses = []
    for i in range(n):
        angle = 2 * np.pi * i / (per_lap or n)
        center = [radius * np.cos(angle), radius * np.sin(angle), np.sin(3 * angle)]
        poses.append(Sim3(1.0, se3.so3_exp([0, 0, angle]), np.array(center)))
    return poses


def relative(poses, target, source):
    return poses[target].inverse() @ poses[source]


def chain(truth, errors, sigma, gate=LOOP_GATE):
    """Return the graph of steps along the truth that are off by errors (n - 1, 7)."""
    graph, pose = PoseGraph(gate), truth[0]
    graph.add_node(0, pose)
    for i, error in enumerate(errors):
        step = relative(truth, i, i + 1) @ Sim3.exp(error)
        pose = pose @ step
        graph.add_node(i + 1, pose)
        graph.add_edge(Edge(i, i + 1, step, sigma))
    return graph


def odometry(truth, bias=0.0, noise=0.0, gate=LOOP_GATE, seed=0):
    """Return the same, off by a bias of heading and scale and by noise, in sigmas."""
    errors = noise * np.random.default_rng(seed).normal(size=(len(truth) - 1, 7))
    return chain(truth, ODOMETRY * (errors + bias * HEADING_AND_SCALE), ODOMETRY, gate)


def close(graph, truth, target, source, rng=None):
    error = np.zeros(7) if rng is None else CLOSURE * rng.normal(size=7)
    graph.add_edge(Edge(target, source, relative(truth, target, source) @ Sim3.exp(error),
                        CLOSURE, is_loop=True))


def rebuilt(graph, node_order=None, edge_order=None, T=None, gate=LOOP_GATE):
    """Return the graph with nodes and edges in another order, or some of them, in another map."""
    poses, other = graph.poses, PoseGraph(gate)
    for node in list(poses) if node_order is None else node_order:
        other.add_node(node, poses[node] if T is None else T @ poses[node])
    for i in range(len(graph.edges)) if edge_order is None else edge_order:
        other.add_edge(graph.edges[i])
    return other


def ate(poses, truth):
    return np.sqrt(np.mean([np.sum((poses[i].t - T.t)**2) for i, T in enumerate(truth)]))


def assert_same_poses(a, b, atol=1e-9):
    assert list(a) == list(b)
    for node in a:
        assert_same(a[node], b[node], atol=atol)


def laps(n_laps, per_lap, n_loops, n_false, gate=LOOP_GATE, seed=0):
    """Return a noisy graph over laps, its truth, and which of its closures are true."""
    rng = np.random.default_rng(seed)
    truth = circle(n_laps * per_lap, per_lap)
    graph = odometry(truth, noise=1.0, gate=gate, seed=seed)
    is_true = rng.permutation(np.arange(n_loops) >= n_false)
    for good in is_true:
        lap, a = rng.integers(1, n_laps), rng.integers(0, per_lap)
        b = lap * per_lap + a
        if good:
            close(graph, truth, a, b, rng)
        else:
            # another place is taken for this one
            other = (b + rng.integers(per_lap // 4, 3 * per_lap // 4)) % len(truth)
            error = Sim3.exp(CLOSURE * rng.normal(size=7))
            graph.add_edge(Edge(a, int(other), error, CLOSURE, is_loop=True))
    return graph, truth, is_true
