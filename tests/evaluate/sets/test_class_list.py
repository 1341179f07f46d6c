"""Names and prompts of classes that fit the data, or are refused."""

import json

import pytest
import torch

from fastclip.evaluate.sets.class_list import class_list
from fastclip.evaluate.sets.labelled import LabelledSet, Numbers
from fastclip.evaluate.zero_shot_task import Labels

NAMES = ["cat", "dog", "owl", "eel"]


def folders(names, called=None):
    return LabelledSet("pets", None, Labels(tuple(names)), called)


NUMBERED = LabelledSet("pets", None, Numbers(), NAMES, ["a {}."])


def test_names_and_prompts_come_with_the_data_unless_they_are_given(tmp_path):
    found = class_list(NUMBERED)
    assert found.prompts.names == tuple(NAMES) and found.prompts.prompts[1] == ("a dog.",)
    (tmp_path / "names").write_text("one\ntwo\nthree\nfour\n")
    found = class_list(NUMBERED, tmp_path / "names", "none")
    assert found.prompts.prompts[1] == ("two",)
    assert class_list(folders(NAMES, NAMES)).prompts.prompts[0] == ("a photo of a cat.",)


def test_an_entry_of_a_file_about_several_data_sets_is_found_by_name(tmp_path):
    (tmp_path / "n.json").write_text(json.dumps({"pets": NAMES[:2], "cars": ["x", "y"]}))
    found = class_list(folders(NAMES[:2]), tmp_path / "n.json")
    assert found.prompts.names == ("cat", "dog")
    with pytest.raises(ValueError, match="nothing for the data set 'birds'"):
        class_list(LabelledSet("birds", None, Numbers(), None), tmp_path / "n.json")
    (tmp_path / "bad.json").write_text("[")
    with pytest.raises(ValueError, match="not JSON"):
        class_list(NUMBERED, tmp_path / "bad.json")


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"pets has 2 \(cat, dog\), and there are names of 4"):
        class_list(folders(NAMES[:2]), NAMES)
    with pytest.raises(ValueError, match="there are 4, and an image has the label 4"):
        class_list(NUMBERED).labels(torch.tensor([1, 4]))
    with pytest.raises(ValueError, match="n01440764 is a number of WordNet"):
        class_list(folders(["n01440764", "n01443537"]))
    with pytest.raises(ValueError, match="has their numbers alone"):
        class_list(LabelledSet("pets", None, Numbers(), None))


def test_a_thousand_folders_of_wordnet_are_imagenet():
    ids = [f"n{i:08d}" for i in range(1000)]
    assert class_list(folders(ids)).prompts.names[0] == "tench"
    with pytest.raises(ValueError, match="WordNet"):
        class_list(folders(ids[:200]))


def test_labels_of_a_subset_are_places_in_it_or_among_all_classes(tmp_path):
    (tmp_path / "few").write_text("eel\ndog\n")
    own = class_list(folders(["e", "d"]), NAMES, subset=tmp_path / "few")
    assert own.subset == (3, 1) and own.labels(torch.tensor([0, 1])).tolist() == [3, 1]
    whole = class_list(folders(NAMES), NAMES, subset=["eel", "dog"])
    assert whole.labels(torch.tensor([3, 1])).tolist() == [3, 1]
    for subset, message in (
        (["cow"], "cow, which is none"), (["dog", "dog"], "more than once"),
        (["dog", "owl", "eel"], "of which 3 in the subset"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            class_list(folders(["e", "d"]), NAMES, subset=subset)
    with pytest.raises(ValueError, match="several classes are called"):
        class_list(folders(NAMES), ["a", "b", "b", "c"], subset=["b"])
