"""What a killed job left goes when it is resumed, and nothing else does."""

from dataclasses import replace

import numpy as np
import pytest

from fastclip.embeddings.manifest import Manifest
from fastclip.embeddings.writer import EmbeddingsWriter

HEAD = Manifest(None, None, "", ("img",), "f32", "jsonl", 10)
RANDOM = "0123456789abcdef.tmp"


@pytest.fixture
def folder(tmp_path):
    with EmbeddingsWriter(tmp_path, HEAD) as writer:
        writer.add({"img": np.eye(3, dtype=np.float32)}, [{"key": "a"}] * 3)
        writer.end_file([3])
    (tmp_path / "statistics").mkdir()
    (tmp_path / "text_emb").mkdir()
    return tmp_path


def resume(folder):
    with EmbeddingsWriter(folder, HEAD, resume=True) as writer:
        assert writer.manifest.rows == 3


@pytest.mark.parametrize(
    "name",
    [
        f".photos.{RANDOM}", ".notes.1", f"img_emb/.img_emb_notes.npy.{RANDOM}",
        "img_emb/.DS_Store.2", f"metadata/.metadata_00001.parquet.{RANDOM}",
        f"statistics/.sums.npy.{RANDOM}", "text_emb/text_emb_00001.npy",
        f"text_emb/.text_emb_00001.npy.{RANDOM}", "img_emb/img_emb_00002.npy",
        "metadata/metadata_00001.parquet",
    ],
)  # fmt: skip
def test_file_that_this_job_cannot_have_left_stays(folder, name):
    (folder / name).write_bytes(b"somebody's")
    resume(folder)
    assert (folder / name).read_bytes() == b"somebody's"


@pytest.mark.parametrize(
    "name",
    [
        f".embeddings.json.{RANDOM}", f"img_emb/.img_emb_00001.npy.{RANDOM}",
        f"metadata/.metadata_00001.jsonl.{RANDOM}", f"statistics/.img_emb.npy.{RANDOM}",
        "img_emb/img_emb_00001.npy", "metadata/metadata_00001.jsonl",
    ],
)  # fmt: skip
def test_what_a_killed_job_had_begun_goes(folder, name):
    (folder / name).write_bytes(b"half")
    resume(folder)
    assert not (folder / name).exists()


def test_factors_of_int8_are_what_a_job_of_int8_has_begun(tmp_path):
    head = replace(HEAD, store="int8")
    with EmbeddingsWriter(tmp_path, head):
        pass
    (tmp_path / "img_scale").mkdir()
    for name in (f".img_scale_00000.npy.{RANDOM}", "img_scale_00000.npy"):
        (tmp_path / "img_scale" / name).write_bytes(b"half")
    with EmbeddingsWriter(tmp_path, head, resume=True):
        assert not any((tmp_path / "img_scale").iterdir())
