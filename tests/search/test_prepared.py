"""The index of a folder: what it spares, what it is refused for, and what its captions decide."""

import shutil

import numpy as np
import pytest

from fastclip.atomic_file import CannotWrite
from fastclip.embeddings import embed, open_embeddings
from fastclip.search.calibration import CannotCalibrate
from fastclip.search.captions import read_captions
from fastclip.search.exact import search
from fastclip.search.fingerprint import StaleIndex
from fastclip.search.prepare import UnknownCaptions, prepare
from fastclip.search.prepared import open_prepared
from fastclip.search.query import Part
from fastclip.search.searcher import open_searcher
from tests.support.embed_jobs import lock_of_another_process
from tests.support.full_disk import files_of_at_most
from tests.support.pair_files import image_bytes
from tests.support.stub_model import DIM, numbered_model

READY = numbered_model()
CAPTIONS = [f"caption {i % DIM}" for i in range(25)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of images with the numbers 20 to 49 in files of 16 rows, as float16."""
    folder = tmp_path_factory.mktemp("index")
    photos = folder / "photos"
    photos.mkdir()
    for i in range(20, 50):
        (photos / f"{i}.png").write_bytes(image_bytes(i))
    embed(READY, photos, folder / "out", store="f16", metadata="jsonl", rows_per_file=16)
    return folder / "out"


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "out")


def built(folder, captions=CAPTIONS, ready=READY):
    found = open_embeddings(folder)
    return prepare(found, found.images, ready, captions)


def opened(folder):
    found = open_embeddings(folder)
    return open_prepared(found, found.images)


def test_halves_are_converted_once_and_searched_as_float32(folder):
    built(folder)
    index = opened(folder)
    side = open_embeddings(folder).images
    assert index.vectors.dtype == np.float32 and isinstance(index.vectors, np.memmap)
    np.testing.assert_array_equal(index.vectors, side.rows(range(30)))
    queries = np.eye(DIM, dtype=np.float32)[[25, 49]]
    for found in zip(search(queries, index.vectors, 4), search(queries, side, 4), strict=True):
        np.testing.assert_array_equal(*found)


def test_captions_decide_for_texts_and_z_for_images(folder):
    built(folder)
    searcher = open_searcher(open_embeddings(folder), READY)
    # Of 25 captions, five are of what the corpus shows.
    assert np.sum(searcher.prepared.captions.best == 1) == 5
    of_text = searcher.answer([Part("number 30")], 2)
    assert of_text.judged_by == "captions" and of_text.results[0].p_value == 6 / 26
    sums = [Part("number 30"), Part("number 31")], [Part("number 30", -1.0)]
    assert [answer.judged_by for answer in searcher.answers(sums)] == [None, None]
    of_image = searcher.answer([Part(image_bytes(30), 1.0, "image")], 2)
    assert of_image.judged_by is None and "too few" in of_image.headline
    assert of_image.results[0].id == of_text.results[0].id == 10


def test_no_index_and_one_without_captions(folder):
    assert opened(folder) is None
    index = prepare(open_embeddings(folder), open_embeddings(folder).images)
    assert index.captions is None and opened(folder).captions is None
    assert index.record == opened(folder).record


@pytest.mark.parametrize(
    ("captions", "ready", "error", "message"),
    [
        (["nothing 1"] * 40, READY, UnknownCaptions, "distinguishes only 1 of 40 captions"),
        (CAPTIONS, None, ValueError, "need the model"),
        (CAPTIONS[:5], READY, CannotCalibrate, "too few"),
    ],
)
def test_captions_that_cannot_be_asked_leave_what_was_there(
    folder, captions, ready, error, message
):
    with pytest.raises(error, match=message):
        built(folder, captions, ready)
    assert opened(folder) is None
    before = built(folder).record
    with pytest.raises(error, match=message):
        built(folder, captions, ready)
    assert opened(folder).record == before


def test_one_process_at_a_time_writes_an_index(folder):
    with lock_of_another_process(folder / "index"):
        with pytest.raises(ValueError, match="another process is writing"):
            built(folder)
    built(folder)


def test_full_disk_leaves_what_was_there(folder):
    before = built(folder).record
    with files_of_at_most(2000), pytest.raises(CannotWrite):
        built(folder)
    assert opened(folder).record == before
    assert not [path for path in (folder / "index").iterdir() if path.name.startswith(".")]


def test_index_of_other_vectors_is_refused(folder, tmp_path):
    built(folder)
    photos = tmp_path / "others"
    photos.mkdir()
    for i in range(30):
        (photos / f"{i}.png").write_bytes(image_bytes(i))
    embed(READY, photos, tmp_path / "new", store="f16", metadata="jsonl", rows_per_file=16)
    shutil.copytree(folder / "index", tmp_path / "new" / "index")
    with pytest.raises(StaleIndex, match=r"other vectors; run `fastclip index` again"):
        opened(tmp_path / "new")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("img_prepared.json", b"{}", "format"),
        ("img_prepared.json", b"[", "not JSON"),
        ("img_vectors.npy", b"", "not a numpy array"),
        ("img_captions.npy", b"\x93NUMPY", "not a numpy array"),
    ],
)
def test_damaged_index_is_refused_by_name(folder, name, content, message):
    built(folder)
    (folder / "index" / name).write_bytes(content)
    with pytest.raises(StaleIndex, match=message):
        opened(folder)


def test_embeddings_without_a_manifest_keep_their_sums(folder):
    for name in ("embeddings.json", "statistics"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = open_embeddings(folder)
    built(folder)
    searcher = open_searcher(open_embeddings(folder), READY)
    np.testing.assert_array_equal(searcher.side.known_moments.sums, found.images.moments.sums)
    with (folder / "img_emb" / "img_emb_00000.npy").open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\0\0")
    with pytest.raises(StaleIndex, match="other vectors"):
        opened(folder)


def test_vectors_that_change_while_they_are_read_have_no_index(folder):
    for name in ("embeddings.json", "statistics"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = open_embeddings(folder)

    def replace(text):
        if text.startswith("summing"):
            path = folder / "img_emb" / "img_emb_00000.npy"
            vectors = np.load(path)
            path.unlink()
            np.save(path, vectors[::-1])

    with pytest.raises(StaleIndex, match="have changed while"):
        prepare(found, found.images, tell=replace)
    assert opened(folder) is None


def test_bundled_captions_differ_and_files_of_others_are_read(tmp_path):
    captions = read_captions()
    assert len(set(captions)) == 500 and all(caption.isprintable() for caption in captions)
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeffa\r\n\r\nb\na\n".encode())
    assert read_captions(path) == ["a", "b"]
    path.write_bytes(b"\n")
    with pytest.raises(ValueError, match="no caption"):
        read_captions(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="must be text in UTF-8"):
        read_captions(path)
