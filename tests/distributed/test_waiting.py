"""A loss or a backward that one rank leaves out: the others say so at the group's timeout."""

import time
from datetime import timedelta
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

import fastclip
from fastclip.distributed import waiting
from tests.distributed.pairs import inputs_of, leaves_of, loss_of

SECONDS = 1.0
ABSENT = 1


def errors_without_a_rank(group, loss, inputs, schedule, backward):
    """What the losses of 3 ranks say of which one does not take part."""
    dist.barrier(group)
    waiters = dist.new_group(list(range(group.size())), timedelta(seconds=SECONDS))
    leaves = leaves_of(group.rank(), inputs)
    if backward:
        value = loss_of(loss, leaves, process_group=waiters, schedule=schedule)
    message, began = None, time.monotonic()
    if group.rank() != ABSENT:
        try:
            with patch.object(waiting, "SECONDS_FOR_NOTES", 0.5):
                if backward:
                    value.backward()
                else:
                    loss_of(loss, leaves, process_group=waiters, schedule=schedule)
        except RuntimeError as error:
            message = str(error)
    seconds = time.monotonic() - began
    dist.barrier(group)  # the absent one keeps its ends of the connections open
    return message, seconds


@pytest.mark.parametrize("loss, schedule, backward", [
    ("clip", "gather", False), ("siglip", "ring", False), ("clip", "gather", True),
    ("clip", "ring", True), ("siglip", "gather", True), ("siglip", "ring", True),
])  # fmt: skip
def test_ranks_that_waited_in_vain_say_for_whom(ranks, loss, schedule, backward):
    results = ranks.run(4, errors_without_a_rank, loss, inputs_of(loss), schedule, backward)
    for rank, (message, seconds) in enumerate(results):
        if rank == ABSENT:
            assert message is None
            continue
        for words in (f"ranks, [{ABSENT}] did not take part", "Every rank of the group must call",
                      "ClipLoss(world_size=1)"):  # fmt: skip
            assert words in message
        assert seconds < 10 * SECONDS


def message_without_a_store(group):
    class NoStore:
        def size(self):
            return 2

        def get_group_store(self):
            raise RuntimeError("there is none")

    try:
        with waiting.Exchange(NoStore()):
            raise RuntimeError("the engine's words")
    except RuntimeError as error:
        return str(error)


def test_other_errors_pass_and_stores_may_fail():
    message = message_without_a_store(None)
    assert "between the 2 ranks of its process group failed: the engine's words. " in message
    assert "Every rank of the group must call" in message and "world_size=1" in message
    assert "did not take part" not in message
    for error in (torch.OutOfMemoryError("x"), NotImplementedError("x"), ValueError("x")):
        with pytest.raises(type(error), match=r"^x$"), waiting.Exchange(None):
            raise error


def module_made_before_the_group(group, made):
    """The module comes from a process without a group, as pickled settings."""
    image, text, scale = leaves_of(dist.get_rank(), inputs_of("clip"))
    value = made(image, text, scale)
    expected = fastclip.clip_loss(image, text, scale, process_group=dist.group.WORLD)
    return torch.equal(value, expected)


def test_a_module_may_be_made_before_its_group(ranks):
    assert not dist.is_initialized()
    made = fastclip.ClipLoss(world_size=4)
    assert ranks.run(4, module_made_before_the_group, made) == [True] * 4
