"""Results: what chance gives beside each, strict JSON, and near duplicates shown once."""

import datetime
import json

import numpy as np
import pytest

from fastclip.embeddings.manifest import Manifest
from fastclip.embeddings.reader import open_embeddings
from fastclip.embeddings.writer import EmbeddingsWriter
from fastclip.search.calibration import Judgement, judge
from fastclip.search.exact import search
from fastclip.search.results import Result, headline, results_of, shown_once

pytestmark = pytest.mark.fast
NUM, DIM = 300, 16


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "out"
    head = Manifest(None, None, "", ("img",), "f16", "jsonl", 128)
    rows = np.random.default_rng(0).normal(size=(NUM, DIM)).astype(np.float32)
    rows[[40, 290]] = 4 * np.eye(DIM, dtype=np.float32)[0]
    with EmbeddingsWriter(folder, head) as writer:
        numbers = list(range(NUM))
        while numbers:
            part, numbers = numbers[: writer.room], numbers[writer.room :]
            keys = [{"image_path": f"{i}.jpg", "caption": f"<b>{i}", "id": "own"} for i in part]
            writer.add({"img": rows[part]}, keys)
            writer.end_file([part[-1] + 1])
        writer.finish()
    return open_embeddings(folder)


@pytest.fixture(scope="module")
def answered(embeddings):
    query = np.eye(DIM, dtype=np.float32)[0]
    found = search(query[None], embeddings.images, 5)
    rows, scores = found.rows[0], found.scores[0]
    judgement = judge(query, scores, embeddings.images.moments)
    return results_of(rows, scores, judgement, embeddings.metadata(rows)), judgement


def test_results_of_a_folder_say_what_chance_gives(answered):
    results, judgement = answered
    assert [result.rank for result in results] == [1, 2, 3, 4, 5]
    assert [result.id for result in results[:2]] == [40, 290]
    assert [result.stands_out for result in results] == [True, True, False, False, False]
    assert headline(results, judgement) == "2 results stand out from chance"
    assert headline(results[1:], judgement) == "1 result stands out from chance"
    assert headline(results[2:], judgement) == "nothing stands out from chance"
    values = results[0].to_dict()
    assert values["image_path"] == "40.jpg" and values["caption"] == "<b>40"
    assert values["id"] == 40 and values["metadata_id"] == "own" and values["similarity"] == 4.0
    assert values["z"] > 3.5 and values["expected_chance_hits"] < 0.05


def test_of_near_duplicates_the_best_is_shown_with_their_number(answered, embeddings):
    results, _ = answered
    vectors = embeddings.images.rows([result.id for result in results])
    shown = shown_once(results, vectors)
    assert [(r.rank, r.id, r.alike) for r in shown[:2]] == [(1, 40, 2), (2, results[2].id, 1)]
    assert len(shown) == 4 and shown[0].metadata == results[0].metadata
    assert shown_once([], vectors[:0]) == []
    with pytest.raises(ValueError, match="got 4 for 5 results"):
        shown_once(results, vectors[:4])


def test_json_is_strict_whatever_the_columns_hold():
    columns = {"nan": np.nan, "when": datetime.date(2026, 1, 2), "deep": [{"x": (np.inf, 1)}]}
    values = Result(1, 2, 0.5, metadata=columns).to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["nan"] is None and values["when"] == "2026-01-02"
    assert values["deep"] == [{"x": [None, 1]}] and values["stands_out"] is None


def test_where_nothing_can_be_said_the_headline_says_why():
    why = "scores cannot be calibrated: 3 vectors are too few"
    assert headline([Result(1, 2, 0.5)], Judgement(None, why)) == why
