import errno
import io
import json
import pickle
import tarfile

import pytest

from fastclip.data.sources import tar_shards
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import Part
from fastclip.data.sources.tar_shards import TarSource
from tests.support.pair_files import (
    assert_resumable,
    captions,
    image_bytes,
    pair_members,
    read_all,
    reasons,
    tar_bytes,
    write_shards,
)

BLOCK = 512


def source_of(tmp_path, contents: bytes) -> TarSource:
    (tmp_path / "a.tar").write_bytes(contents)
    return TarSource(str(tmp_path / "a.tar"))


def test_reads_every_pair_in_order(tmp_path):
    write_shards(tmp_path, [3, 2])
    items = read_all(TarSource(f"{tmp_path}/{{000..001}}.tar"))
    assert captions(items) == [f"pair {i}" for i in range(5)]
    assert items[4].image == image_bytes(4)
    assert items[4].key == f"{tmp_path}/001.tar/00004"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_every_script_are_read_from_every_position(tmp_path, format):
    names = ["a" * 60 + "/" + "b" * 90]
    names += [] if format == tarfile.USTAR_FORMAT else ["ключ/" + "鍵" * 70, "x" * 300]
    members = [m for n in names for m in ((f"{n}.jpg", b"image"), (f"{n}.txt", b"caption"))]
    source = source_of(tmp_path, tar_bytes(members, format))
    assert [item.key for item in read_all(source)] == [f"{tmp_path}/a.tar/{n}" for n in names]
    assert_resumable(source)


def test_groups_by_folder_and_name(tmp_path):
    members = [
        ("one/a.JPEG", b"1"), ("one/a.json", b"{}"), ("one/a.txt", b"first"),
        ("two/a.b.jpg", b"no image"), ("two/a.txt", b"second"), ("two/a.webp", b"2"),
        ("two/a.c", b""), ("._a.jpg", b"of a Mac"), ("readme", b""),
    ]  # fmt: skip
    *items, last = read_all(source_of(tmp_path, tar_bytes(members)))
    assert [(item.image, item.caption) for item in items] == [(b"1", "first"), (b"2", "second")]
    assert (last.key, last.reason, last.lost) == (f"{tmp_path}/a.tar/readme", "no suffix", 0)


def test_names_with_more_dots_are_pairs_and_every_member_is_accounted_for(tmp_path):
    members = [
        ("v1.0000.jpg", b"1"), ("v1.0000.txt", b"first"), ("v1.0000.json", b"{}"),
        ("v1.0001.JPG", b"2"), ("v1.0001.TXT", b"second"),
        ("0.canny.png", b""), ("0.depth.png", b""), ("0.jpg", b"3"), ("0.txt", b"third"),
        ("0.output.json", b"{}"), ("0.jpg.json", b"{}"), ("1.tif", b"4"), ("1.txt", b"fourth"),
        ("2.heic", b""), ("2.txt", b"of an unknown format"), ("3.npy", b""),
        ("__MACOSX/4.jpg", b""), ("__index__", b""), (".DS_Store", b""),
    ]  # fmt: skip
    source = source_of(tmp_path, tar_bytes(members))
    items = read_all(source)
    assert captions(items) == ["first", "second", "third", "fourth"]
    assert [item.image for item in items[:4]] == [b"1", b"2", b"3", b"4"]
    assert [(item.reason, item.lost) for item in items[4:]] == [("no image", 1), (".npy", 0)]
    assert items[4].detail == "its members are 2.heic, 2.txt"
    assert_resumable(source)


def test_of_several_images_the_preferred_or_the_named_one_counts(tmp_path):
    members = [
        member
        for i in range(3)
        for member in (
            (f"{i}.png", b"png"), (f"{i}.jpg", b"jpg"), (f"{i}.seg.png", b"seg"),
            (f"{i}.txt", b"plain"), (f"{i}.alt.txt", b"other"),
        )
    ]  # fmt: skip
    path = str(tmp_path / "a.tar")
    source_of(tmp_path, tar_bytes(members))
    for image_key, caption_key, image, caption in (
        (None, None, b"jpg", "plain"), ("png", None, b"png", "plain"),
        ("webp;png;jpg", None, b"png", "plain"), ("seg.png", "alt.txt", b"seg", "other"),
        (".JPG", "cap;txt", b"jpg", "plain"),
    ):  # fmt: skip
        source = TarSource(path, image_key, caption_key)
        items = read_all(source)
        assert [(item.image, item.caption) for item in items] == [(image, caption)] * 3
        assert_resumable(source)
    assert reasons(read_all(TarSource(path, "webp"))) == ["no image"] * 3
    for keys in (("png;", None), ("a/b", None), ("txt", None)):
        with pytest.raises(ValueError, match="image_key"):
            TarSource(path, *keys)


def test_links_in_the_place_of_files_are_counted(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, contents in pair_members(range(2)):
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            if name == "00001.png":
                info.type, info.linkname, info.size = tarfile.LNKTYPE, "00000.png", 0
            tar.addfile(info, io.BytesIO(contents))
    source = TarSource(str(path))
    items = read_all(source)
    assert captions(items) == ["pair 0"]
    assert reasons(items) == ["member is a link or not a regular file"]
    assert_resumable(source)


def test_the_same_key_again_is_another_sample(tmp_path):
    members = [("a.jpg", b"1"), ("a.txt", b"first"), ("a.jpg", b"2"), ("a.txt", b"second")]
    assert captions(read_all(source_of(tmp_path, tar_bytes(members)))) == ["first", "second"]


def test_folders_and_links_are_passed_over(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        folder, link = tarfile.TarInfo("d"), tarfile.TarInfo("d/l")
        folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "x"
        tar.addfile(folder)
        tar.addfile(link)
    path.write_bytes(path.read_bytes()[: 2 * BLOCK] + tar_bytes(pair_members(range(2))))
    source = TarSource(str(path))
    assert captions(read_all(source)) == ["pair 0", "pair 1"]
    assert_resumable(source)


def test_incomplete_and_empty_samples_are_bad_and_take_no_other_along(tmp_path):
    members = [
        *pair_members(range(1)), ("p.jpg", b"image"), ("q.txt", b"caption"),
        ("r.jpg", b"image"), ("r.txt", b" \n"), ("s.jpg", b"image"), ("s.txt", b"\xff\xfe"),
        *pair_members(range(1, 2)),
    ]  # fmt: skip
    source = source_of(tmp_path, tar_bytes(members))
    items = read_all(source)
    assert captions(items) == ["pair 0", "pair 1"]
    assert reasons(items) == ["no caption", "no image", "empty caption", "caption is not UTF-8"]
    assert items[1].key == f"{tmp_path}/a.tar/p"
    assert_resumable(source)


@pytest.mark.parametrize(
    "member", range(8), ids=lambda i: f"{'txt' if i % 2 else 'png'} of {i // 2}"
)
def test_a_corrupt_header_costs_its_sample_and_is_counted_once(tmp_path, member):
    contents = bytearray(tar_bytes(pair_members(range(4))))
    contents[member * 2 * BLOCK + 150] ^= 0xFF  # each member is a header and a block
    source = source_of(tmp_path, bytes(contents))
    items = read_all(source)
    assert captions(items) == [f"pair {i}" for i in range(4) if i != member // 2]
    assert reasons(items) == ["shard is corrupt"]
    assert f"{tmp_path}/a.tar" in next(i for i in items if isinstance(i, BadSample)).key
    assert_resumable(source)


def test_damage_that_takes_whole_samples_is_counted_between_the_others(tmp_path):
    contents = bytearray(tar_bytes(pair_members(range(5))))
    contents[4 * BLOCK : 12 * BLOCK] = b"x" * 8 * BLOCK
    source = source_of(tmp_path, bytes(contents))
    items = read_all(source)
    assert [type(item) for item in items] == [Sample, BadSample, Sample, Sample]
    assert items[1].detail == f"at byte {4 * BLOCK}"
    assert_resumable(source)


def test_damage_to_what_no_sample_needs_costs_none(tmp_path):
    members = pair_members(range(2))
    members.insert(1, ("00000.json", b"{}"))
    contents = bytearray(tar_bytes(members))
    contents[2 * BLOCK + 150] ^= 0xFF
    items = read_all(source_of(tmp_path, bytes(contents)))
    assert captions(items) == ["pair 0", "pair 1"] and reasons(items) == []


def test_a_hole_of_zeros_is_not_taken_for_the_end(tmp_path):
    contents = bytearray(tar_bytes(pair_members(range(5))))
    contents[4 * BLOCK : 8 * BLOCK] = bytes(4 * BLOCK)
    source = source_of(tmp_path, bytes(contents))
    items = read_all(source)
    assert captions(items) == ["pair 0", "pair 2", "pair 3", "pair 4"]
    assert reasons(items) == ["shard is corrupt"]
    assert_resumable(source)


def test_bytes_lost_from_a_member_cost_no_sample_behind_the_next_header(tmp_path):
    contents = tar_bytes(pair_members(range(6)))
    items = read_all(source_of(tmp_path, contents[: BLOCK + 10] + contents[BLOCK + 110 :]))
    assert captions(items)[-4:] == [f"pair {i}" for i in range(2, 6)]
    assert len(reasons(items)) >= 1


@pytest.mark.parametrize("cut", range(1, 5 * 4 * BLOCK, 211))
def test_a_truncated_shard_keeps_what_is_complete_and_is_counted(tmp_path, cut):
    contents = tar_bytes(pair_members(range(5)))[:cut]
    source = source_of(tmp_path, contents)
    items = read_all(source)
    # A caption of 6 bytes is complete before the padding of its block is.
    num_complete = sum(cut >= (4 * i + 3) * BLOCK + 6 for i in range(5))
    assert captions(items) == [f"pair {i}" for i in range(num_complete)]
    assert reasons(items) == ["shard is truncated"]
    assert_resumable(source)


def test_a_shard_without_a_byte_among_others_is_one_bad_sample(tmp_path):
    write_shards(tmp_path, [1])
    (tmp_path / "001.tar").touch()
    source = TarSource(f"{tmp_path}/*.tar")
    assert reasons(read_all(source)) == ["shard is truncated"]
    assert_resumable(source)


@pytest.mark.parametrize("contents", [b"no tar at all" * 500, b"\x1f\x8b" + b"gzip" * 1000])
def test_a_file_that_is_no_tar_is_one_bad_sample(tmp_path, contents):
    source = source_of(tmp_path, contents)
    assert len(read_all(source)) == 1 and len(reasons(read_all(source))) == 1
    assert_resumable(source)


def test_a_folder_of_shards_is_read_and_what_else_is_in_it_is_counted(tmp_path):
    write_shards(tmp_path, [1, 2])
    (tmp_path / "below").mkdir()
    for name in ("sizes.json", "__len__", "000.parquet", "below/002.tar", "a.jpg"):
        (tmp_path / name).write_text("{}" if name == "sizes.json" else "3")
    source = TarSource(str(tmp_path))
    assert captions(read_all(source)) == ["pair 0", "pair 1", "pair 2"]
    assert source.skipped() == {".jpg": 1, ".parquet": 1, "shard in a folder below": 1}


def test_an_empty_archive_holds_nothing_and_nothing_bad(tmp_path):
    assert read_all(source_of(tmp_path, tar_bytes([]))) == []


def test_a_missing_shard_is_as_many_bad_samples_as_it_should_hold(tmp_path):
    write_shards(tmp_path, [2, 2])
    spec = f"{tmp_path}/{{000..002}}.tar"
    (bad,) = [item for item in read_all(TarSource(spec)) if isinstance(item, BadSample)]
    assert (bad.reason, bad.lost) == ("missing shard", 2) and "002.tar" in bad.key
    (tmp_path / "sizes.json").write_text(json.dumps({"002.tar": 50}))
    (bad,) = [item for item in read_all(TarSource(spec)) if isinstance(item, BadSample)]
    assert bad.lost == 50
    assert_resumable(TarSource(spec))


def test_a_shard_that_vanishes_is_as_many_bad_samples_as_it_held(tmp_path):
    paths = write_shards(tmp_path, [2, 7, 5])
    source = TarSource(f"{tmp_path}/*.tar")
    first, second, third = source.parts()
    list(source.read(second))
    paths[1].unlink()
    ((bad,), (good, *_)) = ([e.load() for e in source.read(part)] for part in (second, first))
    assert (bad.reason, bad.lost) == ("missing shard", 7) and isinstance(good, Sample)
    paths[2].unlink()
    paths[2].mkdir()
    (bad,) = [entry.load() for entry in source.read(third)]
    assert (bad.reason, bad.lost) == ("unreadable shard", 4)  # the mean of 2 and 7


def test_a_shard_that_was_never_there_is_as_many_as_the_first_that_is(tmp_path):
    paths = write_shards(tmp_path, [3, 6, 9])
    paths[0].unlink()
    source = TarSource(f"{tmp_path}/{{000..002}}.tar")
    (bad,) = [entry.load() for entry in source.read(source.parts()[0])]
    assert bad.lost == 6
    for path in paths[1:]:
        path.unlink()
    source = pickle.loads(pickle.dumps(source))
    source._counts.clear()
    assert [next(source.read(part)).load().lost for part in source.parts()] == [1, 1, 1]


def test_a_shard_whose_storage_fails_loses_the_samples_that_are_left(tmp_path, monkeypatch):
    write_shards(tmp_path, [10])
    source = TarSource(f"{tmp_path}/*.tar")
    (part,) = source.parts()
    list(source.read(part))
    read_members = tar_shards.read_members

    def fail_after_six(file, position):
        for number, member in enumerate(read_members(file, position)):
            if number == 12:
                raise OSError(errno.EIO, "Input/output error")
            yield member

    monkeypatch.setattr(tar_shards, "read_members", fail_after_six)
    *good, bad = [entry.load() for entry in source.read(part)]
    assert (bad.reason, bad.lost) == ("unreadable shard", 10 - len(good)) and good


def test_a_folder_in_the_place_of_a_shard_is_unreadable(tmp_path):
    write_shards(tmp_path, [1])
    (tmp_path / "001.tar").mkdir()
    assert reasons(read_all(TarSource(f"{tmp_path}/*.tar"))) == ["unreadable shard"]


def test_num_samples_is_of_sizes_json_else_of_len(tmp_path):
    write_shards(tmp_path, [2, 3])
    spec = f"{tmp_path}/*.tar"
    assert TarSource(spec).num_samples() is None
    (tmp_path / "__len__").write_text("6")
    assert TarSource(spec).num_samples() == 6
    (tmp_path / "sizes.json").write_text(json.dumps({"000.tar": 2, "001.tar": 3}))
    assert TarSource(spec).num_samples() == 5


def test_reading_from_a_position_does_not_read_what_is_before_it(tmp_path, monkeypatch):
    source = source_of(tmp_path, tar_bytes(pair_members(range(50))))
    (part,) = source.parts()
    position = list(source.read(part))[40].position
    starts = []
    read_members = tar_shards.read_members
    monkeypatch.setattr(
        tar_shards,
        "read_members",
        lambda file, start: (
            m for m in read_members(file, start) if starts.append(m.start) is None
        ),
    )
    assert len(list(source.read(part, position))) == 10
    assert min(starts) == position and len(starts) == 20


def test_a_member_above_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_shards, "MAX_MEMBER_BYTES", 100)
    members = [("a.jpg", bytes(101)), ("a.txt", b"caption"), *pair_members(range(1))]
    items = read_all(source_of(tmp_path, tar_bytes(members)))
    assert reasons(items) == ["member is too large"] and captions(items) == ["pair 0"]


def test_source_is_picklable(tmp_path):
    write_shards(tmp_path, [2])
    source = pickle.loads(pickle.dumps(TarSource(f"{tmp_path}/000.tar")))
    assert source.parts() == [Part(f"{tmp_path}/000.tar")]
    assert captions(read_all(source)) == ["pair 0", "pair 1"]
