"""Images without captions as samples, of every kind of source; and captions without images."""

import io
import json

import pytest

from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.image_list import ImageListSource
from fastclip.data.sources.lines import LineSource
from fastclip.data.sources.parquet import ParquetSource
from fastclip.data.sources.sample_columns import MOST_COLUMNS
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.tar_shards import TarSource
from tests.support.pair_files import assert_resumable, image_bytes, read_all, reasons, tar_bytes


def told(items):
    """The caption of each sample, the reason of each bad one."""
    return [item.caption if isinstance(item, Sample) else item.reason for item in items]


def test_folder_has_images_without_captions_as_samples_only_if_asked(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(image_bytes(i))
    (tmp_path / "0.txt").write_text("zero")
    (tmp_path / "1.txt").write_text(" \n")
    (tmp_path / "2.txt").write_bytes(b"\xff")
    (tmp_path / "4.txt").write_text("no image")
    found = read_all(FolderSource(tmp_path, lone_images=True))
    assert told(found) == ["zero", "", "caption is not UTF-8", "", "no image"]
    assert found[3] == Sample("3.png", str(tmp_path / "3.png"), "")
    expected = ["zero", "empty caption", "caption is not UTF-8", "no caption", "no image"]
    assert told(read_all(FolderSource(tmp_path))) == expected


def test_shards_have_columns_and_lone_images_but_none_next_to_damage(tmp_path):
    members = [("0.png", image_bytes(0)), ("0.json", json.dumps({"a": [1, None]}).encode()),
               ("1.png", image_bytes(1)), ("1.txt", b"one"), ("1.json", b"{"),
               ("2.png", image_bytes(2)), ("2.txt", b"two"), ("2.json", b"[2]"),
               ("3.png", image_bytes(3)),
               ("3.json", json.dumps({str(i): i for i in range(MOST_COLUMNS + 1)}).encode()),
               ("4.png", image_bytes(4)), ("5.txt", b"five")]  # fmt: skip
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    source = TarSource(str(tmp_path / "a.tar"), lone_images=True, columns=True)
    found = read_all(source)
    bad = "unreadable json"
    assert told(found) == ["", bad, bad, bad, "", "no image"]
    assert found[0].columns == {"a": [1, None]} and found[0].image == image_bytes(0)
    assert found[4].columns is None
    assert_resumable(source)
    plain = read_all(TarSource(str(tmp_path / "a.tar")))
    assert told(plain) == ["no caption", "one", "two", "no caption", "no caption", "no image"]
    assert all(item.columns is None for item in plain if isinstance(item, Sample))
    broken = bytearray(tar_bytes(members[:1] + members[10:11] + members[2:4]))
    broken[1024 + 148 : 1024 + 156] = b"        "  # the checksum of 4.png's header
    (tmp_path / "b.tar").write_bytes(broken)
    found = read_all(TarSource(str(tmp_path / "b.tar"), lone_images=True))
    assert reasons(found) == ["shard is corrupt"] and told(found)[-1] == "one"


def test_table_needs_no_column_of_captions_and_gives_the_others(tmp_path):
    (tmp_path / "t.csv").write_text('path,text,note\nx.png,,"a, b"\ny.png,why,\nz.png\n')
    found = read_all(CsvSource(tmp_path / "t.csv", ",", "path", "text", True, True))
    assert told(found) == ["", "why", "wrong number of fields"]
    assert [item.columns for item in found[:2]] == [{"note": "a, b"}, {"note": ""}]
    found = read_all(CsvSource(tmp_path / "t.csv", ",", "path", None, True, True))
    assert told(found)[:2] == ["", ""] and found[1].columns == {"text": "why", "note": ""}
    with pytest.raises(ValueError, match="caption_key must be a column"):
        CsvSource(tmp_path / "t.csv", ",", "path", None)


def test_parquet_rows_are_read_by_group_and_become_what_json_has(tmp_path):
    import datetime

    import pyarrow
    from pyarrow import parquet

    columns = {
        "path": ["0.png", None, "http://x/2.png", "x" * 5000, "4.png"],
        "text": ["zero", "one", "two", "three", None],
        "day": [datetime.date(2024, 1, i + 1) for i in range(5)],
        "nan": [float("nan")] * 5, "list": [[1.5, float("inf")]] * 5, "raw": [b"\x01"] * 5,
    }  # fmt: skip
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    source = ParquetSource(path, "path", "text", lone_images=True)
    assert source.num_samples() == 5 and [part.num_samples for part in source.parts()] == [2, 2, 1]
    found = read_all(source)
    assert told(found) == [
        "zero", "no image", "image is an address and not a local file",
        "path of the image is too long", "",
    ]  # fmt: skip
    expected = {"day": "2024-01-01", "nan": None, "list": [1.5, None], "raw": "01"}
    assert found[0] == Sample(
        "t.parquet, row 0, 0.png", str(tmp_path / "0.png"), "zero", expected, 1
    )
    assert_resumable(source)
    assert told(read_all(ParquetSource(path, "path", "text")))[4] == "no caption"
    with pytest.raises(ValueError, match=r"must be a column of .*t\.parquet', got 'x'"):
        ParquetSource(path, "x")
    path.write_bytes(b"changed while it was read")
    found = read_all(source)
    assert {item.reason for item in found} == {"unreadable table"}
    assert sum(item.lost for item in found) == 5


def test_list_of_images(tmp_path):
    names = ["a b.png", "", "https://x.org/y.png", "/c.png", "x" * 5000]
    (tmp_path / "l.txt").write_bytes("\n".join(names).encode() + b"\n\xff.png\n")
    source = ImageListSource(tmp_path / "l.txt")
    found = read_all(source)
    assert [item.image for item in found if isinstance(item, Sample)] == [
        str(tmp_path / "a b.png"), "/c.png",
    ]  # fmt: skip
    assert reasons(found) == [
        "image is an address and not a local file", "path of the image is too long",
        "path is not UTF-8",
    ]  # fmt: skip
    assert_resumable(source)
    (tmp_path / "l.txt").write_bytes("a.png".encode("utf-16"))
    with pytest.raises(ValueError, match="UTF-16"):
        ImageListSource(tmp_path / "l.txt")


def test_lines_of_text():
    source = LineSource(io.BytesIO("\ufeffone\r\n\n \xe9\n".encode() + b"\xff"))
    assert told(read_all(source)) == ["one", "empty caption", "é", "caption is not UTF-8"]
    assert all(isinstance(item, Sample | BadSample) for item in read_all(source))
    assert_resumable(source)
    assert source.contents() != LineSource(io.BytesIO(b"one")).contents()
    with pytest.raises(ValueError, match="no line"):
        LineSource(io.BytesIO(b"\n"))
