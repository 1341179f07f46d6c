"""A run of a tiny model that is stopped half way and goes on with other settings, or other data."""

import shutil

import pytest
import torch
from PIL import Image

from fastclip.cli import main
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.factory import build_model
from fastclip.train.checkpoints.trained_state import TrainedState
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.step.optimizer import make_optimizer
from tests.support.runs import assert_same_run, final
from tests.train.checkpoints.test_same_run import MOMENTS
from tests.train.run.test_run_of_files import TINY

NUM, STEPS = 8, 6
HALF = "step_000000003.pt"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, two folders of pairs, and a run over the first one with its checkpoint half way."""
    place = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    save_pretrained(build_model(TINY), place / "model")
    for shift, name in enumerate(("pairs", "others")):
        (place / name).mkdir()
        for i in range(NUM):
            Image.new("RGB", (40, 30), (37 * i % 256, 91 * i % 256, shift)).save(
                place / name / f"{i}.png"
            )
            (place / name / f"{i}.txt").write_text(f"caption {i}")
    assert train(place, place) == 0
    for path in (place / "run" / "checkpoints").iterdir():
        if path.name not in (HALF, "epoch_3.pt"):
            path.unlink()
    (place / "run" / "checkpoints" / "epoch_3.pt").rename(place / "whole.pt")
    results = place / "run" / "results.jsonl"
    results.write_text(results.read_text().splitlines(keepends=True)[0])
    return place


def train(place, logs, *flags):
    return main([
        "train", "--train-data", str(place / "pairs"), "--model", f"local-dir:{place / 'model'}",
        "--global-batch-size", "4", "--micro-batch-size", "2", "--workers", "0", "--device", "cpu",
        "--log-every-n-steps", "1", "--logs", str(logs), "--name", "run", "--epochs", "3",
        "--warmup", "0", "--ema-decay", "0.5", "--save-every-steps", "3", "--keep-last", "9",
        "--activation-budget", "0", *map(str, flags),
    ])  # fmt: skip


def resume(place, logs, *flags):
    """Go on in a copy of the run's directory; the exit status."""
    shutil.copytree(place / "run", logs / "run")
    return train(place, logs, "--resume", "latest", *flags)


def test_half_a_run_goes_on_to_the_bit_over_data_that_has_moved(place, tmp_path, capsys):
    whole = torch.load(place / "whole.pt", weights_only=True)
    shutil.copytree(place / "pairs", tmp_path / "moved")
    assert resume(place, tmp_path, "--train-data", tmp_path / "moved") == 0
    assert_same_run(final(tmp_path, "run"), whole)
    said = capsys.readouterr().out.split("resumed from", 1)[1]
    assert "moved', with the same contents" in said
    assert " from step " not in said and "WARNING" not in said


def test_settings_that_are_given_are_those_of_the_steps_that_follow(place, tmp_path, capsys):
    given = {"wd": 0.0, "beta2": 0.5, "eps": 1e-2, "lr": 1e-3, "grad_clip_norm": 0.1}
    flags = [part for k, v in given.items() for part in (f"--{k.replace('_', '-')}", v)]
    assert resume(place, tmp_path, *flags) == 0
    content = final(tmp_path, "run")
    assert content["global_step"] == STEPS
    for group in content["optimizer"]["param_groups"]:
        assert (group["weight_decay"], group["betas"], group["eps"]) == (0.0, (0.9, 0.5), 1e-2)
    whole = torch.load(place / "whole.pt", weights_only=True)
    key = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    assert not torch.equal(content["state_dict"][key], whole["state_dict"][key])
    out = capsys.readouterr().out
    parameters = (tmp_path / "run" / "params.txt").read_text()
    for name, value in given.items():
        assert f", is now {value!r} from step 4 on" in out
        assert f"\n{name}: {value}\n" in parameters
    assert "LR: 0.000500" in out  # of step 4 of 6: half of the new one


def assert_refused(place, logs, *flags):
    assert resume(place, logs, *flags) == 2
    for name in ("params.txt", f"checkpoints/{HALF}", "results.jsonl"):
        assert (logs / "run" / name).read_bytes() == (place / "run" / name).read_bytes()
    assert len(list((logs / "run" / "checkpoints").iterdir())) == 1


def test_another_run_is_refused_by_all_that_is_other_and_leaves_what_was_there(
    place, tmp_path, capsys
):
    flags = ["--siglip", "--seed", 1, "--workers", 2, "--lock-text", "--micro-batch-size", 4]
    assert_refused(place, tmp_path, *flags, "--train-data", place / "others")
    error = capsys.readouterr().err
    for said in (
        "--siglip was False, is now True (", "--seed was 0, is now 1 (",
        "--workers was 0, is now 2 (", "--lock-text was False, is now True (",
        "2 micro-batches x 2 pairs, is now 4 pairs in one loss",
        f"'{place / 'pairs'}', is now '{place / 'others'}'; the contents of --train-data have "
        "changed: images and captions was 16 files of",
    ):  # fmt: skip
        assert said in error
    assert "Traceback" not in error and error.count("\n") == 1


def test_fewer_epochs_than_are_done_are_refused(place, tmp_path, capsys):
    assert_refused(place, tmp_path, "--epochs", 1)
    assert "give --epochs 2 or more" in capsys.readouterr().err


def test_moments_of_other_parameters_are_refused():
    model = build_model(TINY)
    training = RunConfig(micro_batch_size=2).training(2, 1, MOMENTS)
    whole = TrainedState(model, make_optimizer(model, training)).state_dict()
    model.lock_text_tower(0)
    locked = TrainedState(model, make_optimizer(model, training))
    with pytest.raises(ValueError, match="other towers or layers are locked"):
        locked.load_state_dict(whole)
