"""The graph over submaps with false closures in it."""

import numpy as np
from pose_graphs import assert_same_poses, ate, circle, close, CLOSURE, laps, odometry, rebuilt
import pytest

from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.loop.pose_graph import Edge, PoseGraph


@pytest.mark.parametrize('n_false', [4, 10])
@pytest.mark.parametrize('seed', range(4))
def test_false_closures_do_not_ruin_the_map(n_false, seed):
    graph, truth, is_true = laps(3, 50, 20, n_false, seed=seed)
    plain = laps(3, 50, 20, n_false, gate=np.inf, seed=seed)[0]
    loops = np.flatnonzero([edge.is_loop for edge in graph.edges])
    kept = np.setdiff1d(np.arange(len(graph.edges)), loops[~is_true])
    oracle = rebuilt(graph, edge_order=kept, gate=np.inf)
    before = ate(graph.poses, truth)
    robust, plain, oracle = graph.solve(), plain.solve(), oracle.solve()
    assert robust.converged
    assert (robust.loop_weights[is_true] > 0.3).all()
    assert (robust.loop_weights[~is_true] < 1e-3).all()
    assert (plain.loop_weights == 1.0).all()
    best = ate(oracle.T_map_node, truth)
    assert ate(robust.T_map_node, truth) < 1.1 * best < before
    assert ate(plain.T_map_node, truth) > 5 * best


def test_a_false_closure_alone_does_not_move_the_map():
    truth = circle(60)
    graph = odometry(truth, noise=1.0)
    before = graph.poses
    graph.add_edge(Edge(5, 35, Sim3.identity(), CLOSURE, is_loop=True))
    solution = graph.solve()
    assert solution.converged and solution.loop_weights[0] < 1e-6
    assert_same_poses(solution.T_map_node, before, atol=0.05)
    # and does not keep a true one from closing
    close(graph, truth, 0, 59)
    solution = graph.solve()
    assert solution.loop_weights[0] < 1e-3 and solution.loop_weights[1] > 0.99
    assert ate(solution.T_map_node, truth) < 0.5 * ate(before, truth)


def test_only_loop_edges_lose_weight():
    graph = PoseGraph()
    graph.add_node(0, Sim3.identity())
    graph.add_node(1, Sim3.identity())
    for x in (0.0, 100.0):
        T = Sim3(1.0, np.eye(3), np.array([x, 0.0, 0.0]))
        graph.add_edge(Edge(0, 1, T, np.ones(7)))
    solution = graph.solve()
    np.testing.assert_allclose(solution.T_map_node[1].t, [50.0, 0.0, 0.0], atol=1e-6)
    assert solution.loop_weights.shape == (0,)
