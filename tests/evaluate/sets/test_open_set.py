"""From names of data to sets, of every kind of file."""

import sys
from types import SimpleNamespace

import pytest

from fastclip.evaluate.sets.labelled import LabelledSet, Numbers
from fastclip.evaluate.sets.lines import EachLine
from fastclip.evaluate.sets.opening import PairSet, Reading, open_set
from tests.support.pair_files import assert_resumable, captions, image_bytes, read_all, tar_bytes


def write_classes(folder, names, captioned=False):
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        (folder / name / "x.png").write_bytes(image_bytes(number))
        if captioned:
            (folder / name / "x.txt").write_text(f"text {number}")


def write_benchmark(root, suffix="cls", contents=(b"1", b"0"), kind=None):
    """CLIP_benchmark's layout."""
    (root / "test").mkdir(parents=True)
    members = [
        member
        for i, content in enumerate(contents)
        for member in ((f"{i}.png", image_bytes(i)), (f"{i}.{suffix}", content))
    ]
    (root / "test" / "0.tar").write_bytes(tar_bytes(members))
    (root / "classnames.txt").write_text("cat\ndog\n")
    (root / "zeroshot_classification_templates.txt").write_text("a {c}.\nthe {c}.\n")
    if kind is not None:
        (root / "dataset_type.txt").write_text(kind + "\n")


def test_a_folder_is_classes_or_pairs_by_what_is_beside_the_images(tmp_path):
    write_classes(tmp_path / "plain" / "val", ["big_cat", "dog"])
    found = open_set(tmp_path / "plain" / "val")
    assert isinstance(found, LabelledSet) and found.class_names == ["big cat", "dog"]
    assert found.name == "plain/val" and found.labels(["dog"]).tolist() == [[1]]
    write_classes(tmp_path / "both", ["cat", "dog"], captioned=True)
    assert isinstance(open_set(tmp_path / "both"), PairSet)
    assert isinstance(open_set(tmp_path / "both", wanted="labelled"), LabelledSet)
    with pytest.raises(ValueError, match="its folders; got 'kind'"):
        open_set(tmp_path / "both", Reading(label_key="kind"))


def test_folders_of_wordnet_are_not_called_by_their_ids(tmp_path):
    write_classes(tmp_path / "data", ["n01440764", "n01443537"])
    assert open_set(tmp_path / "data").class_names is None


def test_shards_of_clip_benchmark_come_with_names_and_prompts(tmp_path):
    write_benchmark(tmp_path / "pets")
    found = open_set(tmp_path / "pets")
    assert (found.name, found.split) == ("pets", "test")
    assert found.class_names == ["cat", "dog"] and found.templates == ["a {}.", "the {}."]
    assert found.labels(captions(read_all(found.source))).tolist() == [[1], [0]]
    inside = open_set(str(tmp_path / "pets" / "test"))
    assert inside.class_names == ["cat", "dog"] and inside.name == "pets/test"
    with pytest.raises(ValueError, match="shards in the folders test, and none in 'train'"):
        open_set(tmp_path / "pets", Reading(split="train"))


def test_shards_for_retrieval_have_a_caption_on_each_line(tmp_path):
    texts = (b"one\n\n two \n", b"three", b"four\nfive")
    write_benchmark(tmp_path / "coco", "txt", texts, "retrieval")
    found = open_set(tmp_path / "coco")
    assert isinstance(found, PairSet) and isinstance(found.source, EachLine)
    items = read_all(found.source)
    assert captions(items) == ["one", "two", "three", "four", "five"]
    assert len({item.key for item in items}) == 5
    assert_resumable(found.source)


def test_other_shards_are_pairs_and_labels_may_be_named(tmp_path):
    write_benchmark(tmp_path / "data", "txt", (b"3 dogs\nand a cat", b"1"))
    found = open_set(tmp_path / "data")
    assert isinstance(found, PairSet) and captions(read_all(found.source))[0].startswith("3 dogs\n")
    found = open_set(tmp_path / "data", Reading(label_key="txt"))
    assert isinstance(found, LabelledSet) and isinstance(found.labels, Numbers)


def test_a_missing_shard_does_not_hide_what_the_others_have(tmp_path):
    write_benchmark(tmp_path / "pets")
    (tmp_path / "pets" / "test" / "0.tar").rename(tmp_path / "pets" / "test" / "1.tar")
    found = open_set(str(tmp_path / "pets" / "test" / "{0..1}.tar"))
    assert isinstance(found, LabelledSet) and found.class_names == ["cat", "dog"]


def test_tables_are_pairs_unless_labels_are_asked_for(tmp_path):
    (tmp_path / "x.png").write_bytes(image_bytes(1))
    (tmp_path / "t.csv").write_text("filepath,title,label\nx.png,a dog,dog\nx.png,a cat,big_cat\n")
    comma = Reading(separator=",")
    assert captions(read_all(open_set(tmp_path / "t.csv", comma).source)) == ["a dog", "a cat"]
    found = open_set(tmp_path / "t.csv", comma, "labelled")
    assert (found.name, found.class_names) == ("t", ["big cat", "dog"])
    (tmp_path / "n.csv").write_text("filepath,kind\nx.png,2\nx.png,0\n")
    found = open_set(tmp_path / "n.csv", Reading(separator=",", label_key="kind"))
    assert found.class_names is None and found.labels(["2"]).tolist() == [[2]]
    with pytest.raises(ValueError, match="integer from 0, got '-1'"):
        found.labels(["-1"])


def test_rows_of_hugging_face_have_names_of_classes(monkeypatch, tmp_path):
    class Rows(list):
        column_names = ("image", "label")

    rows = Rows([{"image": image_bytes(0), "label": 1}, {"image": image_bytes(1), "label": 0}])
    rows.features = {"image": None, "label": SimpleNamespace(names=["cat", "big_dog"])}
    asked = []
    package = SimpleNamespace(
        Image=SimpleNamespace, load_dataset=lambda name, split: asked.append((name, split)) or rows
    )
    monkeypatch.setitem(sys.modules, "datasets", package)
    found = open_set("owner/pets", Reading("hf", split="validation"))
    assert isinstance(found, LabelledSet) and found.class_names == ["cat", "big dog"]
    assert found.labels(captions(read_all(found.source))).tolist() == [[1], [0]]
    assert found.source.stamp() == ""
    (tmp_path / "pets.arrow").touch()
    rows.cache_files = [{"filename": str(tmp_path / "pets.arrow")}]
    assert open_set("owner/pets", Reading("hf")).source.stamp().startswith("1 file of 0 bytes")
    assert asked.pop() == ("owner/pets", "test")
    assert asked == [("owner/pets", "validation")] and found.name == "owner/pets"
    with pytest.raises(ValueError, match="column"):
        open_set("owner/pets", Reading("hf"), "pairs")


def test_built_in_digits_are_labelled_or_pairs_by_their_name():
    test, train, pairs = map(open_set, ("digits", "digits-train", "digits-held-out"))
    assert len(test.source) == 359 and len(train.source) == 1438
    assert test.class_names[3] == "three" and test.labels == train.labels
    assert isinstance(pairs, PairSet) and len(pairs.source) == 1024
    with pytest.raises(ValueError, match="digits-held-out consists of pairs, but labelled images"):
        open_set("digits-held-out", wanted="labelled")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        open_set("nowhere")
