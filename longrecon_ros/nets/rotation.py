"""Rotations from matrices and quaternions, without calls that wait for the device."""

import torch
from torch import Tensor

_N_SQUARINGS = 24


def from_quaternion(q_xyzw: Tensor) -> Tensor:
    """Return R (..., 3, 3) of quaternions (..., 4), scalar last, of any length but 0."""
    x, y, z, w = q_xyzw.unbind(-1)
    s = 2.0 / (q_xyzw * q_xyzw).sum(-1)
    rows = (1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w),
            s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w),
            s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y))
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def nearest(M: Tensor) -> Tensor:
    """Return the rotations (..., 3, 3) f32 nearest to matrices (..., 3, 3), det +1 always.

    Equal to V diag(1, 1, det(V U^T)) U^T of the SVD M^T = U S V^T. A batched SVD makes the host
    wait for the device, and graphs of ONNX have none; the largest eigenvector of Davenport's 4 x 4
    matrix (the quaternion of the answer; Horn 1987, section 4.C) needs neither: it is found by
    squaring that matrix until only this direction is left.
    """
    K = _davenport(M.float())
    eye = torch.eye(4, device=M.device, dtype=torch.float32)
    # all eigenvalues become positive, so that the largest in size is the largest
    bound = M.float().square().sum((-2, -1), keepdim=True).sqrt() * 3**0.5
    A = K + bound * eye
    for _ in range(_N_SQUARINGS):
        A = A / A.abs().amax((-2, -1), keepdim=True)
        A = A @ A
    longest = A.square().sum(-2).argmax(-1)[..., None, None].expand(*A.shape[:-1], 1)
    R = from_quaternion(A.gather(-1, longest).squeeze(-1))
    return _polish(R, M.float())


def _davenport(M: Tensor) -> Tensor:
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in M.unbind(-2))
    rows = (a - e - i, b + d, c + g, h - f,
            b + d, e - a - i, f + h, c - g,
            c + g, f + h, i - a - e, d - b,
            h - f, c - g, d - b, a + e + i)
    return torch.stack(rows, dim=-1).unflatten(-1, (4, 4))


def _polish(R: Tensor, M: Tensor) -> Tensor:
    """Take one step of Newton's method to the maximum of trace(R^T M): squaring loses digits."""
    S = R.transpose(-1, -2) @ M
    trace = S.diagonal(dim1=-2, dim2=-1).sum(-1)
    eye = torch.eye(3, device=M.device, dtype=M.dtype)
    hessian = trace[..., None, None] * eye - (S + S.transpose(-1, -2)) / 2
    gradient = torch.stack([S[..., 2, 1] - S[..., 1, 2], S[..., 0, 2] - S[..., 2, 0],
                            S[..., 1, 0] - S[..., 0, 1]], dim=-1) / 2
    w = _solve(hessian, gradient)
    half = torch.cat([w / 2, torch.ones_like(w[..., :1])], dim=-1)
    return R @ from_quaternion(half)


def _solve(A: Tensor, b: Tensor) -> Tensor:
    """Solve 3 x 3 systems by cofactors; where A is singular the answer is 0."""
    x, y, z = A.unbind(-1)
    cofactors = torch.stack([torch.linalg.cross(y, z), torch.linalg.cross(z, x),
                             torch.linalg.cross(x, y)], dim=-2)
    determinant = (x * torch.linalg.cross(y, z)).sum(-1)
    is_regular = determinant.abs() > 1e-4
    inverse = torch.where(is_regular, 1 / torch.where(is_regular, determinant, 1.0), 0.0)
    return (cofactors @ b[..., None]).squeeze(-1) * inverse[..., None]
