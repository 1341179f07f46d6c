"""Nothing that reads data waits for a pipe, or reads a device: it is refused at once, by name."""

import os
import socket

import pytest

from fastclip.data.images import load_image
from fastclip.data.loading.decoding import Decoder
from fastclip.data.loading.stream import Address
from fastclip.data.regular_file import open_regular, read_regular
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.samples import BadSample
from fastclip.data.sources.shard_names import shard_sizes, stated_length
from fastclip.data.sources.tar_shards import TarSource
from fastclip.evaluate.prompts import read_class_names
from tests.support.pair_files import image_bytes, read_all, to_pixels, to_tokens, write_shards

KINDS = ("pipe", "socket", "folder", "device", "link to a pipe")
ONE_READ = {
    "image": load_image,
    "table": CsvSource,
    "class names": read_class_names,
    "sizes.json": lambda path: shard_sizes([os.path.join(os.path.dirname(path), "a.tar")]),
    "__len__": lambda path: stated_length([os.path.join(os.path.dirname(path), "a.tar")]),
}


@pytest.fixture(params=KINDS)
def make(request, monkeypatch):
    """Makes something that is not a regular file at a path."""

    def make(path) -> str:
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "link to a pipe":
            os.mkfifo(f"{path}.pipe")
            os.symlink(f"{path}.pipe", path)
        elif request.param == "device":
            os.symlink("/dev/zero", path)
        elif request.param == "folder":
            path.mkdir()
        else:
            monkeypatch.chdir(path.parent)  # the path of a socket must be short
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(path.name)
        return str(path)

    return make


@pytest.mark.parametrize("reader", ONE_READ)
def test_a_reader_refuses_at_once(tmp_path, make, reader):
    name = reader if reader in ("sizes.json", "__len__") else "a.csv"
    path = make(tmp_path / name)
    with pytest.raises(OSError, match=r"is not a regular file|is a folder"):
        ONE_READ[reader](path)


def test_images_captions_and_shards_are_bad_samples(tmp_path, make):
    (tmp_path / "folder").mkdir()
    for name, contents in {
        "a.png": image_bytes(1),
        "a.txt": b"a",
        "b.png": b"",
        "b.txt": b"b",
    }.items():
        (tmp_path / "folder" / name).write_bytes(contents)
    source = FolderSource(tmp_path / "folder")
    for name in ("a.txt", "b.png"):  # replaced after the folder was listed
        (tmp_path / "folder" / name).unlink()
        make(tmp_path / "folder" / name)
    bad, sample = read_all(source)
    assert isinstance(bad, BadSample) and bad.reason == "unreadable caption"
    decode = Decoder(to_pixels, to_tokens, seed=0)
    bad = decode(sample, Address(0, 0, 0), 0)
    assert isinstance(bad, BadSample) and bad.reason == "unusable image"

    write_shards(tmp_path, [1])
    make(tmp_path / "001.tar")
    _, bad = read_all(TarSource(f"{tmp_path}/00*.tar"))
    assert bad.reason == "unreadable shard"


def test_regular_files_and_links_to_them_are_read_to_a_bound(tmp_path):
    (tmp_path / "a").write_bytes(b"four")
    os.symlink(tmp_path / "a", tmp_path / "link")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"four" and file.name == str(tmp_path / "link")
    assert read_regular(tmp_path / "a", 4) == b"four"
    with pytest.raises(ValueError, match=r"'.*a' has more than 3 bytes"):
        read_regular(tmp_path / "a", 3)
