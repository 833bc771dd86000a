"""Similarities: group axioms, exp and log, and what they do to poses."""

from hypothesis import given, strategies as st
import numpy as np
import pytest
from scipy.linalg import expm
from test_se3 import ANGLE, AXIS, rotvec, TRANSLATION

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3

LOG_SCALE = st.one_of(st.floats(-5, 5), st.floats(-1e-7, 1e-7), st.just(0.0))


@st.composite
def similarities(draw):
    R = se3.so3_exp(rotvec(draw(AXIS), draw(ANGLE)))
    return Sim3(np.exp(draw(LOG_SCALE) / 2), R, np.array(draw(TRANSLATION)))


def assert_same(a, b, atol=1e-9):
    np.testing.assert_allclose(a.as_matrix(), b.as_matrix(), rtol=1e-9, atol=atol)


@given(similarities(), similarities(), similarities())
def test_group_axioms(a, b, c):
    assert_same((a @ b) @ c, a @ (b @ c), atol=1e-7)
    assert_same(a @ a.inverse(), Sim3.identity())
    assert_same(a @ Sim3.identity(), a)
    np.testing.assert_allclose((a @ b).as_matrix(), a.as_matrix() @ b.as_matrix(), atol=1e-8)
    x = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 9.0]])
    np.testing.assert_allclose((a @ b).apply(x), a.apply(b.apply(x)), atol=1e-8)
    np.testing.assert_allclose(a.inverse().apply(a.apply(x)), x, atol=1e-8)


@given(AXIS, ANGLE, TRANSLATION, LOG_SCALE)
def test_exp_is_the_matrix_exponential_and_log_undoes_it(axis, angle, u, log_scale):
    xi = np.concatenate([u, rotvec(axis, angle), [log_scale]])
    generator = np.zeros((4, 4))
    generator[:3, :3] = se3.hat(xi[3:6]) + log_scale * np.eye(3)
    generator[:3, 3] = xi[:3]
    T = Sim3.exp(xi)
    np.testing.assert_allclose(T.as_matrix(), expm(generator), rtol=1e-9, atol=1e-9)
    assert_same(Sim3.exp(T.log()), T, atol=1e-7)
    if angle < 3.1:
        np.testing.assert_allclose(T.log(), xi, rtol=1e-7, atol=1e-7)


def test_poses_stay_rigid_and_carry_their_points_along():
    T = Sim3(2.5, se3.so3_exp([0.1, 2.0, -0.3]), np.array([4.0, 5.0, 6.0]))
    pose = se3.exp([1.0, 2.0, 3.0, 0.3, -0.4, 0.5])
    local = np.array([[0.2, 0.1, 4.0], [1.0, -1.0, 2.0]])
    moved = T.apply_to_poses(pose)
    np.testing.assert_allclose(moved[:3, :3] @ moved[:3, :3].T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(se3.apply(moved, 2.5 * local), T.apply(se3.apply(pose, local)))
    assert T.apply_to_poses(np.stack([pose] * 6)).shape == (6, 4, 4)


def test_is_frozen_and_owns_its_arrays():
    R = np.eye(3)
    T = Sim3(1.0, R, np.zeros(3))
    R[0, 0] = 7
    assert T.R[0, 0] == 1
    with pytest.raises(AttributeError):
        T.scale = 2.0
    with pytest.raises(ValueError):
        T.t[0] = 1.0


@pytest.mark.parametrize('scale, R, t, words', [
    (0.0, np.eye(3), np.zeros(3), 'Sim3.scale'),
    (np.nan, np.eye(3), np.zeros(3), 'Sim3.scale'),
    (1.0, np.eye(3) * 1.1, np.zeros(3), 'not a rotation'),
    (1.0, np.diag([1.0, 1.0, -1.0]), np.zeros(3), 'not a rotation'),
    (1.0, np.eye(4), np.zeros(3), r'got \(4, 4\)'),
    (1.0, np.eye(3), [np.inf, 0, 0], 'Sim3.t'),
])
def test_misuse_names_the_field(scale, R, t, words):
    with pytest.raises(ValueError, match=words):
        Sim3(scale, R, t)
