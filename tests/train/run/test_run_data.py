"""What a run says of its data: files that are skipped, classes, keys."""

import random
from collections.abc import Callable

import pytest

from fastclip.cli import main
from fastclip.distributed.processes import Processes
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.presets import OPENAI_VOCAB_SIZE
from fastclip.train.log.run_log import RunLog
from fastclip.train.run.run import Run
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.step.random_state import generators_of
from tests.support.pair_files import image_bytes, tar_bytes
from tests.support.small_models import build

TEXT = TextConfig(context_length=16, vocab_size=OPENAI_VOCAB_SIZE, width=4, heads=1, layers=1)
TINY = ClipConfig(8, VisionConfig(8, patch_size=4, width=8, layers=1, head_width=8), TEXT)
SETTINGS = {
    "global-batch-size": 4, "micro-batch-size": 2, "train-num-samples": 4, "epochs": 1,
    "workers": 0, "device": "cpu", "name": "run", "warmup": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    save_pretrained(build(TINY), directory)
    return f"local-dir:{directory}"


@pytest.fixture
def train(model, tmp_path) -> Callable[..., tuple[int, str]]:
    """Runs `fastclip train`; returns its status and its log, "" of a run that has not begun."""

    def train(data, **changes):
        settings = {"train-data": data, "model": model, "logs-dir": tmp_path / "logs"} | SETTINGS
        settings |= {name.replace("_", "-"): value for name, value in changes.items()}
        flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        status = main(["train", *flags])
        log = tmp_path / "logs" / settings["name"] / "out.log"
        return status, log.read_text() if log.exists() else ""

    return train


def captioned(folder, names):
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image_bytes(i))
        (folder / name).with_suffix(".txt").write_text("three")


def test_files_that_are_no_part_of_a_sample_are_said_before_the_first_step(train, tmp_path):
    captioned(tmp_path / "data", [f"{i}.jpg" for i in range(4)])
    (tmp_path / "data" / "notes.md").touch()
    (tmp_path / "data" / "x.npy").touch()
    status, log = train(tmp_path / "data")
    assert status == 0
    assert "--train-data: 2 files belong to no sample: 1 .md, 1 .npy" in log


def test_members_that_are_no_part_of_a_sample_are_said_after_the_epoch(train, tmp_path):
    members = [(f"v1.{i}.{s}", image_bytes(i) if s == "bmp" else b"three")
               for i in range(4) for s in ("bmp", "txt")]  # fmt: skip
    (tmp_path / "a.tar").write_bytes(tar_bytes([("list.csv", b""), *members]))
    status, log = train(tmp_path / "a.tar", shuffle_buffer=1)
    assert status == 0
    assert "0 of 4 samples are bad; 1 file belongs to no sample: 1 .csv" in log


def test_images_and_classes_of_a_task_are_said(train, tmp_path):
    captioned(tmp_path / "data", [f"{i}.jpg" for i in range(4)])
    captioned(tmp_path / "classes", ["forest/1.jpg", "river/1.png", "sea/1.jpg", "sea/2.jpg"])
    status, log = train(tmp_path / "data", zeroshot_data=tmp_path / "classes")
    assert status == 0 and "zeroshot-val: 4 images of 3 classes: forest, river, sea" in log
    assert "zeroshot-val: 4 files belong to no sample: 4 .txt" in log


def test_a_named_image_is_trained_on_and_one_that_is_missing_is_counted(train, tmp_path, capsys):
    captioned(tmp_path / "data", [f"{i}.jpg" for i in range(4)])
    status, log = train(tmp_path / "data", name="one", image_key="jpg", csv_img_key="jpg")
    assert status == 0
    assert (
        "--train-data is not a table, so --csv-img-key has no effect on it: use --image-key" in log
    )
    status, _ = train(tmp_path / "data", name="two", image_key="png")
    assert status == 2 and "root holds no image (png)" in capsys.readouterr().err
    assert not (tmp_path / "logs" / "two").exists()


def test_step_of_a_run_takes_back_no_generator_of_its_data_or_log(tmp_path):
    config = RunConfig(train_data="digits", model="digits", train_num_samples=64, workers=0)
    log = RunLog(None)
    log.generator = random.Random(0)
    run = Run(config, Processes("cpu"), tmp_path, log)
    found = [id(generator) for generator in generators_of(run.model, run.compute.prepare)]
    assert id(log.generator) not in found
    assert found == [id(generator) for generator in generators_of(run.model)]


def test_keys_that_contradict_each_other_are_refused():
    assert RunConfig(image_key="url", csv_img_key="url").image_key == "url"
    with pytest.raises(ValueError, match=r"caption_key must be left out, or 'b' as .* is, got 'a'"):
        RunConfig(caption_key="a", csv_caption_key="b")
