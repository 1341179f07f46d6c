"""Columns that samples of strangers bring: none of them ends a job, and what is changed is said."""

import json

import pytest

from fastclip.embeddings import embed, open_embeddings
from fastclip.embeddings.columns import LONGEST_NAME, MOST_COLUMNS, OTHER_COLUMNS
from tests.support.pair_files import image_bytes, tar_bytes
from tests.support.stub_model import numbered_model

READY = numbered_model()


def shard(path, *columns: str):
    """Write a shard with a sample for each JSON text."""
    members = [
        member
        for i, text in enumerate(columns)
        for member in ((f"{i:03d}.png", image_bytes(i)), (f"{i:03d}.json", text.encode()))
    ]
    path.write_bytes(tar_bytes(members))
    return path


def embedded(source, out, metadata):
    state = embed(READY, source, out, metadata=metadata, rows_per_file=100, batch_size=8)
    found = open_embeddings(out, verify=True)
    return state, found.metadata(range(len(found)))


@pytest.mark.parametrize("metadata", ["parquet", "jsonl"])
def test_numbers_that_no_format_has_are_left_out_and_counted(tmp_path, metadata):
    source = shard(
        tmp_path / "a.tar",
        '{"width": 1e999, "deep": ' + "[" * 400 + "]" * 400 + "}",
        '{"width": 7, "missing": NaN, "tags": [Infinity, 1]}',
        '{"width": ' + "1" * 5000 + ', "tags": "text"}',
    )  # fmt: skip
    state, rows = embedded(source, tmp_path / "out", metadata)
    assert [row["width"] for row in rows] == [None, 7, None]
    tags = [[None, 1], "text"]
    assert [row["tags"] for row in rows[1:]] == (
        tags if metadata == "jsonl" else [json.dumps(tags[0]), tags[1]]
    )
    assert rows[1]["missing"] is None
    assert state.rows == 3 and state.left_out == 4


def test_text_of_a_table_that_is_too_long_for_a_line_is_left_out(tmp_path):
    import pyarrow
    from pyarrow import parquet

    (tmp_path / "0.png").write_bytes(image_bytes(0))
    table = pyarrow.table({"path": ["0.png", "0.png"], "text": [None] * 2,
                           "note": ["x" * 2**24, "short"], "y" * (2**20 + 1): [1, 2]})  # fmt: skip
    parquet.write_table(table, tmp_path / "t.parquet")
    state, rows = embedded(tmp_path / "t.parquet", tmp_path / "out", "jsonl")
    assert [row["note"] for row in rows] == [None, "short"] and state.left_out == 3
    assert max(len(name) for name in rows[0]) < 300 and state.gathered == 0


def unfolded(row, metadata):
    """The columns of a row, those included that share one."""
    shared = row.pop(OTHER_COLUMNS, None)
    if metadata == "parquet" and shared is not None:
        shared = json.loads(shared)
    return {name: value for name, value in row.items() if value is not None} | (shared or {})


@pytest.mark.parametrize("metadata", ["parquet", "jsonl"])
def test_columns_beyond_the_most_share_one(tmp_path, metadata):
    per_sample = MOST_COLUMNS // 4
    columns = [{f"{i}_{n}": n for n in range(per_sample)} | {"w": i} for i in range(6)]
    source = shard(tmp_path / "a.tar", *map(json.dumps, columns))
    state, rows = embedded(source, tmp_path / "out", metadata)
    assert list(rows[0])[3 : per_sample + 4] == list(columns[0])
    assert {len(row) for row in rows} == {3 + MOST_COLUMNS + 1}
    assert list(rows[5])[-1] == OTHER_COLUMNS and rows[0][OTHER_COLUMNS] is None
    assert state.gathered == 6 * per_sample + 1 - MOST_COLUMNS
    for row, expected in zip(rows, columns, strict=True):
        found = unfolded(row, metadata)
        assert {name: found[name] for name in expected} == expected
        assert set(found) - set(expected) == {"image_path", "key"}


@pytest.mark.parametrize("metadata", ["parquet", "jsonl"])
def test_names_that_no_format_has_share_a_column(tmp_path, metadata):
    strange = {"\ud800": 1, "x" * (LONGEST_NAME + 1): [2], OTHER_COLUMNS: "own"}
    kept = {"": 1, "x" * LONGEST_NAME: 2, "a\nb\0": "3", "a.b": 4, "東": 5}
    source = shard(tmp_path / "a.tar", json.dumps(kept | strange), json.dumps({"": 7}))
    state, rows = embedded(source, tmp_path / "out", metadata)
    assert {name: rows[0][name] for name in kept} == kept and rows[1][""] == 7
    assert set(rows[0]) == {"image_path", "caption", "key", *kept, OTHER_COLUMNS}
    assert state.gathered == 3 and rows[1][OTHER_COLUMNS] is None
    shared = rows[0][OTHER_COLUMNS]
    assert (json.loads(shared) if metadata == "parquet" else shared) == strange
