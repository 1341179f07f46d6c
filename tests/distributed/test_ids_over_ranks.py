"""Ids over ranks: the losses of all pairs as one batch, whose ids are those of all ranks."""

import pytest
import torch

import fastclip
from tests.distributed.pairs import SIZES, assert_as_one_process, inputs_of, leaves_of, loss_of
from tests.support.pairwise import cover_pairs


def ids_of_all(kind):
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 25, (sum(SIZES),), generator=generator)
    texts = images.clone()
    if kind == "unequal":
        texts[::7] = torch.randint(0, 60, (len(texts[::7]),), generator=generator)
    if kind == "in order":  # on each rank
        images = texts = torch.cat([x.sort().values for x in images.split(SIZES)])
    return images, texts


def of_a_rank(group, loss, inputs, ids, frozen, options):
    rank = group.rank()
    leaves = leaves_of(rank, inputs, frozen)
    images, texts = (x.split(SIZES)[rank] for x in ids)
    value = loss_of(loss, leaves, image_ids=images, text_ids=texts, process_group=group, **options)
    value, stats = value if options.get("return_stats") else (value, None)
    value.backward()
    return value.detach(), stats, [x.grad for x in leaves]


CASES = [
    (loss, schedule, positives, smoothing, kind, frozen, with_stats)
    for (loss, schedule, positives, smoothing), kind, frozen, with_stats in cover_pairs(
        [
            ("clip", "ring", "pairs", 0.0), ("clip", "gather", "pairs", 0.0),
            ("clip", "gather", "pairs", 0.1), ("clip", "gather", "ids", 0.0),
            ("clip", "gather", "ids", 0.1), ("siglip", "ring", "pairs", 0.0),
            ("siglip", "gather", "pairs", 0.0), ("siglip", "gather", "ids", 0.0),
        ],
        ["classes", "unequal", "in order"], [(), (0,), (1,)], [False, True],
    )
]  # fmt: skip


@pytest.mark.parametrize("loss, schedule, positives, smoothing, kind, frozen, with_stats", CASES)
def test_loss_and_gradients_are_those_of_one_process(
    ranks, loss, schedule, positives, smoothing, kind, frozen, with_stats
):
    inputs, ids = inputs_of(loss), ids_of_all(kind)
    options = dict(positives=positives, backend="reference")
    if loss == "clip":
        options |= dict(label_smoothing=smoothing, return_stats=with_stats)
    leaves = [x.clone().requires_grad_(i not in frozen) for i, x in enumerate(inputs)]
    value = loss_of(loss, leaves, image_ids=ids[0], text_ids=ids[1], **options)
    value, stats = value if options.get("return_stats") else (value, None)
    value.backward()
    expected = [x.grad for x in leaves]
    results = ranks.run(4, of_a_rank, loss, inputs, ids, frozen, options | {"schedule": schedule})
    assert_as_one_process(results, value.detach(), stats, expected)


def error_of(group, loss, options, of_rank_1):
    options = options | (of_rank_1 if group.rank() == 1 else {})
    x = torch.ones(3, 4)
    try:
        getattr(fastclip, loss)(x, x, 10.0, process_group=group, **options)
    except ValueError as error:
        return str(error)


IDS = torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize(
    "loss, options, of_rank_1, message",
    [
        ("clip_loss", {"ids": IDS}, {"ids": None},
         "ids must be the same on ranks 0 to 1, got tensors, None"),
        ("siglip_loss", {"ids": IDS}, {"positives": "ids"},
         "positives must be the same on ranks 0 to 1, got pairs, ids"),
        ("clip_loss", {"ids": IDS, "positives": "ids", "schedule": "ring"}, {},
         "with a process_group, positives='ids' must have schedule='gather', got 'ring'"),
        ("siglip_loss", {"ids": IDS, "positives": "ids", "schedule": "ring"}, {},
         "with a process_group, positives='ids' must have schedule='gather', got 'ring'"),
        ("clip_loss", {"ids": IDS, "label_smoothing": 0.1, "schedule": "ring"}, {},
         "with a process_group, label_smoothing with ids must have schedule='gather', got 'ring'"),
    ],
    ids=["ids", "positives", "clip ring", "siglip ring", "smoothing ring"],
)  # fmt: skip
def test_ranks_are_told_what_they_cannot_have(ranks, loss, options, of_rank_1, message):
    errors = ranks.run(2, error_of, loss, options, of_rank_1)
    assert errors[0].startswith(message) and errors == [errors[0]] * 2
