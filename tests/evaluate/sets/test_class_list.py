"""Names and prompts of classes that fit the data, or are refused."""

import json

import pytest
import torch

from fastclip.evaluate.imagenet import IMAGENET_WNIDS
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
    with pytest.raises(ValueError, match="no entry for the data set 'birds'"):
        class_list(LabelledSet("birds", None, Numbers(), None), tmp_path / "n.json")
    (tmp_path / "bad.json").write_text("[")
    with pytest.raises(ValueError, match="not JSON"):
        class_list(NUMBERED, tmp_path / "bad.json")


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"pets has 2 classes \(cat, dog\), but 4 names were given"
    ):
        class_list(folders(NAMES[:2]), NAMES)
    with pytest.raises(ValueError, match="there are 4 classes, but an image has the label 4"):
        class_list(NUMBERED).labels(torch.tensor([1, 4]))
    with pytest.raises(ValueError, match="n01440764 is a WordNet id"):
        class_list(folders(["n01440764", "n01443537"]))
    with pytest.raises(ValueError, match="it has only their numbers"):
        class_list(LabelledSet("pets", None, Numbers(), None))


def test_the_thousand_folders_of_imagenet_are_known_by_their_ids():
    assert class_list(folders(IMAGENET_WNIDS)).prompts.names[0] == "tench"
    for others in ([f"n{i:08d}" for i in range(1000)], IMAGENET_WNIDS[:200]):
        with pytest.raises(ValueError, match="WordNet"):
            class_list(folders(others))


def test_folders_of_imagenet_have_the_numbers_of_their_ids():
    """Folders of goldfish and tench, in whatever order their names are listed."""
    few = folders(["n01440764", "n01443537", "n01484850"])
    subset = ["great white shark", "tench", "goldfish"]
    found = class_list(few, "imagenet", subset=subset)
    assert found.labels(torch.tensor([0, 1, 2])).tolist() == [0, 1, 2] and found.said is None
    with pytest.raises(ValueError, match=r"subset .* lacks goldfish, which pets has"):
        class_list(few, "imagenet", subset=["great white shark", "tench", "brambling"])
    with pytest.raises(ValueError, match="n99999999, which is not among the 1,000 classes"):
        class_list(folders(["n01440764", "n99999999"]), "imagenet", subset=["tench", "goldfish"])


@pytest.mark.parametrize("data", [folders(NAMES, NAMES), NUMBERED])
def test_the_classes_own_names_are_taken_by_name_in_whatever_order(data, tmp_path):
    (tmp_path / "names").write_text("Owl\neel\ndog\ncat\n")
    found = class_list(data, tmp_path / "names", subset=["dog", "Owl"])
    labels = found.labels(torch.arange(4)).tolist()
    assert [found.prompts.names[i] for i in labels] == ["cat", "dog", "Owl", "eel"]
    assert found.subset == (2, 0) and found.said is None


def test_the_names_of_a_subset_are_taken_by_name_in_whatever_order():
    few = LabelledSet("pets", None, Numbers(), ["golden retriever", "cat"])
    names = ["owl", "cat", "golden_retriever"]
    found = class_list(few, names, subset=["cat", "golden_retriever"])
    assert found.labels(torch.tensor([0, 1])).tolist() == [2, 1] and found.said is None


@pytest.mark.parametrize("data", [folders(NAMES), NUMBERED])
def test_other_names_are_taken_in_order_which_is_said(data):
    said = class_list(data, ["kitten", "dog", "owl", "snake"]).said
    assert said == (
        "pets: the 4 class names are taken in the order of the data's classes; 2 of them differ "
        "from the data's own names, such as 'kitten' for 'cat'"
    )
    assert class_list(data, NAMES).said is None


@pytest.mark.parametrize("data", [folders(NAMES), NUMBERED])
def test_an_order_that_contradicts_a_name_is_refused(data):
    with pytest.raises(ValueError, match="'dog' would then name the class 'cat'"):
        class_list(data, ["dog", "kitten", "owl", "eel"])
    with pytest.raises(ValueError, match="'owl' would then name the class 'dog'"):
        class_list(data, [*NAMES, "owls", "emu"], subset=["emu", "owl", "owls", "cat"])
    named_alike = ["cat", "dog", "dog", "eel"]
    assert "1 of them" in class_list(data, named_alike).said  # the dog is a dog, too


def test_labels_of_a_subset_are_places_in_it_or_among_all_classes(tmp_path):
    (tmp_path / "few").write_text("eel\ndog\n")
    own = class_list(folders(["e", "d"]), NAMES, subset=tmp_path / "few")
    assert own.subset == (3, 1) and own.labels(torch.tensor([0, 1])).tolist() == [3, 1]
    whole = class_list(folders(NAMES), NAMES, subset=["eel", "dog"])
    assert whole.labels(torch.tensor([3, 1])).tolist() == [3, 1]
    for subset, message in (
        (["cow"], "cow, which is not among"), (["dog", "dog"], "more than once"),
        (["dog", "owl", "eel"], "3 of them in the subset"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            class_list(folders(["e", "d"]), NAMES, subset=subset)
    with pytest.raises(ValueError, match="the name of several classes"):
        class_list(folders(NAMES), ["a", "b", "b", "c"], subset=["b"])
