"""The whole CLIP loss of a batch whose logits are one block, in few launches and fewer calls.

A batch of a few thousand pairs is over on a GPU before Python has launched a kernel for each line
of `fastclip/backends/gpu/contrastive.py`. Here a step is eleven launches (four more for float32
operands, one more without normalisation) by three operators, which allocate what they need:

    forward     extents where features are not normalised; operands, scalars and positives; sums of
                the negatives; finalise both sides; mean loss
    backward    gradients of the statistics, and scalars; operands; the block of G
                the vendor's products
                gradients of the features of both sides; that of logit_scale

A larger batch keeps a GPU busy, and goes the general way.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.backends.cuda import library
from fastclip.backends.cuda.variants import variant_for
from fastclip.backends.gpu.blocks import block_for
from fastclip.backends.gpu.device import device_of
from fastclip.backends.gpu.partials import Cut, cut
from fastclip.backends.gpu.precision import planes_for
from fastclip.backends.gpu.products import accumulate
from fastclip.rectangle import Rectangle, Sides


class Saved(NamedTuple):
    """What the backward needs of the forward."""

    positive: Tensor  # (N,)
    shift: Tensor  # (2, N)
    total: Tensor  # (2, N)
    kept: Tensor  # (N or 0, bytes of a row) uint8
    extent: Tensor  # of features that are not normalised


def cut_of_one_block(rectangle: Rectangle, workspace: int | None) -> Cut | None:
    """How the tiles of the forward are launched; None where the backward has more than one block,
    or the forward more than one panel.

    `workspace` is what the block may take.
    """
    rows = rectangle.rows
    N, D = rows.shape
    block = block_for(N, N, D, workspace, planes_for(rows.dtype))
    if min(block.rows, block.cols) < N:
        return None
    of = variant_for(rows.device)
    found = cut(N, N, of.block_m, of.block_n, of.strip_partials)
    return found if found.num_panels == 1 else None


def clip_loss_at_once(rectangle: Rectangle, of: Cut, keep: bool) -> tuple[Tensor, Saved]:
    """The mean loss, () float32; `keep`: the backward has the logits."""
    rows, cols, logit_scale = rectangle[:3]
    with device_of(rows):
        loss, *saved = _operator("clip_loss", rows.device)(
            rows, cols, logit_scale, rectangle.normalize, planes_for(rows.dtype), keep,
            of.strip_tiles, of.num_strips, library.current_stream(rows),
        )  # fmt: skip
    return loss, Saved(*saved)


def clip_loss_at_once_backward(
    rectangle: Rectangle, grad_loss: Tensor, saved: Sequence[Tensor], wants: Sides
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of rows, columns and logit_scale; (0,) in the place of an unwanted one."""
    rows, cols, logit_scale = rectangle[:3]
    normalize, (of_rows, of_cols) = rectangle.normalize, wants
    # Without a gradient of either side, that of logit_scale comes from the rows' product.
    row_product = of_rows or not of_cols
    with device_of(rows):
        stream = library.current_stream(rows)
        operands, block, products, vectors = _operator("clip_loss_block", rows.device)(
            rows, cols, logit_scale, grad_loss, *saved, normalize, planes_for(rows.dtype),
            row_product + of_cols, stream,
        )  # fmt: skip
        if row_product:
            accumulate(products[0], block, operands[1], first=True)
        if of_cols:
            accumulate(products[-1], block.transpose(1, 2), operands[0], first=True)
        return library.operators(rows.device.type).clip_loss_features(
            rows, cols, products, vectors, normalize, of_rows, of_cols, stream
        )


def _operator(name: str, device: torch.device) -> Callable[..., tuple[Tensor, ...]]:
    return getattr(library.operators(device.type), variant_for(device).prefix + name)
