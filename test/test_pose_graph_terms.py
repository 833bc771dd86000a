"""The terms of the graph over submaps: derivatives, weights, normal equations."""

from hypothesis import given, strategies as st
import numpy as np
import pytest
from test_se3 import ANGLE, AXIS, rotvec, TRANSLATION
from test_sim3 import assert_same, LOG_SCALE, similarities

from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.loop._graph_solver import Edges, Kernel, Problem
from longrecon_ros.loop._normal_equations import _minimum_degree, NormalEquations
from longrecon_ros.loop._sim3_batch import inverse_jacobians, Sim3Batch


@st.composite
def tangents(draw):
    scaled = np.array(draw(TRANSLATION)) / draw(st.sampled_from([1.0, 100.0, 1e9]))
    return np.concatenate([scaled, rotvec(draw(AXIS), draw(ANGLE)), [draw(LOG_SCALE) / 2]])


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
