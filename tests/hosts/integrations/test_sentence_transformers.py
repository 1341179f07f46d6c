"""sentence-transformers' ranking losses by fastclip: value, gradients, configuration, ranks."""

import pickle

import pytest
import torch
from torch import nn

from fastclip.benchmarks import cached_ranking
from fastclip.integrations import sentence_transformers as ours
from tests.hosts.test_loss_peers import HARDNESS, PARTITIONS

pytestmark = pytest.mark.filterwarnings("default")
theirs = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
util = pytest.importorskip("sentence_transformers.util")

B, D = 10, 6
GTE = PARTITIONS[7]
HARDER = [x | y for x, y in zip(HARDNESS, ({}, GTE, PARTITIONS[-1]), strict=True)]
NAMES = ("MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss")


class Encoder(nn.Module):
    """What a loss asks of a SentenceTransformer: a call, and its first module."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Embedding(30, D), nn.Dropout(0.3), nn.Linear(D, D)).double()

    def __getitem__(self, i):
        return self.net[i]

    def get_embedding_dimension(self):
        return D

    def forward(self, features, **_):
        mask = features["attention_mask"][..., None]
        return {"sentence_embedding": (self.net(features["input_ids"]) * mask).sum(1)}


def columns(num, rows=B, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 30, (num, rows, 5), generator=generator)
    return [{"input_ids": x, "attention_mask": torch.ones_like(x)} for x in ids]


def run(kind, num_columns, **options):
    """The loss of one batch and the gradients of the encoder's parameters."""
    encoder = Encoder()
    loss = kind(encoder, **options)
    torch.manual_seed(2)
    value = loss(columns(num_columns), None)
    value.backward()
    return value.detach(), [p.grad for p in encoder.parameters()]


def check_equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "num_columns"),
    [(x, 2 + i % 3) for i, x in enumerate([*PARTITIONS, *HARDER])], ids=str,
)  # fmt: skip
def test_value_and_gradients_are_theirs(name, options, num_columns):
    options = options | ({"mini_batch_size": 4} if name == NAMES[1] else {})
    if options.get("hardness_mode") == "hard_negatives":
        num_columns = 4
    check_equal(*(run(getattr(m, name), num_columns, **options) for m in (ours, theirs)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options",
    [
        {"similarity_fct": util.dot_score, "scale": 0.3},
        {"hardness_mode": "all_negatives", "hardness_strength": 0.0},
        {"hardness_mode": "hard_negatives", "hardness_strength": 5.0},
        {"hardness_mode": None, "hardness_strength": 3.0},
        {"directions": ["query_to_doc", "query_to_doc"]},
    ],
    ids=str,
)
def test_what_they_accept_is_accepted(name, options):
    """Products without norms, hardness that adds nothing, and a direction that is named twice."""
    check_equal(*(run(getattr(m, name), 2, **options) for m in (ours, theirs)))


@pytest.mark.parametrize("name", NAMES)
def test_other_similarities_are_computed_by_the_host_with_a_warning(name):
    options = {"similarity_fct": util.euclidean_sim, "scale": 1.0}
    expected = run(getattr(theirs, name), 3, **options)
    with pytest.warns(UserWarning, match=r"similarity_fct=euclidean_sim is neither cos_sim nor"):
        check_equal(run(getattr(ours, name), 3, **options), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_name_the_arguments_and_the_configuration_are_kept(name):
    kind = getattr(ours, name)
    assert pickle.loads(pickle.dumps(kind)) is kind and issubclass(kind, getattr(theirs, name))
    options = {"scale": 7.0, "directions": ("query_to_doc", "doc_to_query"),
               "gather_across_devices": True}  # fmt: skip
    found, expected = (getattr(m, name)(Encoder(), **options) for m in (ours, theirs))
    assert found.get_config_dict() == expected.get_config_dict()
    found.scale = 3.0
    assert found.get_config_dict()["scale"] == 3.0 and found.temperature == 1 / 3
    with pytest.raises(ValueError, match="nonsense"):
        kind(Encoder(), directions=("query_to_doc", "nonsense"))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_set_later_is_obeyed_and_a_learned_scale_is_refused(name):
    loss = getattr(ours, name)(Encoder()).eval()
    with torch.no_grad():
        before = loss(columns(2), None)
        loss.scale = 5.0
        assert loss(columns(2), None) != before
        loss.scale = torch.tensor(5.0)
        with pytest.raises(TypeError, match="scale must be a number, got Tensor"):
            loss(columns(2), None)
    with pytest.raises(ValueError, match=r"at least 2 .*got 1"):
        loss(columns(1), None)


def test_evaluation_of_a_last_batch_of_one_needs_no_gradient():
    for name in NAMES:
        found, expected = (getattr(m, name)(Encoder()).eval() for m in (ours, theirs))
        with torch.no_grad():
            check_equal(found(columns(3, rows=1), None), expected(columns(3, rows=1), None))


@pytest.mark.parametrize("name", NAMES)
def test_matryoshka_wraps_it(name):
    def wrapped(module):
        return lambda encoder: theirs.MatryoshkaLoss(
            encoder, getattr(module, name)(encoder), [D, 3]
        )

    check_equal(run(wrapped(ours), 3), run(wrapped(theirs), 3))


def test_benchmark_times_what_is_equal():
    results = cached_ranking.measure(60, 8, 3, 16, rounds=1)
    assert results["fastclip"]["difference_of_loss"] < 1e-6
    assert results["fastclip"]["difference_of_gradients"] < 1e-5
    assert "| sentence-transformers |" in cached_ranking.table(results)


def of_rank(group, name, rows, gather):
    """The loss of this rank's rows and its gradients w.r.t. all embeddings of both columns."""
    from fastclip.integrations import sentence_transformers

    kind = getattr(sentence_transformers, name)
    torch.manual_seed(3)
    every = torch.randn(3, 2 * B, D, dtype=torch.float64).requires_grad_()
    own = every[:, rows[group.rank()] : rows[group.rank() + 1]]
    loss = kind(Encoder(), gather_across_devices=gather, **GTE)
    if name == NAMES[0]:
        value = loss.compute_loss_from_embeddings(list(own), None)
    else:
        value = loss.calculate_loss([list(x.split(3)) for x in own], None)
    value.backward()
    return value.detach(), every.grad


@pytest.mark.parametrize("name", NAMES)
def test_ranks_with_different_numbers_of_queries_are_one_batch(two_ranks, name):
    """Row i of a rank is the positive of its own query: gathered features are not out of place."""
    found = two_ranks.run(2, of_rank, name, [0, 7, 2 * B], True)
    torch.manual_seed(3)
    every = torch.randn(3, 2 * B, D, dtype=torch.float64).requires_grad_()
    expected = theirs.MultipleNegativesRankingLoss(Encoder(), **GTE)
    value = expected.compute_loss_from_embeddings(list(every), None)
    value.backward()
    for own_value, _ in found:
        check_equal(own_value, value.detach())
    check_equal(sum(gradient for _, gradient in found) / 2, every.grad)


def test_ranks_that_do_not_gather_are_alone(two_ranks):
    found = two_ranks.run(2, of_rank, NAMES[0], [0, B, 2 * B], False)
    assert found[0][0] != found[1][0] and (found[0][1][:, B:] == 0).all()
