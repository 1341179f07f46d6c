"""`embed`: every input of every kind of source has its row, whoever reads it and in what parts."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest

from fastclip.embeddings import embed, open_embeddings
from fastclip.models.inference import open_model
from tests.support.embed_jobs import (
    READY,
    SETTINGS,
    as_folder,
    as_list,
    as_parquet,
    as_shards,
    contents,
    numbers_of,
    run,
    table,
    write_images,
)
from tests.support.pair_files import image_bytes
from tests.support.ready import digits_checkpoint
from tests.support.stub_model import DIM

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


def test_model_of_the_digits_embeds_its_built_in_pairs(tmp_path):
    ready = open_model(digits_checkpoint(tmp_path / "digits.pt"), device="cpu")
    found = embed(ready, "digits-held-out", tmp_path / "out", batch_size=16, shard=(1, 32))
    assert found.rows == found.encoded == found.decoded == 32
    assert found.model_seconds > 0 and found.decode_seconds > 0
    folder = open_embeddings(found.folder, verify=True)
    for side in (folder.images, folder.texts):
        np.testing.assert_allclose(np.linalg.norm(side.rows(range(32)), axis=1), 1, atol=1e-5)
    row = folder.metadata([5])[0]
    assert row["image_path"] is None and row["key"] == "digits-held-out/37" and row["caption"]
    assert folder.manifest.model.objection_to(ready) is None
    other = replace(ready)
    other.model.logit_scale.data += 1
    assert "other weights" in folder.manifest.model.objection_to(other)


def test_dimension_is_that_of_the_model(tmp_path):
    found = run(write_images(tmp_path / "in", range(3)), tmp_path / "out")
    assert found.images.dim == DIM == found.manifest.dim


def test_side_whose_tower_was_left_out_is_refused_before_anything_is_written(tmp_path):
    folder = write_images(tmp_path / "in", range(3), captions=True)
    for only, other in (("text", "images"), ("image", "texts")):
        with pytest.raises(ValueError, match=f"opened for {only}s only, but {other} shall be"):
            embed(replace(READY, only=only), folder, tmp_path / "out", **SETTINGS)
    assert not (tmp_path / "out").exists()
    embed(replace(READY, only="text"), folder, tmp_path / "out", texts=True, **SETTINGS)
    assert numbers_of(open_embeddings(tmp_path / "out").texts) == [0, 1, 2]
