"""Two files of results: which of two models is better."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from fastclip.evaluate import tasks
from fastclip.evaluate.evaluation import evaluate_data
from fastclip.evaluate.results import words
from fastclip.evaluate.results.compared import compare_files
from fastclip.evaluate.results.file import ResultsFile
from fastclip.evaluate.results.outcomes import all_to_json, questions_of
from fastclip.evaluate.sets.opening import Reading, open_set
from tests.support.ideal import ideal_model, number_of
from tests.support.pair_files import image_bytes


def write(path, model, correct, dataset="digits", keys="abcd", task="zeroshot_classification"):
    questions = questions_of(list(keys), list(range(len(keys))))
    outcomes = all_to_json(questions, {"acc1": torch.tensor(correct)})
    line = {"dataset": dataset, "model": model, "pretrained": "", "task": task, "metrics": {}}
    ResultsFile(path).append([line | {"outcomes": outcomes}])
    return path


YES, NO = True, False
READY = ideal_model()


def test_the_same_images_are_compared_one_by_one(tmp_path):
    a = write(tmp_path / "a", "one", [NO, NO, NO, NO])
    write(a, "one", [YES, NO, YES, NO])  # the last of a task counts
    write(a, "one", [YES, NO], "cars", "xy")
    b = write(tmp_path / "b", "two", [YES, YES, NO, YES])
    (found,), said = compare_files(a, b)
    counts = found.found
    assert (counts.both, counts.only_a, counts.only_b, counts.neither) == (1, 1, 2, 0)
    assert counts.p_value == 1.0 and found.models == ("one", "two")
    assert found.to_dict()["difference"] == 0.25
    assert len(said) == 1 and "of 'cars', but the other file does not" in said[0]
    text = words.comparison(found)
    assert "one 50.00%, two 75.00%: +25.00%" in text and "p = 1" in text


def test_what_cannot_be_compared_is_refused_by_name(tmp_path):
    a = write(tmp_path / "a", "one", [YES, NO, YES, NO])
    other = write(tmp_path / "other", "two", [YES, NO], "cars", "xy")
    with pytest.raises(ValueError, match="no data and task in common"):
        compare_files(a, other)
    changed = write(tmp_path / "changed", "two", [YES, NO, YES, NO], keys="abce")
    with pytest.raises(ValueError, match=r"cannot be compared, .* have different images$"):
        compare_files(a, changed)
    write(a, "three", [YES, NO, YES, NO])
    with pytest.raises(ValueError, match=r"several models \(one, three\)"):
        compare_files(a, changed)
    ResultsFile(tmp_path / "bare").append([{"metrics": {}}])
    with pytest.raises(ValueError, match="no results that say which images were right"):
        compare_files(tmp_path / "bare", changed)


def test_results_that_do_not_say_what_was_asked_are_refused(tmp_path):
    a = write(tmp_path / "a", "one", [YES, NO])
    outcomes = all_to_json({}, {"acc1": torch.tensor([YES, NO])}) | {"questions": "digest"}
    del outcomes["version"]
    line = {"dataset": "digits", "model": "m", "task": "zeroshot_classification", "metrics": {}}
    ResultsFile(tmp_path / "old").append([line | {"outcomes": outcomes}])
    with pytest.raises(ValueError, match=r"old has 'zeroshot_.*' of another version of fastclip"):
        compare_files(a, tmp_path / "old")


def evaluated(path, data, ready=READY, **how):
    """A file with what a model finds."""
    for result in evaluate_data(ready, data, **how):
        ResultsFile(path).append([result.to_dict()])
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Three images of each of three classes, which have numbers alone; and others to train on."""
    folder = tmp_path_factory.mktemp("tables")
    found = {}
    for name, shift in (("test", 0), ("train", 10), ("more", 20)):
        lines = ["filepath,label"]
        for i in range(9):
            (folder / f"{i + shift}.png").write_bytes(image_bytes(i // 3 + 1 + shift * (i % 3 > 1)))
            lines.append(f"{i + shift}.png,{i // 3}")
        (folder / f"{name}.csv").write_text("\n".join(lines))
        reading = Reading(separator=",", label_key="label")
        found[name] = open_set(folder / f"{name}.csv", reading)
    return found


NAMES = ["number 1", "number 2", "number 3"]
FOUR = [*NAMES, "number 4"]


@pytest.mark.parametrize(
    "one, other, differing",
    [
        ({"classes": FOUR}, {"classes": [*NAMES, "number 5"]}, "classes"),
        ({"classes": NAMES}, {"classes": [*NAMES[:2], "3"]}, "right answers and different classes"),
        ({"classes": FOUR, "subset": NAMES}, {"classes": FOUR}, "classes"),
    ],
)
def test_other_classes_are_another_question(tables, tmp_path, one, other, differing):
    a, b = (evaluated(tmp_path / n, tables["test"], **how) for n, how in (("a", one), ("b", other)))
    with pytest.raises(ValueError, match=f"files have different {differing}$"):
        compare_files(a, b)


def test_the_order_in_which_classes_are_given_changes_no_question(tables, tmp_path):
    data = replace(tables["test"], class_names=NAMES)
    a, b = (evaluated(tmp_path / str(names), data, classes=names) for names in (NAMES, NAMES[::-1]))
    (found,), said = compare_files(a, b)
    assert (found.found.both, found.found.n) == (9, 9) and said == []


def test_other_images_to_train_on_are_another_question(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "linear_probe", partial(tasks.linear_probe, c_grid=[1.0]))
    a, b = (
        evaluated(tmp_path / name, tables["test"], tasks=["probe"], train=tables[name])
        for name in ("train", "more")
    )
    assert compare_files(a, a)[0][0].metric == "lp_acc1"
    with pytest.raises(ValueError, match=r"files have different images to train on$"):
        compare_files(a, b)


def test_other_prompts_are_said(tables, tmp_path):
    a, b = (
        evaluated(tmp_path / name, tables["test"], classes=NAMES, templates=name)
        for name in ("a {}", "photo of {}")
    )
    (found,), said = compare_files(a, b)
    assert found.found.n == 9
    assert len(said) == 1 and "done with different prompts:" in said[0] and "photo of" in said[0]


def test_captions_are_compared_by_image(tmp_path):
    """Three captions of each of two images; one model knows none of the second's."""
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(image_bytes(number))
    rows = [f"{number}.png,{number} of {i}" for number in (1, 2) for i in range(3)]
    (tmp_path / "pairs.csv").write_text("\n".join(["filepath,title", *rows]))
    data = open_set(tmp_path / "pairs.csv", Reading(separator=","))
    a = evaluated(tmp_path / "a", data)
    blind = replace(ideal_model("blind"), tokenizer=lambda texts: number_of(texts).clamp(max=1))
    b = evaluated(tmp_path / "b", data, blind)
    found = {one.metric: one for one in compare_files(a, b)[0]}
    captions = found["image_retrieval_recall@1"]
    assert (captions.found.n, captions.found.images, captions.found.only_a) == (6, 2, 3)
    assert captions.found.p_value == 1.0
    assert "The exact sign-flip test over 2 images: p = 1;" in words.comparison(captions)
    images = found["text_retrieval_recall@1"]
    assert images.found.images is None and "McNemar's exact test" in words.comparison(images)
