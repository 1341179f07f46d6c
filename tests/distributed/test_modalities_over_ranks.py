"""Modalities of which ranks have some: the loss is that of the samples of all in one process."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import fastclip
from tests.distributed.pairs import SCHEDULES
from tests.support.dense import views

D = 16
NAMES = "image", "text", "audio"
PAIRS = [("image", "text"), ("image", "audio"), ("text", "audio")]


class Part(NamedTuple):
    """Of a modality on a rank: how many rows, and which samples are in them or which are masked."""

    num_rows: int
    indices: list[int] | None = None
    there: list[int] | None = None  # rows that are not masked

    @property
    def numbers(self) -> Tensor:
        return torch.tensor(self.indices or list(range(self.num_rows)))

    @property
    def kept(self) -> Tensor:
        return torch.tensor(range(self.num_rows) if self.there is None else self.there).long()


# No rank has images and sounds of one sample, and the last has images alone.
OF_RANKS = [
    {"image": Part(7), "text": Part(7, there=[0, 2, 3, 6])},
    {"audio": Part(5, there=[]), "image": Part(5), "text": Part(5)},
    {"text": Part(4, indices=[3, 0, 9, 5]), "audio": Part(6, indices=[5, 2, 3, 1, 7, 0])},
    {"image": Part(3)},
]


class Inputs(NamedTuple):
    features: dict[str, Tensor]
    ids: dict[str, Tensor]


def inputs_of(rank: int, frozen: tuple[str, ...] = ()) -> Inputs:
    made = dict(zip(NAMES, views(3, 7, D, "trained"), strict=True))
    features = {}
    for name, part in OF_RANKS[rank].items():
        x = made[name].roll(rank, 1)[: part.num_rows].clone()
        features[name] = x.requires_grad_(name not in frozen)
    ids = {name: (torch.arange(len(x)) + rank) ** 2 % 5 for name, x in features.items()}
    return Inputs(features, ids)


def scales_of() -> dict:
    learned = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (9.0, 12.0)]
    return {PAIRS[0]: learned[0], PAIRS[1]: 20.0, PAIRS[2]: learned[1]}


def in_one_process(num_ranks: int, frozen: tuple[str, ...], with_ids: bool):
    """The loss, each pair's, and the gradients of each rank's features and of the scales."""
    inputs, scales = [inputs_of(rank, frozen) for rank in range(num_ranks)], scales_of()
    features, indices, ids = ({name: [] for name in NAMES} for _ in range(3))
    for rank, (own, own_ids) in enumerate(inputs):
        for name, part in OF_RANKS[rank].items():
            features[name].append(own[name][part.kept])
            indices[name].append(part.numbers[part.kept] + 1000 * rank)
            ids[name].append(own_ids[name][part.kept])
    features, indices, ids = (
        {name: torch.cat(parts) for name, parts in x.items() if parts}
        for x in (features, indices, ids)
    )
    present = {name: x for name, x in features.items() if len(x) > 0}
    indices, ids = ({name: x[name] for name in present} for x in (indices, ids))
    loss, pairs = fastclip.modalities_loss(
        present, PAIRS, logit_scale=scales, indices=indices, return_pairs=True,
        ids=ids if with_ids else None,
    )  # fmt: skip
    loss.backward()
    of_features = [{name: gradient_of(x) for name, x in own.features.items()} for own in inputs]
    of_scales = [x.grad for x in scales.values() if isinstance(x, Tensor)]
    return loss.detach(), values_of(pairs), of_features, of_scales


def gradient_of(x):
    """None where none is wanted; of what no pair needs, zeros."""
    return torch.zeros_like(x) if x.grad is None and x.requires_grad else x.grad


def values_of(pairs):
    return {pair: (x.loss.item(), x.num_samples) for pair, x in pairs.items()}


def of_a_rank(group, schedule, frozen, with_ids, backend):
    """As `in_one_process`, of one rank's features."""
    rank = group.rank()
    (features, ids), scales, parts = inputs_of(rank, frozen), scales_of(), OF_RANKS[rank]
    masks = {
        name: torch.zeros(part.num_rows, dtype=torch.bool).index_fill(0, part.kept, True)
        for name, part in parts.items()
        if part.there is not None
    }
    indices = {n: part.numbers for n, part in parts.items() if part.indices is not None}
    loss, pairs = fastclip.modalities_loss(
        features, PAIRS, logit_scale=scales, masks=masks, indices=indices, return_pairs=True,
        process_group=group, schedule=schedule, backend=backend, ids=ids if with_ids else None,
    )  # fmt: skip
    learned = [x for x in scales.values() if isinstance(x, Tensor)]
    wanted = [x for x in features.values() if x.requires_grad]
    if frozen:
        loss.backward()
    else:
        found = torch.autograd.grad(loss, [*wanted, *learned])
        for x, gradient in zip([*wanted, *learned], found, strict=True):
            x.grad = gradient
    of_features = {name: x.grad for name, x in features.items()}
    return loss.detach(), values_of(pairs), of_features, [x.grad for x in learned]


CASES = [
    (2, "gather", (), False, "reference"), (2, "ring", (), True, "reference"),
    (3, "gather", (), True, "chunked"), (3, "ring", (), False, "chunked"),
    (4, "gather", ("image",), True, "auto"), (4, "ring", ("image",), True, "chunked"),
    (4, "gather", (), False, "auto"), (4, "ring", ("text",), False, "auto"),
    (4, "gather", ("image", "text"), False, "chunked"), (4, "ring", NAMES, False, "chunked"),
]  # fmt: skip


@pytest.mark.parametrize("num_ranks, schedule, frozen, with_ids, backend", CASES)
def test_mean_of_gradients_is_that_of_all_samples(
    ranks, num_ranks, schedule, frozen, with_ids, backend
):
    expected = in_one_process(num_ranks, frozen, with_ids)
    loss, pairs, of_features, of_scales = expected
    results = ranks.run(num_ranks, of_a_rank, schedule, frozen, with_ids, backend)
    for rank, (value, found, gradients, _) in enumerate(results):
        assert torch.equal(value, results[0][0])
        torch.testing.assert_close(value, loss, rtol=1e-12, atol=1e-14)
        for pair, (of_pair, num_samples) in found.items():
            assert (of_pair, num_samples) == (
                pytest.approx(pairs[pair][0], rel=1e-12),
                pairs[pair][1],
            )
        for name, gradient in of_features[rank].items():
            if gradient is None:
                assert gradients[name] is None
                continue
            found_gradient = gradients[name] / num_ranks
            torch.testing.assert_close(found_gradient, gradient, rtol=1e-10, atol=1e-13)
    for i, gradient in enumerate(of_scales):
        mean = sum(found[i] for *_, found in results) / num_ranks
        torch.testing.assert_close(mean, gradient, rtol=1e-10, atol=1e-13)


def by_module(group):
    """A module with a learned scale, and no pair anywhere; then one in evaluation."""
    images, texts = inputs_of(0).features.values()
    features = {"image": images} if group.rank() else {"text": texts}
    loss = fastclip.ModalitiesLoss(PAIRS[:2], learned=PAIRS[:2], process_group=group).double()
    value = loss(features)
    value.backward()
    gradients = [p.grad.item() for p in loss.parameters()]
    with torch.no_grad():
        features = {"image": images, "text": texts} if group.rank() else {"image": images}
        alone = fastclip.ModalitiesLoss(PAIRS[:2], learned=PAIRS[:2], world_size=1).double()
        alone = alone(features)
        together = loss(features)
    return value.item(), gradients, alone.item(), together.item()


def test_pair_without_samples_anywhere_is_zero_and_a_rank_alone_is_its_own(ranks):
    (*nothing, without, first), (*again, alone, second) = ranks.run(2, by_module)
    assert nothing == again == [0.0, [0.0, 0.0]]
    assert without == 0.0 and first == second == pytest.approx(alone, rel=1e-12) != 0.0


def disagreements(group):
    is_second = bool(group.rank())
    x, y, z = views(3, 5, D)
    ids = torch.arange(5)
    both = {"image": x, "text": y}
    calls = [
        lambda: fastclip.modalities_loss(both, PAIRS[: 1 + is_second], process_group=group),
        lambda: fastclip.modalities_loss(
            both | {"audio": z}, PAIRS[1::-1] if is_second else PAIRS[:2], process_group=group
        ),
        lambda: fastclip.modalities_loss(
            {"image": x.clone().requires_grad_(is_second), "text": y}, PAIRS, process_group=group
        ),
        lambda: fastclip.modalities_loss(
            both, PAIRS, ids=ids if is_second else None, process_group=group
        ),
        lambda: fastclip.modalities_loss(
            both, PAIRS, schedule=SCHEDULES[is_second], process_group=group
        ),
        lambda: fastclip.modalities_loss(
            {"text": y[:, : D - is_second]}, PAIRS, process_group=group
        ),
        lambda: fastclip.modalities_loss(
            both, PAIRS, logit_scale=9.0 + is_second, process_group=group
        ),
        lambda: fastclip.clip_loss(x, y, 1.0, process_group=group)
        if is_second
        else fastclip.modalities_loss(both, PAIRS, process_group=group),
        lambda: fastclip.modalities_loss(both, PAIRS, schedule="tree", process_group=group),
    ]  # fmt: skip
    said = []
    for call in calls:
        with pytest.raises(ValueError) as error:
            call()
        said.append(str(error.value))
    return said


def wrong_on_one(group):
    x, y, _ = views(3, 5, D)
    twice = torch.zeros(5, dtype=torch.int64)
    wrong = [
        dict(features={"image": x, "text": y, "smell": y}),
        dict(features={}),
        dict(features={"image": x, "text": y.float()}),
        dict(features={"image": x, "text": y}, indices={"text": twice}),
    ]
    said = []
    for given in wrong if group.rank() else [{}] * len(wrong):
        given = dict(features={"image": x, "text": y}) | given
        with pytest.raises((TypeError, ValueError)) as error:
            fastclip.modalities_loss(pairs=PAIRS, process_group=group, **given)
        said.append(str(error.value))
    return said


def test_what_is_wrong_on_one_rank_is_an_error_on_all(ranks):
    of_others, own = ranks.run(2, wrong_on_one)
    message = "the loss must be the same on ranks 0 to 1, got modalities_loss, modalities_loss with"
    assert all(x.startswith(f"{message} wrong modalities") for x in of_others)
    expected = ("the modality 'smell' is in none", "features must be a dict", "image and text must",
                "indices['text'] must all be different")  # fmt: skip
    for found, start in zip(own, expected, strict=True):
        assert found.startswith(start)


def test_ranks_that_disagree_are_told_so(ranks):
    expected = [
        "pairs must be the same on ranks 0 to 1, in their order too, got",
        "pairs must be the same on ranks 0 to 1, in their order too, got",
        "requires_grad of the features of 'image' must be the same on all ranks that have them: "
        "it is on ranks [1], and not on [0]",
        "ids must be the same on ranks 0 to 1, got None, tensors",
        "schedule must be the same on ranks 0 to 1, got gather, ring",
        "D must be the same on ranks 0 to 1, got 16, 15",
        "logit_scale must be the same on ranks 0 to 1, got 9.0, 10.0",
        "the loss must be the same on ranks 0 to 1, got modalities_loss, clip_loss",
        "schedule must be one of ('gather', 'ring'), got 'tree'",
    ]
    for said in ranks.run(2, disagreements):
        for found, message in zip(said, expected, strict=True):
            assert found.startswith(message)
