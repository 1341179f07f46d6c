"""Chance hits: as many as were said, on a corpus that is normal, and what stands out from them."""

import numpy as np
import pytest

from fastclip.embeddings.moments import Moments
from fastclip.search.calibration import (
    CannotCalibrate,
    CaptionNull,
    Normal,
    judge,
)
from fastclip.search.exact import search

pytestmark = pytest.mark.fast
NUM, DIM = 20_000, 32


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def corpus():
    """A normal corpus, anisotropic and away from the origin; its vectors are no unit vectors."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(NUM, DIM)) * np.geomspace(1, 0.1, DIM) + 0.5
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def moments(corpus):
    return Moments.of(corpus)


@pytest.fixture(scope="module")
def queries():
    return unit(np.random.default_rng(1).normal(size=(1000, DIM))).astype(np.float32)


@pytest.mark.parametrize("limit", [0.05, 1.0])
def test_as_many_hits_as_expected_over_a_thousand_queries(corpus, moments, queries, limit):
    found = search(queries, corpus, 12)
    normal = Normal(moments)
    hits = np.array([
        (normal.expected_hits(normal.z(query, scores)) < limit).sum()
        for query, scores in zip(queries, found.scores, strict=True)
    ])  # fmt: skip
    expected = limit * len(queries)
    assert abs(hits.sum() - expected) < 5 * np.sqrt(expected)  # of Poisson counts
    without = (hits == 0).mean()
    assert without == pytest.approx(np.exp(-limit), abs=0.05)


def test_a_planted_match_stands_out_and_chance_does_not(corpus, moments, queries):
    planted = corpus.copy()
    planted[123] = 6 * queries[0] + corpus.mean(0)
    found = search(queries[:2], planted, 5)
    own = Moments.of(planted)
    judged = judge(queries[0], found.scores[0], own)
    assert judged.used == "normal" and judged.why_not is None
    assert found.rows[0, 0] == 123 and judged.stands_out().tolist() == [True] + [False] * 4
    assert judged.expected_hits[0] < 1e-6 < judged.expected_hits[1]
    assert not judge(queries[1], found.scores[1], own).stands_out().any()


@pytest.mark.parametrize(
    ("vectors", "why"),
    [
        (np.ones((1, 4), np.float32), "too few"),
        (np.empty((0, 4), np.float32), "too few"),
        (np.full((500, 4), 0.5, np.float32), "equally near"),
        (np.full((500, 4), np.nan, np.float32), "not finite"),
    ],
)
def test_what_cannot_be_calibrated_is_said(vectors, why):
    judged = judge(np.float32([1, 0, 0, 0]), np.float32([0.5]), Moments.of(vectors))
    assert judged.used is None and judged.stands_out() is None
    assert why in judged.why_not and "cannot be calibrated" in judged.why_not
    assert judged.z is None and judged.expected_hits is None


def test_the_null_of_other_queries_ranks_and_decides(corpus, moments, queries):
    null = CaptionNull.of(queries[:99], corpus)
    lowest, highest = null.best[0], null.best[-1]
    assert null.p_values([highest + 1, highest, lowest, lowest - 1]).tolist() == [
        0.01, 0.02, 1.0, 1.0,
    ]  # fmt: skip
    judged = judge(queries[0], np.float32([highest + 1, highest - 1]), moments, null)
    assert judged.used == "captions" and judged.stands_out().tolist() == [True, False]
    assert judged.z is not None
    # p of the best of a query like the others is uniform.
    p = null.p_values(search(queries[99:], corpus, 1).scores[:, 0])
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.2)
    equal = judge(queries[0], np.float32([9]), Moments.of(np.ones((200, DIM))), null)
    assert equal.used == "captions" and "equally near" in equal.why_not


def test_too_few_other_queries_say_nothing(corpus, queries):
    with pytest.raises(CannotCalibrate, match="19 other queries are too few"):
        CaptionNull.of(queries[:19], corpus)
    CaptionNull.of(queries[:20], corpus)
    with pytest.raises(CannotCalibrate, match="no vectors"):
        CaptionNull.of(queries, corpus[:0])
