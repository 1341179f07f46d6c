"""Calls a loss with a model's outputs, interprets its result, and defines the result of a step."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from fastclip.train.step.model_call import OF_CAPTIONS


class StepResult(NamedTuple):
    """The result of one step; the gradients are in `.grad` of the parameters.

    Attributes:
        loss: () of the whole batch, detached, before any scaling.
        logit_scale: () the multiplicative scale that the loss was computed with.
        num_micro_batches: of this rank.
        num_kept: the micro-batches that kept their graphs, and were encoded once.
        kept_bytes: the measured bytes of the graph of a full micro-batch.
        terms: the terms that add up to `loss`, by name, () each and detached; empty if the loss
            returned a scalar.
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
    """Call a loss with the outputs of a model for a batch; return the parts of `parts_of`.

    Args:
        loss: called with (image_features, text_features, logit_scale[, logit_bias]), or with
            keyword arguments only if there are captions among the outputs.
        outputs: as `model_call.call` returns them.
        of_loss: further keyword arguments of the loss.

    Raises:
        TypeError: the loss returns something that a step does not accept.

    Example:
        >>> terms, value, stats = call_loss(fastclip.ClipLoss(), call(model, images, tokens))
    """
    if any(name in outputs for name in OF_CAPTIONS):
        return parts_of(loss(**outputs, **of_loss))
    return parts_of(loss(*outputs.values(), **of_loss))


def parts_of(returned: Any) -> tuple[Mapping[str, Tensor], Tensor, Any]:
    """Return the terms of a loss by name, if there are any, the loss, and the statistics or None.

    Args:
        returned: the return value of a loss: a scalar, a dict of scalars that are added up, or
            either in a pair with the statistics of the batch, which are not a tensor.

    Raises:
        TypeError: `returned` is none of these, such as a tuple of several losses.
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
            f"statistics, got {returned!r} (for several losses, return a dict: output_dict=True)"
        )
    return terms, value, stats
