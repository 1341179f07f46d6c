"""From the statistics of `contrastive_lse` to the CLIP loss of a square rectangle.

For rows and columns alike, as (2, B):
    nll    = -log p = softplus(shift + log total - positive)
    loss_i = (nll_0i + nll_1i) / 2

Nothing cancels when p is nearly 1: a model that fits keeps the relative accuracy of its loss and,
because the derivative of softplus is a sigmoid and not p - 1, of its gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from fastclip.ops.contrastive_lse import contrastive_lse


def symmetric_cross_entropy(
    row_features: Tensor,  # (B, D)
    col_features: Tensor,  # (B, D)
    logit_scale: Tensor,  # ()
    mean: bool,
    normalize: bool,
    backend: str,
    workspace: int | None,
    kept_rows: int,
    needs_maximum: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns loss () or (B,); and without gradients positive (B,), shift (2, B)."""
    if backend == "cpu" and not torch.compiler.is_compiling() and _is_plain(row_features):
        # The same formulas as one node in C++ (csrc/cpu/clip_loss.cpp): at a batch of 64 the dozen
        # nodes of this function cost as much as the matrix products.
        return torch.ops.fastclip_native.clip_loss(
            row_features, col_features, logit_scale, mean, normalize, kept_rows
        )
    positive, shift, total, _ = contrastive_lse(
        row_features, col_features, logit_scale, 0, normalize, backend, workspace, kept_rows,
        needs_maximum,
    )  # fmt: skip
    shift = shift.view(2, -1)
    nll = negative_log_probability(positive, shift, total.view(2, -1))
    return nll.mean() if mean else nll.mean(0), positive.detach(), shift


def negative_log_probability(
    positive: Tensor,  # (B,)
    shift: Tensor,  # (2, B)
    total: Tensor,  # (2, B)
) -> Tensor:  # (2, B)
    # softplus(x) is taken to be x beyond 40: e^-40 is below the rounding of a double.
    return F.softplus(shift - positive + total.log(), beta=1.0, threshold=40.0)


def _is_plain(features: Tensor) -> bool:
    """Whether nothing but autograd's reverse mode has to know what is done to `features`."""
    # Subclasses (fake, functional, distributed tensors) need operators that they can intercept; so
    # do the transforms of torch.func and forward mode, whose tensors look like plain ones.
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return False
    return type(features) in (Tensor, torch.nn.Parameter)
