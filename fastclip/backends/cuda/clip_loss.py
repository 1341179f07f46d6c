"""The whole CLIP loss of a batch whose logits are one block, in few launches and fewer calls.

A GPU finishes a batch of a few thousand pairs before Python has launched a kernel for each line of
`fastclip/backends/gpu/contrastive.py`. Here a step has ten launches (four more for float32
operands, one more without normalisation) by three operators, which allocate their own memory:

    forward     extents where features are not normalised; operands, scalars and positives; sums of
                the negatives; finalise both sides; mean loss
    backward    gradients of the statistics, and scalars; the block of G
                the vendor's products
                gradients of the features of both sides, and of logit_scale

The backward uses the forward's operands: they take 4 N D bytes (8 for float32) until then, at most
24 MiB up to D = 1,024, and save the launch that would make them again. A larger batch keeps a GPU
busy and is computed in the general way.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.backends.cuda import library
from fastclip.backends.cuda.variants import VARIANTS, variant_on
from fastclip.backends.gpu.blocks import block_for
from fastclip.backends.gpu.device import device_of
from fastclip.backends.gpu.partials import Cut, cut
from fastclip.backends.gpu.precision import planes_for
from fastclip.backends.gpu.products import accumulate
from fastclip.rectangle import Rectangle, Sides


class Saved(NamedTuple):
    """The tensors of the forward that the backward needs."""

    statistics: Tensor  # (5 N and more,): positive (N,), shift (2, N), total (2, N), and others
    kept: Tensor  # (N or 0, bytes of a row) uint8
    operands: Tensor  # (2 sides, planes, padded rows, padded D) float16


def cut_of_one_block(rectangle: Rectangle, workspace: int | None) -> Cut | None:
    """Return how the tiles of the forward are launched.

    Return None where the backward needs more than one block, or the forward more than one panel.

    Args:
        workspace: bytes that the block may take.
    """
    rows = rectangle.rows
    return _cut(*rows.shape, planes_for(rows.dtype), workspace, variant_on(rows.device))


@functools.cache
def _cut(N: int, D: int, planes: int, workspace: int | None, variant: str) -> Cut | None:
    block = block_for(N, N, D, workspace, planes)
    if min(block.rows, block.cols) < N:
        return None
    of = VARIANTS[variant]
    found = cut(N, N, of.block_m, of.block_n, of.strip_partials)
    return found if found.num_panels == 1 else None


def clip_loss_at_once(rectangle: Rectangle, of: Cut, keep: bool) -> tuple[Tensor, Saved]:
    """Return the mean loss, () float32, and the tensors for the backward.

    Args:
        keep: whether the logits are kept for the backward.
    """
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
    """Return the gradients of rows, columns and logit_scale; (0,) for an unwanted one."""
    rows, cols, logit_scale = rectangle[:3]
    normalize, (of_rows, of_cols) = rectangle.normalize, wants
    statistics, _, operands = saved
    # If neither side needs a gradient, the gradient of logit_scale comes from the rows' product.
    row_product = of_rows or not of_cols
    with device_of(rows):
        stream = library.current_stream(rows)
        block, products, vectors = _operator("clip_loss_block", rows.device)(
            rows, logit_scale, grad_loss, *saved, normalize, row_product + of_cols, stream
        )
        of_row_features, of_col_features = operands.unbind()
        if row_product:
            accumulate(products[0], block, of_col_features, first=True)
        if of_cols:
            accumulate(products[-1], block.transpose(1, 2), of_row_features, first=True)
        return library.operators(rows.device.type).clip_loss_features(
            rows, cols, products, vectors, statistics, normalize, of_rows, of_cols, stream
        )


def _operator(name: str, device: torch.device) -> Callable[..., tuple[Tensor, ...]]:
    return getattr(library.operators(device.type), VARIANTS[variant_on(device)].prefix + name)
