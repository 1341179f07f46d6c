"""InfoNCE in one direction, against torch's cross-entropy of all scores."""

import pytest
import torch
import torch.nn.functional as F

import fastclip
from tests.support.backends import AVAILABLE
from tests.support.dense import (
    ONE_BLOCK,
    PROBLEMS,
    check_exact,
    check_float32,
    check_memory,
    unit,
    views,
)
from tests.support.pairwise import cover_pairs


def dense(query, positive_key, *others):
    *negative_keys, scale = others
    query, positive_key = unit(query), unit(positive_key)
    own = torch.zeros(len(query), dtype=torch.long)
    if negative_keys:
        own_score = (query * positive_key).sum(1, keepdim=True)
        scores = torch.cat([own_score, query @ unit(negative_keys[0]).T], 1)
    else:
        scores, own = query @ positive_key.T, torch.arange(len(query))
    return F.cross_entropy(scale * scores, own)


def loss_by(backend, **options):
    def loss(query, positive_key, *others):
        *negative_keys, scale = others
        return fastclip.info_nce_loss(
            query, positive_key, *negative_keys, logit_scale=scale, backend=backend, **options
        )

    return loss


@pytest.mark.parametrize(
    "backend, problem, with_negatives", cover_pairs(AVAILABLE, PROBLEMS, [False, True]), ids=str
)
def test_it_is_torchs_cross_entropy(backend, problem, with_negatives):
    kind, scale = problem
    features = views(3 if with_negatives else 2, 37, 16, kind)
    if with_negatives:
        features[2] = features[2].repeat(2, 1)[:50]
    check_exact(loss_by(backend), dense, features, scale)
    check_float32(loss_by(backend), dense, features, scale)


def test_no_tensor_has_the_size_of_all_scores():
    check_memory(loss_by("chunked", workspace=ONE_BLOCK), views(2, 2048, 8))
    check_memory(loss_by("chunked", workspace=ONE_BLOCK), views(3, 2048, 8))


def test_the_module_has_the_call_of_pytorchs_proposal():
    query, key, negatives = views(3, 9, 5)
    for given in ((query, key), (query, key, negatives)):
        expected = dense(*given, 1 / 0.07)
        torch.testing.assert_close(fastclip.InfoNCELoss()(*given), expected)
        torch.testing.assert_close(fastclip.InfoNCELoss(temperature=0.07)(*given), expected)
    losses = fastclip.InfoNCELoss(0.07, reduction="none")(query, key)
    assert losses.shape == (9,)
    torch.testing.assert_close(losses.mean(), dense(query, key, 1 / 0.07))
    total = fastclip.InfoNCELoss(0.07, reduction="sum")(query, key)
    torch.testing.assert_close(losses.sum(), total)
    raw = fastclip.info_nce_loss(query, key, logit_scale=0.5, normalize=False)
    torch.testing.assert_close(raw, F.cross_entropy(0.5 * query @ key.T, torch.arange(9)))
    assert fastclip.InfoNCELoss().state_dict() == {}


def test_a_temperature_is_learned_as_the_reciprocal_of_a_scale():
    query, key = views(2, 9, 5)
    temperature = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    fastclip.info_nce_loss(query, key, temperature=temperature).backward()
    fastclip.info_nce_loss(query, key, logit_scale=scale).backward()
    torch.testing.assert_close(temperature.grad, -25 * scale.grad)
    with pytest.raises(ValueError, match="one number by two names"):
        fastclip.info_nce_loss(query, key, None, 0.07, logit_scale=scale)
    with pytest.raises(ValueError, match="one number by two names"):
        fastclip.InfoNCELoss(0.07)(query, key, logit_scale=scale)
    fastclip.InfoNCELoss()(query, key, logit_scale=scale)


def test_a_query_alone_has_no_loss(backend):
    query, key = (x.requires_grad_() for x in views(2, 1, 5))
    loss = fastclip.info_nce_loss(query, key, backend=backend)
    loss.backward()
    assert loss == 0 and not query.grad.any() and not key.grad.any()


@pytest.mark.parametrize(
    "change, error, message",
    [
        (dict(positive_key=torch.zeros(8, 5)), ValueError, "query and positive_key .* same B"),
        (dict(positive_key=torch.zeros(9, 4)), ValueError, "query and positive_key .* same D"),
        (dict(negative_keys=torch.zeros(3, 4)), ValueError, "query and negative_keys .* same D"),
        (dict(negative_keys=torch.zeros(0, 5)), ValueError, "negative_keys must not be empty"),
        (dict(negative_keys=[1]), TypeError, "negative_keys must be a torch.Tensor, got list"),
        (dict(query=torch.zeros(9, 5).double()), ValueError, "must have the same dtype"),
        (dict(temperature=0.0), ValueError, "temperature must be > 0, got 0.0"),
        (dict(temperature=float("nan")), ValueError, "temperature must be finite"),
        (dict(logit_scale=-1.0), ValueError, "logit_scale must be > 0, got -1.0"),
        (dict(temperature=torch.ones(2)), ValueError, "temperature must have one element"),
        (dict(reduction="max"), ValueError, "reduction must be one of"),
        (dict(workspace=-1), ValueError, "workspace must be >= 0"),
        (dict(backend="nonsense"), ValueError, "nonsense"),
        (dict(process_group="world"), TypeError, "process_group must be a ProcessGroup"),
    ],
)
def test_bad_input_is_named(change, error, message):
    given = dict(query=torch.ones(9, 5), positive_key=torch.ones(9, 5)) | change
    with pytest.raises(error, match=message):
        fastclip.info_nce_loss(**given)


def test_under_autocast_towers_may_end_in_two_dtypes():
    query, key = (x.float() for x in views(2, 9, 5))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = fastclip.info_nce_loss(query, key.bfloat16())
    torch.testing.assert_close(mixed, fastclip.info_nce_loss(query, key.bfloat16().float()))
