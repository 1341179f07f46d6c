"""Questions to a folder: texts, images and rows; near duplicates, a least z, many at a time."""

import numpy as np
import pytest

from fastclip.embeddings import embed, open_embeddings
from fastclip.search import searcher as searcher_module
from fastclip.search.query import Part, QueryError
from fastclip.search.searcher import chosen_side, open_searcher
from tests.support.pair_files import image_bytes
from tests.support.stub_model import numbered_model

READY = numbered_model()
NUM = 120


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(NUM):
        (folder / f"{i:03d}.png").write_bytes(image_bytes(i))
        (folder / f"{i:03d}.txt").write_text(f"number {(i + 1) % NUM}")
    return folder


@pytest.fixture(scope="module")
def folder(photos):
    out = photos.parent / f"{photos.name}-out"
    embed(READY, photos, out, metadata="jsonl")
    return out


@pytest.fixture(scope="module")
def searcher(folder):
    return open_searcher(open_embeddings(folder), READY)


def ids(answer):
    return [result.id for result in answer.results]


def test_texts_images_and_rows_are_added_and_subtracted(searcher, photos):
    parts = [
        Part("number 5", 3.0), Part(str(photos / "006.png"), 2.0, "image"), Part(7, 1.0, "row"),
        Part("number 8", -1.0),
    ]  # fmt: skip
    answer = searcher.answer(parts, NUM)
    # The row that is asked for is none of its results.
    assert ids(answer)[:2] == [5, 6] and 7 not in ids(answer) and ids(answer)[-1] == 8
    scores = [result.similarity for result in answer.results[:2]]
    np.testing.assert_allclose(scores, np.array([3, 2]) / np.sqrt(15), rtol=1e-6)
    first = answer.results[0]
    assert first.metadata["image_path"] == "005.png" and first.metadata["caption"] == "number 6"
    assert first.z > 3 and first.stands_out and answer.judged_by == "normal"


def test_many_queries_have_the_answers_of_each(searcher):
    queries = [[Part("number 5")], [Part(9, 1.0, "row"), Part("number 1")], [Part("number 77")]]
    for query, answer in zip(queries, searcher.answers(queries, 4), strict=True):
        alone = searcher.answer(query, 4)
        assert ids(answer) == ids(alone) and answer.headline == alone.headline
        for name in ("similarity", "z"):
            both = [[getattr(r, name) for r in a.results] for a in (answer, alone)]
            np.testing.assert_allclose(*both, rtol=1e-9)
    assert searcher.answers([], 4) == []


def test_texts_are_searched_where_they_are_asked_for(folder):
    searcher = open_searcher(open_embeddings(folder), READY, "texts")
    assert ids(searcher.answer([Part(image_bytes(7), kind="image")], 1)) == [6]


def test_results_of_a_lower_z_are_left_out(searcher):
    answer = searcher.answer([Part("number 5")], 10, min_z=3)
    assert ids(answer) == [5] and answer.headline == "1 result stands out from chance"
    assert searcher.answer([Part("number 5")], 10, min_z=1e9).results == []


def test_a_least_z_is_refused_where_there_is_none(photos, tmp_path):
    embed(READY, photos, tmp_path / "few", metadata="jsonl", shard=(0, 2))
    few = open_searcher(open_embeddings(tmp_path / "few" / "shard_0_of_2"), READY)
    with pytest.raises(QueryError, match="60 vectors are too few"):
        few.answer([Part("number 5")], min_z=1)


def test_of_near_duplicates_as_many_are_looked_at_as_it_takes(tmp_path):
    for i in range(70):
        (tmp_path / f"{i:02d}.png").write_bytes(image_bytes(0 if i < 60 else i))
    embed(READY, tmp_path, tmp_path / "out", metadata="jsonl")
    searcher = open_searcher(open_embeddings(tmp_path / "out"), READY)
    answer = searcher.answer([Part("number 0", 2.0), Part("number 61")], 3, alike=0.9)
    assert ids(answer) == [0, 61, 60] and [r.alike for r in answer.results] == [60, 1, 1]
    assert [result.rank for result in answer.results] == [1, 2, 3]
    assert len(searcher.answer([Part("number 0")], 50, alike=0.9).results) == 11


def test_near_duplicates_are_compared_up_to_a_limit_and_that_is_said(searcher, monkeypatch):
    monkeypatch.setattr(searcher_module, "MOST_ALIKE", 20)
    answer = searcher.answer([Part("number 5")], 5, alike=0.9)
    assert len(answer.results) == 5 and answer.note is None
    monkeypatch.setattr(searcher_module, "shown_once", lambda results, vectors, alike: results[:1])
    answer = searcher.answer([Part("number 5")], 5, alike=0.9)
    assert len(answer.results) == 1 and answer.note.startswith("the best 20 rows are near dupl")
    with pytest.raises(ValueError, match=r"at most 20 if .*, got 21"):
        searcher.answer([Part("number 5")], 21, alike=0.9)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([], "empty"),
        ([Part(NUM, kind="row")], "rows are numbered"),
        ([Part("nowhere.png", kind="image")], "nowhere.png cannot be searched for: missing"),
        ([Part(b"no image", kind="image")], "the image cannot be searched for: unusable"),
        ([Part(3, kind="row"), Part("number 3", -1.0)], "cancel"),
    ],
)
def test_queries_that_have_no_vector_are_refused(searcher, query, message):
    with pytest.raises(QueryError, match=message):
        searcher.answer(query)


def test_without_a_model_rows_alone_are_asked_for(folder):
    searcher = open_searcher(open_embeddings(folder))
    parts = [Part(9, kind="row"), Part(4, 0.5, "row")]
    answer = searcher.answer(parts, NUM)
    assert len(answer.results) == NUM - 2 and not {4, 9} & set(ids(answer))
    assert answer.headline == "nothing stands out from chance"
    with pytest.raises(QueryError, match="needs the model"):
        searcher.answer([Part("number 5")])


def test_other_models_and_missing_sides_are_refused(folder, searcher):
    other = numbered_model("other")
    other.model.logit_scale.data += 1
    with pytest.raises(
        ValueError, match=r"cannot be searched with other: .* which has other weights"
    ):
        open_searcher(open_embeddings(folder), other)
    with pytest.raises(ValueError, match="over must be one of"):
        chosen_side(searcher.embeddings, "sounds")
