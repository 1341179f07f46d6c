"""Computes and limits the norm of a whole gradient, whether it is sharded over ranks or not.

The norm also says whether the gradient is finite, because one value that is not finite makes the
norm so. A gradient whose squares add up to more than float32 holds counts as not finite too,
because AdamW squares it.
"""

import functools
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from fastclip.train.weights.sharding import is_share


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the () norm of all gradients as one vector, in at least float32, without a wait.

    Args:
        gradients: whole tensors, or shares; ranks with shares call this together, and all get the
            same norm.
    """
    shares = [g for g in gradients if is_share(g)]
    if not shares:
        return _norm(gradients)
    squares = _norm([g.to_local() for g in shares]).square()
    dist.all_reduce(squares, group=shares[0].device_mesh.get_group())
    return (squares + _norm([g for g in gradients if not is_share(g)]).square()).sqrt()


def limit_norm(gradients: Sequence[Tensor], norm: float, max_norm: float) -> None:
    """Scale gradients of the total norm `norm` down, in place, to a norm of at most `max_norm`."""
    factor = max_norm / (norm + 1e-6)  # as in torch
    if factor < 1:
        torch._foreach_mul_([g.to_local() if is_share(g) else g for g in gradients], factor)


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors:
        return torch.zeros(())
    # float16 ends at 65,504, and bfloat16 has 8 bits for a sum.
    dtype = functools.reduce(torch.promote_types, {t.dtype for t in tensors}, torch.float32)
    norms = torch._foreach_norm(tensors, 2, dtype=dtype)
    return torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
