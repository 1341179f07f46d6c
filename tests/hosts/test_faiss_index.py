"""Indexes of FAISS: what they find is what exact search finds, and what they miss is told."""

import json

import faiss
import numpy as np
import pytest

from fastclip.atomic_file import CannotWrite
from fastclip.embeddings.reader import open_embeddings
from fastclip.search.approximate.build import build_index
from fastclip.search.approximate.faiss_index import open_index
from fastclip.search.approximate.key import auto_key
from fastclip.search.approximate.recall import measured_recall
from fastclip.search.approximate.search import approximate_search
from fastclip.search.exact import search
from fastclip.search.fingerprint import StaleIndex
from tests.support.full_disk import files_of_at_most
from tests.support.unit_embeddings import unit_vectors, write_embeddings

NUM, DIM = 10_000, 32
COMPRESSED = "PCA16,IVF64_HNSW8,PQ8x4np"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Random vectors, which have no neighbourhoods: no data is harder for an index."""
    folder = tmp_path_factory.mktemp("many") / "out"
    return open_embeddings(write_embeddings(folder, NUM, DIM, rows_per_file=4000))


@pytest.fixture
def few(tmp_path):
    return open_embeddings(write_embeddings(tmp_path / "few", 300, sides=("img",)))


@pytest.mark.parametrize("key", ["auto", "Flat", "IVF64,Flat", COMPRESSED])
def test_recall_that_is_told_is_the_true_one(many, key):
    record = build_index(many, "img", key)
    assert record.key == (key if key != "auto" else "HNSW32")
    queries = many.texts.rows(np.sort(np.random.default_rng(0).choice(NUM, 100, replace=False)))
    index = open_index(many, "img", verify=True)
    assert index.record == record and index.effort == record.effort
    found = approximate_search(queries, many.images, index, 10)
    # Without anything of fastclip: the ten largest products of a whole matrix in float64.
    products = queries.astype(np.float64) @ unit_vectors(NUM, DIM).astype(np.float64).T
    best = np.argsort(-products, axis=1, kind="stable")[:, :10]
    recall = np.mean([len(set(a) & set(b)) for a, b in zip(found.rows, best, strict=True)]) / 10
    assert record.recall.value == pytest.approx(recall, abs=1e-12)
    assert record.recall.low <= recall <= record.recall.high
    assert recall == 1 if key == "Flat" else recall >= 0.95 or record.effort == 64
    exact = np.take_along_axis(products, found.rows, axis=1).astype(np.float32)
    np.testing.assert_array_equal(found.scores, exact)


def test_compressed_vectors_alone_would_score_an_image_below_1(many):
    build_index(many, "img", COMPRESSED)
    index, numbers = open_index(many, "img"), [0, 3999, 4000, NUM - 1]
    queries = many.images.rows(numbers)
    found = approximate_search(queries, many.images, index, 5)
    assert found.rows[:, 0].tolist() == numbers
    np.testing.assert_allclose(found.scores[:, 0], 1, atol=2e-7)
    assert (index.engine.search(queries, 1)[0] < 0.99).all()


@pytest.mark.parametrize("store", ["f32", "f16", "int8"])
def test_order_and_ties_of_a_flat_index_are_those_of_exact_search(tmp_path, store):
    folder = write_embeddings(tmp_path / "a", 500, store=store, rows_per_file=77)
    embeddings = open_embeddings(folder)
    build_index(embeddings, "img", "Flat")
    build_index(embeddings, "text", "Flat")
    for side, vectors in (("img", embeddings.images), ("text", embeddings.texts)):
        queries = vectors.rows(range(0, 500, 7))
        found = approximate_search(queries, vectors, open_index(embeddings, side), 20)
        expected = search(queries, vectors, 20)
        assert found.rows.tolist() == expected.rows.tolist()
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_equal_rows_are_found_in_the_order_of_exact_search(tmp_path):
    vectors = unit_vectors(200)
    vectors[[5, 150, 42, 199]] = vectors[7]
    (tmp_path / "img_emb").mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", vectors)
    embeddings = open_embeddings(tmp_path)
    record = build_index(embeddings, "img")
    assert record.key == "Flat" and record.weights is None and record.effort is None
    index = open_index(embeddings, "img")
    found = approximate_search(vectors[[7]], embeddings.images, index, 6)
    assert found.rows[0, :5].tolist() == [5, 7, 42, 150, 199]
    assert found.rows.tolist() == search(vectors[[7]], vectors, 6).rows.tolist()


@pytest.mark.parametrize("key", ["Flat", "HNSW8", "IVF4,Flat"])
def test_rows_that_are_no_vectors_keep_their_places_and_are_never_found(tmp_path, key):
    vectors = unit_vectors(300)
    vectors[3], vectors[100, 2] = np.nan, np.inf
    (tmp_path / "img_emb").mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", vectors)
    embeddings = open_embeddings(tmp_path)
    assert build_index(embeddings, "img", key).num_unusable == 2
    found = approximate_search(vectors[[99, 101]], vectors, open_index(embeddings, "img"), 298)
    assert found.rows[:, 0].tolist() == [99, 101] and found.num_unusable == 2
    assert found.rows.shape == (2, 298) and not set(found.rows.flatten()) & {3, 100}


def test_search_looks_at_as_much_as_good_recall_takes(many):
    efforts = [
        build_index(many, "img", "IVF64,Flat", good=good).effort for good in (0, 0.5, 0.95, 1)
    ]
    assert efforts == sorted(efforts) and efforts[0] == 1 and efforts[2] > efforts[1] > 1
    bad = build_index(many, "img", "IVF64,PQ4x4np", good=1)
    assert bad.effort == 64 and bad.recall.value < 1
    index = open_index(many, "img")
    told = measured_recall(index, many.images, num_queries=30)
    assert told.of == "rows of the corpus" and told.num_queries == 30


@pytest.mark.parametrize("dim", [1, 3, 6, 7, 100, 768])
@pytest.mark.parametrize("memory", [2**40, 0.7, 0.2])
def test_every_key_that_auto_gives_is_one_of_faiss(dim, memory):
    memory = int(memory if memory > 1 else max(10_000 * 9, memory * 10_000 * 4 * dim))
    faiss.index_factory(dim, auto_key(10_000, dim, memory), faiss.METRIC_INNER_PRODUCT)


def test_index_of_other_vectors_is_refused_and_names_in_what_they_differ(few, tmp_path):
    build_index(few, "img", "Flat")
    folder = few.folder / "index"
    same = {"num": 300, "sides": ("img",)}
    for number, (changes, why) in enumerate((
        ({"num": 301}, "has 300 rows, but there are 301"),
        ({"seed": 3}, "has other vectors than the current ones"),
        ({"weights": "v"}, "has vectors of another model"),
    )):  # fmt: skip
        other = write_embeddings(tmp_path / str(number), **(same | changes))
        (other / "index").symlink_to(folder)
        with pytest.raises(StaleIndex, match=why):
            open_index(open_embeddings(other), "img")


def test_damaged_index_is_refused(few):
    build_index(few, "img", "Flat")
    path = few.folder / "index" / "img_emb.faiss"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"img_emb.faiss has changed since it was written"):
        open_index(few, "img")
    path.write_bytes(b"x" * len(content))
    with pytest.raises(ValueError, match=r"img_emb.faiss is not a FAISS index: "):
        open_index(few, "img")
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    open_index(few, "img")
    with pytest.raises(ValueError, match="has changed since it was written"):
        open_index(few, "img", verify=True)
    path.write_bytes(content)
    record = json.loads((few.folder / "index" / "img_emb.json").read_text())
    record["effort"] = 3
    (few.folder / "index" / "img_emb.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="cannot be searched with an effort of 3"):
        open_index(few, "img")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("nonsense", "FAISS rejects the key 'nonsense': could not parse index string nonsense"),
        ("IDMap,Flat", "FAISS rejects the key 'IDMap,Flat': add does not make sense"),
        ("IVF400,Flat", "FAISS rejects the key 'IVF400,Flat': "),
    ],
)
def test_key_that_faiss_refuses_is_told_and_the_older_index_stays(few, key, told):
    build_index(few, "img", "Flat")
    with pytest.raises(ValueError, match=told):
        build_index(few, "img", key)
    assert open_index(few, "img", verify=True).record.key == "Flat"


def test_full_disk_leaves_the_older_index(few):
    build_index(few, "img", "Flat")
    with files_of_at_most(5000), pytest.raises(CannotWrite, match="File too large"):
        build_index(few, "img", "HNSW8")
    assert open_index(few, "img", verify=True).record.key == "Flat"
    assert sorted(path.name for path in (few.folder / "index").iterdir()) == [
        "embeddings.lock", "img_emb.faiss", "img_emb.json"
    ]  # fmt: skip
    assert build_index(few, "img", "HNSW8").key == "HNSW8"


def test_arguments_that_make_no_sense_are_refused(few):
    for options, told in (
        ({"side": "text"}, "has no vectors of text"),
        ({"side": "image"}, "side must be one of"),
        ({"good": 1.1}, r"good must be in \[0, 1\]"),
        ({"num_queries": 0}, "num_queries must be at least 1"),
    ):
        with pytest.raises(ValueError, match=told):
            build_index(few, **({"side": "img"} | options))
