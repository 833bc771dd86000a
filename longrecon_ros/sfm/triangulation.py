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
    w = seen[..., None].astype(np.float64)
    d = rays * w
    A = seen.sum(axis=0)[:, None, None] * np.eye(3) - np.einsum('fpi,fpj->pij', d, d)
    along = np.einsum('fpi,fi->fp', d, centers)
    b = np.einsum('fp,fi->pi', w[..., 0], centers) - np.einsum('fpi,fp->pi', d, along)
    mean = d.sum(axis=0)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    cosine = np.where(seen, np.einsum('fpi,pi->fp', d, mean), 1.0)
    parallax = 2 * np.arccos(np.clip(cosine.min(axis=0), -1.0, 1.0))
    solvable = np.linalg.det(A) > 1e-10
    X = np.full((len(A), 3), np.nan)
    X[solvable] = np.linalg.solve(A[solvable], b[solvable, :, None])[:, :, 0]
    return X, parallax
