"""What a kind of data set does not look at is refused, and it is said what it looks at."""

import sys
from types import SimpleNamespace

import pytest

from fastclip.evaluate.sets.opening import Reading, open_set
from tests.support.pair_files import image_bytes, tar_bytes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set of each kind."""
    root = tmp_path_factory.mktemp("data")
    for name in ("classes/cat", "pairs", "labelled", "captioned", "splits/test"):
        (root / name).mkdir(parents=True)
    for name in ("classes/cat/x", "pairs/x"):
        (root / f"{name}.png").write_bytes(image_bytes(1))
    (root / "pairs" / "x.txt").write_text("a cat")
    for name, suffix in (("labelled", "cls"), ("captioned", "txt"), ("splits/test", "cls")):
        members = [("0.png", image_bytes(1)), (f"0.{suffix}", b"1")]
        (root / name / "0.tar").write_bytes(tar_bytes(members))
    (root / "t.tsv").write_text("filepath\ttitle\tlabel\nclasses/cat/x.png\ta cat\tcat\n")
    return root


NOTHING = ["separator", "image_key", "caption_key", "split"]
REFUSED = [
    # the data, what they are read as, a setting that does this, those that do nothing, and why
    ("digits", None, {}, NOTHING, "digits, built-in data, is read by none of these"),
    ("digits-held-out", None, {}, [*NOTHING, "label_key"], "is read by none of these"),
    ("classes", None, {}, NOTHING, "classes, a folder of classes, is read by none of these"),
    ("pairs", None, {}, ["separator", "split"],
     "pairs, a folder of pairs, is read by image_key and caption_key"),
    ("labelled", None, {}, ["separator", "caption_key", "split"],
     "labelled, labelled images in shards, is read by image_key and label_key"),
    ("captioned", "pairs", {}, ["separator", "label_key", "split"],
     "captioned, pairs in shards, is read by image_key and caption_key"),
    ("splits", None, {}, ["separator", "caption_key"], "by image_key, label_key and split"),
    ("t.tsv", None, {}, ["split"],
     "t, pairs in a table, is read by separator, image_key and caption_key"),
    ("t.tsv", "pairs", {}, ["label_key"], "by separator, image_key and caption_key"),
    ("t.tsv", None, {"label_key": "label"}, ["caption_key", "split"],
     "t, labelled images in a table, is read by separator, image_key and label_key"),
]  # fmt: skip
VALUES = {
    "separator": "\t", "image_key": "png", "caption_key": "title", "label_key": "label",
    "split": "test",
}  # fmt: skip
CASES = [(*case[:3], name, case[4]) for case in REFUSED for name in case[3]]


@pytest.mark.parametrize(("spec", "wanted", "used", "name", "told"), CASES)
def test_what_is_not_looked_at_is_refused_by_name(data, spec, wanted, used, name, told):
    spec = spec if spec.startswith("digits") else data / spec
    open_set(spec, Reading(**used), wanted)
    with pytest.raises(ValueError, match=f"^{name} has no effect: .*{told}$"):
        open_set(spec, Reading(**used, **{name: VALUES[name]}), wanted)


def test_columns_of_hugging_face_that_are_not_looked_at_are_refused(monkeypatch):
    class Rows(list):
        column_names = ("image", "label")
        features = {"image": None, "label": None}  # noqa: RUF012

    rows = Rows([{"image": image_bytes(0), "label": 1}])
    package = SimpleNamespace(Image=SimpleNamespace, load_dataset=lambda name, split: rows)
    monkeypatch.setitem(sys.modules, "datasets", package)
    for name in ("separator", "caption_key"):
        told = f"{name} has no effect: .*, is read by image_key, label_key and split$"
        with pytest.raises(ValueError, match=told):
            open_set("owner/pets", Reading("hf", **{name: VALUES[name]}))
    assert open_set("owner/pets", Reading("hf", label_key="label", split="val")).split == "val"
    rows.column_names = ("image", "text", "label")
    with pytest.raises(ValueError, match=r"label_key has no effect: .* image_key, caption_key"):
        open_set("owner/pets", Reading("hf", label_key="label"), "pairs")
