"""The CLIP losses of several prefixes of the features in one pass, if the backend can do that."""

from torch import Tensor

from fastclip.ops import dispatch, validation
from fastclip.ops.prefix_lse import prefix_losses
from fastclip.rectangle import MAIN_DIAGONAL, Rectangle

# The least ratio of the sum of all lengths to the longest, which is the ratio of a loop's products
# to one pass's. Below it one pass has no advantage, because it holds fewer logits for its backward
# and computes the others again (benchmarks/LOG.md).
LEAST_SAVING = 1.3


def losses_in_one_pass(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    dims: tuple[int, ...],
    backend: str,
    workspace: int | None,
) -> dict[int, Tensor] | None:
    """Return the mean loss at each of `dims`, in their order, or None if a loop is better.

    Args:
        image_features, text_features: (B, D), of which each prefix is normalised.
        logit_scale, backend: see `fastclip.clip_loss`.
        workspace: see `fastclip.clip_loss`; for all prefixes together.
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
