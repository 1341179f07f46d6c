"""Two files of results: which of two models is better."""

import pytest
import torch

from fastclip.evaluate.results import words
from fastclip.evaluate.results.compared import compare_files
from fastclip.evaluate.results.file import ResultsFile
from fastclip.evaluate.results.outcomes import all_to_json, question_digest


def write(path, model, correct, dataset="digits", keys="abcd", task="zeroshot_classification"):
    questions = question_digest(list(keys), torch.arange(len(keys)))
    outcomes = all_to_json(questions, {"acc1": torch.tensor(correct)})
    line = {"dataset": dataset, "model": model, "pretrained": "", "task": task, "metrics": {}}
    ResultsFile(path).append([line | {"outcomes": outcomes}])
    return path


YES, NO = True, False


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
    assert len(said) == 1 and "of 'cars', and the other file has not" in said[0]
    text = words.comparison(found)
    assert "one 50.00%, two 75.00%: +25.00%" in text and "p = 1" in text


def test_what_cannot_be_compared_is_refused_by_name(tmp_path):
    a = write(tmp_path / "a", "one", [YES, NO, YES, NO])
    other = write(tmp_path / "other", "two", [YES, NO], "cars", "xy")
    with pytest.raises(ValueError, match="no data and task in common"):
        compare_files(a, other)
    changed = write(tmp_path / "changed", "two", [YES, NO, YES, NO], keys="abce")
    with pytest.raises(ValueError, match="not done on the same images by both"):
        compare_files(a, changed)
    write(a, "three", [YES, NO, YES, NO])
    with pytest.raises(ValueError, match=r"several models \(one, three\)"):
        compare_files(a, changed)
    ResultsFile(tmp_path / "bare").append([{"metrics": {}}])
    with pytest.raises(ValueError, match="no results that say which images were right"):
        compare_files(tmp_path / "bare", changed)
