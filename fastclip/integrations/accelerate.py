"""Cached steps of a model that Hugging Face Accelerate has prepared.

A plain step does not need this module: call `accelerator.backward(loss)` with a loss of fastclip,
which finds torch.distributed's processes by itself and gathers features with their gradients. Never
call `accelerator.gather` on the features first: it has no gradient, and the features would be
gathered twice.

A cached step computes its gradients itself, so that it must do what `accelerator.backward` does: it
divides the loss by the number of accumulation steps and multiplies it by float16's scale.
Accelerate puts autocast inside the model's forward, which returns float32; the step runs under the
same autocast, so that it compares second encodings within the rounding of that dtype.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from fastclip.train.step.cached import CachedStep


class AcceleratedScale:
    """Scales a loss before its gradients are computed, as `accelerator.backward` does.

    Args:
        accelerator: an `accelerate.Accelerator`.
        parts: returns how many calls add up to one step of the optimiser, if the accelerator does
            not count them itself.
    """

    def __init__(self, accelerator: Any, parts: Callable[[], int] = lambda: 1) -> None:
        self._accelerator = accelerator
        self._parts = parts

    def scale(self, loss: Tensor) -> Tensor:
        loss = loss / (self._accelerator.gradient_accumulation_steps * self._parts())
        scaler = self._accelerator.scaler
        return loss if scaler is None else scaler.scale(loss)


def cached_step(
    accelerator: Any,
    model: nn.Module,
    loss: nn.Module | Callable[..., Tensor],
    micro_batch_size: int,
    activation_budget: str | float = 0,
    *,
    parts: Callable[[], int] = lambda: 1,
) -> CachedStep:
    """Return a `fastclip.CachedStep` of a prepared model; call it instead of `backward`.

    Args:
        accelerator: an `accelerate.Accelerator` of one process, or of several with
            DistributedDataParallel. Its mixed precision and its accumulation are respected.
        model: what `accelerator.prepare` returned.
        loss, micro_batch_size, activation_budget: see `fastclip.CachedStep`.
        parts: returns how many calls add up to one step, besides the accelerator's accumulation.

    Raises:
        ValueError: the accelerator shards the model (FSDP, DeepSpeed, Megatron), so that its
            weights cannot be read outside of its forward; or as `fastclip.CachedStep`.

    Example:
        >>> model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        >>> step = cached_step(accelerator, model, fastclip.ClipLoss(), micro_batch_size=64)
        >>> for images, tokens in loader:
        ...     with accelerator.accumulate(model):
        ...         loss = step(images, tokens).loss
        ...         optimizer.step()
        ...         optimizer.zero_grad()
    """
    require_whole_weights(accelerator)
    scale = AcceleratedScale(accelerator, parts)
    return CachedStep(
        model, loss, micro_batch_size, activation_budget, accelerator.autocast, scaler=scale
    )


def require_whole_weights(accelerator: Any) -> None:
    """Raise ValueError unless every process has all weights of the model."""
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if kind != "NO" and not kind.startswith("MULTI_"):
        raise ValueError(
            f"accelerator.distributed_type must be NO or MULTI_..., got {kind}: the logit scale is "
            "read outside of the model's forward, where a sharded parameter is not whole"
        )
