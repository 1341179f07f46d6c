"""Runs of a tiny model over a few files: precisions, and what is looked at before they start."""

import shutil

import pytest
import torch
from PIL import Image

from fastclip.cli import main
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.factory import build_model
from fastclip.models.open_clip_config import from_json
from fastclip.models.precision import set_precision
from tests.support.runs import assert_same_run, final

NUM = 8
TINY = ClipConfig(
    16, VisionConfig(32, patch_size=16, width=32, layers=1, head_width=32),
    TextConfig(context_length=16, vocab_size=49408, width=32, heads=1, layers=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, a table of images, and files that cannot be used."""
    place = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    save_pretrained(build_model(TINY), place / "model")
    rows = "".join(f"{i}.jpg\tcaption {i}\n" for i in range(NUM))
    for i in range(NUM):
        Image.new("RGB", (40, 30), (37 * i % 256, 91 * i % 256, 77)).save(place / f"{i}.jpg")
    (place / "pairs.csv").write_text("filepath\ttitle\n" + rows)
    (place / "further.txt").write_text("a {}\na photo of a {d}.\n")
    (place / "blank.txt").write_text("\n")
    (place / "gone.csv").write_text("filepath\ttitle\nnone.jpg\ta\nother.jpg\tb\n")
    (place / "damaged.tar").write_bytes(b"no tar")
    for folder, content in (("classes", None), ("damaged", b"no image")):
        for name in ("cat", "dog"):
            (place / folder / name).mkdir(parents=True)
            shutil.copy(place / "1.jpg", place / folder / name / "1.jpg")
            if content is not None:
                (place / folder / name / "1.jpg").write_bytes(content)
    return place


def train(made, logs, *flags):
    return main([
        "train", "--train-data", str(made / "pairs.csv"), "--model", f"local-dir:{made / 'model'}",
        "--global-batch-size", "4", "--micro-batch-size", "2", "--workers", "0", "--device", "cpu",
        "--log-every-n-steps", "1", "--logs", str(logs), "--name", "run",
        *[str(made / flag) if (made / flag).exists() else flag for flag in flags],
    ])  # fmt: skip


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--zeroshot-data classes --zeroshot-templates further.txt",
         "further.txt, line 2: 'a photo of a {d}.' is not a template"),
        ("--zeroshot-data classes --zeroshot-templates blank.txt", "blank.txt is empty"),
        ("--zeroshot-data digits --zeroshot-classes further.txt", "got 2 names for 10"),
        ("--zeroshot-data damaged", "zeroshot-val has no sample that can be used: 2 of 2"),
        ("--val-data gone.csv", "missing image file: gone.csv"),
        ("--val-data damaged.tar", "--val-data has no sample that can be used"),
        ("--model digits --train-data digits --train-num-samples 8 --val-data pairs.csv",
         "--val-data does not fit this model"),
    ],
)  # fmt: skip
def test_what_is_read_late_is_looked_at_before_the_first_step(
    flags, message, made, tmp_path, capsys
):
    assert train(made, tmp_path, "--epochs", "1", *flags.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err and "Train Epoch" not in captured.out


def test_settings_that_cannot_do_what_they_say_are_warned_about_first(made, tmp_path, capsys):
    flags = [
        "--epochs",
        "1",
        "--precision",
        "pure_bf16",
        "--ema-decay",
        "0.999",
        "--warmup",
        "10000",
    ]
    assert train(made, tmp_path, *flags, "--epochs-cooldown", "1") == 0
    out = capsys.readouterr().out
    warned = [line.split(" | ")[-1] for line in out.splitlines() if "WARNING" in line]
    for text in (
        "the run has 2 steps, which all lie in the warm-up of 10,000 steps: the learning rate "
        "rises to 1e-07",
        "--precision pure_bf16 trains bfloat16 parameters without a float32 copy",
        "--epochs-cooldown has no effect",
        "--ema-decay 0.999 is slow for a run of 2 steps",
    ):
        assert any(text in line for line in warned), text
        assert out.index(text) < out.index("Train Epoch")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_small_steps_move_the_weights_and_resume_to_the_bit(precision, made, tmp_path):
    flags = ["--precision", precision, "--epochs", "2", "--lr", "1e-5", "--skip-scheduler",
             "--ema-decay", "0.5", "--keep-last", "10", "--save-every-steps", "3",
             "--val-data", "pairs.csv", "--zeroshot-data", "classes"]  # fmt: skip
    assert train(made, tmp_path, *flags) == 0
    whole = final(tmp_path, "run")
    directory = tmp_path / "run" / "checkpoints"
    first = torch.load(directory / "epoch_1.pt", weights_only=True)
    key = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    assert (whole["state_dict"][key] != first["state_dict"][key]).double().mean() > 0.95
    assert {value.dtype for value in whole["state_dict"].values()} == {torch.float32}
    for path in directory.iterdir():
        if path.name != "step_000000003.pt":
            path.unlink()
    assert train(made, tmp_path, *flags, "--resume", "latest") == 0
    assert_same_run(final(tmp_path, "run"), whole)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "pure_fp16"])
def test_average_that_is_evaluated_is_written_in_float32(precision, made, tmp_path, monkeypatch):
    from fastclip.evaluate.evaluator import Evaluator

    evaluated = []
    retrieval = Evaluator.retrieval

    def remember(self, model, loader):
        evaluated.append({name: value.clone() for name, value in model.state_dict().items()})
        return retrieval(self, model, loader)

    monkeypatch.setattr(Evaluator, "retrieval", remember)
    flags = ["--precision", precision, "--epochs", "1", "--lr", "1e-3", "--skip-scheduler"]
    assert train(made, tmp_path, *flags, "--ema-decay", "0.5", "--val-data", "pairs.csv") == 0
    directory = tmp_path / "run" / "checkpoints"
    average = torch.load(directory / "epoch_1_ema.pt", weights_only=True)["state_dict"]
    content = torch.load(directory / "epoch_1.pt", weights_only=True)
    assert average.keys() == evaluated[0].keys() == content["state_dict"].keys()
    for name, value in average.items():
        assert value.dtype == torch.float32 and torch.equal(value, evaluated[0][name])
    model = set_precision(build_model(from_json(content["model_config"])), precision)
    model.load_state_dict(average)
    for name, value in model.state_dict().items():
        assert torch.equal(value, average[name].to(value.dtype))


def test_average_of_a_checkpoint_is_dropped_where_that_is_asked_for_alone(made, tmp_path, capsys):
    flags = ["--epochs", "1", "--skip-scheduler"]
    assert train(made, tmp_path / "averaged", *flags, "--ema-decay", "0.5") == 0
    path = tmp_path / "averaged" / "run" / "checkpoints" / "epoch_1.pt"
    flags += ["--resume", str(path)]
    assert train(made, tmp_path / "forgotten", *flags) == 2
    assert "the average of the weights would be lost; --ema-decay 0" in capsys.readouterr().err
    assert train(made, tmp_path / "dropped", *flags, "--ema-decay", "0") == 0
    assert "--ema-decay was 0.5, is now 0.0 from step 3 on" in capsys.readouterr().out
