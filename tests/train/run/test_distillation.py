"""Runs that are taught by a model that is trained already."""

import json
from dataclasses import replace

import pytest
import torch

import fastclip
from fastclip.cli import main
from fastclip.models.inference import open_model
from fastclip.train.log.run_log import RunLog
from fastclip.train.run.teacher import objection_to
from tests.support.runs import arguments, assert_same_run
from tests.train.run.test_run_with_a_loss import content_in, run_with

SMALL_RUN = {"train_num_samples": 32, "epochs": 2}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The checkpoint of a run of two steps of other weights than those of the tests' runs."""
    directory = tmp_path_factory.mktemp("teacher")
    assert run_with(None, directory, **SMALL_RUN, seed=5).train() == 0
    return str(directory / "checkpoints/epoch_2.pt")


@pytest.fixture(scope="module")
def taught(teacher, tmp_path_factory):
    """What a run of two steps leaves that is taught by the teacher, and says of itself."""
    directory = tmp_path_factory.mktemp("taught")
    run = run_with(None, directory, **SMALL_RUN, distill_model=teacher, log_every_n_steps=1)
    run.log = RunLog(directory)
    assert run.train() == 0
    run.log.close()
    return directory


def test_a_step_has_both_terms_of_the_teachers_features(teacher, tmp_path):
    run = run_with(None, tmp_path, **SMALL_RUN, distill_model=teacher, force_patch_dropout=0.0)
    batch = run._next_batch(iter(run.data.loader))
    images, texts = (torch.cat(parts) for parts in zip(*batch.pairs, strict=True))
    with torch.no_grad():
        own = run.model.eval()(run.compute.prepare(images), texts)
        ready = open_model(teacher, device="cpu")
        expected = fastclip.distill_clip_loss(*own[:3], *ready.model(ready.prepare(images), texts))
    run.model.train()
    outcome = run.take_step(batch.pairs, 0, **run.teachers(batch))
    found = [outcome.terms[name] for name in ("contrastive_loss", "distill_loss")]
    assert found == pytest.approx([x.item() for x in expected], rel=1e-4)
    assert outcome.loss == pytest.approx(sum(found))
    (computed,) = run.teachers.computed
    assert not computed.ready.model.training
    assert all(p.grad is None for p in computed.ready.model.parameters())


def test_terms_are_in_the_log_and_in_the_results(taught):
    lines = (taught / "out.log").read_text()
    assert lines.count(" Contrastive_loss: ") == lines.count(" Distill_loss: ") == 2
    (first, last) = map(json.loads, (taught / "results.jsonl").read_text().splitlines())
    assert first["train_losses"].keys() == {"contrastive_loss", "distill_loss"}
    assert first["train_losses"] != last["train_losses"]


def test_taught_run_goes_on_to_the_bit_and_with_the_same_teacher_only(taught, teacher, tmp_path):
    def resumed(name, **settings):
        run = run_with(None, tmp_path / name, **SMALL_RUN, log_every_n_steps=1, **settings)
        run.resume(str(taught / "checkpoints/epoch_1.pt"))
        return run

    run = resumed("same", distill_model=teacher)
    assert run.train() == 0
    assert_same_run(content_in(tmp_path / "same"), content_in(taught))
    other = teacher.replace("epoch_2", "epoch_1")
    with pytest.raises(ValueError, match="the contents of --distill-model have changed: weights"):
        resumed("other", distill_model=other)
    with pytest.raises(
        ValueError, match=r"--distill-model was .* is now None \(the loss would be ano"
    ):
        resumed("none")


def test_teacher_of_other_images_or_texts_is_refused_by_what_is_other(teacher, tmp_path):
    ready = open_model(teacher, device="cpu")
    run = run_with(None, tmp_path, **SMALL_RUN)
    assert objection_to(ready, run.run_model) == []
    cfg = ready.preprocess_cfg | {"mean": (0.5, 0.25, 0.5)}
    assert objection_to(replace(ready, preprocess_cfg=cfg), run.run_model) == [
        f"its pixels have mean (0.5, 0.25, 0.5), and not {run.run_model.mean}"
    ]
    cfg = ready.preprocess_cfg | {"mean": (run.run_model.mean,) * 3, "std": 9.0}
    assert objection_to(replace(ready, preprocess_cfg=cfg), run.run_model) == [
        f"its pixels have standard deviation 9.0, and not {run.run_model.std}"
    ]
    other = replace(ready, tokenizer=lambda texts: ready.tokenizer(texts) + 1)
    assert objection_to(other, run.run_model) == ["its tokenizer makes other tokens"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (dict(loss="queue"), "distill_model must be left out with queue, whose loss does not"),
        (dict(margin=0.1), "margin must be 0 with distill_model, whose loss does not use it"),
        (dict(distill_pretrained="openai"), "has weights of its own"),
    ],
)
def test_flags_that_contradict_a_teacher_are_refused(flags, message, teacher, tmp_path, capsys):
    assert main(arguments(tmp_path, "run", distill_model=teacher, **flags)) == 2
    assert message in capsys.readouterr().err


def test_name_of_a_model_without_weights_is_no_teacher(tmp_path, capsys):
    assert main(arguments(tmp_path, "run", distill_model="ViT-B-32")) == 2
    assert "'ViT-B-32' is the name of an architecture, without weights" in capsys.readouterr().err
    assert main(arguments(tmp_path, "run", distill_pretrained="openai")) == 2
    assert (
        "distill_pretrained must be left out if distill_model is not given"
        in capsys.readouterr().err
    )
