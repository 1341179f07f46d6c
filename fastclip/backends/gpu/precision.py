"""How many float16 planes an operand has, and what the forward keeps of its logits.

    bfloat16, float16    one plane: unit rows in float16 are exact to 11 bits, bfloat16's own are 8
    float32              as torch.get_float32_matmul_precision() says for any product of float32:
                         "highest" (torch's default) two planes, 22 bits and three products;
                         "high" and "medium" one, the 11 bits of TF32 at twice its rate

22 bits are those of the factors. Sums are float32 in which tensor cores truncate and do not round
(Fasi et al. 2021, PeerJ Computer Science 7:e330): negatives are drawn toward zero at each step of
16 elements, pairs are exact. Simulated with one truncation per instruction, N = 500, D = 768 and
logit_scale 100: gradients of float32 features off by 8e-5 (`cone`), 2e-5 (`trained`) and 8e-7
(`random`) of their norm. Rounded sums, as in the emulator, give 6e-6, 2e-6 and 4e-7, eager float32
on a CPU 1e-5, 1e-5 and 4e-7. With one plane, the factors' own rounding is larger.

Kept logits are 16-bit integers, multiples of 1/32767 of the largest that is possible: their
rounding error, 9e-6 logit_scale, is about that of one-plane operands. For float32 features they
are float32.
"""

import functools

import torch
from torch import Tensor

from fastclip.backends.gpu.blocks import MOST_BYTES
from fastclip.backends.kept_logits import NOTHING_KEPT, KeptLayout

DEFAULT_PRECISION = "highest"  # torch's, of products of float32
KEPT_MULTIPLE = 128  # columns of a kept row, so that rows are aligned


def planes_for(dtype: torch.dtype) -> int:
    """The float16 factors that a feature is made of, as torch is set now."""
    if dtype != torch.float32 or torch.get_float32_matmul_precision() != DEFAULT_PRECISION:
        return 1
    return 2


def default_planes(dtype: str) -> int:
    """`planes_for` a dtype, "float32" for example, where torch is at its default precision."""
    return 2 if dtype == "float32" else 1


def kept_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.float32 else torch.int16


@functools.cache
def kept_layout(primitive: str, dtype: torch.dtype) -> KeptLayout:
    if primitive == "siglip_sum":
        return NOTHING_KEPT  # one pass needs nothing of the forward
    # Unasked, a batch of 5,760 keeps its logits; none of float32 does, whose gradients would be
    # half as exact. Of a workspace the block of G comes first; what is left of it keeps logits.
    return KeptLayout(
        default_bytes=0 if dtype == torch.float32 else 64 << 20,
        reserved_bytes=MOST_BYTES,
        element_bytes=kept_dtype(dtype).itemsize,
        multiple=KEPT_MULTIPLE,
    )


def kept_logits(features: Tensor, kept_rows: int, N: int) -> Tensor:
    layout = kept_layout("contrastive_lse", features.dtype)
    shape = kept_rows, layout.row_bytes(N) // layout.element_bytes
    return features.new_empty(shape, dtype=kept_dtype(features.dtype))
