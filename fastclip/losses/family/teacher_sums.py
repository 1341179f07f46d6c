"""Sums of a student's products, weighted by teachers' softmaxes, without matching pairs.

    w_ij = mean over teachers of the softmax over texts of image i's scores, at text j
    v_ij = mean over teachers of the softmax over images of text j's scores, at image i
    product   = sum over i != j of (w_ij + v_ij) <x_i, y_j>
    row_mass  = sum over j != i of w_ij,   col_mass = sum over i != j of v_ij

The weights are constants and the product is linear in each of x and y: one walk over blocks of
weights gives the value and both gradients, which add up over processes whose texts visit. Cost:
2 M N (K + 2 D) FLOPs for one teacher of dimension K; memory one block within the workspace and
O((M + N) D).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from fastclip.backends.chunked.blocks import blocks_of
from fastclip.backends.chunked.machine import machine_of
from fastclip.backends.chunked.wide import Wide
from fastclip.losses.family.teachers import TeacherScores
from fastclip.ops.differentiation import needs_grad
from fastclip.ops.missing_derivatives import refuse_forward_mode
from fastclip.rectangle import Diagonal, Rectangle

if TYPE_CHECKING:
    from fastclip.distributed.agreement import Ranks


# A compiler would unroll the blocks.
@torch.compiler.disable
def teacher_sums(
    images: Tensor,
    texts: Tensor,
    teachers: Sequence[TeacherScores],
    start: int,
    workspace: int | None,
    visitors: "Ranks | None" = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the product () float64, row_mass (M,) and col_mass (N,), which are constants.

    Args:
        images: (M, D) float32 or float64, the student's features.
        texts: (N, D), same dtype.
        teachers: their scores of the same images and texts.
        start: image i's own text is text start + i.
        workspace: bytes for the block of weights; None is the bounded default of `chunked`.
        visitors: the processes whose texts visit one after the other. The sums are then over the
            texts of all processes, and `texts` are this process's own, whose col_mass is complete:
            image i's own text is text i, and `start` is ignored.
    """
    settings = tuple(teachers), start, workspace, visitors, needs_grad(texts)
    return _TeacherSums.apply(images, texts, *settings)[:3]


class _TeacherSums(Function):
    @staticmethod
    def forward(
        images: Tensor,
        texts: Tensor,
        teachers: tuple[TeacherScores, ...],
        start: int,
        workspace: int | None,
        visitors: "Ranks | None",
        wants_texts: bool,
    ) -> tuple[Tensor, ...]:
        # Autocast would round scores to 16 bits.
        with torch.autocast(images.device.type, enabled=False):
            if visitors is None:
                sums = _walk(images, texts, teachers, start, workspace)
            else:
                sums = _around(images, texts, teachers, workspace, visitors, wants_texts)
        for_images, for_texts, row_mass, col_mass = sums
        product = (images * for_images).sum(dtype=torch.float64)
        return product, row_mass, col_mass, for_images, for_texts

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[3:])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, *_) -> tuple[Tensor | None, ...]:
        for_images, for_texts = ctx.saved_tensors
        wants_images, wants_texts, *_ = ctx.needs_input_grad
        return (
            grad * for_images if wants_images else None,
            grad * for_texts if wants_texts else None,
            None, None, None, None, None,
        )  # fmt: skip

    @staticmethod
    def jvp(ctx, *_) -> None:
        refuse_forward_mode("distill_clip_loss")


def _walk(
    images: Tensor,
    texts: Tensor,
    teachers: Sequence[TeacherScores],
    start: int,
    workspace: int | None,
) -> tuple[Tensor, ...]:
    rectangle = Rectangle(images, texts, images.new_ones(()), Diagonal(start))
    blocks = blocks_of(rectangle, workspace, machine_of(images.device))
    arithmetic = [Wide(rectangle._replace(logit_scale=x.logit_scale)) for x in teachers]
    teacher_texts = [a.cols(x.texts) for a, x in zip(arithmetic, teachers, strict=True)]
    for_images, for_texts = torch.zeros_like(images), torch.zeros_like(texts)
    row_mass, col_mass = images.new_zeros(len(images)), texts.new_zeros(len(texts))
    for chunk in blocks.chunks():
        rows = [a.rows(x.images[chunk]) for a, x in zip(arithmetic, teachers, strict=True)]
        for panel in blocks.panels():
            weights = images.new_zeros(chunk.stop - chunk.start, panel.stop - panel.start)
            for i, teacher in enumerate(teachers):
                products = arithmetic[i].products(rows[i], teacher_texts[i][panel])
                products.diagonal(start + chunk.start - panel.start).fill_(float("-inf"))
                (row_shift, row_total), (col_shift, col_total) = teacher.of_rows, teacher.of_cols
                # A log-sum-exp is not subtracted: its rounding would be in a whole row or column.
                of_rows = (products - row_shift[chunk, None]).exp_().div_(row_total[chunk, None])
                row_mass[chunk] += of_rows.sum(1)
                of_cols = products.sub_(col_shift[panel]).exp_().div_(col_total[panel])
                col_mass[panel] += of_cols.sum(0)
                weights += of_rows.add_(of_cols)
            del products, of_rows, of_cols
            weights = arithmetic[0].factor(weights)
            for_images[chunk].addmm_(weights, texts[panel])
            for_texts[panel].addmm_(weights.T, images[chunk])
    for x in (for_images, for_texts, row_mass, col_mass):
        x /= len(teachers)
    return for_images, for_texts, row_mass, col_mass


def _around(
    images: Tensor,
    texts: Tensor,
    teachers: Sequence[TeacherScores],
    workspace: int | None,
    ranks: "Ranks",
    wants_texts: bool,
) -> tuple[Tensor, ...]:
    """`_walk` over the texts of all ranks, which travel with their teachers' features and sums."""
    from fastclip.distributed.ring import Tensors, add_each, walk_ring

    of_images: Tensors = ()

    def visit(owner: int, constants: Tensors) -> Tensors:
        nonlocal of_images
        texts, *others = constants
        visiting = [
            teacher._replace(texts=others[3 * i], of_cols=tuple(others[3 * i + 1 : 3 * i + 3]))
            for i, teacher in enumerate(teachers)
        ]
        start = 0 if owner == ranks.rank else len(texts)  # beyond the last: no own text is here
        for_images, for_texts, row_mass, col_mass = _walk(images, texts, visiting, start, workspace)
        here = for_images, row_mass
        of_images = add_each(of_images, here) if of_images else here
        return (col_mass, for_texts) if wants_texts else (col_mass,)

    of_teachers = [x for teacher in teachers for x in (teacher.texts, *teacher.of_cols)]
    col_mass, *for_texts = walk_ring((texts, *of_teachers), visit, add_each, ranks)
    for_images, row_mass = of_images
    return for_images, for_texts[0] if wants_texts else texts.new_empty(0), row_mass, col_mass
