"""Rows of Parquet are the same however many of them are made values of Python at once."""

import pytest

from fastclip.data.sources import parquet as module
from fastclip.data.sources.parquet import ParquetSource
from fastclip.data.sources.samples import BadSample
from tests.support.pair_files import assert_resumable, captions, read_all


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Twenty rows in groups of nine, of which three have captions that are no UTF-8."""
    import pyarrow
    from pyarrow import parquet

    texts = [b"caption %d" % i if i not in (5, 6, 17) else b"\xff" for i in range(20)]
    columns = {
        "image": [f"{i}.png" for i in range(20)],
        "text": pyarrow.array(texts).view(pyarrow.string()),
        "tags": [{"n": [i, None], "x": i / 2} for i in range(20)],
    }
    path = tmp_path_factory.mktemp("data") / "t.parquet"
    parquet.write_table(pyarrow.table(columns), path, row_group_size=9)
    return path


@pytest.mark.parametrize("at_once", [1, 4, 1024])
def test_a_row_that_cannot_be_read_is_bad_alone(table, at_once, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", at_once)
    source = ParquetSource(table, "image", "text")
    found = read_all(source)
    bad = {i for i, sample in enumerate(found) if isinstance(sample, BadSample)}
    assert bad == {5, 6, 17} and found[5].reason == "unreadable row"
    assert captions(found) == [f"caption {i}" for i in range(20) if i not in bad]
    assert found[19].columns == {"tags": {"n": [19, None], "x": 9.5}}
    assert found[6].key == "t.parquet, row 6"
    assert_resumable(source)


def test_an_entry_may_be_loaded_again(table):
    source = ParquetSource(table, "image", "text")
    first, second, *_ = (entry for part in source.parts() for entry in source.read(part))
    assert second.load().caption == "caption 1" and first.load().caption == "caption 0"
    assert first.load() == first.load()
