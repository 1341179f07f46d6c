"""Options of the CLIP loss over ranks: those of all pairs and all extra texts as one batch."""

import pytest
import torch

import fastclip
from tests.distributed.pairs import SCHEDULES, SIZES, D, assert_as_one_process, inputs_of, leaves_of
from tests.support.inputs import planted_features, square
from tests.support.pairwise import cover_pairs

EXTRA_SIZES = (3, 17, 1, 8)
DIRECTIONS = {
    "both": ("image_to_text", "text_to_image"),
    "images": ("image_to_text",),
    "texts": ("text_to_image",),
    "weighted": {"text_to_image": 0.3, "image_to_text": 1.7},
}


def batch(is_weighted, has_extra):
    """Of all ranks: images, texts, the scale, and weights and extra texts, which may be None."""
    generator = torch.Generator().manual_seed(5)
    weights = torch.rand(sum(SIZES), generator=generator, dtype=torch.float64)
    extra = planted_features(square(sum(EXTRA_SIZES), D), "cone", torch.float64, seed=2)[0]
    return inputs_of("clip"), weights if is_weighted else None, extra if has_extra else None


def of_a_rank(group, inputs, weights, extra, frozen, options):
    """Its loss and statistics, and its gradients: of features, the scale, extra texts, weights."""
    rank = group.rank()
    leaves = leaves_of(rank, inputs, frozen)
    own = [
        None if x is None else x.split(sizes)[rank].clone().requires_grad_()
        for x, sizes in ((extra, EXTRA_SIZES), (weights, SIZES))
    ]
    loss, stats = fastclip.clip_loss(
        *leaves, extra_text_features=own[0], weights=own[1], process_group=group,
        return_stats=True, **options,
    )  # fmt: skip
    loss.backward()
    return loss.detach(), stats, [None if x is None else x.grad for x in (*leaves, *own)]


CASES = [
    (schedule, frozen, smoothing, margin, is_weighted, directions, has_extra, normalize)
    for (schedule, has_extra), frozen, smoothing, margin, is_weighted, directions, normalize
    in cover_pairs(
        [("ring", False), ("gather", False), ("gather", True)], [(), (0,), (1,), (2,)],
        [0.0, 0.1], [0.0, 0.2], [False, True], list(DIRECTIONS), [False, True],
    )
]  # fmt: skip


@pytest.mark.parametrize(
    "schedule, frozen, smoothing, margin, is_weighted, directions, has_extra, normalize", CASES
)
def test_loss_and_gradients_are_those_of_one_process(
    ranks, schedule, frozen, smoothing, margin, is_weighted, directions, has_extra, normalize
):
    inputs, weights, extra = batch(is_weighted, has_extra and directions != "texts")
    if normalize:
        inputs[0], inputs[1] = 3.0 * inputs[0], 0.2 * inputs[1]
    options = dict(label_smoothing=smoothing, margin=margin, directions=DIRECTIONS[directions],
                   normalize=normalize, backend="chunked")  # fmt: skip
    leaves = [x.clone().requires_grad_(i not in frozen) for i, x in enumerate(inputs)]
    own = [None if x is None else x.clone().requires_grad_() for x in (extra, weights)]
    loss, stats = fastclip.clip_loss(
        *leaves, extra_text_features=own[0], weights=own[1], return_stats=True, **options
    )
    loss.backward()
    expected = [None if x is None else x.grad for x in (*leaves, *own)]
    results = ranks.run(
        4, of_a_rank, inputs, weights, extra, frozen, options | {"schedule": schedule}
    )
    assert_as_one_process(results, loss.detach(), stats, expected)


def error_of(group, of_rank_1):
    options = of_rank_1 if group.rank() == 1 else {}
    image, text = (torch.ones(3, 4, requires_grad=True) for _ in range(2))
    options = {"extra_text_features": torch.ones(2, 4)} | options
    try:
        fastclip.clip_loss(image, text, 10.0, process_group=group, **options)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(
    "of_rank_1, message",
    [
        (
            {"label_smoothing": 0.1},
            "label_smoothing must be the same on ranks 0 to 2, got 0.0, 0.1, 0.0",
        ),
        ({"margin": 0.2}, "margin must be the same on ranks 0 to 2, got 0.0, 0.2, 0.0"),
        (
            {"directions": ["image_to_text"]},
            "the weight of image_to_text must be the same on ranks 0 to 2, got 0.5, 1.0, 0.5",
        ),
        (
            {"directions": {"image_to_text": 0.5, "text_to_image": 1.5}},
            "the weight of text_to_image must be the same on ranks 0 to 2, got 0.5, 1.5, 0.5",
        ),
        (
            {"weights": torch.ones(3)},
            "weights must be the same on ranks 0 to 2, got None, tensors, None",
        ),
        (
            {"extra_text_features": None},
            "extra_text_features must be the same on ranks 0 to 2, got tensors, None, tensors",
        ),
        (
            {"extra_text_features": torch.ones(2, 4, requires_grad=True)},
            "requires_grad of extra_text_features must be the same on ranks 0 to 2",
        ),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_ranks_whose_options_disagree_raise_the_same_error(ranks, of_rank_1, message):
    errors = ranks.run(3, error_of, of_rank_1)
    assert errors[0].startswith(message) and errors == [errors[0]] * 3


def refused_on_a_ring(group):
    x = torch.ones(3, 4)
    with pytest.raises(ValueError, match="extra_text_features must have schedule='gather'"):
        fastclip.clip_loss(x, x, 10.0, process_group=group, schedule="ring", extra_text_features=x)


def test_extra_texts_on_a_ring_are_refused_before_anything_is_sent(ranks):
    ranks.run(2, refused_on_a_ring)


def by_module(group, inputs, options):
    leaves = leaves_of(group.rank(), inputs)
    weights = torch.ones(len(leaves[0]))
    return [
        fastclip.ClipLoss(schedule=schedule, **options)(*leaves, weights=weights).item()
        for schedule in SCHEDULES
    ]


def test_modules_have_the_options_of_all_ranks(ranks):
    inputs = inputs_of("clip")
    options = dict(label_smoothing=0.1, margin=0.2, directions=["text_to_image"])
    expected = fastclip.clip_loss(*inputs, **options).item()
    for values in ranks.run(4, by_module, inputs, options):
        assert values == pytest.approx([expected] * len(SCHEDULES), rel=1e-12)
