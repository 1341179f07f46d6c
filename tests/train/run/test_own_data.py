"""A small model trained on a folder of one's own, from the command line alone."""

import json

import numpy as np
import pytest
from PIL import Image

from fastclip.cli import main
from fastclip.models.inference import open_model
from tests.models.test_small_models import TINY
from tests.support.runs import assert_same_run, final

NUM = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("own")
    (place / "tiny.json").write_text(json.dumps(TINY))
    random = np.random.default_rng(0)
    for i in range(NUM):
        pixels = random.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{i}.png")
    rows = [f"{i}.png;words {i}\n" for i in range(NUM)]
    (place / "pairs.csv").write_text("filepath;title\n" + "".join(rows))
    (place / "val.csv").write_text("filepath;title\n" + "".join(rows[:6]))
    return place


@pytest.fixture
def train(place, tmp_path):
    def train(name, *flags):
        return main([
            "train", "--train-data", str(place / "pairs.csv"), "--model", str(place / "tiny.json"),
            "--batch-size", "4", "--workers", "0", "--device", "cpu", "--logs", str(tmp_path),
            "--name", name, *flags,
        ])  # fmt: skip

    return train


def test_a_folder_of_ones_own_is_trained_on(train, place, tmp_path, capsys, no_vocabulary):
    flags = ["--val-data", str(place / "val.csv"), "--keep-checkpoints", "1", "--lr", "1e-2"]
    assert train("run", "--epochs", "3", *flags) == 0
    out = capsys.readouterr().out
    for words in (
        "--train-data: the header shows that ';' separates the columns",
        "--val-data: the header shows that ';' separates the columns",
        "are kept in the memory of each rank (--image-cache): all of them",
        "the learning rate rises for 1 step, a tenth of the run's 18 steps",
        "epoch 1 is the best so far",
        "--keep-checkpoints 1: removed epoch_1.pt", " ETA: 0:00:00",
    ):  # fmt: skip
        assert words in out, words
    lines = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["train_curve"]["step"] for row in rows] == [[1, 6], [7, 12], [13, 18]]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    names = {path.name for path in (tmp_path / "run" / "checkpoints").glob("epoch*")}
    assert names == {"epoch_3.pt", "epoch_best.pt"}
    # The file of the architecture is not needed any more: the checkpoint has it.
    (place / "tiny.json").rename(place / "gone.json")
    try:
        assert open_model(tmp_path / "run").tokenizer(["abc"]).shape == (1, 24)
        assert main(["convert", str(tmp_path / "run"), str(tmp_path / "hf"), "--to", "hf"]) == 0
    finally:
        (place / "gone.json").rename(place / "tiny.json")
    out = capsys.readouterr().out
    assert "step_000000018.pt" in out and "wrote the byte tokenizer" in out
    assert (tmp_path / "hf" / "merges.txt").read_text() == "#version: 0.2\n"


def test_a_run_that_is_made_longer_keeps_its_warm_up_and_its_images(train, tmp_path, capsys):
    assert train("whole", "--epochs", "4", "--warmup", "1", "--image-cache", "0") == 0
    assert train("part", "--epochs", "2", "--image-cache", "1M", "--lr-scheduler", "const") == 0
    capsys.readouterr()
    assert train("part", "--epochs", "4", "--resume", "latest") == 0
    out = capsys.readouterr().out
    assert (
        "the warm-up keeps the 1 step of the checkpoint, though a new run of 24 steps would" in out
    )
    assert "--warmup was" not in out
    assert final(tmp_path, "part")["config"]["warmup"] == 1


def test_kept_images_change_nothing(train, tmp_path):
    assert train("with", "--epochs", "2", "--image-cache", "1M") == 0
    assert train("without", "--epochs", "2", "--image-cache", "0") == 0
    assert_same_run(final(tmp_path, "with"), final(tmp_path, "without"))


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--global-batch-size", "32"], "24 samples do not fill one batch of 32: give "
         "--global-batch-size 2 (12 steps per epoch) or another of at most 24, or more samples; "
         "--train-num-samples 32 or more repeats samples within a batch"),
        (["--global-batch-size", "12", "--train-num-samples", "8"],
         "--train-num-samples 12 or more takes at least one batch of the 24 samples"),
        (["--model", "digits"], "--model digits takes the built-in digits and no other images"),
        (["--model", "none.json"], "there is no model configuration at none.json"),
        (["--best-metric", "top1"], "best_metric must be left out if nothing is evaluated"),
        (["--csv-separator", ","], "is ',' the separator?"),
        (["--csv-img-key", "photo"], "--csv-img-key must be a column of"),
        (["--val-data", "gone.csv"], "--val-data: there is no file or folder 'gone.csv'"),
    ],
)  # fmt: skip
def test_a_start_that_fails_says_what_to_do_and_leaves_no_folder(
    flags, words, train, tmp_path, capsys
):
    assert train("failed", *flags) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "failed").exists()


def test_a_batch_with_repeats_says_what_they_do_to_the_loss(train, capsys):
    flags = ["--epochs", "1", "--global-batch-size", "96", "--train-num-samples", "96"]
    assert train("repeats", *flags) == 0
    out = capsys.readouterr().out
    assert "each of the 24 samples 4 times on average: copies of a pair count as its" in out
    assert "no model gets below a loss of ln 4 = 1.39 nats; --mask-duplicates both leaves" in out
    assert train("masked", *flags, "--mask-duplicates", "both") == 0
    assert "--mask-duplicates both leaves out the copies" in capsys.readouterr().out


def test_a_name_that_is_mistyped_is_said_with_its_neighbours(train, capsys):
    assert train("shapes", "--epochs", "1") == 0
    assert train("shape", "--epochs", "1", "--resume", "latest") == 0
    out = capsys.readouterr().out
    assert "shape has nothing to resume, and the run starts from the beginning; runs with a" in out
    assert "similar name are shapes" in out
