"""The graph over submaps: closing of loops, gauge, work, the minimum of GTSAM, misuse."""

import threading

import numpy as np
from pose_graphs import (
    assert_same_poses,
    ate,
    chain,
    circle,
    close,
    CLOSURE,
    HEADING_AND_SCALE,
    laps,
    ODOMETRY,
    odometry,
    rebuilt,
    relative,
)
import pytest
from test_sim3 import assert_same

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.loop._normal_equations import NormalEquations
from longrecon_ros.loop.pose_graph import Edge, PoseGraph

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
