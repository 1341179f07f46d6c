"""`embed`: every input of every kind of source has its row, or is skipped with the reason."""

import io
import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.data.loading.bad_samples import DataError
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import IndexedSource
from fastclip.embeddings import embed, open_embeddings
from fastclip.embeddings import writer as writer_module
from fastclip.embeddings.layout import MANIFEST
from fastclip.embeddings.lock import locked
from fastclip.models.inference import open_model
from tests.support.bad_pairs import bad_of_each_kind, good, write_folder
from tests.support.full_disk import files_of_at_most
from tests.support.images import encoded, png_header, random_image
from tests.support.pair_files import image_bytes, tar_bytes
from tests.support.ready import digits_checkpoint
from tests.support.stub_model import DIM, numbered_model

READY = numbered_model()
SETTINGS = {"rows_per_file": 10, "batch_size": 4, "workers": 2}


def run(source, out, **settings):
    embed(READY, source, out, **(SETTINGS | settings))
    return open_embeddings(out, verify=True)


def write_images(folder: Path, numbers, captions=False) -> Path:
    for i in numbers:
        path = folder / f"d{i % 3}" / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(i))
        if captions:
            path.with_suffix(".txt").write_text(f"number {i}")
    return folder


def numbers_of(side) -> list[int]:
    vectors = side.rows(range(len(side)))
    assert (vectors.sum(axis=1) == 1).all() and (vectors.max(axis=1) == 1).all()
    return vectors.argmax(axis=1).tolist()


def as_folder(tmp_path):
    return write_images(tmp_path / "in", range(25))


def as_list(tmp_path):
    write_images(tmp_path / "in", range(25))
    names = [f"in/d{i % 3}/{i:03d}.png" for i in range(25)]
    (tmp_path / "list.txt").write_text("\ufeff" + "\r\n\n".join(names))
    return tmp_path / "list.txt"


def as_shards(tmp_path):
    for shard, numbers in enumerate((range(0, 9), range(9, 25))):
        members = [
            member
            for i in numbers
            for member in (
                (f"{i:09d}.png", image_bytes(i)),
                (f"{i:09d}.txt", b"a <b>&\n\xe6\x9d\xb1 number %d" % i),
                (f"{i:09d}.json", json.dumps(
                    {"caption": "other", "key": f"{i}", "url": f"http://x/{i}", "width": i,
                     "nothing": float("nan")}).encode()),
            )
        ]  # fmt: skip
        (tmp_path / f"{shard:05d}.tar").write_bytes(tar_bytes(members))
        (tmp_path / f"{shard:05d}_stats.json").write_text("{}")
    return tmp_path


def table(suffix, separator):
    def write(tmp_path):
        write_images(tmp_path / "in", range(25))
        lines = [separator.join(("width", "path", "caption"))]
        lines += [separator.join((str(i), f"in/d{i % 3}/{i:03d}.png", f'"say ""{i}"", {i}"'))
                  for i in range(25)]  # fmt: skip
        (tmp_path / f"t.{suffix}").write_bytes("\ufeff".encode() + "\n".join(lines).encode())
        return tmp_path / f"t.{suffix}"

    return write


def as_parquet(tmp_path):
    import pyarrow
    from pyarrow import parquet

    write_images(tmp_path / "in", range(25))
    paths = [os.path.abspath(tmp_path / f"in/d{i % 3}/{i:03d}.png") for i in range(25)]
    columns = {"image_path": paths, "text": [f"number {i}" for i in range(25)],
               "nothing": [float("nan")] * 25, "raw": [b"\xff"] * 25}  # fmt: skip
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet", row_group_size=7)
    return tmp_path / "t.parquet"


SOURCES = [
    as_folder, as_list, as_shards, table("csv", ","), table("tsv", "\t"), as_parquet
]  # fmt: skip


@pytest.mark.parametrize("write", SOURCES)
def test_row_i_of_every_kind_of_source_is_input_i(tmp_path, write):
    (tmp_path / "data").mkdir()
    source = write(tmp_path / "data")
    found = run(source, tmp_path / "out")
    order = sorted(range(25), key=lambda i: (i % 3, i)) if write is as_folder else list(range(25))
    assert numbers_of(found.images) == order
    assert [len(file.values) for file in found.images.files] == [10, 10, 5]
    rows = found.metadata(range(25))
    if write in (as_folder, as_list):
        assert found.texts is None and {row["caption"] for row in rows} == {None}
    else:
        assert numbers_of(found.texts) == order
    if write is as_shards:
        assert found.manifest.root == str(source)
        assert rows[10]["image_path"] == rows[10]["key"] == "00001.tar/000000010"
        assert rows[10]["caption"] == "a <b>&\n東 number 10" and rows[10]["url"] == "http://x/10"
        assert rows[10]["width"] == 10 and rows[10]["nothing"] is None
        assert "00000_stats.json" not in {row["key"] for row in rows}
    else:
        for row, number in zip(range(25), order, strict=True):
            assert found.image_file(row).read_bytes() == image_bytes(number)
    if "caption" in rows[0] and "width" in rows[0] and write is not as_shards:
        assert rows[3]["caption"] == 'say "3", 3' and rows[3]["width"] == "3"


def test_lines_of_text_have_vectors_of_texts_alone(tmp_path, monkeypatch):
    text = "number 0\nnumber 1\n\n<i>東京</i> 3\r\nnumber 4 \xe9\n"
    lines = text.encode().replace("\xe9".encode(), b"\xe9")

    class Stdin:
        buffer = io.BytesIO(lines)

    monkeypatch.setattr(sys, "stdin", Stdin)
    found = run("-", tmp_path / "out", max_bad_rate=1)
    assert found.images is None and numbers_of(found.texts) == [0, 1, 3]
    assert [row["key"] for row in found.metadata(range(3))] == ["line 1", "line 2", "line 4"]
    assert found.metadata([2])[0]["caption"] == "<i>東京</i> 3"
    counts = found.manifest.skipped.account["counts"]
    assert counts == {"empty caption": 1, "caption is not UTF-8": 1}
    with pytest.raises(ValueError, match="has no images"):
        Stdin.buffer = io.BytesIO(lines)
        run("-", tmp_path / "other", images=True)


def test_sides_are_what_there_is_or_what_was_asked_for(tmp_path):
    folder = write_images(tmp_path / "in", range(12), captions=True)
    (folder / "d0" / "000.txt").unlink()
    both = run(folder, tmp_path / "both")
    assert len(both) == 11 and both.manifest.skipped.account["counts"] == {"no caption": 1}
    images = run(folder, tmp_path / "images", images=True)
    assert numbers_of(images.images) == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
    assert images.texts is None
    assert [row["caption"] for row in images.metadata([0, 1])] == [None, "number 3"]
    (folder / "d0" / "003.png").write_bytes(b"no image")
    texts = run(folder, tmp_path / "texts", texts=True)
    assert texts.images is None and numbers_of(texts.texts)[0] == 3


def damaged_images() -> dict[str, tuple[bytes, str | None]]:
    rgb = random_image("RGB", 40, 30)
    jpeg = encoded(rgb, "JPEG")
    frames = [random_image("RGB", 9, 9, seed) for seed in range(3)]
    return {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "unusable image"),
        "empty.jpg": (b"", "unusable image"),
        "zeros.png": (bytes(3000), "unusable image"),
        "page.jpg": (b"<html>404</html>", "unusable image"),
        "huge.png": (png_header(60_000, 60_000), "unusable image"),
        "header.png": (png_header(9, 9), "unusable image"),
        "cmyk.jpg": (encoded(random_image("CMYK", 20, 20), "JPEG"), None),
        "grey16.png": (encoded(random_image("I;16", 20, 20), "PNG"), None),
        "palette.png": (encoded(random_image("P", 20, 20), "PNG"), None),
        "animated.gif": (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), None),
        "mislabelled.jpg": (encoded(rgb, "PNG"), None),
        "float.tif": (encoded(Image.new("F", (9, 9)), "TIFF"), "unusable image"),
    }


def test_twelve_kinds_of_damaged_images_are_skipped_or_read(tmp_path):
    images = damaged_images()
    (tmp_path / "in").mkdir()
    for name, (content, _) in images.items():
        (tmp_path / "in" / name).write_bytes(content)
    found = run(tmp_path / "in", tmp_path / "out", max_bad_rate=1)
    lines = [json.loads(line) for line in (found.folder / "skipped.jsonl").read_text().splitlines()]
    expected = {name: reason for name, (_, reason) in images.items() if reason}
    assert {line["key"]: line["reason"] for line in lines} == expected
    assert len(lines) == 7 and all(line["detail"] and line["lost"] == 1 for line in lines)
    assert [row["key"] for row in found.metadata(range(5))] == sorted(set(images) - set(expected))
    assert found.manifest.skipped.account["num_seen"] == 12
    with pytest.raises(DataError, match=r"58.3% of the inputs .*more than max_bad_rate = 10.0%"):
        run(tmp_path / "in", tmp_path / "few")
    assert len(run(tmp_path / "in", tmp_path / "few", resume=True, max_bad_rate=0.6)) == 5
    with pytest.raises(DataError, match=r"empty.jpg cannot be embedded: unusable image"):
        run(tmp_path / "in", tmp_path / "strict", strict=True, max_bad_rate=1)


def test_pairs_that_are_bad_in_every_way_are_counted_by_reason(tmp_path):
    pairs = bad_of_each_kind(random.Random(0))
    write_folder(tmp_path, good(range(3)) + pairs)
    out = tmp_path / "out"
    embed(READY, tmp_path, out, texts=True, images=True, max_bad_rate=1, **SETTINGS)
    found = open_embeddings(out)
    expected = Counter(pair.reason for pair in pairs)
    # An image that lacks its caption only is an input without one, whatever is in its place.
    expected["no caption"] += expected.pop("empty caption")
    assert Counter(found.manifest.skipped.account["counts"]) == expected
    assert numbers_of(found.images) == numbers_of(found.texts) == [0, 1, 2]


class Vanishing(IndexedSource):
    """Its last image is deleted while the first is read."""

    def __init__(self, folder):
        self.paths = sorted(map(str, folder.rglob("*.png")))

    def __len__(self):
        return len(self.paths)

    def load(self, index):
        Path(self.paths[-1]).unlink(missing_ok=True)
        return Sample(str(index), self.paths[index], "")


def test_image_that_is_gone_when_it_is_read_is_counted_as_missing(tmp_path):
    source = Vanishing(write_images(tmp_path / "in", range(25)))
    found = run(source, tmp_path / "out")
    assert len(found) == 24
    assert found.manifest.skipped.account["counts"] == {"missing image file": 1}
    (line,) = (found.folder / "skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == "24" and source.paths[-1] in json.loads(line)["detail"]


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files but the lock; no temporary one is left."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in paths if path.name.endswith(".tmp")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def is_killed_at(call: int, source, out, **settings) -> bool:
    """Run in a fork, which SIGKILL ends in its so-many-eth write to the disk if it has so many."""
    pid = os.fork()
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGKILL)
        return status != 0
    try:
        torch.set_num_threads(1)
        calls = 0

        def counted(original):
            def write(path, *args, **options):
                nonlocal calls
                calls += 1
                if calls == call:
                    # Half of a file under its temporary name: as in the middle of a write.
                    path.parent.mkdir(exist_ok=True)
                    path.with_name(f".{path.name}.0123456789abcdef.tmp").write_bytes(b"half")
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(path, *args, **options)

            return write

        def manifest(folder, *args):
            return counted(lambda path: original_manifest(folder, *args))(folder / MANIFEST)

        original_manifest = writer_module.write_manifest
        writer_module.write_array = counted(writer_module.write_array)
        writer_module.write_bytes = counted(writer_module.write_bytes)
        writer_module.write_manifest = manifest
        embed(READY, source, out, **settings)
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize(("write", "step"), [(as_folder, 1), (as_shards, 6)])
def test_job_that_is_killed_at_any_write_is_resumed_to_the_bit(tmp_path, write, step):
    (tmp_path / "data").mkdir()
    source = write(tmp_path / "data")
    damaged = tmp_path / "data" / "in" / "d1" / "007.png"
    if write is as_folder:
        damaged.write_bytes(b"damaged")
    settings = SETTINGS | {"store": "int8", "metadata": "jsonl", "workers": 1}
    whole = tmp_path / "whole"
    embed(READY, source, whole, **settings)
    expected = contents(whole)
    out, call = tmp_path / "killed_1", 1
    while is_killed_at(call, source, out, **settings):
        if call > 1:
            with pytest.raises(ValueError, match="is not complete"):
                open_embeddings(out)
        if call == 7:  # twice in one job
            is_killed_at(2, source, out, resume=True, **settings)
        embed(READY, source, out, resume=True, **settings)
        assert contents(out) == expected, f"killed at write {call}"
        call += step
        out = tmp_path / f"killed_{call}"
    assert call > 15 and contents(out) == expected
    assert embed(READY, source, out, resume=True, **settings).encoded == 0


def test_part_without_inputs_that_is_killed_at_any_write_is_resumed(tmp_path):
    source = write_images(tmp_path / "in", range(3))
    settings = SETTINGS | {"shard": (1, 7)}
    embed(READY, source, tmp_path / "whole", **settings)
    call, out = 1, tmp_path / "killed_1"
    while is_killed_at(call, source, out, **settings):
        assert embed(READY, source, out, resume=True, **settings).rows == 0
        assert contents(out) == contents(tmp_path / "whole")
        call += 1
        out = tmp_path / f"killed_{call}"
    assert call > 2


@pytest.mark.parametrize("position", [[0], [0, None], [0, -1], [1, 0], [0, 1.0], [True, 1]])
def test_position_that_there_is_not_is_refused(tmp_path, position):
    folder, out = write_images(tmp_path / "in", range(25)), tmp_path / "out"
    assert is_killed_at(3, folder, out, **SETTINGS)
    values = json.loads((out / MANIFEST).read_text()) | {"position": position}
    (out / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(ValueError, match="has a position that there is not"):
        embed(READY, folder, out, resume=True, **SETTINGS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"store": "f16"}, "its store is 'f32', not 'f16'"),
        ({"batch_size": 5}, "its settings is"),
        ({"rows_per_file": 11}, "its rows_per_file is 10, not 11"),
        ({"images": True, "texts": True, "max_bad_rate": 1}, "its sides is"),
        ({"metadata": "jsonl"}, "its metadata is 'parquet', not 'jsonl'"),
    ],
)
def test_other_settings_are_refused_by_name_when_a_job_is_resumed(tmp_path, changes, told):
    folder = write_images(tmp_path / "in", range(5))
    run(folder, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match=told):
        run(folder, tmp_path / "out", resume=True, **changes)
    assert contents(tmp_path / "out") == before


def test_other_source_and_other_model_are_refused_when_a_job_is_resumed(tmp_path):
    folder = write_images(tmp_path / "in", range(5))
    run(folder, tmp_path / "out")
    other = numbered_model("other")
    other.model.logit_scale.data += 1
    with pytest.raises(ValueError, match="its model's weights is"):
        embed(other, folder, tmp_path / "out", resume=True, **SETTINGS)
    (folder / "d0" / "new.png").write_bytes(image_bytes(7))
    with pytest.raises(ValueError, match="its source's contents is"):
        run(folder, tmp_path / "out", resume=True)
    with pytest.raises(ValueError, match="has embeddings already"):
        run(folder, tmp_path / "out")


@pytest.mark.parametrize("write", [as_folder, as_shards, as_parquet])
def test_shards_together_are_the_whole(tmp_path, write):
    (tmp_path / "data").mkdir()
    source = write(tmp_path / "data")
    whole = run(source, tmp_path / "whole")
    for index in (3, 0, 1, 4, 2):
        embed(READY, source, tmp_path / "parts", shard=(index, 5), **SETTINGS)
    union = open_embeddings(tmp_path / "parts", verify=True)
    assert np.array_equal(union.images.rows(range(25)), whole.images.rows(range(25)))
    assert union.metadata(range(25)) == whole.metadata(range(25))
    assert union.images.moments.count == 25
    assert np.array_equal(union.images.moments.sums, whole.images.moments.sums)
    with pytest.raises(ValueError, match="i from 0 to n - 1, got 5 of 5"):
        embed(READY, source, tmp_path / "parts", shard=(5, 5), **SETTINGS)


def test_number_of_threads_changes_nothing(tmp_path):
    folder = write_images(tmp_path / "in", range(60))
    for workers in (1, 5):
        run(folder, tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "5")


def test_second_process_on_one_output_is_refused(tmp_path):
    folder, out = write_images(tmp_path / "in", range(5)), tmp_path / "out"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with locked(out):
            os.write(writing, b"x")
            signal.pause()
        os._exit(0)
    assert os.read(reading, 1) == b"x"
    with pytest.raises(ValueError, match="another process is writing to"):
        run(folder, out)
    assert [path.name for path in out.iterdir()] == ["embeddings.lock"]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(run(folder, out)) == 5


def test_full_disk_leaves_what_is_complete_and_is_resumed(tmp_path):
    folder, out = write_images(tmp_path / "in", range(25)), tmp_path / "out"
    with files_of_at_most(3000), pytest.raises(OSError, match=r"cannot be written: File too large"):
        run(folder, out)
    assert len(run(folder, out, resume=True)) == 25
    expected = run(folder, tmp_path / "whole")
    assert contents(out) == contents(expected.folder)


def test_paths_that_are_no_text_are_skipped(tmp_path):
    folder = write_images(tmp_path / "in", range(20))
    (Path(os.fsdecode(bytes(folder) + b"/\xff.png"))).write_bytes(image_bytes(1))
    found = run(folder, tmp_path / "out")
    assert len(found) == 20
    assert found.manifest.skipped.account["counts"] == {"path is not UTF-8": 1}


def test_model_of_the_digits_embeds_its_built_in_pairs(tmp_path):
    ready = open_model(digits_checkpoint(tmp_path / "digits.pt"), device="cpu")
    found = embed(ready, "digits-held-out", tmp_path / "out", batch_size=128)
    assert found.rows == found.encoded == found.decoded == 1024
    assert found.model_seconds > 0 and found.decode_seconds > 0
    folder = open_embeddings(tmp_path / "out", verify=True)
    for side in (folder.images, folder.texts):
        np.testing.assert_allclose(np.linalg.norm(side.rows(range(1024)), axis=1), 1, atol=1e-5)
    row = folder.metadata([5])[0]
    assert row["image_path"] is None and row["key"] == "digits-held-out/5" and row["caption"]
    assert folder.manifest.model.objection_to(ready) is None
    other = open_model(digits_checkpoint(tmp_path / "other.pt", seed=1), device="cpu")
    assert "other weights" in folder.manifest.model.objection_to(other)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", "name,caption\nx.png,y\n", "no column of paths that fastclip knows"),
        ("t.csv", "path,caption\n", "has only a header"),
        ("t.txt", "\n\n", "names no image"),
        ("t.parquet", "PAR1 no table", "is no Parquet file"),
        ("t.bin", "x", "is nothing that can be embedded"),
        ("x.json", None, "there is no file or folder"),
    ],
)
def test_what_cannot_be_embedded_is_refused_before_anything_is_written(
    tmp_path, name, content, told
):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises((ValueError, OSError), match=told):
        run(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_paths_of_a_table_that_are_missing_or_addresses_are_skipped(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(image_bytes(0))
    names = ["a/0.png", "a/gone.png", "https://x.org/y.jpg", "", "../a/0.png"]
    (tmp_path / "a" / "t.csv").write_text("path\n" + "\n".join(["x", *names[:3], names[4]]))
    found = run(tmp_path / "a" / "t.csv", tmp_path / "out", max_bad_rate=1)
    assert found.manifest.skipped.account["counts"] == {
        "missing image file": 3, "image is an address and no local file": 1
    }  # fmt: skip
    assert found.metadata([0])[0]["image_path"] == "0.png"
    assert found.image_file(0).read_bytes() == image_bytes(0)


def test_dimension_is_that_of_the_model(tmp_path):
    found = run(write_images(tmp_path / "in", range(3)), tmp_path / "out")
    assert found.images.dim == DIM == found.manifest.dim
