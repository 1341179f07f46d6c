"""Low precision over ranks, and the statistics of the whole batch."""

import pytest
import torch

import fastclip
from tests.distributed.pairs import LOSSES, SCHEDULES, inputs_of, leaves_of, loss_of
from tests.support import exact
from tests.support.pairwise import cover_pairs
from tests.support.tolerance import check_value_and_grads


def value_and_gradients(group, loss, inputs, **options):
    leaves = leaves_of(group.rank(), inputs)
    value = loss_of(loss, leaves, process_group=group, **options)
    value.backward()
    return value.detach(), [x.grad for x in leaves]


def as_one_process(results):
    """What DDP makes of it: the features' gradients divided by W, the mean of the scalars'."""
    W = len(results)
    of_inputs = list(zip(*(gradients for _, gradients in results), strict=True))
    features = [torch.cat(parts) / W for parts in of_inputs[:2]]
    return results[0][0], [*features, *(sum(parts) / W for parts in of_inputs[2:])]


@pytest.mark.parametrize(
    "loss, schedule, dtype, problem",
    cover_pairs(
        LOSSES, SCHEDULES, [torch.float32, torch.bfloat16, torch.float16],
        [("random", 100.0, False), ("trained", 100.0, True), ("cone", 14.3, False)],
    ),
    ids=str,
)  # fmt: skip
def test_low_precision_is_within_the_budget_of_one_process(ranks, loss, schedule, dtype, problem):
    data, scale, normalize = problem
    inputs = inputs_of(loss, dtype, data, scale)
    options = dict(schedule=schedule, normalize=normalize)
    results = ranks.run(4, value_and_gradients, loss, inputs, **options)
    assert all(torch.equal(value, results[0][0]) for value, _ in results)
    true_loss = getattr(exact, f"{loss}_loss")
    check_value_and_grads(as_one_process(results), true_loss, *inputs, normalize=normalize)


def statistics(group, inputs, schedule, frozen):
    leaves = leaves_of(group.rank(), inputs, frozen)
    options = dict(process_group=group, schedule=schedule, return_stats=True)
    loss, stats = fastclip.clip_loss(*leaves, **options)
    assert not any(x.requires_grad for x in stats)
    return loss.detach(), stats


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("frozen", [(), (0,)], ids=["nothing-frozen", "images-frozen"])
def test_statistics_are_those_of_the_whole_batch(ranks, schedule, frozen):
    inputs = inputs_of("clip", torch.float64, "random", 10.0)
    # Random features are all wrong: make some images right, and other texts.
    inputs[0][::3] += inputs[1][::3]
    inputs[1][::2] += 0.5 * inputs[0][::2]
    loss, stats = fastclip.clip_loss(*inputs, return_stats=True)
    assert stats.image_to_text_accuracy != stats.text_to_image_accuracy
    for actual in ranks.run(4, statistics, inputs, schedule, frozen):
        torch.testing.assert_close(actual, (loss, stats))
