"""Which row a sample of the source has: by its place, whatever was skipped before it."""

import json

import numpy as np
import pytest

from fastclip.data.sources.opening import open_source
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import Part, stretches
from fastclip.embeddings import EmbeddingsWriter, embed, open_embeddings
from fastclip.embeddings.layout import MANIFEST
from fastclip.embeddings.manifest import Manifest
from fastclip.embeddings.places import Places
from tests.support.embed_jobs import READY, as_shards, numbers_of, run, table, write_images

GONE = 13  # the number of an image that is no image any more


def write_folder(tmp_path):
    return write_images(tmp_path / "in", range(25), captions=True)


SOURCES = {
    write_folder: {}, as_shards: {}, table("csv", ","): {"image_key": "path", "separator": ",",
    "caption_key": "caption"},
}  # fmt: skip


def rows_by_number(source, found):
    """The number of every sample of a source, in parts as training reads them, with its row."""
    parts = source.parts()
    return {
        int(sample.caption.split()[-1]): found.places.row_of((stretch, entry.position))
        for part, stretch in zip(parts, stretches(parts), strict=True)
        for entry in source.read(part)
        if isinstance(sample := entry.load(), Sample)
    }


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("write", SOURCES)
def test_every_sample_of_training_finds_its_row_and_what_was_skipped_has_none(
    tmp_path, write, shards
):
    (tmp_path / "data").mkdir()
    path = write(tmp_path / "data")
    if write is not as_shards:
        (tmp_path / f"data/in/d{GONE % 3}/{GONE:03d}.png").write_bytes(b"no image")
    for shard in range(shards):
        if shards > 1:
            run_shard(path, tmp_path / "out", (shard, shards))
    found = run(path, tmp_path / "out") if shards == 1 else open_embeddings(tmp_path / "out")
    rows = rows_by_number(open_source(path, **SOURCES[write]), found)
    assert rows.keys() == set(range(25))
    if write is not as_shards:
        assert rows.pop(GONE) is None
    of_images = numbers_of(found.images)
    assert {number: of_images[row] for number, row in rows.items()} == {n: n for n in rows}
    assert sorted(rows.values()) == list(range(len(found)))


def run_shard(path, out, shard):
    embed(READY, path, out, shard=shard, rows_per_file=5, batch_size=4, workers=1)


def test_places_are_searched_over_files_and_between_rows():
    files = [np.array([[0, 3], [0, 9], [2, 0]]), np.empty((0, 2), np.int64), np.array([[2, 4]])]
    places = Places(files)
    known = {(0, 3): 0, (0, 9): 1, (2, 0): 2, (2, 4): 3}
    for stretch in range(-1, 4):
        for position in range(-1, 11):
            place = stretch, position
            assert places.row_of(place) == known.get(place), place
    assert Places([]).row_of((0, 0)) is None


def test_parts_that_follow_each_other_are_one_stretch():
    rows = [Part("t", 0, 90), Part("t", 91, 170), Part("t", 170, 180)]
    assert stretches(rows) == [0, 0, 0]
    assert stretches([Part("0.tar"), Part("1.tar"), Part("1.tar")]) == [0, 1, 2]
    assert stretches([]) == []


def test_folder_of_an_earlier_version_is_read_and_says_nothing_of_places(tmp_path):
    head = Manifest(None, None, "", ("img",), "f32", "jsonl", 2)
    with EmbeddingsWriter(tmp_path, head) as writer:
        writer.add({"img": np.eye(2, dtype=np.float32)}, [{"key": "a"}, {"key": "b"}])
        writer.finish()
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    del manifest["has_places"]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    found = open_embeddings(tmp_path, verify=True)
    assert len(found) == 2 and found.places is None and not (tmp_path / "place").exists()


def test_job_of_an_earlier_version_goes_on_without_places(tmp_path):
    source, out = write_folder(tmp_path), tmp_path / "out"
    run(source, out)

    def is_half_done(manifest):
        (first, *_) = manifest["files"]
        del manifest["has_places"], first["sha256"]["place"]
        manifest["skipped"]["account"]["num_seen"] = first["rows"]
        manifest |= {"files": [first], "position": [0, first["rows"]], "statistics": None}
        return manifest

    path = out / MANIFEST
    path.write_text(json.dumps(is_half_done(json.loads(path.read_text()))))
    found = run(source, out, resume=True)
    assert len(found) == 25 and found.places is None
    assert sorted(numbers_of(found.images)) == list(range(25))


def test_places_that_do_not_fit_are_refused(tmp_path):
    rows, keys = np.eye(2, dtype=np.float32), [{"key": "a"}, {"key": "b"}]
    places = np.array([[0, 0], [0, 1]])
    for has_places, given, message in (
        (True, None, "places must be two numbers for each row, got None"),
        (True, places[:1], r"places must be two numbers for each row, got \(1, 2\)"),
        (True, places[::-1], "places must grow from row to row"),
        (True, places[[1, 1]], "places must grow from row to row"),
        (False, places, r"places must be None, got \(2, 2\)"),
    ):
        head = Manifest(None, None, "", ("img",), "f32", "jsonl", 2, has_places=has_places)
        out = tmp_path / f"refused {has_places}"
        with EmbeddingsWriter(out, head, resume=True) as writer:
            with pytest.raises(ValueError, match=message):
                writer.add({"img": rows}, keys, given)
    head = Manifest(None, None, "", ("img",), "f32", "jsonl", 2, has_places=True)
    with EmbeddingsWriter(tmp_path / "whole", head) as writer:
        writer.add({"img": rows}, keys, places)
        writer.end_file()
    with EmbeddingsWriter(tmp_path / "whole", head, resume=True) as writer:
        with pytest.raises(ValueError, match="places must grow from row to row"):
            writer.add({"img": rows[:1]}, keys[:1], places[1:])
        writer.finish()
    assert open_embeddings(tmp_path / "whole", verify=True).places.row_of((0, 1)) == 1
    path = tmp_path / "whole/place/place_00000.npy"
    for damaged, message in (
        (path.read_bytes()[:-8], "place_00000.npy has .* bytes, but should have"),
        (as_npy(tmp_path, places[:1]), "rows disagree: 2 in img_emb, 2 in metadata, 1 in place"),
        (as_npy(tmp_path, places[:, :1]), "place_00000.npy must have two numbers for each row"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            open_embeddings(tmp_path / "whole")


def as_npy(tmp_path, array):
    np.save(tmp_path / "array.npy", array)
    return (tmp_path / "array.npy").read_bytes()
