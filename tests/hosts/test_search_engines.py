"""Engines that are not ours take the tables, and their best row is that of exact search."""

import os
import re
from pathlib import Path

import lance
import lancedb
import numpy as np
import pytest

from fastclip.atomic_file import CannotWrite
from fastclip.embeddings.reader import open_embeddings
from fastclip.search.exact import search
from fastclip.search.export import export_lance
from tests.support.full_disk import files_of_at_most
from tests.support.unit_embeddings import write_embeddings

DOCUMENT = Path(__file__).parents[2] / "docs" / "search-engines.md"
NUM, DIM = 2500, 16


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines") / "embeddings"
    return open_embeddings(write_embeddings(folder, NUM, DIM, store="f16", metadata="parquet"))


def recipes():
    """The first block, which writes the tables, and the others by the title above them."""
    text = DOCUMENT.read_text()
    blocks = re.findall(r"^## ([^\n]*)\n(?:(?!^## ).)*?^```python\n(.*?)^```", text, re.M | re.S)
    return re.search(r"^```python\n(.*?)^```", text, re.M | re.S)[1], dict(blocks)


@pytest.mark.filterwarnings("default")  # those of engines are theirs
@pytest.mark.parametrize("engine", ["LanceDB", "Qdrant", "Milvus"])
def test_recipe_finds_what_exact_search_finds(embeddings, monkeypatch, tmp_path, engine):
    first, others = recipes()
    assert set(others) == {"LanceDB", "Qdrant", "Milvus"}
    for row in (5, 2499):
        (tmp_path / str(row)).mkdir()
        monkeypatch.chdir(tmp_path / str(row))
        os.symlink(embeddings.folder, "embeddings")
        names: dict = {}
        exec(compile(first, str(DOCUMENT), "exec"), names)
        names["query"] = embeddings.images.rows([row])[0] + np.float32(0.03)
        expected = search(names["query"][None], embeddings.images, 1)
        exec(compile(others[engine], str(DOCUMENT), "exec"), names)
        assert names["best"] == expected.rows[0, 0]
        assert names["score"] == pytest.approx(expected.scores[0, 0], abs=1e-5)


@pytest.mark.parametrize("side", ["img", "text"])
def test_embedded_lancedb_searches_a_table_exactly(embeddings, tmp_path, side):
    done = export_lance(embeddings, tmp_path / "db" / f"{side}.lance", side)
    vectors = embeddings.images if side == "img" else embeddings.texts
    table = lancedb.connect(tmp_path / "db").open_table(side)
    assert done.rows == table.count_rows() == NUM and done.columns[:3] == (
        "id",
        "vector",
        "image_path",
    )
    queries = embeddings.texts.rows([0, 7, 2499])
    expected = search(queries, vectors, 5)
    for query, rows, scores in zip(queries, expected.rows, expected.scores, strict=True):
        asked = table.search(query).distance_type("dot").bypass_vector_index().limit(5)
        found = asked.to_list()
        assert [row["id"] for row in found] == rows.tolist()
        np.testing.assert_allclose([1 - row["_distance"] for row in found], scores, atol=1e-5)
        assert found[0]["caption"] == f"number {rows[0]}"
    whole = lance.dataset(tmp_path / "db" / f"{side}.lance").to_table()
    assert whole["id"].to_pylist() == list(range(NUM))
    stored = np.array(whole["vector"].to_pylist(), np.float32)
    assert np.array_equal(stored, vectors.rows(range(NUM)))


def test_failure_leaves_no_half_table_and_says_what_it_is(tmp_path):
    embeddings = open_embeddings(write_embeddings(tmp_path / "a", 500))
    path = tmp_path / "db" / "t.lance"
    with files_of_at_most(3000), pytest.raises(CannotWrite, match=r"t\.lance cannot be written"):
        export_lance(embeddings, path, "img")

    def end(done, total):
        raise KeyError(f"{done} of {total}")

    with pytest.raises(KeyError, match="500 of 500"):
        export_lance(embeddings, path, "img", progress=end)
    assert list((tmp_path / "db").iterdir()) == []
