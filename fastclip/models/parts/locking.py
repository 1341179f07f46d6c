"""Training only the last layers of a tower, or none of them.

Source: Zhai et al. 2021 (LiT), arXiv:2111.07991.
"""

from torch import nn

Group = list[nn.Module | nn.Parameter]


def lock_groups(groups: list[Group], num_unlocked: int) -> None:
    """Freeze the parameters of all groups but the last `num_unlocked`, which are trained.

    Raises:
        ValueError: `num_unlocked` is negative or more than there are groups.
    """
    if not 0 <= num_unlocked <= len(groups):
        raise ValueError(f"unlocked groups must be in [0, {len(groups)}], got {num_unlocked}")
    for i, group in enumerate(groups):
        for part in group:
            part.requires_grad_(i >= len(groups) - num_unlocked)
