"""The CLIP losses of several prefixes of the features in one pass, where a backend has it."""

from torch import Tensor

from fastclip.ops import dispatch, validation
from fastclip.ops.prefix_lse import prefix_losses
from fastclip.rectangle import MAIN_DIAGONAL, Rectangle

# Of all lengths together over the longest, which is what a loop multiplies over what one pass does.
# Below it one pass has no advantage: it holds fewer logits for its backward, and computes them
# again (benchmarks/LOG.md).
LEAST_SAVING = 1.3


def losses_in_one_pass(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    dims: tuple[int, ...],
    backend: str,
    workspace: int | None,
) -> dict[int, Tensor] | None:
    """The mean loss at each of `dims`, in their order; or None, if a loop is to be taken.

    Args:
        image_features, text_features: (B, D), of which each prefix is normalised.
        logit_scale, backend: see `fastclip.clip_loss`.
        workspace: see `fastclip.clip_loss`; of all prefixes together.
        dims: lengths of prefixes, at most D, all different.

    Raises:
        TypeError, ValueError, RuntimeError: as `fastclip.clip_loss`.
    """
    longest = max(dims)
    if sum(dims) < LEAST_SAVING * longest or image_features.device.type != "cpu":
        return None
    logit_scale = validation.scalar("logit_scale", logit_scale, image_features.device)
    validation.check_options(logit_scale, "mean", workspace)
    scale = validation.scalar_tensor("logit_scale", logit_scale, image_features)
    sides = (x[:, :longest] for x in (image_features, text_features))
    square = Rectangle(*sides, scale, MAIN_DIAGONAL, normalize=True)
    backend = dispatch.resolve_backend(backend, square.rows)
    if not dispatch.has_prefixes(backend):
        return None
    ascending = tuple(sorted(dims))
    losses = prefix_losses(square, ascending, backend, workspace).unbind()
    return {dim: losses[ascending.index(dim)] for dim in dims}
