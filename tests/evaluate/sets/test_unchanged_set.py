"""Features that are kept are of the data as they are now, or are refused and say what changed."""

import os
from pathlib import Path

import pytest

from fastclip.evaluate.sets.encoding import SetEncoder
from fastclip.evaluate.sets.opening import PairSet, Reading, open_set
from tests.support.ideal import ideal_model
from tests.support.pair_files import image_bytes, tar_bytes

NUM = 50  # samples of a shard, of which the last is behind the 64 KiB that a shard is known by
WHAT_TO_DO = "choose another folder for features, or remove this one"


def evaluated(spec, kept, said=None, **reading):
    data = open_set(spec, Reading(**reading))
    say = (lambda sentence: None) if said is None else said.append
    encoder = SetEncoder(ideal_model(), 7, 0, 0.5, kept, say)
    return encoder.pairs(data) if isinstance(data, PairSet) else encoder.labelled(data)


def shard(kind: str, last: bytes, names: tuple[str, str] | None = None) -> bytes:
    """The samples 00 to 49, of which the last has a text and perhaps names of its own."""
    members = []
    for i in range(NUM):
        text = last if i == NUM - 1 else b"1"
        members += [(f"{i:02d}.png", image_bytes(i)), (f"{i:02d}.{kind}", text)]
    if names is not None:
        contents = [content for _, content in members[-2:]]
        members[-2:] = zip(names, contents, strict=True)
    return tar_bytes(members)


def write_again(path: Path, content: bytes, keeps_time: bool = False) -> None:
    """Change a file in place: as many bytes, and perhaps the time set back, as cp -p does."""
    status = os.stat(path)
    assert len(content) == status.st_size and content != path.read_bytes()
    assert content[: 2**16] == path.read_bytes()[: 2**16] or len(content) < 2**16
    path.write_bytes(content)
    time = status.st_mtime_ns + (0 if keeps_time else 1)
    os.utime(path, ns=(status.st_atime_ns, time))


def test_an_image_of_a_table_that_was_written_again_is_refused(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.bmp").write_bytes(image_bytes(i, format="BMP"))
    (tmp_path / "t.csv").write_text("filepath,title\n0.bmp,number 0\n1.bmp,number 1\n")
    evaluated(tmp_path / "t.csv", tmp_path / "f", separator=",")
    said = []
    evaluated(tmp_path / "t.csv", tmp_path / "f", said, separator=",")
    assert "2 features were read from" in said[0]
    write_again(tmp_path / "1.bmp", image_bytes(2, format="BMP"))
    with pytest.raises(
        ValueError, match=rf"t-pairs: files of the data were written since.*{WHAT_TO_DO}"
    ):
        evaluated(tmp_path / "t.csv", tmp_path / "f", separator=",")


@pytest.mark.parametrize(
    ("kind", "keeps_time", "told"),
    [
        ("cls", False, "written since"),
        ("cls", True, "the label of '0.tar/49' has changed"),
        ("txt", False, "written since"),
        ("txt", True, "the caption of '0.tar/49' has changed"),
    ],
)
def test_a_text_behind_the_beginning_of_a_shard_is_seen(kind, keeps_time, told, tmp_path):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "0.tar"
    path.write_bytes(shard(kind, b"2"))
    evaluated(tmp_path / "data", tmp_path / "f")
    write_again(path, shard(kind, b"3"), keeps_time)
    with pytest.raises(ValueError, match=f"{told}.*{WHAT_TO_DO}"):
        evaluated(tmp_path / "data", tmp_path / "f")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, ("49.png", "49.xls"), "'0.tar/49' is no longer there"),
        (("49.xls", "49.doc"), None, "1 sample is new"),
    ],
)
def test_samples_that_are_gone_or_new_are_named_or_counted(before, after, told, tmp_path):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "0.tar"
    path.write_bytes(shard("txt", b"2", before))
    evaluated(tmp_path / "data", tmp_path / "f")
    write_again(path, shard("txt", b"2", after), keeps_time=True)
    with pytest.raises(ValueError, match=f"{told}.*{WHAT_TO_DO}"):
        evaluated(tmp_path / "data", tmp_path / "f")


def test_what_was_bad_and_is_bad_is_no_change(tmp_path):
    for name, content in (("a/0", image_bytes(0)), ("a/1", b"no image"), ("b/0", image_bytes(1))):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / f"{name}.png").write_bytes(content)
    first = evaluated(tmp_path / "d", tmp_path / "f")
    said = []
    again = evaluated(tmp_path / "d", tmp_path / "f", said)
    assert "2 features were read from" in said[0]
    assert again.keys == first.keys == ["a/0.png", "b/0.png"] and again.bad == first.bad
