"""Multiple negatives ranking against all scores of all directions, written out."""

import pytest
import torch

import fastclip
from tests.support.dense import (
    ONE_BLOCK,
    PROBLEMS,
    check_exact,
    check_float32,
    check_memory,
    unit,
    views,
)

ALL = ("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc")
TWO = ALL[:2]


def dense(queries, documents, *others, directions=ALL[:1], partition_mode="joint",
          hardness_mode=None, hardness_strength=0.0):  # fmt: skip
    *wrong, scale = others
    q, d, N = unit(queries), unit(documents), len(queries)
    every = torch.cat([d, *(unit(x) for x in wrong)])
    own = torch.eye(N, dtype=torch.bool)
    same = own.repeat(1, 1 + len(wrong))
    is_right, is_wrong = same.clone(), same.clone()
    is_right[:, N:] = False
    is_wrong[:, :N] = False
    hard = {None: torch.zeros_like(same), "in_batch_negatives": ~same,
            "hard_negatives": is_wrong, "all_negatives": ~is_right}[hardness_mode]  # fmt: skip
    to_doc = q @ every.T
    scores = {
        "query_to_doc": scale * to_doc + hardness_strength * to_doc.detach() * hard,
        "doc_to_query": scale * d @ q.T,
        "query_to_query": (scale * q @ q.T).masked_fill(own, float("-inf")),
        "doc_to_doc": (scale * d @ every.T).masked_fill(same, float("-inf")),
    }
    wanted = [scores[x] for x in directions]
    sums = [torch.cat(wanted, 1)] if partition_mode == "joint" else wanted
    positive = scores["query_to_doc"].diagonal()
    return sum((x.logsumexp(1) - positive).mean() for x in sums) / len(sums)


def loss_by(backend, **options):
    def loss(queries, documents, *others):
        *wrong, scale = others
        return fastclip.multiple_negatives_loss(
            queries, documents, wrong, logit_scale=scale, backend=backend, **options
        )

    return loss


OPTIONS = [
    (0, {}),
    (2, {}),
    (0, dict(directions=TWO)),
    (0, dict(directions=TWO, partition_mode="per_direction")),
    (2, dict(directions=TWO[::-1], partition_mode="per_direction")),
    (0, dict(directions=ALL)),
    (2, dict(directions=ALL)),
    (1, dict(directions=("query_to_doc", "doc_to_doc"))),
    (1, dict(directions=("query_to_doc", "query_to_query"))),
    (0, dict(hardness_mode="in_batch_negatives", hardness_strength=9.0)),
    (2, dict(hardness_mode="in_batch_negatives", hardness_strength=9.0)),
    (2, dict(hardness_mode="hard_negatives", hardness_strength=5.0)),
    (2, dict(hardness_mode="all_negatives", hardness_strength=5.0, directions=ALL)),
    (1, dict(hardness_mode="all_negatives", hardness_strength=5.0, directions=TWO,
             partition_mode="per_direction")),
]  # fmt: skip


@pytest.mark.parametrize("num_wrong, options", OPTIONS, ids=str)
def test_it_is_the_sum_over_all_directions(backend, num_wrong, options):
    features = views(2 + num_wrong, 23, 16)
    check_exact(loss_by(backend, **options), lambda *x: dense(*x, **options), features, 20.0)


@pytest.mark.parametrize("kind, scale", PROBLEMS)
def test_all_kinds_of_data_in_both_precisions(backend, kind, scale):
    options = dict(directions=ALL, hardness_mode="all_negatives", hardness_strength=5.0)
    for check in (check_exact, check_float32):
        check(loss_by(backend, **options), lambda *x: dense(*x, **options),
              views(3, 37, 16, kind), scale)  # fmt: skip


def test_no_tensor_has_the_size_of_all_scores():
    options = dict(directions=ALL, hardness_mode="all_negatives", hardness_strength=5.0)
    check_memory(loss_by("chunked", workspace=ONE_BLOCK, **options), views(2, 2048, 8))


def test_the_module_has_sentence_transformers_defaults():
    q, d, wrong = views(3, 9, 5)
    torch.testing.assert_close(fastclip.MultipleNegativesLoss()(q, d), dense(q, d, 20.0))
    options = dict(directions=ALL, hardness_mode="hard_negatives", hardness_strength=5.0)
    loss = fastclip.MultipleNegativesLoss(0.1, **options)
    torch.testing.assert_close(loss(q, d, [wrong]), dense(q, d, wrong, 10.0, **options))
    losses = fastclip.MultipleNegativesLoss(reduction="none")(q, d, [wrong], 7.0)
    assert losses.shape == (9,)
    torch.testing.assert_close(losses.mean(), dense(q, d, wrong, 7.0))
    assert fastclip.MultipleNegativesLoss().state_dict() == {}


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(directions=()), "directions must be different ones of"),
        (dict(directions=("doc_to_query",)), "'query_to_doc' among them"),
        (dict(directions=("query_to_doc", "x")), "directions must be different ones of"),
        (dict(directions=("query_to_doc",) * 2), "directions must be different ones of"),
        (dict(partition_mode="x"), "partition_mode must be one of"),
        (dict(directions=ALL, partition_mode="per_direction"), "have no positive among their"),
        (dict(hardness_mode="x", hardness_strength=1.0), "hardness_mode must be one of"),
        (dict(hardness_mode="all_negatives"), "above 0 with a hardness_mode"),
        (dict(hardness_strength=1.0), "0 without one, got 1.0 with None"),
        (dict(hardness_mode="all_negatives", hardness_strength=-1.0), "above 0 with"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        fastclip.MultipleNegativesLoss(**options)


def test_bad_input_is_named():
    x, loss = torch.ones(4, 3), fastclip.MultipleNegativesLoss()
    with pytest.raises(ValueError, match=r"queries and hard_negatives\[1\] must have the same B"):
        loss(x, x, [x, x[1:]])
    with pytest.raises(TypeError, match="hard_negatives must be a sequence of tensors"):
        loss(x, x, x)
    with pytest.raises(ValueError, match="needs hard_negatives, got none"):
        fastclip.MultipleNegativesLoss(hardness_mode="hard_negatives", hardness_strength=1.0)(x, x)
