"""A folder of embeddings: what is written is what is read, and what does not fit is refused."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from fastclip.atomic_file import CannotWrite
from fastclip.data.sources.samples import BadSample
from fastclip.embeddings import metadata
from fastclip.embeddings.layout import MANIFEST, shard_folder
from fastclip.embeddings.manifest import Manifest, ManifestError, ModelRecord, SourceRecord
from fastclip.embeddings.reader import open_embeddings
from fastclip.embeddings.same_file import FileChanged
from fastclip.embeddings.writer import EmbeddingsWriter
from tests.support.full_disk import files_of_at_most

DIM, PER_FILE, NUM = 6, 10, 23
MODEL = ModelRecord("a model", "w", "p", "t", "c", {"size": 32}, "fp32", 100.0)
SOURCE = SourceRecord("a source", "c")
CAPTIONS = [
    "<script>alert(1)</script>",
    "two\nlines",
    "東京 & naïve",
    "",
    None,
    '"quoted", comma\t',
]


def head(**changes) -> Manifest:
    values = dict(
        model=MODEL, source=SOURCE, root="/images", sides=("img", "text"), store="f32",
        metadata="parquet", rows_per_file=PER_FILE,
    )  # fmt: skip
    return Manifest(**(values | changes))


def unit_vectors(num=NUM, dim=DIM, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows_of(numbers):
    return [
        {"image_path": f"a/{i}.jpg", "caption": CAPTIONS[i % len(CAPTIONS)], "key": f"a/{i}",
         "width": i, "score": i / 4, "tags": ["x", i], "mixed": i if i % 2 else "text"}
        for i in numbers
    ]  # fmt: skip


def write(folder, manifest, numbers=None, finish=True):
    vectors = {"img": unit_vectors(), "text": unit_vectors(seed=1)}
    with EmbeddingsWriter(folder, manifest) as writer:
        numbers = list(range(NUM) if numbers is None else numbers)
        while numbers:
            part, numbers = numbers[: writer.room], numbers[writer.room :]
            own = {side: vectors[side][part] for side in manifest.sides}
            writer.add(own, rows_of(part))
            writer.end_file([part[-1] + 1])
        writer.skip(BadSample("bad\nkey", "unusable image", "<b>"))
        writer.skipped.account.num_seen = NUM + 1
        if finish:
            writer.finish()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("embeddings") / "out", head())


@pytest.mark.parametrize("metadata", ["parquet", "jsonl"])
@pytest.mark.parametrize("store", ["f32", "f16", "int8"])
def test_rows_come_back_by_number_across_files(tmp_path, store, metadata):
    found = open_embeddings(
        write(tmp_path / "out", head(store=store, metadata=metadata)), verify=True
    )
    assert len(found) == len(found.images) == len(found.texts) == NUM
    assert found.images.dim == DIM and len(found.images.files) == 3 and found.notes == ()
    numbers = [22, 0, 9, 10, 9]
    for side, seed in ((found.images, 0), (found.texts, 1)):
        assert side.rows(numbers).dtype == np.float32
        expected = unit_vectors(seed=seed)
        largest = np.abs(expected[numbers]).max(axis=1, keepdims=True)
        bound = {"f32": 0 * largest, "f16": 2.0**-11 * largest, "int8": largest / 254 * 1.0001}
        assert (np.abs(side.rows(numbers) - expected[numbers]) <= bound[store]).all()
        blocks = list(side.blocks(7))
        assert [first for first, _ in blocks] == [0, 7, 10, 17, 20]
        assert np.array_equal(np.concatenate([b for _, b in blocks]), side.rows(range(NUM)))
    rows = found.metadata(numbers)
    for row, number in zip(rows, numbers, strict=True):
        (expected,) = rows_of([number])
        assert list(row)[:3] == ["image_path", "caption", "key"]
        assert {k: row[k] for k in ("caption", "key", "width", "score")} == {
            k: expected[k] for k in ("caption", "key", "width", "score")
        }
        for name in ("tags", "mixed"):
            is_text = metadata == "parquet" and not isinstance(expected[name], str)
            assert row[name] == (json.dumps(expected[name]) if is_text else expected[name])
    assert found.image_file(22).as_posix() == "/images/a/22.jpg"
    assert open_embeddings(found.folder, root="/moved").image_file(0).as_posix() == "/moved/a/0.jpg"
    with pytest.raises(IndexError, match="from 0 to 22"):
        found.images.rows([NUM])
    with pytest.raises(IndexError, match="-1"):
        found.metadata([-1])


def test_moments_are_those_of_all_vectors_and_add_up_over_shards(folder, tmp_path):
    for index, numbers in enumerate((range(11), range(11, 11), range(11, NUM))):
        part = shard_folder(tmp_path, index, 3)
        write(part, head(settings={"shard": [index, 3]}), numbers)
    whole, union = open_embeddings(folder), open_embeddings(tmp_path, verify=True)
    assert len(union) == NUM and union.metadata(range(NUM)) == whole.metadata(range(NUM))
    for found in (whole, union):
        for side, seed in ((found.images, 0), (found.texts, 1)):
            vectors = unit_vectors(seed=seed).astype(np.float64)
            assert np.array_equal(side.rows(range(NUM)), unit_vectors(seed=seed))
            assert side.moments.count == NUM
            np.testing.assert_allclose(side.moments.mean, vectors.mean(0), atol=1e-14)
            expected = np.cov(vectors.T, bias=True)
            np.testing.assert_allclose(side.moments.covariance, expected, atol=1e-14)
    shutil.rmtree(shard_folder(tmp_path, 1, 3))
    with pytest.raises(FileNotFoundError, match="2 of 3 shards"):
        open_embeddings(tmp_path)
    write(shard_folder(tmp_path, 1, 3), head(settings={"shard": [1, 3]}, store="f16"))
    with pytest.raises(ValueError, match=r"another job.* its store is 'f16', not 'f32'"):
        open_embeddings(tmp_path)


def test_skipped_inputs_are_a_list_beside_their_account(folder):
    (line,) = (folder / "skipped.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "key": "bad\nkey", "reason": "unusable image", "detail": "<b>", "lost": 1
    }  # fmt: skip
    account = open_embeddings(folder).manifest.skipped.account
    assert account["num_seen"] == NUM + 1 and account["counts"] == {"unusable image": 1}


def as_clip_retrieval(folder, out):
    """The files alone, with numbers as clip-retrieval writes them for 3 partitions."""
    for kind in ("img_emb", "text_emb", "metadata"):
        (out / kind).mkdir(parents=True)
        for path in (folder / kind).iterdir():
            number = int(path.stem.rpartition("_")[2])
            shutil.copy(path, out / kind / f"{kind}_{number}{path.suffix}")
    return out


def test_folder_of_clip_retrieval_is_read_and_said_to_have_no_manifest(folder, tmp_path):
    out = as_clip_retrieval(folder, tmp_path / "theirs")
    found, own = open_embeddings(out), open_embeddings(folder)
    assert found.manifest is None and "no manifest" in found.notes[0]
    assert found.metadata([3, 22]) == own.metadata([3, 22])
    assert np.array_equal(found.images.rows(range(NUM)), own.images.rows(range(NUM)))
    np.testing.assert_allclose(found.texts.moments.sums, own.texts.moments.sums, atol=1e-13)
    with pytest.raises(ValueError, match="give it as root"):
        found.image_file(0)
    with pytest.raises(ValueError, match="cannot be verified"):
        open_embeddings(out, verify=True)
    with pytest.raises(ValueError, match="fastclip did not write"):
        write(out, head())
    (out / "text_emb" / "text_emb_1.npy").unlink()
    with pytest.raises(ValueError, match="text_emb lacks the files with number 1"):
        open_embeddings(out)


def cut_array(folder):
    path = folder / "img_emb" / "img_emb_00001.npy"
    path.write_bytes(path.read_bytes()[:-4])


def pickled(folder):
    array = np.array([{"a": 1}] * PER_FILE, object)
    np.save(folder / "img_emb" / "img_emb_00001.npy", array, allow_pickle=True)


def fewer_rows(folder):
    path = folder / "text_emb" / "text_emb_00001.npy"
    np.save(path, np.load(path)[:-1])


def other_rows(folder):
    for kind in ("img_emb", "text_emb", "metadata"):
        paths = sorted((folder / kind).iterdir())
        shutil.copy(paths[0], paths[2])


def other_dim(folder):
    path = folder / "img_emb" / "img_emb_00001.npy"
    np.save(path, np.load(path)[:, :-1])


def metadata_cut(folder):
    path = folder / "metadata" / "metadata_00002.parquet"
    path.write_bytes(path.read_bytes()[:-9])


def change_manifest(**changes):
    def change(folder):
        values = json.loads((folder / MANIFEST).read_text()) | changes
        (folder / MANIFEST).write_text(json.dumps(values))

    return change


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut_array, "bytes, but should have"),
        (pickled, "must have 2 dimensions of float32"),
        (fewer_rows, "rows disagree: 10 in img_emb, 9 in text_emb, 10 in metadata"),
        (other_rows, "10 rows, but 3 in the manifest"),
        (other_dim, "vectors have 5 entries, but 6 in the manifest"),
        (metadata_cut, "is not a Parquet file"),
        (change_manifest(store="f64"), "store has an invalid value"),
        (change_manifest(version=3), "version 3; this fastclip reads"),
        (change_manifest(version=1), "version 1, which does not record how a model computes"),
        (change_manifest(sides=["../x"]), "sides has an invalid value"),
        (change_manifest(files=[{"rows": "3", "sha256": {}}]), "rows has an invalid value"),
        (change_manifest(more=1), "unknown or missing: more"),
        (change_manifest(statistics=None), "is not complete: 23 rows"),
        (lambda folder: (folder / MANIFEST).write_text("[1"), "is not JSON"),
    ],
)
def test_damage_is_refused_when_the_folder_is_opened(folder, tmp_path, damage, told):
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    with pytest.raises(ValueError, match=told):
        open_embeddings(copy)


@pytest.mark.parametrize(
    "name",
    ["img_emb/img_emb_00000.npy", "metadata/metadata_00001.parquet", "statistics/text_emb.npy"],
)
def test_changed_byte_is_found_on_demand(folder, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = bytearray((copy / name).read_bytes())
    content[200] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is not what was written"):
        open_embeddings(copy, verify=True)


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "/etc/passwd", "a/../../x", "..", "a\0b", None, "", "a/./../../b"]
)
def test_no_path_of_a_row_leads_out_of_the_root(tmp_path, path):
    with EmbeddingsWriter(tmp_path, head(sides=("img",), metadata="jsonl")) as writer:
        writer.add({"img": unit_vectors(1)}, [{"image_path": path}])
        writer.finish()
    with pytest.raises(ValueError, match=r"outside of root|has no image"):
        open_embeddings(tmp_path).image_file(0)


def test_writer_refuses_what_does_not_fit(tmp_path):
    with EmbeddingsWriter(tmp_path / "out", head(sides=("img",))) as writer:
        rows = rows_of(range(2))
        for vectors, told in (
            ({"text": unit_vectors(2)}, "must be of"),
            ({"img": unit_vectors(3)}, "must be 2 of one length"),
            ({"img": np.float32([[1, 0], [np.nan, 0]])}, "the vector of 'a/1' is not finite"),
        ):
            with pytest.raises(ValueError, match=told):
                writer.add(vectors, rows)
        writer.add({"img": unit_vectors(2)}, rows)
        with pytest.raises(ValueError, match="one length"):
            writer.add({"img": unit_vectors(2, DIM + 1)}, rows)
        with pytest.raises(ValueError, match="room for 8 rows"):
            writer.add({"img": unit_vectors(9)}, rows_of(range(9)))
        writer.finish()
    with pytest.raises(ValueError, match="has embeddings already"):
        write(tmp_path / "out", head())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"store": "f16"}, "its store is 'f32', not 'f16'"),
        ({"model": replace(MODEL, weights="x")}, "its model's weights is 'w', not 'x'"),
        ({"source": replace(SOURCE, contents="x")}, "its source's contents is"),
        ({"settings": {"batch_size": 2}}, "its settings is"),
        ({"rows_per_file": 11}, "its rows_per_file is 10, not 11"),
    ],
)
def test_only_the_same_job_is_resumed(folder, change, told):
    with pytest.raises(ValueError, match=told), EmbeddingsWriter(folder, head(**change), True):
        pass


def test_full_disk_is_an_error_and_complete_files_stay(tmp_path):
    manifest = head(sides=("img",), metadata="jsonl", rows_per_file=100)
    with EmbeddingsWriter(tmp_path, manifest) as writer:
        writer.add({"img": unit_vectors(2)}, rows_of(range(2)))
        writer.end_file([2])
        writer.add({"img": unit_vectors(100)}, rows_of(range(100)))
        with files_of_at_most(2000), pytest.raises(CannotWrite, match=r"img_emb_00001\.npy"):
            writer.end_file([102])
    assert [p.name for p in (tmp_path / "img_emb").iterdir()] == ["img_emb_00000.npy"]
    with EmbeddingsWriter(tmp_path, manifest, resume=True) as writer:
        assert writer.manifest.rows == 2 and writer.manifest.position == [2]
        writer.finish()
    assert len(open_embeddings(tmp_path, verify=True)) == 2


def test_surrogates_and_large_numbers_of_a_sample_are_kept_as_text(tmp_path):
    row = {"key": "a", "half": "x\ud800", "large": 2**70, "nothing": None}
    with EmbeddingsWriter(tmp_path, head(sides=("img",))) as writer:
        writer.add({"img": unit_vectors(1)}, [row])
        writer.finish()
    (found,) = open_embeddings(tmp_path).metadata([0])
    assert found["half"] == "x\\ud800" and found["large"] == str(2**70) and found["nothing"] is None


def test_folder_without_rows_is_complete(tmp_path):
    found = open_embeddings(write(tmp_path, head(), []), verify=True)
    assert len(found) == 0 and found.images is None and found.metadata([]) == []


def test_resumed_job_refuses_a_file_that_has_changed(tmp_path):
    write(tmp_path, head(), finish=False)
    path = tmp_path / "img_emb" / "img_emb_00000.npy"
    np.save(path, np.load(path) * 2)
    with (
        pytest.raises(ValueError, match="into a new folder"),
        EmbeddingsWriter(tmp_path, head(), True),
    ):
        pass


def test_damaged_manifest_of_a_resumed_job_is_no_reason_to_overwrite_it(tmp_path):
    write(tmp_path, head(), finish=False)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ManifestError), EmbeddingsWriter(tmp_path, head(), True):
        pass


def test_rows_in_parquet_may_be_asked_for_by_another_thread_in_between(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "ROWS_PER_GROUP", 1)
    rows = [{"image_path": None, "caption": None, "key": str(number)} for number in range(2)]
    (tmp_path / "rows.parquet").write_bytes(metadata.encoded(rows, "parquet"))
    file = metadata.open_metadata(tmp_path / "rows.parquet")
    opened = type(file)._opened
    asked = []

    @contextmanager
    def disturbed(self):
        with opened(self) as found:
            yield found
        if not asked:
            asked.append(1)
            file.rows([1])

    monkeypatch.setattr(type(file), "_opened", disturbed)
    assert [row["key"] for row in file.rows([0])] == ["0"] and asked


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_rows_of_a_file_that_took_the_place_of_the_opened_one_are_refused(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(metadata.encoded([{"caption": "old"}] * 3, kind))
    file = metadata.open_metadata(path)
    new = tmp_path / "new"
    new.write_bytes(metadata.encoded([{"caption": "new"}] * 3, kind))
    new.replace(path)
    with pytest.raises(FileChanged, match=f"rows.{kind} has changed since it was opened"):
        file.rows([1])
    with pytest.raises(FileChanged, match="has changed"):
        next(file.blocks(2))
    path.unlink()
    with pytest.raises(FileChanged, match="was removed after it was opened"):
        file.rows([1])
