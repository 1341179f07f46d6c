"""The family's losses against the classes whose place they can take, in float64 to 1e-10."""

import pytest
import torch

import fastclip
from fastclip.benchmarks.torchvision import make_importable
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


@pytest.mark.parametrize("num_wrong", [0, 2])
@pytest.mark.parametrize("options", [
    {},
    dict(directions=ALL),
    dict(directions=("query_to_doc", "doc_to_doc")),
    dict(directions=("query_to_doc", "query_to_query")),
    dict(directions=("query_to_doc", "doc_to_query")),
    dict(directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"),
    dict(hardness_mode="in_batch_negatives", hardness_strength=9.0),
    dict(hardness_mode="hard_negatives", hardness_strength=5.0),
    dict(hardness_mode="all_negatives", hardness_strength=5.0, directions=ALL),
], ids=str)  # fmt: skip
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
