"""Freezing of a tower's layers, so that only the last ones, or none, are trained.

Source: Zhai et al. 2021 (LiT), arXiv:2111.07991.
"""

from torch import nn

Group = list[nn.Module | nn.Parameter]


def lock_groups(groups: list[Group], num_unlocked: int) -> None:
    """Freeze the parameters of all groups except the last `num_unlocked`, which are trained.

    Raises:
        ValueError: `num_unlocked` is negative or larger than the number of groups.
    """
    if not 0 <= num_unlocked <= len(groups):
        raise ValueError(
            f"the number of unlocked groups must be from 0 to {len(groups)}, as many as the tower "
            f"has, got {num_unlocked}"
        )
    for i, group in enumerate(groups):
        for part in group:
            part.requires_grad_(i >= len(groups) - num_unlocked)
