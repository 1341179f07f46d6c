"""A manifest names exactly the files that its rows imply; any other is refused."""

import json
import shutil

import numpy as np
import pytest

from fastclip.data.sources.samples import BadSample
from fastclip.embeddings.layout import MANIFEST
from fastclip.embeddings.manifest import Manifest, read_manifest
from fastclip.embeddings.reader import open_embeddings
from fastclip.embeddings.writer import EmbeddingsWriter

OTHER = "0" * 64


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest") / "out"
    head = Manifest(None, None, "", ("img", "text"), "int8", "jsonl", 2)
    vectors = np.eye(3, dtype=np.float32)
    with EmbeddingsWriter(folder, head) as writer:
        for part in (vectors[:2], vectors[2:]):
            writer.add({"img": part, "text": part}, [{"key": "a"}] * len(part))
            writer.end_file()
        writer.skip(BadSample("b", "unusable image"))
        writer.finish()
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def change(folder, edit):
    path = folder / MANIFEST
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def drop(*path):
    def edit(values):
        for name in path[:-1]:
            values = values[name]
        del values[path[-1]]

    return edit


def put(value, *path):
    def edit(values):
        for name in path[:-1]:
            values = values[name]
        values[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (drop("files", 0, "sha256", "img_emb"), "files 0 lacks img_emb"),
        (drop("files", 1, "sha256", "img_scale"), "files 1 lacks img_scale"),
        (drop("files", 1, "sha256", "metadata"), "files 1 lacks metadata"),
        (put({}, "files", 0, "sha256"), "files 0 lacks img_emb, text_emb"),
        (put(OTHER, "files", 1, "sha256", "../../x"), r"files 1 has unexpected \.\./\.\./x"),
        (put(OTHER, "files", 0, "sha256", "video_emb"), "files 0 has unexpected video_emb"),
        (put("abc", "files", 0, "sha256", "img_emb"), "img_emb has an invalid value"),
        (put(None, "files", 0, "sha256", "img_emb"), "img_emb has an invalid value"),
        (put(OTHER.upper().replace("0", "A"), "files", 0, "sha256", "metadata"), "metadata has a"),
        (drop("statistics", "text"), "statistics lacks text"),
        (put({}, "statistics"), "statistics lacks img, text"),
        (put(OTHER, "statistics", "../../x"), r"statistics has unexpected \.\./\.\./x"),
        (put(1, "statistics", "img"), "img has an invalid value"),
        (put(["img", "img"], "sides"), "sides has an invalid value"),
        (put([["img"]], "sides"), "sides has an invalid value"),
        (put([], "sides"), "sides has an invalid value"),
        (put("f32", "store"), "files 0 has unexpected img_scale, text_scale"),
        (put("", "skipped", "sha256"), "sha256 has an invalid value"),
        (put(-1, "skipped", "size"), "size has an invalid value"),
    ],
)  # fmt: skip
def test_manifest_that_names_other_files_is_refused(copy, edit, told):
    change(copy, edit)
    with pytest.raises(ValueError, match=rf"embeddings\.json is damaged: .*{told}"):
        read_manifest(copy)


@pytest.mark.parametrize(
    "name",
    [
        "img_emb/img_emb_00001.npy", "text_scale/text_scale_00000.npy", "skipped.jsonl",
        "metadata/metadata_00000.jsonl", "statistics/img_emb.npy",
    ],
)  # fmt: skip
def test_every_file_is_verified(copy, name):
    open_embeddings(copy, verify=True)
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    with pytest.raises(ValueError, match=f"{name} "):
        open_embeddings(copy, verify=True)


def test_manifest_without_rows_has_no_statistics(tmp_path):
    head = Manifest(None, None, "", ("img",), "f32", "jsonl", 2)
    with EmbeddingsWriter(tmp_path, head) as writer:
        writer.finish()
    assert read_manifest(tmp_path).is_complete
    change(tmp_path, put({"img": OTHER}, "statistics"))
    with pytest.raises(ValueError, match="statistics has unexpected img"):
        read_manifest(tmp_path)
