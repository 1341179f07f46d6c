"""Makes the `Scores` of a loss from the arguments of its call."""

from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed.groups import check_schedule, several_processes
from fastclip.losses.family.scores import Scores
from fastclip.ops import validation
from fastclip.ops.side_ids import SideIds

REDUCTIONS = ("mean", "sum", "none")


def scores_of(
    loss: str,
    features: Tensor,
    other_features: Tensor,
    scale: float | Tensor,
    normalize: bool,
    backend: str,
    workspace: int | None,
    reduction: str = "mean",
    process_group: ProcessGroup | None = None,
    ids: SideIds | None = None,
    schedule: str = "gather",
) -> Scores:
    """Return the `Scores` that compute a loss, over this process or over a group.

    Args:
        loss: the name of the loss, on which all processes must agree.
        features, other_features: (B, D); they require a gradient on all processes or on none.
        scale: from `chosen_scale`.
        normalize, backend, workspace, reduction, process_group, schedule: the loss's arguments.
        ids: this process's ids, valid; all processes must have ids, or none.

    Raises:
        TypeError, ValueError: an option is invalid, or `reduction` is not "mean" with a group.
    """
    validation.check_workspace(workspace)
    check_schedule(schedule)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
    group = several_processes(process_group)
    scale_tensor = validation.scalar_tensor("logit_scale", scale, features)
    if group is None:
        return Scores(scale_tensor, normalize, backend, workspace)
    if reduction != "mean":
        raise ValueError(f"reduction must be 'mean' with a process_group, got {reduction!r}")
    # Imported here, because it brings the compiler with it: 0.9 s.
    from fastclip.losses.family.over_ranks import scores_over_ranks

    return scores_over_ranks(
        loss, (features, other_features), scale, scale_tensor, normalize, backend, workspace, group,
        schedule, ids,
    )  # fmt: skip
