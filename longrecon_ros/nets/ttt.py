"""Fast weights: a small network that is trained on the stream itself, while it is used.

Test-time training with large chunks (LaCT, Zhang et al. 2025): the fast network
f_W(u) = (silu(u W0) * (u W2)) W1 stores pairs (k, v) of tokens by one step up the gradient of
sum_i <f_W(k_i), v_i>, each token with rates of its own; the step is orthogonalised (Muon, Jordan
et al. 2024), and columns keep the length that they had. The gradients are written out, so that
nothing is recorded while the net runs. LoGeR and Scal3R differ in how keys, values and rates are
made.
"""

from dataclasses import dataclass
import math
from typing import NamedTuple, Tuple

import torch
from torch import Tensor
from torch.nn import functional

_EPS = 1e-5
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_N_STEPS = 5


class FastWeights(NamedTuple):
    """The state: H nets, one a head (and sequence), float32."""

    w0: Tensor                              # (H, d, e)
    w1: Tensor                              # (H, e, d)
    w2: Tensor                              # (H, d, e)


@dataclass(frozen=True)
class Numerics:
    """Types of the steps; the defaults are those of the official code on a CPU."""

    product: torch.dtype = torch.float32
    """Of products with fast weights; bfloat16 where the official code runs under autocast."""
    orthogonal: torch.dtype = torch.bfloat16
    """Of the orthogonalisation. Rounding shows there: float32 is for exact comparisons."""
    is_leaky: bool = True
    """Columns are divided by their length plus 1e-5, as in the official code, and so lose up to
    1e-5 of a unit of length at every update (some percent in 10,000); False: they keep it."""
    use_batch: bool = True
    """Orthogonalise the three matrices together: they have one shape but for a transposition."""


def base_rate(rate: float) -> float:
    """Return what softplus turns into ``rate``."""
    return rate + math.log(-math.expm1(-rate))


def apply(weights: FastWeights, q: Tensor, numerics: Numerics) -> Tensor:
    """Return f_W(q), (H, L, d), of queries (H, L, d)."""
    w0, w1, w2 = (w.to(numerics.product) for w in weights)
    q = q.to(numerics.product)
    return (functional.silu(q @ w0) * (q @ w2)) @ w1


def gradients(weights: FastWeights, k: Tensor, v: Tensor, rates: Tuple[Tensor, Tensor, Tensor],
              numerics: Numerics) -> FastWeights:
    """Return the direction in which keys (H, L, d) answer more like values (H, L, d).

    ``rates`` are those of the three matrices for each token, (H, L, 1).
    """
    w0, w1, w2 = (w.to(numerics.product) for w in weights)
    k, v = k.to(numerics.product), v.to(numerics.product)
    eta0, eta1, eta2 = (rate.to(numerics.product) for rate in rates)
    gate, up, back = k @ w0, k @ w2, v @ w1.transpose(1, 2)
    sigmoid = gate.sigmoid()
    silu = gate * sigmoid
    slope = sigmoid * (1 + gate * (1 - sigmoid))                    # of silu
    return FastWeights((k * eta0).transpose(1, 2) @ (back * up * slope),
                       (silu * up * eta1).transpose(1, 2) @ v,
                       (k * eta2).transpose(1, 2) @ (back * silu))


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Return matrices (..., m, n) with their singular values pushed towards 1, in float32.

    Five Newton-Schulz steps of fifth order (Muon); ``dtype`` is that of the steps.
    """
    a, b, c = _NEWTON_SCHULZ
    x = matrices.to(dtype)
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = x.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_N_STEPS):
        gram = x @ x.transpose(-1, -2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.transpose(-1, -2) if is_tall else x).to(torch.float32)


def plus(a: FastWeights, b: FastWeights) -> FastWeights:
    """Return the sum of two directions."""
    return FastWeights(*(x + y for x, y in zip(a, b)))


def steps(direction: FastWeights, numerics: Numerics) -> FastWeights:
    """Return the orthogonalised steps of the three matrices."""
    if not numerics.use_batch:
        return FastWeights(*(orthogonalise(g, numerics.orthogonal) for g in direction))
    g0, g1, g2 = direction
    n = len(g0)
    s = orthogonalise(torch.cat([g0, g1.transpose(1, 2), g2]), numerics.orthogonal)
    return FastWeights(s[:n], s[n:2 * n].transpose(1, 2), s[2 * n:])


def add(weights: FastWeights, step: FastWeights, numerics: Numerics) -> FastWeights:
    """Return the weights after a step; each column keeps its length (see `Numerics.is_leaky`)."""
    return FastWeights(*(_add(w, s, numerics.is_leaky) for w, s in zip(weights, step)))


def update(weights: FastWeights, direction: FastWeights, numerics: Numerics) -> FastWeights:
    """Return the weights after one step in a direction (`gradients`, or a sum of them)."""
    return add(weights, steps(direction, numerics), numerics)


def _add(w: Tensor, step: Tensor, is_leaky: bool) -> Tensor:
    moved = w + step
    lengths, new_lengths = (x.norm(dim=1, keepdim=True) for x in (w, moved))
    divisor = new_lengths + _EPS if is_leaky else new_lengths.clamp(min=_EPS)
    return moved / divisor * lengths
