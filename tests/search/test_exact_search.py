"""Exact search against the whole product in float64, and what is no vector."""

import numpy as np
import pytest

from fastclip.embeddings.storage import Stored, to_float32, to_stored
from fastclip.search.exact import search

pytestmark = pytest.mark.fast


def unit(num, dim=16, seed=0):
    rows = np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def dense(queries, vectors, top):
    """The same in one product, sorted as a whole."""
    scores = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(scores, order, axis=1), order


@pytest.mark.parametrize("block_rows", [1, 7, 64, None])
@pytest.mark.parametrize("top", [1, 10, 500])
def test_the_best_rows_are_those_of_the_whole_product(top, block_rows):
    vectors, queries = unit(200), unit(5, seed=1)
    found = search(queries, vectors, top, block_rows=block_rows)
    scores, rows = dense(queries, vectors, top)
    assert found.rows.tolist() == rows.tolist() and found.num_unusable == 0
    np.testing.assert_array_equal(found.scores, scores)


@pytest.mark.parametrize("order", [1, -1], ids=["ascending", "descending"])
def test_vectors_of_all_lengths_in_order_of_their_scores(order):
    lengths = np.geomspace(1e-3, 1e3, 300, dtype=np.float32)[::order, None]
    vectors, queries = unit(1, 8) * lengths, unit(2, 8)
    assert search(queries, vectors, 9, block_rows=32).rows.tolist() == (
        dense(queries, vectors, 9)[1].tolist()
    )


@pytest.mark.parametrize("block_rows", [3, 50, 1000])
def test_of_equal_rows_the_lower_is_first_wherever_they_stand(block_rows):
    vectors, queries = unit(211, 33), unit(4, 33, seed=1)
    vectors[[7, 50, 128, 209, 210]] = queries[0]
    found = search(queries, vectors, 3, block_rows=block_rows)
    assert found.rows[0].tolist() == [7, 50, 128] and len(set(found.scores[0])) == 1
    alike = search(queries, np.repeat(vectors[:1], 90, axis=0), 4, block_rows=block_rows)
    assert alike.rows.tolist() == [[0, 1, 2, 3]] * 4


@pytest.mark.parametrize("store", ["f32", "f16", "int8"])
def test_files_of_any_type_are_one_corpus(tmp_path, store):
    vectors, queries = unit(90), unit(3, seed=1)
    files = [to_stored(part, store) for part in np.split(vectors, [20, 20, 61])]
    mapped = []
    for number, (values, scales) in enumerate(files):
        if len(values):
            np.save(tmp_path / f"{number}.npy", values)
            values = np.load(tmp_path / f"{number}.npy", mmap_mode="r")
        mapped.append(Stored(values, scales))
    found = search(queries, mapped, 5, block_rows=13)
    expected = dense(queries, np.concatenate([to_float32(file) for file in files]), 5)
    assert found.rows.tolist() == expected[1].tolist()


def test_rows_that_are_no_vectors_are_counted_and_never_found():
    vectors, queries = unit(20), unit(3, seed=1)
    vectors[0, 3], vectors[9, 0], vectors[19], vectors[4] = np.nan, np.inf, -np.inf, 1e30
    found = search(queries, vectors, 20, block_rows=5)
    assert found.num_unusable == 4 and found.rows.shape == (3, 16)
    assert not set(found.rows.flatten()) & {0, 4, 9, 19} and np.isfinite(found.scores).all()
    nothing = search(queries, vectors[[0, 9]], 5)
    assert nothing.scores.shape == (3, 0) and nothing.num_unusable == 2
    assert search(queries, vectors[:0], 5).rows.shape == (3, 0)


def test_many_queries_are_looked_at_in_parts(monkeypatch):
    monkeypatch.setattr("fastclip.search.exact.BLOCK_BYTES", 4 * 10 * 7)
    vectors, queries = unit(40), unit(25, seed=1)
    assert search(queries, vectors, 3, block_rows=10).rows.tolist() == (
        dense(queries, vectors, 3)[1].tolist()
    )


@pytest.mark.parametrize(
    ("queries", "vectors", "options", "message"),
    [
        (unit(2, 4), unit(9, 5), {}, "must be"),
        (unit(2, 4)[0], unit(9, 4), {}, "must be"),
        (unit(2, 4) * np.nan, unit(9, 4), {}, "must be finite"),
        (unit(2, 4), unit(9, 4), {"top": 0}, "top"),
        (unit(2, 4), unit(9, 4), {"block_rows": 0}, "block_rows"),
        (unit(2, 4), [], {}, "no vectors"),
        (unit(2, 4), unit(9, 4).astype(np.float64), {}, "float64"),
        (unit(2, 4), np.zeros((9, 4), np.int8), {}, "scale factors, one per vector"),
        (unit(2, 4), [unit(9, 4), unit(9, 5)], {}, "the same width"),
    ],
)
def test_what_does_not_fit_is_refused(queries, vectors, options, message):
    with pytest.raises(ValueError, match=message):
        search(queries, vectors, **({"top": 1} | options))
