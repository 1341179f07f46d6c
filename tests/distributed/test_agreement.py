"""Disagreement between ranks: the same clear error on all of them, and no rank that waits."""

import numpy as np
import pytest
import torch
import torch.distributed as dist

import fastclip
from fastclip.distributed.groups import find_group, several_processes

B, D = 3, 4


def error_of(group, of_rank_1):
    """The error of a loss of which rank 1 has other arguments."""
    changes = of_rank_1 if group.rank() == 1 else {}
    dtype, dim = changes.get("dtype", torch.float32), changes.get("D", D)
    image, text = (torch.ones(B, dim, dtype=dtype) for _ in range(2))
    image.requires_grad_(changes.get("image_grad", True))
    text.requires_grad_(changes.get("text_grad", True))
    scale = torch.tensor(10.0, requires_grad=changes.get("scale_grad", True))
    names = "schedule", "normalize", "return_stats"
    options = {name: changes[name] for name in names if name in changes}
    loss = fastclip.siglip_loss if changes.get("siglip") else fastclip.clip_loss
    try:
        loss(image, text, scale, process_group=group, **options)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(
    "of_rank_1, message",
    [
        ({"D": 5}, "D must be the same on ranks 0 to 2, got 4, 5, 4"),
        (
            {"dtype": torch.bfloat16},
            "the dtype of features must be the same on ranks 0 to 2, "
            "got torch.float32, torch.bfloat16, torch.float32",
        ),
        (
            {"schedule": "ring"},
            "schedule must be the same on ranks 0 to 2, got gather, ring, gather",
        ),
        ({"normalize": True}, "normalize must be the same on ranks 0 to 2, got False, True, False"),
        ({"return_stats": True}, "return_stats must be the same on ranks 0 to 2"),
        ({"siglip": True}, "the loss must be the same on ranks 0 to 2, got clip_loss, siglip_loss"),
        ({"image_grad": False}, "requires_grad of image_features must be the same on ranks 0 to 2"),
        ({"text_grad": False}, "requires_grad of text_features must be the same on ranks 0 to 2"),
        ({"scale_grad": False}, "requires_grad of logit_scale or logit_bias must be the same"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_ranks_that_disagree_raise_the_same_error(ranks, of_rank_1, message):
    errors = ranks.run(3, error_of, of_rank_1)
    assert errors[0].startswith(message) and errors == [errors[0]] * 3


def error_of_numbers(group, scales, biases):
    """The error of a loss with numbers that are this rank's, or its value."""
    x = torch.eye(B, D, requires_grad=True)
    scale, bias = (torch.tensor(10.0) if y is None else y for y in
                   (scales[group.rank()], biases[group.rank()]))  # fmt: skip
    try:
        return fastclip.siglip_loss(x, x, scale, bias, process_group=group).item()
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(
    "scales, biases, message",
    [
        ((10.0, 20.0), (0, 0), "logit_scale must be the same on ranks 0 to 1, got 10.0, 20.0"),
        ((10.0, 10), (0.0, -4.5), "logit_bias must be the same on ranks 0 to 1, got 0.0, -4.5"),
        ((10.0, None), (0, 0), "logit_scale must be the same on ranks 0 to 1, got 10.0, a tensor"),
    ],
)
def test_numbers_that_differ_raise_the_same_error(ranks, scales, biases, message):
    errors = ranks.run(2, error_of_numbers, scales, biases)
    assert errors[0].startswith(message) and errors[0] == errors[1]


def test_equal_numbers_of_any_type_agree(ranks):
    values = ranks.run(2, error_of_numbers, (10, np.float32(10)), (0.0, -0.0))
    assert isinstance(values[0], float) and values[0] == values[1]


def wrong_arguments(group):
    x = torch.ones(B, D)
    with pytest.raises(ValueError, match="reduction must be 'mean' with a process_group"):
        fastclip.clip_loss(x, x, 10.0, process_group=group, reduction="none")
    with pytest.raises(ValueError, match="reduction must be 'mean' with a process_group"):
        fastclip.siglip_loss(x, x, 10.0, process_group=group, reduction="none")
    with pytest.raises(ValueError, match=r"schedule must be one of .*, got 'star'"):
        fastclip.siglip_loss(x, x, 10.0, process_group=group, schedule="star")
    with pytest.raises(TypeError, match="process_group must be a ProcessGroup or None, got int"):
        fastclip.clip_loss(x, x, 10.0, process_group=3)


def test_wrong_arguments_raise_before_anything_is_sent(ranks):
    ranks.run(2, wrong_arguments)


def groups_found(group):
    rank = dist.get_rank()
    assert find_group(None, None, None) is dist.group.WORLD
    assert find_group(rank, 4, None) is dist.group.WORLD
    assert find_group(rank, 4, group) is group
    assert find_group(None, 1, None) is None and find_group(0, 1, None) is None
    with pytest.raises(ValueError, match=f"this process's rank {rank} of 4, got {3 - rank}"):
        find_group(3 - rank, 4, None)
    with pytest.raises(ValueError, match=r"world_size=3 needs a group .*, but the group has 4"):
        find_group(None, 3, None)
    with pytest.raises(ValueError, match=r"rank must be in \[0, world_size=1\), got 2"):
        find_group(2, 1, None)
    alone, *_ = [dist.new_group([r]) for r in range(4)]
    if rank == 0:
        assert several_processes(alone) is None
    else:
        with pytest.raises(ValueError, match="process_group must contain this process"):
            several_processes(alone)


def test_groups_are_found_and_checked(ranks):
    ranks.run(4, groups_found)
