"""The number of float16 planes of an operand, and the precision of kept logits.

    bfloat16, float16    one plane: unit rows in float16 have 11 bits, bfloat16 itself has 8
    float32              as torch.get_float32_matmul_precision() says for any product of float32:
                         "highest" (torch's default) two planes, 22 bits and three products;
                         "high" and "medium" one plane, the 11 bits of TF32 at twice its rate

The factors have these 22 bits. Sums are in float32, where tensor cores truncate instead of rounding
(Fasi et al. 2021, PeerJ Computer Science 7:e330): negatives move toward zero at each step of 16
elements, while pairs are exact. In a simulation with one truncation per instruction, N = 500, D =
768 and logit_scale 100, gradients of float32 features are wrong by 8e-5 (`cone`), 2e-5 (`trained`)
and 8e-7 (`random`) of their norm. Rounded sums, as in the emulator, give 6e-6, 2e-6 and 4e-7, and
eager float32 on a CPU 1e-5, 1e-5 and 4e-7. With one plane, the rounding of the factors is larger.

Kept logits are 16-bit integers, multiples of 1/32767 of the largest possible logit: their rounding
error, 9e-6 logit_scale, is about as large as with one-plane operands. For float32 features kept
logits are float32.
"""

import functools

import torch
from torch import Tensor

from fastclip.backends.gpu.blocks import MOST_BYTES
from fastclip.backends.kept_logits import NOTHING_KEPT, KeptLayout

DEFAULT_PRECISION = "highest"  # torch's default for products of float32
KEPT_MULTIPLE = 128  # columns of a kept row, so that rows are aligned


def planes_for(dtype: torch.dtype) -> int:
    """Return how many float16 planes represent a feature, with torch's current precision."""
    if dtype != torch.float32 or torch.get_float32_matmul_precision() != DEFAULT_PRECISION:
        return 1
    return 2


def default_planes(dtype: str) -> int:
    """Return `planes_for` a dtype, such as "float32", at torch's default precision."""
    return 2 if dtype == "float32" else 1


def kept_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.float32 else torch.int16


@functools.cache
def kept_layout(primitive: str, dtype: torch.dtype) -> KeptLayout:
    if primitive == "siglip_sum":
        return NOTHING_KEPT  # one pass needs nothing of the forward
    # By default, batches of up to 5,760 keep their logits, but not with float32 features, whose
    # gradients would be half as exact. A given workspace is first used for the block of G; the rest
    # keeps logits.
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
