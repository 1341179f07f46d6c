"""The sigmoid losses of own rows and the columns of all ranks, which visit one after the other.

    forward     sum over visits of sum_i row_loss_i; nothing but features travels
    backward    G of the visit's rectangle; d row, d logit_scale and d logit_bias add up here, d col
                travels with its columns, in float32 (float64 for float64 features)

Cost: 8 B_r N D FLOPs per rank; no logits are kept. Nothing here has N rows.
"""

import torch
from torch import Tensor
from torch.autograd import Function

from fastclip.backends.normalization import compute_dtype
from fastclip.distributed.agreement import Ranks
from fastclip.distributed.ring import Tensors, add_each, positive_offset, walk_ring
from fastclip.ops.dispatch import kept_like
from fastclip.ops.missing_derivatives import refuse_second_derivative
from fastclip.ops.siglip_sum import siglip_sum, siglip_sum_backward


def sigmoid_loss(
    row_features: Tensor,  # (B, D)
    col_features: Tensor,  # (B, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    ranks: Ranks,
    normalize: bool,
    backend: str,
    workspace: int | None,
) -> Tensor:
    """Returns the sum over own rows and all columns, ()."""
    settings = ranks, normalize, backend, workspace
    return _Total.apply(row_features, col_features, logit_scale, logit_bias, settings)


class _Total(Function):
    @staticmethod
    def forward(rows, cols, logit_scale, logit_bias, settings):
        ranks, normalize, backend, workspace = settings
        total = torch.zeros_like(logit_scale, dtype=torch.float64)

        def visit(owner: int, constants: Tensors) -> Tensors:
            (cols,) = constants
            row_loss, _ = siglip_sum(
                rows, cols, logit_scale, logit_bias, positive_offset(owner, ranks), normalize,
                backend, workspace, 0,
            )  # fmt: skip
            total.add_(row_loss.sum(dtype=torch.float64))
            return ()

        walk_ring((cols,), visit, add_each, ranks)
        return total.to(logit_scale.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.settings = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, grad):
        needed = ctx.needs_input_grad[:4]
        gradients = _Gradients.apply(grad, *ctx.saved_tensors, ctx.settings, *needed[:2])
        return *(x if need else None for x, need in zip(gradients, needed, strict=True)), None


class _Gradients(Function):
    """A function of its own, so that a second derivative raises."""

    @staticmethod
    def forward(
        grad: Tensor,  # ()
        rows: Tensor,  # (B, D)
        cols: Tensor,  # (B, D)
        logit_scale: Tensor,  # ()
        logit_bias: Tensor,  # ()
        settings: tuple,
        needs_row_grad: bool,
        needs_col_grad: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ranks, normalize, backend, workspace = settings
        dtype = compute_dtype(rows.dtype)
        grad_row_loss = grad.repeat(len(rows))
        grad_rows = torch.zeros_like(rows, dtype=dtype) if needs_row_grad else None
        of_scalars = grad.new_zeros(2, dtype=torch.float64)

        def visit(owner: int, constants: Tensors) -> Tensors:
            (cols,) = constants
            kept = kept_like(backend, "siglip_sum", rows, 0, len(cols))
            grad_row, grad_col, *scalars_here = siglip_sum_backward(
                grad_row_loss, rows, cols, logit_scale, logit_bias, kept,
                positive_offset(owner, ranks), normalize, backend, workspace,
                needs_row_grad, needs_col_grad,
            )  # fmt: skip
            of_scalars.add_(torch.stack(scalars_here))
            if needs_row_grad:
                grad_rows.add_(grad_row)
            return (grad_col.to(dtype),) if needs_col_grad else ()

        grad_cols = walk_ring((cols,), visit, add_each, ranks)
        return (
            rows.new_empty(0) if grad_rows is None else grad_rows.to(rows.dtype),
            grad_cols[0].to(cols.dtype) if needs_col_grad else cols.new_empty(0),
            *of_scalars.to(logit_scale.dtype),
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *_):
        refuse_second_derivative("the backward of the sigmoid loss over a ring")
