"""Rigid transforms: group axioms, exp and log at every angle, quaternions, means."""

from hypothesis import given, strategies as st
import numpy as np
import pytest

from longrecon_ros.geometry import se3

NUMBER = st.floats(-1, 1, allow_subnormal=False)
AXIS = st.tuples(NUMBER, NUMBER, NUMBER).filter(lambda a: np.linalg.norm(a) > 0.1)
ANGLE = st.one_of(st.floats(0, np.pi), st.floats(0, 1e-6), st.floats(0, 2e-2),
                  st.floats(np.pi - 1e-6, np.pi), st.sampled_from([0.0, 1e-12, np.pi]))
TRANSLATION = st.tuples(*[st.floats(-100, 100)] * 3)


def rotvec(axis, angle):
    return np.array(axis) / np.linalg.norm(axis) * angle


@st.composite
def poses(draw):
    w = rotvec(draw(AXIS), draw(ANGLE))
    return se3.from_parts(se3.so3_exp(w), np.array(draw(TRANSLATION)))


@given(poses(), poses(), poses())
def test_group_axioms(a, b, c):
    eye = np.eye(4)
    np.testing.assert_allclose((a @ b) @ c, a @ (b @ c), atol=1e-10)
    np.testing.assert_allclose(a @ se3.inverse(a), eye, atol=1e-10)
    np.testing.assert_allclose(se3.inverse(a @ b), se3.inverse(b) @ se3.inverse(a), atol=1e-10)
    np.testing.assert_allclose(a @ se3.relative(a, b), b, atol=1e-10)


@given(poses(), TRANSLATION, AXIS)
def test_the_adjoint_takes_a_twist_to_the_other_frame(T, linear, angular):
    twist = np.array([*linear, *angular])
    np.testing.assert_allclose(se3.exp(se3.adjoint(T) @ twist) @ T, T @ se3.exp(twist),
                               atol=1e-8, rtol=1e-8)


@given(AXIS, ANGLE)
def test_so3_exp_is_a_rotation_and_log_undoes_it(axis, angle):
    R = se3.so3_exp(rotvec(axis, angle))
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(R) > 0
    w = se3.so3_log(R)
    assert np.linalg.norm(w) <= np.pi + 1e-12
    np.testing.assert_allclose(np.linalg.norm(w), angle, atol=1e-13, rtol=1e-7)
    np.testing.assert_allclose(se3.so3_exp(w), R, atol=1e-14)


@pytest.mark.parametrize('angle', [1e-9, 1e-7, 1e-4, 0.99e-2, 1.01e-2])
def test_small_rotations_keep_their_relative_accuracy(angle):
    w = rotvec([0.3, -0.5, 0.8], angle)
    np.testing.assert_allclose(se3.so3_log(se3.so3_exp(w)), w, rtol=1e-12)


@given(AXIS, ANGLE, TRANSLATION)
def test_exp_and_log_of_poses(axis, angle, v):
    xi = np.concatenate([v, rotvec(axis, angle)])
    T = se3.exp(xi)
    np.testing.assert_allclose(se3.exp(se3.log(T)), T, atol=1e-9)
    if angle < 3.1:
        np.testing.assert_allclose(se3.log(T), xi, atol=1e-8)


def test_exp_is_the_matrix_exponential():
    from scipy.linalg import expm
    xi = np.array([0.4, -1.2, 2.0, 0.7, -0.9, 1.1])
    generator = np.zeros((4, 4))
    generator[:3, :3] = se3.hat(xi[3:])
    generator[:3, 3] = xi[:3]
    np.testing.assert_allclose(se3.exp(xi), expm(generator), atol=1e-13)


@given(AXIS, ANGLE)
def test_quaternion_round_trip(axis, angle):
    R = se3.so3_exp(rotvec(axis, angle))
    q = se3.quaternion_xyzw_from_rotation(R)
    assert q[3] >= 0 and abs(np.linalg.norm(q) - 1) < 1e-14
    np.testing.assert_allclose(se3.rotation_from_quaternion_xyzw(q), R, atol=1e-14)
    np.testing.assert_allclose(se3.rotation_from_quaternion_xyzw(-3 * q), R, atol=1e-14)


def test_quaternion_order_is_xyzw():
    quarter_turn_about_z = se3.so3_exp([0, 0, np.pi / 2])
    root = np.sqrt(0.5)
    np.testing.assert_allclose(se3.quaternion_xyzw_from_rotation(quarter_turn_about_z),
                               [0, 0, root, root], atol=1e-15)
    np.testing.assert_allclose(quarter_turn_about_z @ [1, 0, 0], [0, 1, 0], atol=1e-15)


def test_batches_equal_single_calls():
    rng = np.random.default_rng(1)
    xi = rng.normal(size=(4, 5, 6))
    T = se3.exp(xi)
    points = rng.normal(size=(4, 5, 7, 3))
    assert T.shape == (4, 5, 4, 4)
    for i in np.ndindex(4, 5):
        np.testing.assert_allclose(T[i], se3.exp(xi[i]), atol=1e-14)
        np.testing.assert_allclose(se3.log(T)[i], se3.log(T[i]), atol=1e-13)
        np.testing.assert_allclose(se3.inverse(T)[i], np.linalg.inv(T[i]), atol=1e-13)
        np.testing.assert_allclose(se3.apply(T, points)[i][3], se3.apply(T[i], points[i][3]))


@given(poses(), poses(), st.floats(0, 1))
def test_interpolation_meets_both_ends(a, b, fraction):
    np.testing.assert_allclose(se3.interpolate(a, b, 0.0), a, atol=1e-10)
    np.testing.assert_allclose(se3.interpolate(a, b, 1.0), b, atol=1e-10)
    between = se3.interpolate(a, b, fraction)
    whole = se3.rotation_angle(se3.relative(a, b)[:3, :3])
    part = se3.rotation_angle(se3.relative(a, between)[:3, :3])
    assert part == pytest.approx(fraction * whole, abs=1e-7)


def test_mean_rotation_is_the_centre_of_noisy_ones():
    rng = np.random.default_rng(2)
    centre = se3.so3_exp([3.0, 0.4, -0.2])
    noisy = centre @ se3.so3_exp(rng.normal(scale=0.05, size=(400, 3)))
    assert se3.rotation_angle(se3.mean_rotation(noisy).T @ centre) < 0.01
    weights = np.zeros(400)
    weights[7] = 2.0
    np.testing.assert_allclose(se3.mean_rotation(noisy, weights), noisy[7], atol=1e-12)


def test_nearest_rotation_never_mirrors():
    R = se3.nearest_rotation(np.diag([1.0, 1.0, -0.1]))
    assert np.linalg.det(R) == pytest.approx(1.0)


@pytest.mark.parametrize('call, words', [
    (lambda: se3.inverse(np.eye(3)), r'T: expected shape \(..., 4, 4\), got \(3, 3\)'),
    (lambda: se3.so3_exp([1, 2]), r'w: expected shape \(..., 3\), got \(2,\)'),
    (lambda: se3.mean_rotation(np.zeros((0, 3, 3))), 'N >= 1'),
    (lambda: se3.mean_rotation(np.eye(3)[None], [0.0]), 'weights'),
    (lambda: se3.rotation_from_quaternion_xyzw([0, 0, 0, 0]), 'length above 0'),
])
def test_misuse_names_the_argument(call, words):
    with pytest.raises(ValueError, match=words):
        call()
