"""The job of `fastclip eval`: numbers that are known beforehand, and those of the trainer."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from fastclip.data.digits.source import DigitSource
from fastclip.data.loading.loader import PairLoader
from fastclip.evaluate.evaluation import evaluate_data, tasks_of
from fastclip.evaluate.evaluator import Evaluator
from fastclip.evaluate.results import words
from fastclip.evaluate.results.outcomes import from_json
from fastclip.evaluate.scores.rate import wilson
from fastclip.evaluate.sets.opening import PairSet, Reading, open_set
from fastclip.evaluate.zero_shot_task import open_task
from fastclip.models.inference import open_model
from tests.support.ideal import Ideal, ideal_model
from tests.support.pair_files import image_bytes
from tests.support.ready import digits_checkpoint

READY = ideal_model()


def write_folders(folder, images: dict[str, list[int]]):
    for name, numbers in images.items():
        (folder / name).mkdir(parents=True)
        for i, number in enumerate(numbers):
            (folder / name / f"{i}.png").write_bytes(image_bytes(number))
    return open_set(folder)


def write_table(folder, rows: list[tuple[int, str]]):
    folder.mkdir()
    for number, _ in rows:
        (folder / f"{number}.png").write_bytes(image_bytes(number))
    lines = [f"{number}.png,{caption}\n" for number, caption in rows]
    (folder / "pairs.csv").write_text("filepath,title\n" + "".join(lines))
    return open_set(folder / "pairs.csv", Reading(separator=","))


def test_images_in_the_wrong_folder_are_what_is_wrong(tmp_path):
    """Class i is shown by images i; of eight images two lie in the folder of another class."""
    images = {"1 cat": [1, 1, 1, 2], "2 dog": [2, 2], "3 owl": [3, 1]}
    data = write_folders(tmp_path / "pets", images)
    (found,) = evaluate_data(READY, data)
    assert found.metrics["acc1"] == 6 / 8 and found.metrics["acc5"] is None
    assert found.metrics["mean_per_class_recall"] == pytest.approx((3 / 4 + 1 + 1 / 2) / 3)
    correct = from_json(found.outcomes["correct"]["acc1"])
    assert correct.tolist() == [True, True, True, False, True, True, True, False]
    line = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (line["dataset"], line["model"], line["task"]) == (
        "pets", "ideal", "zeroshot_classification",
    )  # fmt: skip
    assert line["n"] == 8 and line["intervals"]["acc1"]["low"] < 0.75
    assert line["digests"]["weights"] == READY.digests.weights and line["samples"] == 8
    text = words.report(found)
    assert "pets: zero-shot classification, 8 images" in text and "75.00%" in text
    assert "fewer than 5 classes" in text and "tie" not in text


def test_ties_are_counted_and_said_and_count_against_the_model(tmp_path):
    """Two classes with one number cannot be told apart, and have different names."""
    data = write_folders(tmp_path / "pets", {"1 cat": [1, 1], "1 dog": [1], "2 owl": [2]})
    (found,) = evaluate_data(READY, data)
    assert found.metrics["acc1"] == 0.25 and found.found["ties"] == 3
    assert "3 ties counted against the model." in words.report(found)


def test_what_several_prompts_are_worth(tmp_path):
    data = write_folders(tmp_path / "pets", {"1 cat": [1, 1, 1], "2 dog": [2]})
    templates = ["image of {}", "2 times {}", "7 times {}"]  # all is one, then all is another
    (found,) = evaluate_data(READY, data, templates=templates)
    gain = found.about["prompt_gain"]
    assert (gain["all"], gain["first"], gain["best"], gain["mean"]) == (1.0, 1.0, 1.0, 1 / 3)
    assert gain["best_template"] == "image of {}" and gain["templates"] == 3
    assert "the best, chosen on this test" in words.report(found)
    (found,) = evaluate_data(READY, data, templates="image of {}")
    assert found.about["prompt_gain"] is None


def test_of_a_subset_no_other_class_is_predicted(tmp_path):
    """Folders of two classes, of whose images half look like a class outside of the subset."""
    data = write_folders(tmp_path / "shift", {"a": [1, 5], "b": [2]})
    names = [f"class {i}" for i in range(9)]
    subset = ["class 1", "class 2"]
    (found,) = evaluate_data(READY, data, classes=names, subset=subset)
    assert found.found["num_classes"] == 2 and found.about["subset"] == 2
    assert found.metrics["acc1"] == 2 / 3 and found.found["ties"] == 1


def test_any_caption_of_an_image_is_a_hit_and_each_has_to_find_it(tmp_path):
    """Image 1 has a caption of its own and one that is image 2's; image 2 has one of nothing."""
    rows = [(1, "number 1"), (1, "number 2"), (2, "number 40"), (3, "number 3")]
    (found,) = evaluate_data(READY, write_table(tmp_path / "t", rows), recall_at=(1, 3))
    assert found.metrics["text_retrieval_recall@1"] == pytest.approx(2 / 3)
    assert found.metrics["image_retrieval_recall@1"] == 2 / 4
    assert (found.found["num_images"], found.found["num_texts"]) == (3, 4)
    assert len(from_json(found.outcomes["correct"]["image_retrieval_recall@1"])) == 4
    text = words.report(found)
    assert "3 images and 4 texts" in text and "text-to-image recall@3" in text
    assert "by several images" not in text


def test_an_interval_is_the_same_in_the_table_and_in_the_line_where_all_are_found(tmp_path):
    rows = [(number, f"number {number}") for number in range(1, 6)]
    (found,) = evaluate_data(READY, write_table(tmp_path / "t", rows), recall_at=(1,))
    for name in ("text_retrieval_recall@1", "image_retrieval_recall@1"):
        assert found.metrics[name] == 1
        assert tuple(found.to_dict()["intervals"][name].values()) == wilson(5, 5)
    assert words.report(found).count("95 %: 56.55% to 100.00%") == 2


def test_captions_of_several_images_are_said(tmp_path):
    rows = [(1, "number 1"), (2, "number 1"), (1, "number 1"), (3, "number 3")]
    (found,) = evaluate_data(READY, write_table(tmp_path / "t", rows), recall_at=(1,))
    assert found.metrics["text_retrieval_recall@1"] == 1 / 3
    assert found.about["captions_of_several_images"] == 3
    text = words.report(found)
    assert "3 captions are shared by several images" in text
    assert "evaluation while training instead treats equal captions as one text" in text
    assert "2 ties counted against the model (image to text)." in text


def test_probes_are_trained_on_other_images_of_the_same_classes(tmp_path):
    train = write_folders(tmp_path / "train", {"a": [1] * 10 + [2] * 10, "b": [3] * 20})
    test = write_folders(tmp_path / "test", {"a": [1, 2, 3, 1], "b": [3, 3, 3, 3]})
    said = []
    found = evaluate_data(
        READY, test, ["probe", "few-shot"], train=train, shots=(16,), seeds=2, say=said.append
    )
    probe, few = found
    assert any("at the end of the range" in sentence for sentence in said)  # any C will do
    assert probe.metrics["lp_acc1"] == 7 / 8 and probe.found["protocol"] == "clip-lbfgs"
    assert probe.found["feature"] == "embedding" and probe.about["train"]["samples"] == 40
    assert few.metrics["lp_acc1@16"] == 7 / 8 and few.outcomes is None
    assert "Protocol clip-lbfgs" in words.report(probe) and "16 of each class" in words.report(few)
    json.dumps([result.to_dict() for result in found], allow_nan=False)
    with pytest.raises(ValueError, match="needs images to train on"):
        evaluate_data(READY, test, ["probe"])
    with pytest.raises(ValueError, match="the same images"):
        evaluate_data(READY, test, ["probe"], train=open_set(tmp_path / "test"))
    other = write_folders(tmp_path / "other", {"a": [1], "c": [3]})
    with pytest.raises(ValueError, match=r"the same classes, .* got 2 \(a, c\) and 2 \(a, b\)"):
        evaluate_data(READY, test, ["probe"], train=other)


def test_tasks_are_those_that_the_data_allow(tmp_path):
    labelled = write_folders(tmp_path / "l", {"a": [1], "b": [2]})
    pairs = write_table(tmp_path / "t", [(1, "1")])
    assert tasks_of(labelled) == ("zero-shot",) and tasks_of(pairs) == ("retrieval",)
    assert tasks_of(labelled, is_trained=True) == ("zero-shot", "probe")
    assert tasks_of(labelled, ["all"], True) == ("zero-shot", "probe", "few-shot")
    assert tasks_of(pairs, ["zero-shot"]) == ()
    with pytest.raises(ValueError, match="consists of pairs, which do not allow the task zero-sho"):
        evaluate_data(READY, pairs, ["zero-shot"])
    with pytest.raises(ValueError, match=r"must be one of zero-shot, .*, got 'ocr'"):
        evaluate_data(READY, pairs, ["ocr"])
    with pytest.raises(ValueError, match="is l, but none of the tasks trains a probe"):
        evaluate_data(READY, labelled, ["zero-shot"], train=labelled)


def test_a_model_that_has_diverged_scores_nothing_and_gives_strict_json(tmp_path):
    class Diverged(Ideal):
        def forward(self, image=None, text=None):
            images, texts, scale = super().forward(image, text)
            return images if images is None else images * torch.nan, texts, scale

    model = Diverged()
    torch.nn.init.constant_(model.logit_scale, float("nan"))
    ready = ideal_model(model=model)
    (found,) = evaluate_data(ready, write_folders(tmp_path / "l", {"1": [1], "2": [2]}))
    assert found.metrics["acc1"] == 0 and found.found["non_finite"] == 2
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["logit_scale"] is None
    assert "The features of 2 items are not finite" in words.report(found)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return open_model(digits_checkpoint(tmp_path_factory.mktemp("digits") / "a.pt"), device="cpu")


@pytest.fixture(scope="module")
def trainer(digits):
    return trainer_of(digits)


def trainer_of(ready):
    alone = SimpleNamespace(
        rank=0, world_size=1, device=ready.device, gather=lambda value: [value],
        broadcast=lambda value: value,
    )  # fmt: skip
    return Evaluator(alone, ready.prepare, nullcontext, ready.tokenizer, chunk=64)


def in_order(source, digits, tokenizer):
    return PairLoader(
        source, digits.transform, tokenizer, batch_size=64, shuffle_buffer=1, drop_last=False
    )


def test_zero_shot_is_what_the_trainer_reports(digits, trainer):
    task = open_task("digits")
    expected = trainer.zero_shot(digits.model, task, in_order(task.source, digits, task.labels))
    (found,) = evaluate_data(digits, open_set("digits"))
    assert found.metrics["acc1"] == expected["zeroshot-val-top1"]
    assert found.metrics["acc5"] == expected["zeroshot-val-top5"] > 0.2


def test_the_trainer_takes_equal_captions_for_one_text_and_an_evaluation_does_not(tmp_path):
    data = write_table(tmp_path / "t", [(1, "number 1"), (2, "number 1"), (3, "number 3")])
    expected = trainer_of(READY).retrieval(
        READY.model, in_order(data.source, READY, READY.tokenizer)
    )
    (found,) = evaluate_data(READY, data, recall_at=(1,))
    name = "text_to_image_R@1"
    assert (expected[name], found.metrics[name]) == (1, pytest.approx(2 / 3))


def test_retrieval_is_what_the_trainer_reports(digits, trainer):
    pairs = PairSet("digits", DigitSource(held_out=True, num_samples=150))
    expected = trainer.retrieval(digits.model, in_order(pairs.source, digits, digits.tokenizer))
    (found,) = evaluate_data(digits, pairs)
    for name in found.metrics.keys() & expected.keys():
        assert found.metrics[name] == expected[name], name
    assert len(found.metrics.keys() & expected.keys()) == 10
