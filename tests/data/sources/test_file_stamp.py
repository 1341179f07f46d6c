"""Stamps of sources: others as soon as a file was written again, where contents may be the same."""

import os
from pathlib import Path

import pytest

from fastclip.data.digits.source import LoneDigitSource
from fastclip.data.sources.class_folder import ClassFolderSource
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.file_stamp import stamp_of_files
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.hugging_face import HuggingFaceSource
from fastclip.data.sources.image_list import ImageListSource
from fastclip.data.sources.parquet import ParquetSource
from fastclip.data.sources.tar_shards import TarSource
from fastclip.evaluate.sets.lines import EachLine
from tests.data.sources.test_indexed_sources import FakeDataset
from tests.support.pair_files import image_bytes, write_shards


def shards(root: Path):
    write_shards(root, [3, 2])
    return lambda: TarSource(f"{root}/*.tar"), "001.tar"


def lines_of_shards(root: Path):
    write_shards(root, [3, 2])
    return lambda: EachLine(TarSource(f"{root}/*.tar")), "000.tar"


def pairs(root: Path):
    write_images(root, "deep/1.png")
    (root / "deep/1.txt").write_text("a caption")
    return lambda: FolderSource(root), "deep/1.txt"


def classes(root: Path):
    write_images(root, "cat/0.png", "dog/1.png")
    return lambda: ClassFolderSource(root), "dog/1.png"


def csv(root: Path):
    write_images(root, "0.png", "1.png")
    (root / "t.csv").write_text("filepath\ttitle\n0.png\ta\nhttp://x/y.png\tc\n1.png\tb\n")
    return lambda: CsvSource(root / "t.csv"), "1.png"


def parquet(root: Path):
    import pyarrow
    from pyarrow.parquet import write_table

    write_images(root, "0.png", "1.png")
    write_table(pyarrow.table({"image": ["0.png", None, "1.png"]}), root / "t.parquet")
    return lambda: ParquetSource(root / "t.parquet", "image", lone_images=True), "1.png"


def image_list(root: Path):
    write_images(root, "0.png", "1.png")
    (root / "list.txt").write_text("0.png\n1.png\nnot/there.png\na\0b.png\n")
    return lambda: ImageListSource(root / "list.txt"), "1.png"


def rows_with_paths(root: Path):
    write_images(root, "0.png")
    rows = [({"bytes": None, "path": str(root / "0.png")}, "a")]
    return lambda: HuggingFaceSource(FakeDataset(rows)), "0.png"


def rows_in_files(root: Path):
    (root / "data.arrow").write_bytes(b"rows")
    dataset = FakeDataset([(b"an image", "a")])
    dataset.cache_files = [{"filename": str(root / "data.arrow")}]
    return lambda: HuggingFaceSource(dataset), "data.arrow"


def write_images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image_bytes(1))


KINDS = [
    shards, lines_of_shards, pairs, classes, csv, parquet, image_list, rows_with_paths,
    rows_in_files,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_written_again_changes_the_stamp_and_not_the_contents(kind, tmp_path):
    opened, name = kind(tmp_path)
    stamp, contents = opened().stamp(), opened().contents()
    assert stamp and opened().stamp() == stamp
    status = os.stat(tmp_path / name)
    os.utime(tmp_path / name, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert opened().stamp() != stamp and opened().contents() == contents
    os.utime(tmp_path / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert opened().stamp() == stamp


def test_a_stamp_says_how_many_files_there_are_and_when_the_last_was_written(tmp_path):
    for number, size in enumerate((3, 4)):
        (tmp_path / str(number)).write_bytes(bytes(size))
        os.utime(tmp_path / str(number), (0, 86_400 * number))
    paths = [str(tmp_path / name) for name in ("0", "1", "none")]
    found = stamp_of_files(paths)
    assert found.startswith("2 files of 7 bytes, the last written 1970-01-02T00:00:00 UTC, ")
    assert stamp_of_files(reversed(paths)) != found
    more = stamp_of_files([*paths, "no\0name", "\ud800", str(tmp_path)])
    assert more.rpartition(",")[0] == found.rpartition(",")[0]
    (tmp_path / "none").touch()
    assert stamp_of_files(paths) != found
    many = [str(tmp_path / "0")] * 10_000
    assert stamp_of_files(many).startswith("10,000 files of 30,000 bytes")
    assert stamp_of_files([*many, paths[1]]) != stamp_of_files([paths[1], *many])


def test_what_is_made_of_no_files_has_no_stamp():
    assert LoneDigitSource().stamp() == "" == stamp_of_files([])
    source = HuggingFaceSource(FakeDataset([(b"an image", "a")]))
    assert source.stamp() == ""  # rows that are held in memory
