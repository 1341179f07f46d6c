"""The family's losses against the classes whose place they can take, in float64 to 1e-10."""

from itertools import combinations

import pytest
import torch

import fastclip
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.family.losses import LOSSES, providers_of
from fastclip.benchmarks.torchvision import make_importable
from tests.benchmarks.test_family_benchmark import check_agrees
from tests.support.dense import check_exact, views

make_importable()
lightly = pytest.importorskip("lightly.loss")
metric_learning = pytest.importorskip("pytorch_metric_learning.losses")
sentence_transformers = pytest.importorskip("sentence_transformers.sentence_transformer.losses")

N, D = 24, 16
ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


def without_scale(loss):
    """The peers' scale is a plain number: that gradient is not compared."""
    return lambda *inputs: loss(*inputs[:-1])


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")  # lightly's
@pytest.mark.parametrize("temperature", [0.5, 0.07])
def test_lightlys_losses_of_two_views(temperature):
    for name in ("NTXentLoss", "DCLLoss"):
        ours = getattr(fastclip, name)(temperature)
        theirs = getattr(lightly, name)(temperature)
        check_exact(without_scale(ours), without_scale(theirs), views(2, N, D), 1.0)
    ours = fastclip.DCLLoss(temperature, sigma=0.4)
    theirs = lightly.DCLWLoss(temperature, sigma=0.4)
    check_exact(without_scale(ours), without_scale(theirs), views(2, N, D), 1.0)


@pytest.mark.parametrize("temperature", [0.1, 0.05])
def test_metric_learnings_losses_of_labels(temperature):
    labels = torch.arange(N) % 5
    labels[3] = 17  # alone
    ours = fastclip.SupConLoss(temperature)
    theirs = metric_learning.SupConLoss(temperature)
    check_exact(lambda x, _: ours(x, labels), lambda x, _: theirs(x, labels), views(1, N, D), 1.0)
    ours, theirs = fastclip.NTXentLoss(temperature), metric_learning.NTXentLoss(temperature)
    of_views = torch.arange(N).repeat(2)
    check_exact(without_scale(ours), lambda x, y, _: theirs(torch.cat([x, y]), of_views),
                views(2, N, D), 1.0)  # fmt: skip


# All that it takes: each direction beside query_to_doc or not; apart, those with a positive.
JOINT = [(ALL[0], *others) for num in range(4) for others in combinations(ALL[1:], num)]
APART = [("query_to_doc",), ("query_to_doc", "doc_to_query")]
PARTITIONS = [dict(directions=x) for x in JOINT]
PARTITIONS += [dict(directions=x, partition_mode="per_direction") for x in APART]
HARDNESS = [
    dict(hardness_mode="in_batch_negatives", hardness_strength=9.0),
    dict(hardness_mode="hard_negatives", hardness_strength=5.0),
    dict(hardness_mode="all_negatives", hardness_strength=5.0),
]
HARDER = [x | y for x in HARDNESS for y in ({}, PARTITIONS[-1], dict(directions=ALL))]


@pytest.mark.parametrize("num_wrong", [0, 2])
@pytest.mark.parametrize("options", [*PARTITIONS, *HARDER], ids=str)
def test_sentence_transformers_ranking_loss(options, num_wrong):
    if options.get("hardness_mode") == "hard_negatives" and num_wrong == 0:
        pytest.skip("refused here; without an effect there")
    ours = fastclip.MultipleNegativesLoss(**options)
    theirs = sentence_transformers.MultipleNegativesRankingLoss(None, **options)
    check_exact(
        lambda q, d, *others: ours(q, d, others[:-1]),
        lambda q, d, *others: theirs.compute_loss_from_embeddings([q, d, *others[:-1]], None),
        views(2 + num_wrong, N, D),
        1.0,
    )


def batches(num: int) -> list[list[torch.Tensor]]:
    """Queries and keys of so many steps, all different."""
    x, y = views(2, num * N, D)
    return list(zip(x.split(N), y.split(N), strict=True))


@pytest.mark.parametrize("wrapped", ["NTXentLoss", "SupConLoss"])
@pytest.mark.parametrize("size", [N, 2 * N + 5])
def test_metric_learnings_memory_across_batches(wrapped, size):
    """It keeps the batch's own keys too; over five steps both queues fill up and begin again."""
    ours = fastclip.QueueLoss(D, size, 0.1, in_batch=True).double()
    memory = metric_learning.CrossBatchMemory(
        getattr(metric_learning, wrapped)(0.1), D, size + N
    ).double()
    is_key = torch.arange(2 * N) >= N
    for step, batch in enumerate(batches(5)):
        samples = step * N + torch.arange(N).repeat(2)
        check_exact(
            lambda q, k, _: ours(q, k.detach()),
            lambda q, k, _, y=samples: memory(torch.cat([q, k]), y, enqueue_mask=is_key),
            list(batch),
            1.0,
        )
    assert ours.queue.num_kept == size and memory.has_been_filled


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
def test_lightlys_memory_bank():
    """Its negatives are those of the bank alone, which is full from the start."""
    # It cuts a batch at the end of its bank.
    size = 2 * N
    theirs = lightly.NTXentLoss(0.2, memory_bank_size=(size, D)).double()
    ours = fastclip.QueueLoss(D, size, 0.2).double()
    ours.enqueue(views(1, size, D, "cone")[0])
    theirs.memory_bank.bank.copy_(ours.queue.keys)
    for batch in batches(4):
        check_exact(without_scale(ours), without_scale(theirs), list(batch), 1.0)


@pytest.mark.parametrize("kind, scale", [("random", 14.3), ("trained", 50.0), ("cone", 100.0)])
@pytest.mark.parametrize("name", LOSSES)
def test_each_peer_of_the_benchmark_is_the_formula(name, kind, scale):
    case = Case(N, D, torch.float64, scale, kind)
    assert [p.objection(case) for p in providers_of(name)] == [None] * len(providers_of(name))
    for provider in providers_of(name):
        check_agrees(provider, case)
