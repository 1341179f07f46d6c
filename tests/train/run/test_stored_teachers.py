"""Runs that are taught by embeddings of their data, which a teacher has left in a folder."""

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import fastclip
from fastclip.cli import main
from fastclip.data.sources.opening import open_source
from fastclip.embeddings import EmbeddingsWriter, embed
from fastclip.embeddings.layout import MANIFEST
from fastclip.embeddings.manifest import read_manifest
from fastclip.models.inference import open_model
from fastclip.train.run.stored_teachers import (
    NO_EMBEDDING,
    NOT_FINITE,
    StoredTeacher,
    StoredTeachers,
)
from tests.support.ready import digits_checkpoint, tiny_directory
from tests.support.runs import arguments, assert_same_run, final, finish, start_ranks
from tests.train.run.test_run_with_a_loss import content_in, run_with

NUM = 32  # of pairs, and of the pairs of a step
SMALL_RUN = {"train_num_samples": NUM, "epochs": 2}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Two checkpoints of other weights than those of the tests' runs."""
    directory = tmp_path_factory.mktemp("teachers")
    return [str(digits_checkpoint(directory / f"{seed}.pt", seed)) for seed in (5, 6)]


@pytest.fixture(scope="module")
def folders(teachers, tmp_path_factory):
    """The embeddings of the data of the tests' runs, of each teacher."""
    directory = tmp_path_factory.mktemp("embeddings")
    return [str(embedded(teacher, directory / str(i))) for i, teacher in enumerate(teachers)]


def embedded(teacher, folder, num=NUM, **settings):
    source = open_source("digits", num_samples=num)
    embed(open_model(teacher, device="cpu"), source, folder, metadata="jsonl", **settings)
    return folder


def first_step(directory, **settings):
    """What a first step has found, and the weights that it has left."""
    run = run_with(None, directory, **SMALL_RUN, **settings)
    run.model.train()
    batch = run._next_batch(iter(run.data.loader))
    outcome = run.take_step(batch.pairs, 0, **run.teachers(batch))
    return outcome, run.model.state_dict()


@pytest.mark.parametrize("store, tolerance", [("f32", 1e-5), ("f16", 1e-2)])
def test_a_step_is_the_one_of_the_teacher_that_is_computed(store, tolerance, teachers, tmp_path):
    folder = embedded(teachers[0], tmp_path / "embeddings", store=store, rows_per_file=20)
    computed, expected = first_step(tmp_path / "computed", distill_model=teachers[0])
    stored, found = first_step(tmp_path / "stored", distill_embeddings=folder)
    assert stored.terms == pytest.approx(computed.terms, rel=tolerance)
    assert stored.gradient_norm == pytest.approx(computed.gradient_norm, rel=tolerance)
    if store == "f32":
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_teachers_of_both_kinds_are_averaged_after_their_softmax(teachers, folders, tmp_path):
    settings = {"distill_model": teachers, "distill_embeddings": folders[:1]}
    run = run_with(
        None, tmp_path, **SMALL_RUN, **settings, distill_logit_scale=20.0, force_patch_dropout=0.0
    )
    batch = run._next_batch(iter(run.data.loader))
    images, texts = (torch.cat(parts) for parts in zip(*batch.pairs, strict=True))
    with torch.no_grad():
        own = run.model.eval()(run.compute.prepare(images), texts)
        ready = [open_model(teacher, device="cpu") for teacher in (*teachers, teachers[0])]
        taught = [list(one.model(one.prepare(images), texts)[:3]) for one in ready]
        taught[2][2] = 20.0
        expected = fastclip.distill_clip_loss(*own[:3], *map(list, zip(*taught, strict=True)))
        alone = fastclip.distill_clip_loss(*own[:3], *taught[0])
    run.model.train()
    outcome = run.take_step(batch.pairs, 0, **run.teachers(batch))
    assert outcome.terms["distill_loss"] == pytest.approx(expected[1].item(), rel=1e-4)
    assert alone[1].item() != pytest.approx(expected[1].item(), rel=1e-3)
    said = run.teachers.descriptions()
    assert [line.split(":")[0] for line in said] == [
        f"teacher {x}" for x in (*teachers, folders[0])
    ]
    assert said[2].endswith("logit scale 20") and f"32 embeddings of '{teachers[0]}'" in said[2]
    names = [name for name, _ in run.teachers.contents()["--distill-model"]]
    assert names == [
        "weights",
        "configuration",
        "weights of teacher 2",
        "configuration of teacher 2",
    ]


def test_run_goes_on_to_the_bit_and_with_the_same_embeddings_only(folders, teachers, tmp_path):
    def run(name, **settings):
        return run_with(None, tmp_path / name, **SMALL_RUN, **settings)

    assert run("whole", distill_embeddings=folders).train() == 0
    first = str(tmp_path / "whole/checkpoints/epoch_1.pt")
    resumed = run("resumed", distill_embeddings=folders)
    resumed.resume(first)
    assert resumed.train() == 0
    assert_same_run(content_in(tmp_path / "resumed"), content_in(tmp_path / "whole"))
    for name, settings, message in (
        ("other", {"distill_embeddings": folders[::-1]}, "the contents of --distill-embeddings ha"),
        ("one", {"distill_embeddings": folders[:1]}, "embeddings of teacher 2 is gone"),
        (
            "computed",
            {"distill_model": teachers},
            "--distill-embeddings was .*, is now None .the loss",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            run(name, **settings).resume(first)


def test_embeddings_of_other_data_are_refused(teachers, tmp_path, capsys):
    folder = embedded(teachers[0], tmp_path / "embeddings", num=NUM + 1)
    assert main(arguments(tmp_path, "run", distill_embeddings=folder)) == 2
    error = capsys.readouterr().err
    assert f"{folder} cannot be a teacher: it has embeddings of 'DigitSource', which is" in error
    assert "--train-data digits" in error
    assert main(arguments(tmp_path, "run", distill_embeddings=tmp_path / "none")) == 2
    assert "none has no embeddings" in capsys.readouterr().err


@pytest.mark.alone  # two processes each
@pytest.mark.slow
def test_two_ranks_with_workers_train_as_with_the_computed_teacher(teachers, tmp_path):
    folder = embedded(teachers[0], tmp_path / "embeddings", num=512)
    settings = {
        "computed": {"distill_model": teachers[0]},
        "stored": {"distill_embeddings": folder, "workers": 1},
    }
    for name, of_teacher in settings.items():
        argv = arguments(tmp_path, name, epochs=1, **of_teacher)
        assert [finish(rank, 120) for rank in start_ranks(argv, tmp_path)] == [0, 0]
    computed, stored = (final(tmp_path, name) for name in settings)
    assert computed["global_step"] == stored["global_step"] == 4
    for name, value in computed["state_dict"].items():
        torch.testing.assert_close(stored["state_dict"][name], value, rtol=1e-3, atol=1e-4)
    first, second = (
        json.loads((tmp_path / name / "results.jsonl").read_text())["train_losses"]
        for name in settings
    )
    assert first == pytest.approx(second, rel=1e-4)


def change(folder, **values):
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def damage(folder):
    path = folder / "text_emb/text_emb_00000.npy"
    path.write_bytes(path.read_bytes()[:-4])


def one_side(folder):
    change(folder, sides=["img"], statistics={"img": "0" * 64}, files=[
        {"rows": NUM, "sha256": dict.fromkeys(("img_emb", "place", "metadata"), "0" * 64)}
    ])  # fmt: skip


def earlier(folder):
    kinds = "img_emb", "text_emb", "metadata"
    files = [{"rows": NUM, "sha256": dict.fromkeys(kinds, "0" * 64)}]
    change(folder, has_places=False, files=files)


def without_scale(folder):
    model = json.loads((folder / MANIFEST).read_text())["model"]
    change(folder, model=model | {"logit_scale": float("nan")})


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda folder: (folder / MANIFEST).unlink(), "cannot be a teacher: it has no manifest"),
        (lambda folder: (folder / MANIFEST).write_text("{"), r"embeddings\.json "),
        (lambda folder: change(folder, source=None), "its manifest does not say which data"),
        (lambda folder: change(folder, model=None), "distill_logit_scale must be given: .* does"),
        (lambda folder: change(folder, normalized=False), "its embeddings are not unit vectors"),
        (lambda folder: change(folder, statistics=None), "is not complete: 32 rows are written"),
        (damage, r"text_emb_00000\.npy has .* bytes, but should have"),
        (one_side, "it has no embeddings of texts: fastclip embed --images --texts writes both"),
        (earlier, "it does not say which sample each row belongs to, because an"),
        (without_scale, "the logit scale of its model must be .*, got nan"),
    ],
)
def test_folder_that_cannot_teach_is_refused_by_what_it_lacks(edit, message, folders, tmp_path):
    folder = shutil.copytree(folders[0], tmp_path / "copy")
    assert StoredTeacher(str(folder)).logit_scale > 1
    edit(folder)
    with pytest.raises(ValueError, match=message):
        StoredTeacher(str(folder))


def test_teacher_that_a_folder_does_not_name_has_the_scale_that_is_given(folders, tmp_path):
    folder = shutil.copytree(folders[0], tmp_path / "copy")
    change(folder, model=None)
    teacher = StoredTeacher(str(folder), 70.0)
    assert teacher.logit_scale == 70
    assert teacher.description().endswith("32 embeddings of a model without a name, with logit "
                                          "scale 70")  # fmt: skip
    (known,) = teacher.contents()
    assert known == StoredTeacher(folders[0]).contents()[-1]


def test_rows_of_a_process_that_decodes_are_read_there(folders):
    stored = StoredTeachers([StoredTeacher(folder) for folder in folders])
    content = pickle.dumps(stored)
    assert len(content) < 1000
    there = pickle.loads(content)
    assert there.names == stored.names and len(set(there.names)) == 4
    for position in (0, 31):
        found, expected = there((0, position)), stored((0, position))
        assert len(found) == 4 and all(map(torch.equal, found, expected))
    assert stored((0, 32)) == stored((1, 0)) == NO_EMBEDDING


def test_embedding_that_is_not_finite_teaches_nobody(folders, tmp_path):
    folder = shutil.copytree(folders[0], tmp_path / "copy")
    path = folder / "img_emb/img_emb_00000.npy"
    vectors = np.load(path)
    vectors[3, 1] = np.nan
    np.save(path, vectors)
    teacher = StoredTeacher(str(folder))
    assert teacher((0, 3)) == NOT_FINITE and not isinstance(teacher((0, 4)), str)


def test_sample_without_an_embedding_is_left_out_and_counted(tmp_path, capsys):
    """A table of files, one of which was damaged when the teacher saw it, and is not any more."""
    for i in range(9):
        Image.new("RGB", (40, 30), (37 * i, 255 - 20 * i, 77)).save(tmp_path / f"{i}.png")
    rows = "".join(f"{i}.png\tcaption {i}\n" for i in range(9))
    (tmp_path / "pairs.csv").write_text("filepath\ttitle\n" + rows)
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(b"no image")
    teacher, folder = tiny_directory(tmp_path / "teacher", seed=1), tmp_path / "embeddings"
    argv = ["embed", teacher, tmp_path / "pairs.csv", folder, "--max-bad-rate", "0.5",
            "--device", "cpu", "--store", "f16"]  # fmt: skip
    assert main(list(map(str, argv))) == 0
    (tmp_path / "3.png").write_bytes(whole)
    model = tiny_directory(tmp_path / "model")
    argv = ["train", "--train-data", tmp_path / "pairs.csv", "--model", f"local-dir:{model}",
            "--global-batch-size", "4", "--micro-batch-size", "2", "--workers", "0", "--device",
            "cpu", "--logs", tmp_path, "--name", "run", "--epochs", "1", "--max-bad-rate", "0.5",
            "--distill-embeddings", folder, "--warmup", "1"]  # fmt: skip
    capsys.readouterr()
    assert main(list(map(str, argv))) == 0
    out = capsys.readouterr().out
    assert f"teacher {folder}: 8 embeddings of " in out
    assert "samples without an embedding, which training leaves out: 1" in out
    (results,) = map(json.loads, (tmp_path / "run/results.jsonl").read_text().splitlines())
    assert results["bad_samples"]["counts"] == {NO_EMBEDDING: 1}
    assert results["train_losses"].keys() == {"contrastive_loss", "distill_loss"}


def test_places_of_any_writer_are_taken(folders, tmp_path):
    """Rows that somebody else has computed, of some samples only, and in two files."""
    known = read_manifest(shutil.copytree(folders[0], tmp_path / "copy"))
    head = replace(
        known, model=None, store="f32", rows_per_file=2, files=(), statistics=None, dim=None,
        skipped=type(known.skipped)(), sides=("img", "text"), settings={},
    )  # fmt: skip
    vectors = np.eye(3, 8, dtype=np.float32)
    with EmbeddingsWriter(tmp_path / "own", head) as writer:
        for rows in (slice(0, 2), slice(2, 3)):
            places = np.array([[0, 4], [0, 9], [0, 30]])[rows]
            part = vectors[rows]
            writer.add({"img": part, "text": -part}, [{"key": "a"}] * len(part), places)
            writer.end_file()
        writer.finish()
    teacher = StoredTeacher(str(tmp_path / "own"), 10.0)
    image, text = teacher((0, 30))
    assert image.tolist() == vectors[2].tolist() and torch.equal(text, -image)
    assert teacher((0, 5)) == NO_EMBEDDING
