"""Columns that samples of strangers bring: none of them ends a job, and what is changed is said."""

import json

import pytest

from fastclip.embeddings import embed, open_embeddings
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
                           "note": ["x" * 2**25, "short"]})  # fmt: skip
    parquet.write_table(table, tmp_path / "t.parquet")
    state, rows = embedded(tmp_path / "t.parquet", tmp_path / "out", "jsonl")
    assert [row["note"] for row in rows] == [None, "short"] and state.left_out == 1
