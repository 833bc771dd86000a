"""Rigid transforms as 4x4 arrays, and rotations as 3x3 arrays.

Every function takes leading batch dimensions and is accurate near the identity and near half a
turn. Tangents are ordered (v, w): translation first, then the rotation vector in radians.
"""

import numpy as np

_SMALL_ANGLE = 1e-2     # below it three terms of the series are exact to double precision


def from_parts(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the (..., 4, 4) transform with rotation R (..., 3, 3) and translation t (..., 3)."""
    R, t = np.asarray(R, np.float64), np.asarray(t, np.float64)
    if R.shape[-2:] != (3, 3) or t.shape[-1:] != (3,):
        raise ValueError(f'R, t: expected shapes (..., 3, 3) and (..., 3), got {R.shape} and '
                         f'{t.shape}')
    batch = np.broadcast_shapes(R.shape[:-2], t.shape[:-1])
    T = np.zeros(batch + (4, 4))
    T[..., :3, :3] = R
    T[..., :3, 3] = t
    T[..., 3, 3] = 1.0
    return T


def inverse(T: np.ndarray) -> np.ndarray:
    """Return the inverse of rigid transforms (..., 4, 4)."""
    T = _matrix('T', T, 4)
    R_inverse = np.swapaxes(T[..., :3, :3], -1, -2)
    return from_parts(R_inverse, -(R_inverse @ T[..., :3, 3:])[..., 0])


def relative(T_w_a: np.ndarray, T_w_b: np.ndarray) -> np.ndarray:
    """Return T_a_b of two transforms (..., 4, 4) into one common frame."""
    return inverse(T_w_a) @ _matrix('T_w_b', T_w_b, 4)


def apply(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Transform points (..., P, 3) by T (..., 4, 4); a single point (3,) goes with a single T."""
    T = _matrix('T', T, 4)
    points = np.asarray(points, np.float64)
    if points.ndim == 1:
        return T[..., :3, :3] @ points + T[..., :3, 3]
    return points @ np.swapaxes(T[..., :3, :3], -1, -2) + T[..., None, :3, 3]


def hat(w: np.ndarray) -> np.ndarray:
    """Return the cross-product matrices (..., 3, 3) of vectors (..., 3)."""
    w = _vector('w', w, 3)
    W = np.zeros(w.shape + (3,))
    W[..., 2, 1], W[..., 0, 2], W[..., 1, 0] = w[..., 0], w[..., 1], w[..., 2]
    W[..., 1, 2], W[..., 2, 0], W[..., 0, 1] = -w[..., 0], -w[..., 1], -w[..., 2]
    return W


def adjoint(T: np.ndarray) -> np.ndarray:
    """Return the matrices (..., 6, 6) of T_a_b (..., 4, 4) that take twists from frame b to a.

    A twist is (linear, angular): ``T @ exp(x) == exp(adjoint(T) @ x) @ T``.
    """
    R = T[..., :3, :3]
    A = np.zeros(T.shape[:-2] + (6, 6))
    A[..., :3, :3] = A[..., 3:, 3:] = R
    A[..., :3, 3:] = hat(T[..., :3, 3]) @ R
    return A


def so3_exp(w: np.ndarray) -> np.ndarray:
    """Return the rotations (..., 3, 3) of rotation vectors (..., 3) rad (Rodrigues)."""
    W = hat(w)
    a, b, _ = _exp_coefficients(np.linalg.norm(w, axis=-1))
    return np.eye(3) + a * W + b * (W @ W)


def so3_log(R: np.ndarray) -> np.ndarray:
    """Return the rotation vectors (..., 3) rad, of length at most pi, of rotations (..., 3, 3).

    Goes through the quaternion, which is well conditioned at every angle.
    """
    q = quaternion_xyzw_from_rotation(R)
    v, w = q[..., :3], q[..., 3]
    n = np.linalg.norm(v, axis=-1)
    is_small = n < 1e-8
    # q has w >= 0, so near the identity the angle is 2 n / w to second order
    factor = np.where(is_small, 2.0 / np.where(is_small, w, 1.0),
                      2.0 * np.arctan2(n, w) / np.where(is_small, 1.0, n))
    return factor[..., None] * v


def exp(xi: np.ndarray) -> np.ndarray:
    """Return the transforms (..., 4, 4) of tangents (..., 6) = (v, w)."""
    xi = _vector('xi', xi, 6)
    v, w = xi[..., :3], xi[..., 3:]
    return from_parts(so3_exp(w), (_left_jacobian(w) @ v[..., None])[..., 0])


def log(T: np.ndarray) -> np.ndarray:
    """Return the tangents (..., 6) = (v, w) of transforms (..., 4, 4); |w| is at most pi."""
    T = _matrix('T', T, 4)
    w = so3_log(T[..., :3, :3])
    v = np.linalg.solve(_left_jacobian(w), T[..., :3, 3:])[..., 0]
    return np.concatenate([v, w], axis=-1)


def interpolate(T_w_a: np.ndarray, T_w_b: np.ndarray, fraction) -> np.ndarray:
    """Return poses (..., 4, 4) between a (fraction 0) and b (fraction 1).

    The rotation turns about one axis at constant rate, the origin moves on a straight line.
    Fractions outside [0, 1] extrapolate.
    """
    T_w_a, T_w_b = _matrix('T_w_a', T_w_a, 4), _matrix('T_w_b', T_w_b, 4)
    fraction = np.asarray(fraction, np.float64)[..., None]
    R_a, t_a, t_b = T_w_a[..., :3, :3], T_w_a[..., :3, 3], T_w_b[..., :3, 3]
    w = so3_log(np.swapaxes(R_a, -1, -2) @ T_w_b[..., :3, :3])
    return from_parts(R_a @ so3_exp(fraction * w), t_a + fraction * (t_b - t_a))


def rotation_angle(R: np.ndarray) -> np.ndarray:
    """Return the angles (...,) rad in [0, pi] of rotations (..., 3, 3)."""
    return np.linalg.norm(so3_log(R), axis=-1)


def nearest_rotation(M: np.ndarray) -> np.ndarray:
    """Return the rotations (..., 3, 3) nearest to matrices M in the Frobenius norm (by SVD)."""
    U, _, Vt = np.linalg.svd(_matrix('M', M, 3))
    sign = np.sign(np.linalg.det(U @ Vt))
    D = np.ones(sign.shape + (3,))
    D[..., 2] = sign
    return (U * D[..., None, :]) @ Vt


def mean_rotation(R: np.ndarray, weights=None) -> np.ndarray:
    """Return the weighted chordal mean (3, 3) of rotations (N, 3, 3); weights (N,) or None.

    Raises ValueError when there is no rotation or all weights are 0.
    """
    R = _matrix('R', R, 3)
    if R.ndim != 3 or len(R) == 0:
        raise ValueError(f'R: expected shape (N, 3, 3) with N >= 1, got {R.shape}')
    w = np.ones(len(R)) if weights is None else np.asarray(weights, np.float64)
    if w.shape != (len(R),) or not (w >= 0).all() or w.sum() <= 0:
        raise ValueError(f'weights: expected {len(R)} numbers >= 0 that are not all 0')
    return nearest_rotation(np.einsum('n,nij->ij', w / w.sum(), R))


def quaternion_xyzw_from_rotation(R: np.ndarray) -> np.ndarray:
    """Return unit quaternions (..., 4), xyzw with w >= 0, of rotations (..., 3, 3).

    Shepperd 1978: of four equivalent forms the one with the largest divisor is taken.
    """
    R = _matrix('R', R, 3)
    trace = R[..., 0, 0] + R[..., 1, 1] + R[..., 2, 2]
    # Row k of the 4x4 matrix 4 q_k q is one of the four forms.
    Q = np.empty(R.shape[:-2] + (4, 4))
    for i in range(3):
        for j in range(3):
            Q[..., i, j] = R[..., i, j] + R[..., j, i]
        Q[..., i, i] = 1.0 + 2.0 * R[..., i, i] - trace
    Q[..., 0, 3] = R[..., 2, 1] - R[..., 1, 2]
    Q[..., 1, 3] = R[..., 0, 2] - R[..., 2, 0]
    Q[..., 2, 3] = R[..., 1, 0] - R[..., 0, 1]
    Q[..., 3, :3] = Q[..., :3, 3]
    Q[..., 3, 3] = 1.0 + trace
    best = np.argmax(np.diagonal(Q, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(Q, best[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., 3:] < 0, -q, q)


def rotation_from_quaternion_xyzw(q_xyzw: np.ndarray) -> np.ndarray:
    """Return the rotations (..., 3, 3) of quaternions (..., 4), xyzw, which are normalised first.

    Raises ValueError for a quaternion of length 0 or not finite.
    """
    q = _vector('q_xyzw', q_xyzw, 4)
    n = np.linalg.norm(q, axis=-1, keepdims=True)
    if not (np.isfinite(n) & (n > 0)).all():
        raise ValueError('q_xyzw: a quaternion must be finite and have a length above 0')
    x, y, z, w = np.moveaxis(q / n, -1, 0)
    rows = [[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _exp_coefficients(angle):
    """Return sin(a)/a, (1 - cos a)/a^2 and (a - sin a)/a^3, each (..., 1, 1)."""
    angle = np.asarray(angle, np.float64)[..., None, None]
    is_small = angle < _SMALL_ANGLE
    a = np.where(is_small, 1.0, angle)
    s = np.where(is_small, angle, 0.0) ** 2
    return (np.where(is_small, 1 - s / 6 * (1 - s / 20), np.sin(a) / a),
            np.where(is_small, 0.5 - s / 24 * (1 - s / 30), (1 - np.cos(a)) / a**2),
            np.where(is_small, 1 / 6 - s / 120 * (1 - s / 42), (a - np.sin(a)) / a**3))


def _left_jacobian(w: np.ndarray) -> np.ndarray:
    W = hat(w)
    _, b, c = _exp_coefficients(np.linalg.norm(w, axis=-1))
    return np.eye(3) + b * W + c * (W @ W)


def _matrix(name: str, value, size: int) -> np.ndarray:
    value = np.asarray(value, np.float64)
    if value.shape[-2:] != (size, size):
        raise ValueError(f'{name}: expected shape (..., {size}, {size}), got {value.shape}')
    return value


def _vector(name: str, value, size: int) -> np.ndarray:
    value = np.asarray(value, np.float64)
    if value.shape[-1:] != (size,):
        raise ValueError(f'{name}: expected shape (..., {size}), got {value.shape}')
    return value
