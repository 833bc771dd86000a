"""The graph over submaps: derivatives, closing of loops, false closures, gauge, misuse."""

import threading

from hypothesis import given, strategies as st
import numpy as np
import pytest
from test_se3 import ANGLE, AXIS, rotvec, TRANSLATION
from test_sim3 import assert_same, LOG_SCALE, similarities

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.loop._graph_solver import Edges, Kernel, Problem
from longrecon_ros.loop._normal_equations import _minimum_degree, NormalEquations
from longrecon_ros.loop._sim3_batch import inverse_jacobians, Sim3Batch
from longrecon_ros.loop.pose_graph import Edge, LOOP_GATE, PoseGraph

ODOMETRY = np.repeat([0.02, 0.005, 0.005], [3, 3, 1])
HEADING_AND_SCALE = np.array([0, 0, 0, 0, 0, 1, 1])
CLOSURE = np.repeat([0.05, 0.02, 0.02], [3, 3, 1])


@st.composite
def tangents(draw):
    scaled = np.array(draw(TRANSLATION)) / draw(st.sampled_from([1.0, 100.0, 1e9]))
    return np.concatenate([scaled, rotvec(draw(AXIS), draw(ANGLE)), [draw(LOG_SCALE) / 2]])


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


# derivatives


@given(st.lists(tangents(), min_size=1, max_size=4))
def test_batches_do_what_records_do(xi):
    xi = np.array(xi)
    records = [Sim3.exp(x) for x in xi]
    batch = Sim3Batch.exp(xi)
    for a, b in zip(batch.records(), records):
        assert_same(a, b)
    np.testing.assert_allclose(batch.log(), [T.log() for T in records], rtol=1e-7, atol=1e-7)
    for a, b, c in zip((batch.inverse() @ batch[::-1]).records(), records, records[::-1]):
        assert_same(a, b.inverse() @ c, atol=1e-7)


@given(similarities(), tangents())
def test_adjoint_takes_a_motion_to_the_other_side(T, xi):
    xi = xi / np.maximum(1.0, np.linalg.norm(xi))
    A = Sim3Batch.from_records([T]).adjoint()[0]
    assert_same(T @ Sim3.exp(xi) @ T.inverse(), Sim3.exp(A @ xi), atol=1e-6)


def numeric_jacobian(function, step=1e-6):
    columns = [(function(step * e) - function(-step * e)) / (2 * step) for e in np.eye(7)]
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize('angle', [0.0, 1e-9, 1e-4, 0.0999, 0.1001, 1.0, 2.5, 3.1])
@pytest.mark.parametrize('log_scale', [0.0, 1e-9, -0.3, 2.0])
def test_jacobians_of_the_logarithm_are_those_of_differences(angle, log_scale):
    rng = np.random.default_rng(int(10 * angle))
    w = rng.normal(size=(5, 3))
    w *= angle / np.linalg.norm(w, axis=1, keepdims=True)
    xi = np.concatenate([rng.normal(size=(5, 3)), w, np.full((5, 1), log_scale)], axis=1)
    left, right = inverse_jacobians(xi)
    T = Sim3Batch.exp(xi)

    def nudge(d):
        return Sim3Batch.exp(np.broadcast_to(d, (5, 7)))
    np.testing.assert_allclose(
        left, numeric_jacobian(lambda d: (nudge(d) @ T).log()), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        right, numeric_jacobian(lambda d: (T @ nudge(d)).log()), rtol=1e-6, atol=1e-7)


def random_edges(rng, n_nodes, n_edges, spread):
    poses = Sim3Batch.exp(rng.normal(size=(n_nodes, 7)))
    target = rng.integers(0, n_nodes, n_edges)
    source = (target + rng.integers(1, n_nodes, n_edges)) % n_nodes
    measured = poses[target].inverse() @ poses[source]
    measured = measured @ Sim3Batch.exp(spread * rng.normal(size=(n_edges, 7)))
    sigma = rng.uniform(0.1, 2.0, (n_edges, 7))
    return poses, Edges(target, source, measured, sigma, np.zeros(n_edges, bool))


@pytest.mark.parametrize('spread', [0.0, 1e-8, 0.1, 0.7])
@pytest.mark.parametrize('seed', range(5))
def test_jacobians_of_edges_are_those_of_differences(seed, spread):
    poses, edges = random_edges(np.random.default_rng(seed), 6, 12, spread)
    problem = Problem(edges)

    def residuals(d, is_moved):
        nudge = Sim3Batch.exp(np.where(is_moved[:, None], d, 0.0))
        return problem.residuals(poses @ nudge)
    by_target, by_source = problem.jacobians(problem.residuals(poses))
    for node in range(6):
        J = numeric_jacobian(lambda d, node=node: residuals(d, np.arange(6) == node))
        expected = ((edges.target == node)[:, None, None] * by_target
                    + (edges.source == node)[:, None, None] * by_source)
        np.testing.assert_allclose(J, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('gate', [1.0, 18.5, np.inf])
@pytest.mark.parametrize('slack', [1.0, 30.0])
def test_weights_are_the_derivative_of_the_cost(gate, slack):
    kernel = Kernel(np.array([True, False]), gate, slack)
    for x in (0.0, 0.5, 17.0, 19.0, 600.0, 1e6):
        squared, step = np.array([x, x]), 1e-4 * (1 + x)
        change = [kernel.cost(squared + step * e) - kernel.cost(squared) for e in np.eye(2)]
        weights = kernel.weights(squared)
        assert weights[1] == 1.0 and 0 < weights[0] <= 1.0
        np.testing.assert_allclose(2 * np.array(change) / step, weights, rtol=1e-3, atol=1e-9)


def test_normal_equations_are_those_of_the_dense_jacobian():
    rng = np.random.default_rng(3)
    poses, edges = random_edges(rng, 9, 25, 0.2)
    problem = Problem(edges)
    residuals = problem.residuals(poses)
    by_target, by_source = problem.jacobians(residuals)
    held = np.isin(np.arange(9), [2, 5])
    equations = NormalEquations(edges.target, edges.source, held)
    equations.fill(by_target, by_source, residuals)
    J = np.zeros((25, 7, 9, 7))
    J[np.arange(25), :, edges.target] = by_target
    J[np.arange(25), :, edges.source] = by_source
    J = J[:, :, ~held].reshape(175, 49)
    H, g = J.T @ J, J.T @ residuals.ravel()
    for damping in (0.0, 0.5):
        steps, gain = equations.solve(damping)
        d = np.linalg.solve(H + damping * np.diag(np.diag(H)), -g)
        np.testing.assert_allclose(steps[~held].ravel(), d, rtol=1e-8)
        assert not steps[held].any()
        assert gain == pytest.approx(-(g @ d + 0.5 * d @ H @ d))


def test_hubs_are_eliminated_last():
    # eliminated first, a hub ties all its neighbours to each other
    hub = 3
    others = np.setdiff1d(np.arange(50), [hub])
    place = _minimum_degree(np.full(49, hub), others, 50)
    assert sorted(place) == list(range(50))
    assert place[hub] >= 48


# what it solves


def test_the_direction_of_an_edge():
    rng = np.random.default_rng(0)
    poses = [Sim3.exp(x) for x in rng.normal(size=(5, 7))]
    for is_right in (True, False):
        graph = PoseGraph()
        for i, T in enumerate(poses):
            graph.add_node(i, T)
        for i in range(4):
            T = poses[i].inverse() @ poses[i + 1]
            graph.add_edge(Edge(i, i + 1, T if is_right else T.inverse(), np.ones(7)))
        assert (graph.solve(max_iterations=1).cost_before < 1e-20) is is_right


def test_sigma_is_of_the_origin_of_the_source_in_units_and_axes_of_the_target():
    T = Sim3(0.1, se3.so3_exp([0.0, 0.0, 1.0]), np.array([100.0, 0.0, 0.0]))
    sigma = np.array([0.5, 1.0, 1.0, 0.01, 1.0, 1.0, 0.02])
    shifted = Sim3(T.scale, T.R, T.t + [1.0, 0.0, 0.0])
    turned = Sim3(T.scale, se3.so3_exp([0.03, 0.0, 0.0]) @ T.R, T.t)
    scaled = Sim3(T.scale * np.exp(0.08), T.R, T.t)
    for pose, n_sigmas in ((shifted, 2), (turned, 3), (scaled, 4)):
        graph = PoseGraph()
        graph.add_node(0, Sim3.identity())
        graph.add_node(1, pose)
        graph.add_edge(Edge(0, 1, T, sigma))
        assert graph.solve().cost_before == pytest.approx(0.5 * n_sigmas**2)


def test_a_perfect_ring_costs_nothing_and_does_not_move():
    truth = circle(40)
    graph = odometry(truth)
    close(graph, truth, 0, 39)
    before = graph.poses
    solution = graph.solve()
    assert solution.cost_before < 1e-18 and solution.cost_after < 1e-18
    assert solution.converged and solution.n_iterations == 1
    assert all(solution.T_map_node[i] is before[i] for i in before)


@pytest.mark.parametrize('n', [12, 60, 200])
def test_one_closure_takes_out_drift_of_scale_and_rotation(n):
    truth = circle(n)
    graph = odometry(truth, bias=1.5 / np.sqrt(n))
    graph.add_edge(Edge(0, n - 1, relative(truth, 0, n - 1), CLOSURE / 10, is_loop=True))
    before = ate(graph.poses, truth)
    solution = graph.solve()
    assert solution.converged
    assert solution.loop_weights == pytest.approx([1.0])
    assert ate(solution.T_map_node, truth) < 0.2 * before
    assert solution.cost_after < 0.05 * solution.cost_before
    assert_same_poses(graph.poses, solution.T_map_node)


def test_drift_of_a_quarter_turn_is_taken_out():
    # heading by 80 degrees, scale by 4: no straight way leads there
    n, truth = 300, circle(300)
    sigma = np.repeat([0.02, 0.018, 0.018], [3, 3, 1])
    graph = chain(truth, np.tile(0.26 * sigma * HEADING_AND_SCALE, (n - 1, 1)), sigma)
    close(graph, truth, 0, n - 1)
    before = ate(graph.poses, truth)
    solution = graph.solve()
    assert solution.converged and solution.n_iterations <= 30
    assert solution.loop_weights[0] > 0.99
    assert ate(solution.T_map_node, truth) < 0.1 * before


@pytest.mark.parametrize('seed', range(2))
def test_a_long_stream_is_closed_in_a_few_steps(seed):
    n, rng = 1200, np.random.default_rng(seed)
    truth, sigma = circle(n, radius=n / (2 * np.pi)), np.repeat([0.02, 0.01, 0.01], [3, 3, 1])
    graph = chain(truth, sigma * rng.normal(size=(n - 1, 7)), sigma)
    close(graph, truth, 0, n - 1)
    before = ate(graph.poses, truth)
    solution = graph.solve()
    assert solution.converged and solution.n_iterations <= 30
    assert solution.loop_weights[0] > 0.99
    assert ate(solution.T_map_node, truth) < 0.7 * before


def test_a_published_ring():
    # VGGT-Long's optimiser on the same numbers: end at (-0.0015, -0.0034, 0.0006), scale 1.0142
    draw = np.random.RandomState(0)
    graph, pose = PoseGraph(), Sim3.identity()
    graph.add_node(0, pose)
    for i in range(12):
        scale = np.exp(0.03 * draw.randn() + 0.02)
        R = se3.so3_exp([0, 0, np.pi / 6]) @ se3.so3_exp(0.02 * draw.randn(3))
        step = Sim3(scale, R, np.array([1.0, 0, 0]) + 0.02 * draw.randn(3))
        pose = pose @ step
        graph.add_node(i + 1, pose)
        graph.add_edge(Edge(i, i + 1, step, np.ones(7)))
    np.testing.assert_allclose(pose.t, [-0.242, -0.787, 0.368], atol=1e-3)
    graph.add_edge(Edge(0, 12, Sim3.identity(), np.ones(7)))
    end = graph.solve(tolerance=1e-12).T_map_node[12]
    np.testing.assert_allclose(end.t, [-0.0015, -0.0034, 0.0006], atol=1e-4)
    assert end.scale == pytest.approx(1.0142, abs=1e-4)


# false closures


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


# gauge


def test_the_first_node_stays_unless_others_are_fixed():
    truth = circle(30)
    graph = odometry(truth, noise=1.0)
    close(graph, truth, 0, 29)
    first = graph.poses[0]
    assert graph.copy().solve().T_map_node[0] is first
    fixed = {i: graph.poses[i] for i in (10, 11, 20)}
    graph.fix([10])
    graph.fix(np.array([11, 20]))
    solution = graph.solve()
    assert all(solution.T_map_node[i] is T for i, T in fixed.items())
    assert np.linalg.norm(solution.T_map_node[0].t - first.t) > 1e-3


def test_nothing_to_move():
    assert PoseGraph().solve().T_map_node == {}
    truth = circle(5)
    graph = odometry(truth, noise=1.0)
    close(graph, truth, 0, 4)
    graph.fix(range(5))
    solution = graph.solve()
    assert solution.converged and solution.cost_after == solution.cost_before > 0
    assert solution.n_iterations == 0


def test_the_order_of_adding_does_not_matter():
    graph, _, _ = laps(2, 30, 8, 2)
    rng = np.random.default_rng(1)
    nodes = np.append(0, 1 + rng.permutation(59))
    order = rng.permutation(len(graph.edges))
    other = rebuilt(graph, nodes, order)
    a, b = graph.solve(tolerance=1e-12), other.solve(tolerance=1e-12)
    for node, T in a.T_map_node.items():
        assert_same(T, b.T_map_node[node], atol=1e-6)
    loops = [i for i in order if graph.edges[i].is_loop]
    np.testing.assert_allclose(b.loop_weights, a.loop_weights[np.array(loops) - 59], atol=1e-6)


def test_the_frame_of_the_map_does_not_matter():
    graph, _, _ = laps(2, 30, 8, 2)
    T = Sim3(7.0, se3.so3_exp([0.5, -2.0, 1.0]), np.array([100.0, -50.0, 20.0]))
    moved = rebuilt(graph, T=T)
    a, b = graph.solve(), moved.solve()
    assert a.n_iterations == b.n_iterations
    assert a.cost_after == pytest.approx(b.cost_after)
    assert_same_poses({i: T @ pose for i, pose in a.T_map_node.items()}, b.T_map_node, atol=1e-5)


def test_parts_without_a_tie_do_not_move_against_each_other():
    truth = circle(40)
    graph = odometry(truth, noise=1.0)
    cut = [i for i, edge in enumerate(graph.edges) if edge.source != 20]
    parts = rebuilt(graph, edge_order=cut)
    parts.add_node(99, Sim3.identity())     # a part of its own, too
    parts.add_edge(Edge(20, 39, relative(truth, 20, 39), CLOSURE, is_loop=True))
    before = parts.poses
    solution = parts.solve()
    assert solution.converged
    for node in (0, 20, 99):
        assert solution.T_map_node[node] is before[node]
    assert_same_poses({i: solution.T_map_node[i] for i in range(20)},
                      {i: before[i] for i in range(20)})
    assert np.linalg.norm(solution.T_map_node[39].t - before[39].t) > 1e-3


def test_closures_bring_a_part_from_far_away():
    truth = circle(40)
    far = Sim3(0.3, se3.so3_exp([1.0, 2.0, 0.0]), np.array([500.0, 0.0, -30.0]))
    graph = odometry(truth[:20])
    for i in range(20, 40):
        graph.add_node(i, far @ truth[i])
        if i > 20:
            graph.add_edge(Edge(i - 1, i, relative(truth, i - 1, i), ODOMETRY))
    for a, b in ((19, 20), (10, 30), (0, 39)):
        close(graph, truth, a, b)
    graph.add_edge(Edge(3, 25, Sim3.identity(), CLOSURE, is_loop=True))
    solution = graph.solve()
    assert ate(solution.T_map_node, truth) < 1e-3
    np.testing.assert_allclose(solution.loop_weights, [1, 1, 1, 0], atol=1e-3)


# work with it


def test_rotations_that_are_just_good_enough_get_better():
    truth = circle(30)
    graph = odometry(truth, noise=1.0)
    close(graph, truth, 0, 29)
    graph.move({i: Sim3(T.scale, T.R * (1 + 4e-7), T.t) for i, T in graph.poses.items()})
    solution = graph.solve()
    assert solution.converged
    for T in list(solution.T_map_node.values())[1:]:
        np.testing.assert_allclose(T.R @ T.R.T, np.eye(3), atol=1e-11)


def test_goes_on_from_where_it_was():
    graph, truth, _ = laps(3, 40, 15, 0)
    first = graph.solve()
    assert first.n_iterations > 2
    again = graph.solve()
    assert again.n_iterations == 1
    assert again.cost_before == again.cost_after == pytest.approx(first.cost_after)
    step = relative(truth, 119, 0)
    graph.add_node(200, graph.poses[119] @ step)
    graph.add_edge(Edge(119, 200, step, ODOMETRY))
    assert graph.solve().n_iterations == 1


def test_a_copy_is_solved_beside_adding():
    graph, truth, _ = laps(3, 40, 15, 3)
    before = graph.poses
    snapshot, solutions = graph.copy(), []
    thread = threading.Thread(target=lambda: solutions.append(snapshot.solve()))
    thread.start()
    for i in range(200, 300):
        graph.add_node(i, Sim3.identity())
        graph.add_edge(Edge(i, 0, Sim3.identity(), ODOMETRY))
    thread.join()
    assert len(snapshot.poses) == 120 and len(snapshot.edges) == 119 + 15
    assert all(graph.poses[i] is T for i, T in before.items())
    graph.move(solutions[0].T_map_node)
    assert all(graph.poses[i] is T for i, T in solutions[0].T_map_node.items())
    assert len(graph.poses) == 220 and len(graph.edges) == 119 + 15 + 100


def test_stops_when_told_and_says_so():
    graph, _, _ = laps(3, 40, 15, 3)
    solution = graph.solve(max_iterations=2)
    assert not solution.converged and solution.n_iterations == 2


def test_work_grows_with_the_size_alone():
    entries = {}
    for n_laps in (2, 4, 8):
        graph, _, _ = laps(n_laps, 40, 8 * n_laps, 0)
        edges = graph._edge_arrays()
        entries[n_laps] = NormalEquations(edges.target, edges.source, graph._held(edges)).n_entries
        assert graph.solve().n_iterations <= 20
    # 49 a block: one a node, two an edge that does not end in the fixed node
    for n_laps, n in entries.items():
        n_nodes = 40 * n_laps
        assert n <= 49 * (n_nodes + 2 * (n_nodes + 8 * n_laps))
    assert entries[8] < 4.2 * entries[2]


# the other library


def test_has_the_minimum_of_gtsam():
    gtsam = pytest.importorskip('gtsam', reason='gtsam is not installed: pip install gtsam')
    truth = circle(30)
    # gtsam leaves a factor out of its derivative, which shows when residuals are large
    graph = odometry(truth, noise=0.01, gate=np.inf)
    for a, b in ((0, 29), (3, 20), (12, 25)):
        close(graph, truth, a, b)
    factors, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
    rng = np.random.default_rng(2)
    for node, T in graph.poses.items():
        if node > 0:
            T = T @ Sim3.exp(0.01 * rng.normal(size=7))
        graph.move({node: T})
        values.insert(node, as_gtsam(gtsam, T))
    factors.add(gtsam.NonlinearEqualitySimilarity3(0, as_gtsam(gtsam, truth[0])))
    for edge in graph.edges:
        factors.add(gtsam.BetweenFactorSimilarity3(
            edge.target, edge.source, as_gtsam(gtsam, edge.T_target_source),
            gtsam_noise(gtsam, edge)))
    parameters = gtsam.LevenbergMarquardtParams()
    parameters.setRelativeErrorTol(1e-14)
    parameters.setAbsoluteErrorTol(1e-14)
    theirs = gtsam.LevenbergMarquardtOptimizer(factors, values, parameters).optimize()
    ours = graph.solve(tolerance=1e-14)
    assert ours.cost_before == pytest.approx(factors.error(values), rel=1e-9)
    assert ours.cost_after == pytest.approx(factors.error(theirs), rel=1e-6)
    assert ours.cost_after < 1e-3 * ours.cost_before
    for node, T in ours.T_map_node.items():
        found = theirs.atSimilarity3(node)
        assert_same(T, Sim3(found.scale(), found.rotation().matrix(),
                            found.scale() * found.translation()), atol=1e-6)


def as_gtsam(gtsam, T):
    # their x_a = scale * (R @ x_b + t)
    return gtsam.Similarity3(gtsam.Rot3(T.R), T.t / T.scale, T.scale)


def gtsam_noise(gtsam, edge):
    # their tangent is (w, u, l), along the axes and in the units of the source
    T = edge.T_target_source
    turn = np.zeros((7, 7))
    turn[:3, 3:6], turn[3:6, :3], turn[6, 6] = T.scale * T.R, T.R, 1.0
    return gtsam.noiseModel.Gaussian.SqrtInformation(turn / edge.sigma[:, None])


# misuse


@pytest.mark.parametrize('change, words', [
    ({'source': 0}, 'Edge.source'),
    ({'target': 1.5}, 'Edge.target'),
    ({'source': 'a'}, 'Edge.source'),
    ({'T_target_source': np.eye(4)}, 'Edge.T_target_source'),
    ({'sigma': np.ones(6)}, 'Edge.sigma'),
    ({'sigma': np.zeros(7)}, 'Edge.sigma'),
    ({'sigma': [1, 1, 1, 1, 1, 1, np.nan]}, 'Edge.sigma'),
    ({'sigma': [1, 1, 1, 1, 1, 1, np.inf]}, 'Edge.sigma'),
])
def test_misuse_of_an_edge_names_the_field(change, words):
    fields = {'target': 0, 'source': 1, 'T_target_source': Sim3.identity(), 'sigma': np.ones(7)}
    Edge(**fields)
    with pytest.raises(ValueError, match=words):
        Edge(**{**fields, **change})


@pytest.mark.parametrize('act, words', [
    (lambda g: g.add_node(1, Sim3.identity()), 'id: node 1 is in the graph'),
    (lambda g: g.add_node('b', Sim3.identity()), 'id: expected an integer'),
    (lambda g: g.add_node(5, np.eye(4)), 'T_map_node: expected a Sim3'),
    (lambda g: g.add_edge(Edge(7, 1, Sim3.identity(), np.ones(7))), 'edge.target: there is no'),
    (lambda g: g.add_edge(Edge(1, 7, Sim3.identity(), np.ones(7))), 'edge.source: there is no'),
    (lambda g: g.add_edge((0, 1)), 'edge: expected an Edge'),
    (lambda g: g.fix([0, 9]), 'ids: there is no node 9'),
    (lambda g: g.move({9: Sim3.identity()}), 'T_map_node: there is no node 9'),
    (lambda g: g.move({0: None}), 'T_map_node: expected a Sim3'),
    (lambda g: g.solve(max_iterations=0), 'max_iterations'),
    (lambda g: g.solve(tolerance=np.nan), 'tolerance'),
    (lambda g: PoseGraph(loop_gate=0.0), 'loop_gate'),
])
def test_misuse_of_a_graph_names_the_argument(act, words):
    graph = odometry(circle(3))
    before = graph.poses
    with pytest.raises(ValueError, match=words):
        act(graph)
    assert graph.poses == before and graph._fixed == set()


def test_records_own_their_arrays():
    sigma = np.ones(7)
    edge = Edge(np.int64(0), np.int32(1), Sim3.identity(), sigma)
    sigma[0] = 5.0
    assert edge.sigma[0] == 1.0 and type(edge.target) is int
    with pytest.raises(ValueError):
        edge.sigma[0] = 2.0
    with pytest.raises(AttributeError):
        edge.is_loop = True
