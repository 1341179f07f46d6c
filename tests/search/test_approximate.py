"""Candidates that an index proposes are scored exactly; what it misses is measured."""

import json
import os
import sys

import numpy as np
import pytest

from fastclip.confidence import wilson
from fastclip.embeddings.reader import open_embeddings
from fastclip.search.approximate.build import build_index
from fastclip.search.approximate.faiss_index import open_index
from fastclip.search.approximate.key import auto_key
from fastclip.search.approximate.recall import measured_recall
from fastclip.search.approximate.record import (
    IndexRecord,
    StaleIndex,
    content_of,
    fingerprint_of,
    read_record,
)
from fastclip.search.approximate.search import approximate_search
from fastclip.search.exact import search
from tests.support.unit_embeddings import DIM, unit_vectors, write_embeddings

pytestmark = pytest.mark.fast


def unit(num, dim=16, seed=0):
    return unit_vectors(num, dim, seed)


class Proposes:
    """Proposes the same rows for every query, the worst first."""

    num_unusable = 0

    def __init__(self, vectors, rows):
        self.num_rows, self.dim = vectors.shape
        self.rows = np.asarray(rows)

    def candidates(self, queries, num):
        return np.tile(self.rows, (len(queries), 1))


def test_all_rows_proposed_in_any_order_are_what_exact_search_finds():
    vectors, queries = unit(300), unit(7, seed=1)
    vectors[[9, 3, 250]] = queries[0]
    index = Proposes(vectors, np.random.default_rng(2).permutation(300))
    found, expected = approximate_search(queries, vectors, index, 12), search(queries, vectors, 12)
    assert found.rows.tolist() == expected.rows.tolist()
    assert found.rows[0, :3].tolist() == [3, 9, 250]
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_only_what_is_proposed_is_found_and_each_row_once():
    vectors, queries = unit(300), unit(4, seed=1)
    own = np.arange(0, 300, 3)
    index = Proposes(vectors, [*own, *own, -1])
    found = approximate_search(queries, vectors, index, 5)
    expected = search(queries, vectors[own], 5)
    assert found.rows.tolist() == own[expected.rows].tolist()


def test_queries_are_looked_at_in_parts(monkeypatch):
    monkeypatch.setattr("fastclip.search.approximate.search.BLOCK_BYTES", 4 * 16 * 300)
    vectors, queries = unit(300), unit(9, seed=1)
    found = approximate_search(queries, vectors, Proposes(vectors, range(300)), 4)
    assert found.rows.tolist() == search(queries, vectors, 4).rows.tolist()


def test_query_for_which_too_little_is_proposed_is_searched_exactly():
    vectors, queries = unit(50), unit(3, seed=1)
    found = approximate_search(queries, vectors, Proposes(vectors, [1, 2, -1, -1]), 3)
    assert found.rows.tolist() == search(queries, vectors, 3).rows.tolist()
    few = approximate_search(queries, vectors[:2], Proposes(vectors[:2], [1, 0]), 3)
    assert few.rows.shape == (3, 2)


def test_rows_that_are_no_vectors_are_not_found_though_they_are_proposed():
    vectors, queries = unit(20), unit(3, seed=1)
    vectors[4], vectors[7, 2] = np.nan, np.inf
    index = Proposes(vectors, range(20))
    index.num_unusable = 2
    found = approximate_search(queries, vectors, index, 20)
    assert found.num_unusable == 2 and found.rows.shape == (3, 18)
    assert not set(found.rows.flatten()) & {4, 7}


@pytest.mark.parametrize(
    ("vectors", "options", "message"),
    [
        (unit(31), {}, "is of 30 vectors of 16 entries, got 31"),
        (unit(30, 8), {}, "got 30 of 8"),
        (unit(30), {"top": 0}, "top"),
        (unit(30), {"top": 9, "candidates": 8}, "candidates must be at least top, 9"),
    ],
)
def test_what_does_not_fit_is_refused(vectors, options, message):
    index = Proposes(unit(30), range(30))
    with pytest.raises(ValueError, match=message):
        approximate_search(unit(2), vectors, index, **({"top": 1} | options))


def test_recall_is_the_fraction_of_the_best_rows_that_are_proposed():
    vectors, queries = unit(400), unit(40, seed=1)
    index = Proposes(vectors, range(100))
    found = measured_recall(index, vectors, 10, queries=queries)
    best = search(queries, vectors, 10).rows
    assert found.value == pytest.approx((best < 100).mean()) and 0.1 < found.value < 0.4
    assert (found.top, found.num_queries, found.of) == (10, 40, "given queries")
    assert found.low < found.value < found.high
    everything = measured_recall(Proposes(vectors, range(400)), vectors, 10, num_queries=50)
    assert everything.value == 1 and everything.of == "rows of the corpus"
    assert (everything.low, everything.high) == wilson(50, 50)


def test_row_that_asks_for_its_like_is_no_result_of_its_own():
    vectors = unit(60)
    own = measured_recall(Proposes(vectors, range(30)), vectors, 4, num_queries=60)
    best = search(vectors, vectors, 5)
    others = [[row for row in rows if row != i] for i, rows in enumerate(best.rows.tolist())]
    assert own.value == pytest.approx(np.mean(np.array(others) < 30))


def test_which_of_equal_rows_is_found_does_not_count():
    vectors = np.repeat(unit(10), 20, axis=0)
    half = [row for row in range(200) if row % 20 >= 10]
    assert measured_recall(Proposes(vectors, half), vectors, 10, queries=unit(10)).value == 1


def test_nothing_to_measure_is_said():
    vectors = unit(1)
    with pytest.raises(ValueError, match="no row to find"):
        measured_recall(Proposes(vectors, [0]), vectors)
    with pytest.raises(ValueError, match="no query"):
        measured_recall(Proposes(vectors, [0]), vectors, queries=unit(1)[:0])


@pytest.mark.parametrize(
    ("num", "dim", "memory", "key"),
    [
        (999, 512, 2**32, "Flat"),
        (1_000, 512, 2**32, "HNSW15"),
        (9_999, 512, 2**32, "HNSW15"),
        (10_000, 512, 2**32, "HNSW32"),
        (10_000, 512, 21_200_000, "HNSW9"),
        (10_000, 512, 20_600_000, "IVF256,Flat"),
        (900_000, 512, 900_000 * 2056, "IVF4096,Flat"),
        (10_000, 512, 1_360_000, "OPQ128_512,IVF256_HNSW32,PQ128x8np"),
        (1_000_000, 512, 2_000_000_000, "OPQ128_512,IVF4096_HNSW32,PQ128x8np"),
        (100_000_000, 512, 2**32, "OPQ32_512,IVF32768_HNSW32,PQ32x8np"),
        (10_000, 7, 200_000, "OPQ1_7,IVF256_HNSW32,PQ1x8np"),
    ],
)
def test_key_is_chosen_by_number_and_memory(num, dim, memory, key):
    assert auto_key(num, dim, memory) == key


def test_too_little_memory_for_any_index_is_said():
    with pytest.raises(ValueError, match=r"take at least 9,000,000 bytes .* more than 8,000,000"):
        auto_key(1_000_000, 512, 8_000_000)


def test_without_faiss_the_error_says_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    embeddings = open_embeddings(write_embeddings(tmp_path / "out", 20))
    with pytest.raises(FileNotFoundError, match="--faiss auto"):
        open_index(embeddings, "img")
    with pytest.raises(ModuleNotFoundError, match='pip install "faiss-cpu'):
        build_index(embeddings, "img")
    assert not (tmp_path / "out" / "index").exists()


def record_of(embeddings, side="img", **changes):
    vectors = embeddings.images if side == "img" else embeddings.texts
    recall = measured_recall(Proposes(vectors.rows(range(20)), range(20)), vectors)
    values = dict(
        side=side, rows=20, dim=DIM, vectors=fingerprint_of(embeddings, vectors), weights="w",
        key="Flat", metric="ip", effort=None, num_unusable=0, size=9, sha256="s", recall=recall,
    )  # fmt: skip
    return IndexRecord(**(values | changes))


def test_record_comes_back_and_knows_its_vectors(tmp_path):
    embeddings = open_embeddings(write_embeddings(tmp_path / "a", 20))
    record = record_of(embeddings)
    path = tmp_path / "record.json"
    path.write_bytes(content_of(record))
    assert read_record(path) == record
    record.require_current(embeddings, embeddings.images)
    with pytest.raises(StaleIndex, match="of other vectors"):
        record.require_current(embeddings, embeddings.texts)
    for changes, why in (
        ({"num": 21}, "of 20 rows, and there are 21"),
        ({"dim": 7}, f"of vectors of {DIM} entries, and those there have 7"),
        ({"seed": 5}, "of other vectors"),
        ({"weights": "v"}, "of vectors of another model"),
    ):
        other = open_embeddings(write_embeddings(tmp_path / why[3:9] / str(changes), **changes))
        with pytest.raises(StaleIndex, match=f"img_emb in .* is {why}.*: build it anew"):
            record.require_current(other, other.images)


def test_vectors_without_a_manifest_are_told_apart_by_their_files(tmp_path):
    (tmp_path / "img_emb").mkdir()
    path = tmp_path / "img_emb" / "img_emb_0.npy"

    def fingerprint(time):
        np.save(path, unit(50))
        os.utime(path, ns=(time, time))
        embeddings = open_embeddings(tmp_path)
        return fingerprint_of(embeddings, embeddings.images)

    assert fingerprint(10**18) == fingerprint(10**18) != fingerprint(10**18 + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "build the index anew"),
        ({"rows": "20"}, "is damaged: rows"),
        ({"effort": 0}, "is damaged: effort"),
        ({"more": 1}, "is damaged: unknown or missing: more"),
        ({"recall": {"value": 1}}, "is damaged: unknown or missing"),
        ({"side": "../x"}, "is damaged: side"),
    ],
)
def test_damaged_record_is_refused(tmp_path, changes, message):
    embeddings = open_embeddings(write_embeddings(tmp_path / "a", 20))
    values = json.loads(content_of(record_of(embeddings))) | changes
    (tmp_path / "record.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        read_record(tmp_path / "record.json")
