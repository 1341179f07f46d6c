"""The commands of docs/own-data.md, in its order, on sixty drawn images and with a small model."""

import json
import random
import shlex
import shutil

import pytest
from PIL import Image, ImageDraw

from fastclip.cli import main
from tests.models.test_small_models import TINY
from tests.support.doc_blocks import read_blocks
from tests.support.doc_pages import DOCS

COLOURS, FORMS = ("red", "green", "blue", "yellow", "white"), ("circle", "square")
NUM, NUM_VAL = 60, 12
SMALLER = {
    "train": "--model tiny.json --batch-size 8 --epochs 3 --workers 0 --device cpu",
    **dict.fromkeys(("embed", "index", "search", "eval", "classify"), "--device cpu"),
}

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="docs/ is not beside the tests")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder as the page has it, and where its commands are written."""
    (tmp_path / "images").mkdir()
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    chance, rows = random.Random(0), []
    for i in range(1, NUM + 1):
        colour, form = chance.choice(COLOURS), chance.choice(FORMS)
        image = Image.new("RGB", (32, 32))
        x, y, side = chance.randrange(14), chance.randrange(14), chance.randrange(10, 18)
        canvas = ImageDraw.Draw(image)
        draw = canvas.ellipse if form == "circle" else canvas.rectangle
        draw((x, y, x + side, y + side), fill=colour)
        name = f"images/{i:05}.jpg"
        image.save(tmp_path / name)
        rows.append(f"{name},a {colour} {form} at {x} and {y}\n")
    shutil.copy(tmp_path / "images/00001.jpg", tmp_path / "images/00002.jpg")
    (tmp_path / "train.csv").write_text("filepath,title\n" + "".join(rows[NUM_VAL:]))
    (tmp_path / "val.csv").write_text("filepath,title\n" + "".join(rows[:NUM_VAL]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands_of_the_page() -> list[list[str]]:
    blocks = [b for b in read_blocks(DOCS / "own-data.md") if b.language == ""]
    lines = [line for b in blocks for line in b.text.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [rest for name, *rest in words if name == "fastclip"]


def test_the_commands_of_the_page_run_in_its_order(place, no_vocabulary, capsys):
    printed = {}
    for words in commands_of_the_page():
        if words[0] in ("doctor", "serve"):  # the one needs nothing, the other does not end
            continue
        assert main([*words, *shlex.split(SMALLER.get(words[0], ""))]) == 0, words
        printed.setdefault(words[0], []).append(capsys.readouterr().out)
    assert list(printed) == [
        "train", "plot", "embed", "index", "search", "duplicates", "eval", "classify", "convert",
    ]  # fmt: skip
    checkpoints = {path.name for path in (place / "logs/shapes/checkpoints").glob("epoch*")}
    assert checkpoints == {"epoch_2.pt", "epoch_3.pt", "epoch_best.pt"}
    with Image.open(place / "logs/shapes/plot.png") as figure:
        assert figure.width > 400
    rows = (place / "logs/shapes/results.jsonl").read_text().splitlines()
    losses = [json.loads(row)["train_loss"] for row in rows]
    assert losses[-1] < losses[0]
    by_text, by_image = printed["search"]
    assert by_text.count(".jpg") == 5
    nearest = [line.split()[1:] for line in by_image.splitlines()[:2]]
    assert nearest == [["1.0000", "00001.jpg"], ["1.0000", "00002.jpg"]]  # itself, and its copy
    group, _, _ = printed["duplicates"][0].partition("\n\n")
    assert {"00001.jpg", "00002.jpg"} <= set(group.split())
    assert {"circle", "square", "star"} <= set(printed["classify"][0].split())
    assert (place / "shapes-hf" / "config.json").is_file()
