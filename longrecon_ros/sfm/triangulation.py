"""Points from several rays at once."""

from typing import Tuple

import numpy as np


def world_rays(R: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Unit viewing rays (F, P, 3) in the window frame of normalised coordinates (F, P, 2)."""
    d = xy @ R[:, :2] + R[:, None, 2]
    return d / np.linalg.norm(d, axis=2, keepdims=True)


def midpoints(rays: np.ndarray, centers: np.ndarray, seen: np.ndarray
              ) -> Tuple[np.ndarray, np.ndarray]:
    """Points closest to all their rays, and the parallax under which they are seen.

    Solves ``sum(I - d d^T) X = sum(I - d d^T) C`` for each point (Hartley and Sturm 1997 for two
    views). ``rays`` (F, P, 3) unit, ``centers`` (F, 3), ``seen`` (F, P). Returns X (P, 3) and
    twice the largest angle to the mean ray (P,) in radians; X is nan where it is undetermined.
    """
    d = rays * seen[..., None]
    count = seen.sum(axis=0)
    dx, dy, dz = d[..., 0], d[..., 1], d[..., 2]
    along = np.einsum('fpi,fi->fp', d, centers)
    A = np.stack([count - (dx * dx).sum(0), -(dx * dy).sum(0), -(dx * dz).sum(0),
                  count - (dy * dy).sum(0), -(dy * dz).sum(0), count - (dz * dz).sum(0)])
    b = seen.T.astype(np.float64) @ centers - np.stack(
        [(k * along).sum(0) for k in (dx, dy, dz)], axis=1)
    inverse, det = invert_symmetric(A)
    X = (inverse @ b[:, :, None])[:, :, 0]
    X[det < 1e-10] = np.nan
    mean = d.sum(axis=0)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    cosine = np.where(seen, dx * mean[:, 0] + dy * mean[:, 1] + dz * mean[:, 2], 1.0)
    return X, 2 * np.arccos(np.clip(cosine.min(axis=0), -1.0, 1.0))


def invert_symmetric(V: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Inverses (P, 3, 3) and determinants (P,) of symmetric matrices, by cofactors.

    ``V`` (6, P) holds the entries 00, 01, 02, 11, 12, 22. The inverse of a matrix whose
    determinant is not positive is 0.
    """
    a, b, c, d, e, f = V
    A, B, C = d * f - e * e, c * e - b * f, b * e - c * d
    det = a * A + b * B + c * C
    D, E, F = a * f - c * c, b * c - a * e, a * d - b * b
    inverse = np.stack([A, B, C, B, D, E, C, E, F]) / np.where(det > 0, det, np.inf)
    return inverse.T.reshape(-1, 3, 3), det
