"""A batch for the tests that look at features instead of a model, and a rank's part of it."""

import torch
from torch import Tensor

import fastclip
from tests.support.inputs import planted_features, square

SIZES = (40, 24, 9, 57)
D = 32
LOSSES = ("clip", "siglip")
SCHEDULES = ("gather", "ring")


def inputs_of(
    loss: str, dtype: torch.dtype = torch.float64, data: str = "random", scale: float = 14.3
) -> list[Tensor]:
    """Features (N, D) of both sides, logit_scale and, for siglip, logit_bias."""
    scalars = [scale] if loss == "clip" else [scale, -8.0]
    dtype_of_scalars = torch.float64 if dtype == torch.float64 else torch.float32
    features = planted_features(square(sum(SIZES), D), data, dtype)
    return [*features, *(torch.tensor(x, dtype=dtype_of_scalars) for x in scalars)]


def leaves_of(rank: int, inputs: list[Tensor], frozen: tuple[int, ...] = ()) -> list[Tensor]:
    """The rank's features and all scalars; all but the inputs numbered `frozen` want a gradient."""
    own = [x.split(SIZES)[rank] if x.dim() else x for x in inputs]
    return [x.clone().requires_grad_(i not in frozen) for i, x in enumerate(own)]


def loss_of(loss: str, leaves: list[Tensor], **options) -> Tensor:
    return getattr(fastclip, f"{loss}_loss")(*leaves, **options)


def assert_as_one_process(results, loss, stats, gradients) -> None:
    """Every rank's (loss, statistics, gradients) are those of one process with all pairs.

    All ranks have the same bits of the loss; the gradients are compared after DDP's mean.
    """
    W = len(results)
    for value, of_all, _ in results:
        assert torch.equal(value, results[0][0])
        torch.testing.assert_close((value, of_all), (loss, stats), rtol=1e-12, atol=0)
    parts_of_each = zip(*(of_rank for *_, of_rank in results), strict=True)
    for expected, parts in zip(gradients, parts_of_each, strict=True):
        if expected is None:
            assert parts == (None,) * W
            continue
        found = sum(parts) / W if parts[0].dim() == 0 else torch.cat(parts) / W
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
