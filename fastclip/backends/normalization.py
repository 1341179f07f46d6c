"""L2-normalised rows and their Jacobian.

    u = x / max(|x|, EPS)
    dx = (du - u <du, u>) / |x|            and du / EPS where |x| < EPS (torch's F.normalize alike)

Norms are taken in float64: squares of float32 numbers above 1.8e19 overflow in float32.
"""

import torch
from torch import Tensor

EPS = 1e-12


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of logits, statistics and accumulated gradients for inputs of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def feature_norms(features: Tensor) -> Tensor:  # (M, D) -> (M, 1), float64
    return torch.linalg.vector_norm(features.double(), dim=1, keepdim=True).clamp_min(EPS)


def prepared_rows(features: Tensor, normalize: bool) -> Tensor:  # (M, D) -> (M, D)
    """Return the rows as they are multiplied: in the compute dtype, normalised if `normalize`."""
    dtype = compute_dtype(features.dtype)
    return (features / feature_norms(features) if normalize else features).to(dtype)


def prepared_rows_backward(grad: Tensor, features: Tensor, normalize: bool) -> Tensor:
    """Turn the gradient (M, D) of prepared rows into the gradient of `features`, in their dtype."""
    if not normalize:
        return grad.to(features.dtype)
    norms = feature_norms(features)
    unit = (features / norms).to(grad.dtype)
    radial = (grad * unit).sum(1, keepdim=True)
    radial = torch.where(norms > EPS, radial, torch.zeros_like(radial))
    return ((grad - unit * radial) / norms).to(features.dtype)
