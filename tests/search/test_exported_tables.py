"""A table has every row, in order, with its vector and what is known of it."""

import datetime
import sys

import numpy as np
import pytest
from pyarrow import parquet, table

from fastclip.atomic_file import CannotWrite
from fastclip.embeddings.reader import open_embeddings
from fastclip.search.export import export_lance, export_parquet
from tests.support.full_disk import files_of_at_most
from tests.support.unit_embeddings import DIM, row_of, unit_vectors, write_embeddings

pytestmark = pytest.mark.fast
NUM = 23


def strange_row(number):
    """Columns whose types differ from file to file, and whose names are taken."""
    row = row_of(number) | {"id": f"own {number}", "vector": number, "metadata_id": 1}
    row |= {"width": number, "score": number if number < 10 else number / 4, "good": number > 3}
    row |= {"late": number} if number > 12 else {}
    return row | {"mixed": number if number < 10 else f"<{number}>", "tags": ["x", number]}


@pytest.mark.parametrize("metadata", ["parquet", "jsonl"])
@pytest.mark.parametrize("store", ["f32", "f16", "int8"])
def test_every_row_is_in_the_table_in_order(tmp_path, monkeypatch, store, metadata):
    monkeypatch.setattr("fastclip.search.corpus.BLOCK_BYTES", 4 * DIM * 7)
    options = dict(store=store, metadata=metadata, rows_per_file=10, row_of=strange_row)
    embeddings = open_embeddings(write_embeddings(tmp_path / "a", NUM, **options))
    told = []
    path = tmp_path / "new" / "t.parquet"
    done = export_parquet(embeddings, path, "text", progress=lambda *at: told.append(at))
    assert (done.rows, done.num_unusable) == (NUM, 0)
    assert told[-1] == (NUM, NUM) and len(told) > 3
    found = parquet.read_table(path)
    assert tuple(found.column_names) == done.columns == (
        "id", "vector", "image_path", "caption", "key", "metadata_id", "metadata_vector",
        "metadata_metadata_id", "width", "score", "good", "mixed", "tags", "late",
    )  # fmt: skip
    assert found["id"].to_pylist() == list(range(NUM))
    assert str(found.schema.field("vector").type) == f"fixed_size_list<element: float>[{DIM}]"
    vectors = np.array(found["vector"].to_pylist(), np.float32)
    assert np.array_equal(vectors, embeddings.texts.rows(range(NUM)))
    rows = [strange_row(number) for number in range(NUM)]
    for name in ("image_path", "caption", "key", "width", "good"):
        assert found[name].to_pylist() == [row[name] for row in rows]
    assert found["metadata_id"].to_pylist() == [row["id"] for row in rows]
    assert found["score"].to_pylist() == [float(row["score"]) for row in rows]
    assert found["mixed"].to_pylist() == [str(row["mixed"]) for row in rows]
    assert found["late"].to_pylist() == [None] * 13 + list(range(13, NUM))


def test_what_others_wrote_becomes_text_where_it_is_no_number(tmp_path):
    for kind in ("img_emb", "metadata"):
        (tmp_path / kind).mkdir()
    vectors = unit_vectors(3)
    vectors[1] = np.nan
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", vectors)
    day = datetime.date(2026, 11, 30)
    columns = {"url": ["a", None, "c"], "raw": [b"\xff", None, b""], "day": [day] * 3}
    columns |= {"size": [1.5, float("nan"), None], "box": [[1.0, float("nan")]] * 3}
    parquet.write_table(table(columns), tmp_path / "metadata" / "metadata_0.parquet")
    done = export_parquet(open_embeddings(tmp_path), tmp_path / "t.parquet", "img")
    assert (done.rows, done.num_unusable) == (3, 1)
    found = parquet.read_table(tmp_path / "t.parquet")
    assert np.isnan(found["vector"].to_pylist()[1]).all()
    assert found["url"].to_pylist() == ["a", None, "c"]
    assert found["day"].to_pylist() == ["2026-11-30"] * 3
    assert found["box"].to_pylist()[0] == "[1.0, NaN]"
    assert found["raw"].to_pylist()[1] is None
    assert found["size"].to_pylist()[0] == 1.5 and np.isnan(found["size"].to_pylist()[1])


def test_vectors_without_metadata_are_a_table_too(tmp_path):
    (tmp_path / "img_emb").mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", unit_vectors(5).astype(np.float16))
    done = export_parquet(open_embeddings(tmp_path), tmp_path / "t.parquet", "img")
    assert done.columns == ("id", "vector") and done.rows == 5


@pytest.mark.parametrize("export", [export_parquet, export_lance])
def test_what_is_there_stays(tmp_path, export):
    embeddings = open_embeddings(write_embeddings(tmp_path / "a", sides=("img",)))
    path = tmp_path / "t.lance"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"t.lance' is there already"):
        export(embeddings, path, "img")
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="is there already"):
        export(embeddings, path, "img")


def test_full_disk_leaves_no_half_table(tmp_path):
    embeddings = open_embeddings(write_embeddings(tmp_path / "a", 500))
    with files_of_at_most(3000), pytest.raises(CannotWrite, match="File too large"):
        export_parquet(embeddings, tmp_path / "b" / "t.parquet", "img")
    assert list((tmp_path / "b").iterdir()) == []


def test_missing_packages_and_sides_are_named(tmp_path, monkeypatch):
    embeddings = open_embeddings(write_embeddings(tmp_path / "a", sides=("img",)))
    with pytest.raises(ValueError, match="has no vectors of text"):
        export_parquet(embeddings, tmp_path / "t.parquet", "text")
    with pytest.raises(ValueError, match=r"must end in \.lance"):
        export_lance(embeddings, tmp_path / "t", "img")
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(ModuleNotFoundError, match='pip install "pylance'):
        export_lance(embeddings, tmp_path / "t.lance", "img")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match='pip install "pyarrow'):
        export_parquet(embeddings, tmp_path / "t.parquet", "img")
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
