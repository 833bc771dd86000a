"""The smallest parts: linear maps, norms, scales and the MLP of transformer blocks."""

import torch
from torch import nn, Tensor
from torch.nn import functional


class Linear(nn.Linear):
    """A linear map in the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., n_in) to (..., n_out)."""
        return functional.linear(x.to(self.weight.dtype), self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """A layer norm in the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return functional.layer_norm(x.to(self.weight.dtype), self.normalized_shape, self.weight,
                                     self.bias, self.eps)


class RmsNorm(nn.Module):
    """A norm by the root of the mean square, in float32."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight, self._eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self._eps) * self.weight


class LayerScale(nn.Module):
    """A learnt factor a channel."""

    def __init__(self, dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Scale (..., C); the result is float32 where the factors are."""
        return x * self.gamma


class Mlp(nn.Module):
    """Two linear maps with the exact (erf) GELU between them."""

    def __init__(self, dim: int, hidden: int, out: int):
        super().__init__()
        self.fc1, self.fc2 = Linear(dim, hidden), Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., out)."""
        return self.fc2(functional.gelu(self.fc1(x)))


class ImageNorm(nn.Module):
    """The statistics of ImageNet, as constants beside the weights."""

    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    @classmethod
    def constants(cls):
        """Return mean and deviation, (1, 3, 1, 1) each; on the CPU also under a meta device."""
        return tuple(torch.tensor(values, device='cpu').reshape(1, 3, 1, 1)
                     for values in (cls.MEAN, cls.STD))
