"""What a loss may return to a step, and what the step returns."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor


class StepResult(NamedTuple):
    """What one step found; gradients are where autograd puts them.

    Attributes:
        loss: () of the whole batch, detached, before any scaling.
        logit_scale: () multiplicative, that the loss was computed with.
        num_micro_batches: of this rank.
        num_kept: of them that kept their graphs, and were encoded once.
        kept_bytes: measured, of the graph of a full micro-batch.
        terms: () each and detached, by name, that add up to `loss`; empty if the loss returned a
            scalar.
        stats: what the loss returned besides its value, such as `fastclip.ClipStats`; or None.

    Example:
        >>> result = step(images, tokens, return_stats=True)
        >>> print(float(result.loss), float(result.stats.image_to_text_accuracy))
    """

    loss: Tensor
    logit_scale: Tensor
    num_micro_batches: int
    num_kept: int
    kept_bytes: int
    terms: dict[str, Tensor]
    stats: Any = None


def parts_of(returned: Any) -> tuple[Mapping[str, Tensor], Tensor, Any]:
    """The terms by name, if there are any, the loss, and the statistics or None.

    Args:
        returned: a scalar, a dict of scalars that are added up, or either in a pair with what is
            no tensor: statistics of the batch.

    Raises:
        TypeError: it is none of these, such as a tuple of several losses.
    """
    value, stats = returned, None
    if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[1], Tensor):
        value, stats = value
    terms = value if isinstance(value, Mapping) else {}
    if terms:
        value = sum(terms.values())
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise TypeError(
            "the loss must return a scalar, a dict of scalars, or either in a pair with "
            f"statistics, got {returned!r} (of several losses, return a dict: output_dict=True)"
        )
    return terms, value, stats
