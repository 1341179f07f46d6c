"""How a loss is called with a model's outputs, what it may return, and what a step returns."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from fastclip.train.step.model_call import OF_CAPTIONS


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


def call_loss(
    loss: Callable[..., Any], outputs: Mapping[str, Tensor], **of_loss: Any
) -> tuple[Mapping[str, Tensor], Tensor, Any]:
    """Call a loss with what a model returned for a batch; return what `parts_of` makes of it.

    Args:
        loss: called with (image_features, text_features, logit_scale[, logit_bias]), or by name
            alone if there are captions among the outputs.
        outputs: as `model_call.call` returns them.
        of_loss: what the loss is called with by name besides.

    Raises:
        TypeError: the loss returns something else than a step takes.

    Example:
        >>> terms, value, stats = call_loss(fastclip.ClipLoss(), call(model, images, tokens))
    """
    if any(name in outputs for name in OF_CAPTIONS):
        return parts_of(loss(**outputs, **of_loss))
    return parts_of(loss(*outputs.values(), **of_loss))


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
