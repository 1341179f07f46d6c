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
    ("digits", None, {}, NOTHING, r"digits \(built-in data\) uses no such setting"),
    ("digits-held-out", None, {}, [*NOTHING, "label_key"], "uses no such setting"),
    ("classes", None, {}, NOTHING, r"classes \(a folder of classes\) uses no such setting"),
    ("pairs", None, {}, ["separator", "split"],
     r"pairs \(a folder of pairs\) uses image_key and caption_key"),
    ("labelled", None, {}, ["separator", "caption_key", "split"],
     r"labelled \(labelled images in shards\) uses image_key and label_key"),
    ("captioned", "pairs", {}, ["separator", "label_key", "split"],
     r"captioned \(pairs in shards\) uses image_key and caption_key"),
    ("splits", None, {}, ["separator", "caption_key"], "uses image_key, label_key and split"),
    ("t.tsv", None, {}, ["split"],
     r"t \(pairs in a table\) uses separator, image_key and caption_key"),
    ("t.tsv", "pairs", {}, ["label_key"], "uses separator, image_key and caption_key"),
    ("t.tsv", None, {"label_key": "label"}, ["caption_key", "split"],
     r"t \(labelled images in a table\) uses separator, image_key and label_key"),
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
        told = f"{name} has no effect: .* uses image_key, label_key and split$"
        with pytest.raises(ValueError, match=told):
            open_set("owner/pets", Reading("hf", **{name: VALUES[name]}))
    assert open_set("owner/pets", Reading("hf", label_key="label", split="val")).split == "val"
    rows.column_names = ("image", "text", "label")
    with pytest.raises(ValueError, match=r"label_key has no effect: .* image_key, caption_key"):
        open_set("owner/pets", Reading("hf", label_key="label"), "pairs")
