"""The flags of `fastclip train`, and what they come to."""

import argparse
import json
import re
from dataclasses import fields

import pytest

from fastclip.cli import main
from fastclip.commands.train import add_arguments, make_config
from fastclip.models.towers.image_config import Moments
from fastclip.train.settings.run_config import PARTS, RunConfig
from fastclip.train.step.schedule import learning_rate_at


def parse(*argv):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(argv)


def help_of_flags():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return {flag: action.help for action in parser._actions for flag in action.option_strings}


def test_every_setting_has_a_flag_in_one_group():
    told = [field.name for part in PARTS.values() for field in part.own_fields()]
    assert sorted(told) == sorted(RunConfig.__dataclass_fields__)
    assert {f"--{name.replace('_', '-')}" for name in told} <= help_of_flags().keys()


def test_help_of_a_setting_is_sentences_with_its_default():
    texts = help_of_flags()
    for field in fields(RunConfig):
        text = texts[f"--{field.name.replace('_', '-')}"]
        assert re.fullmatch(r"[A-Z].*[.`]", text) and "  " not in text, field.name
        assert len(text.split()) > 3, field.name
        told = f" The default is {field.default}."
        if field.name == "csv_separator":
            told = " The default is tab."
        has_none = field.default is None or field.default is False or field.default == ""
        assert text.endswith(told) != has_none, field.name
        assert text.count("default is ") == (not has_none), field.name


def test_defaults_of_zero_are_shown():
    texts = help_of_flags()
    assert texts["--seed"].endswith(" The default is 0.")
    assert texts["--lr-cooldown-end"].endswith(" The default is 0.0.")
    assert not any("\t" in text for text in texts.values())


def test_flags_take_precedence_over_the_file_and_the_file_over_defaults(tmp_path):
    (tmp_path / "run.yaml").write_text("lr: 0.01\nbatch-size: 32\nsiglip: true\n")
    config = make_config(parse("--config", str(tmp_path / "run.yaml"), "--lr", "0.02"))
    assert (config.lr, config.batch_size, config.siglip, config.epochs) == (0.02, 32, True, 32)
    (tmp_path / "run.json").write_text(json.dumps({"epochs": 3}))
    assert make_config(parse("--config", str(tmp_path / "run.json"))).epochs == 3


@pytest.mark.parametrize(
    "text, message",
    [
        ("learning_rate: 1", "unknown setting 'learning_rate'"),
        ("epoch: 1", "unknown setting 'epoch'; nearest: epochs"),
        ("- 1", "must hold settings by name"),
        ("a: [", "cannot be read"),
        ("lr: -1", "lr must be positive, got -1"),
        ("label-smoothing: 1", r"label_smoothing must be in \[0, 1\), got 1"),
        ("margin: 0.1\nsiglip: true", "margin must be 0 with siglip, .*, got 0.1"),
    ],
)
def test_file_that_cannot_be_used_is_named(text, message, tmp_path):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        make_config(parse("--config", str(tmp_path / "run.yaml")))


def test_value_of_a_wrong_type_is_told_with_its_file_and_setting(tmp_path):
    path = tmp_path / "run.json"
    arguments = parse("--config", str(path))
    for name in RunConfig.__dataclass_fields__:
        path.write_text(json.dumps({name: [{"no": "list"}]}))
        with pytest.raises(ValueError, match=re.escape(f"{path}: {name} must be ")) as raised:
            make_config(arguments)
        assert "got [{'no': 'list'}]" in str(raised.value), name


@pytest.mark.parametrize(
    "line, message",
    [
        ('batch_size: "16"', "batch_size must be a whole number, got '16': write it without"),
        ("lr: 1e-3", "lr must be a number, got '1e-3': write it without quotes, and 1e-3 as"),
        ("lr: .nan", "lr must be a number, got nan"),
        ("epochs: 3.0", "epochs must be a whole number, got 3.0"),
        ("epochs: null", "epochs must be a whole number, got None"),
        ("epochs: true", "epochs must be a whole number, got True"),
        ("siglip: 1", "siglip must be true or false, got 1"),
        ("name: 2026", "name must be text or null, got 2026: put it in quotes"),
        ("image_mean: [0.5, x]", "image_mean must be a list of numbers or null, got"),
        ("aug_cfg: {1: 2}", "aug_cfg must be names with values or null, got"),
    ],
)
def test_wrong_type_is_told_with_what_to_write(line, message, tmp_path):
    (tmp_path / "run.yaml").write_text(line)
    with pytest.raises(ValueError, match=re.escape(message)):
        make_config(parse("--config", str(tmp_path / "run.yaml")))


def test_values_are_kept_as_their_fields_have_them(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "lr: 1\nforce-image-size: 32\nimage_mean: [0, 0.5, 1]\nactivation-budget: 0\n"
    )
    config = make_config(parse("--config", str(tmp_path / "run.yaml")))
    assert repr((config.lr, config.force_image_size)) == "(1.0, (32,))"
    assert repr((config.image_mean, config.activation_budget)) == "((0.0, 0.5, 1.0), '0')"
    assert RunConfig(logs=tmp_path).logs == str(tmp_path)


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "../up", "/elsewhere/x", "a/b", "a\\b", "a\n"]
)
def test_name_stays_inside_logs(name, tmp_path, capsys):
    (tmp_path / "run.json").write_text(json.dumps({"name": name}))
    logs = tmp_path / "deep" / "logs"
    argv = ["train", "--train-data", "digits", "--device", "cpu", "--logs", str(logs)]
    for given in (["--name", name], ["--config", str(tmp_path / "run.json")]):
        assert main([*argv, *given]) == 2
        assert "name must be the name of one folder in --logs" in capsys.readouterr().err
    assert not logs.exists() and {path.name for path in tmp_path.iterdir()} == {"run.json"}


def test_every_flag_has_a_form_that_torchrun_leaves_to_us(capsys):
    """It looks for abbreviations of its own flags among those that come after the program."""
    from torch.distributed.run import get_args_parser

    ours = argparse.ArgumentParser()
    add_arguments(ours)

    def is_left(flag):
        try:
            get_args_parser().parse_args(["-m", "fastclip", "train", flag, "X"])
        except SystemExit:
            return False
        return True

    for action in ours._actions:
        assert any(map(is_left, action.option_strings)), action.option_strings
    assert is_left("--logs-dir")
    capsys.readouterr()


@pytest.mark.parametrize(
    "settings, world_size, expected",
    [
        (dict(batch_size=64), 1, (1, 1, 64)),
        (dict(batch_size=64, accum_freq=4), 2, (2, 4, 64)),
        (dict(global_batch_size=32768, micro_batch_size=256), 1, (1, 128, 256)),
        (dict(global_batch_size=32768, micro_batch_size=256), 8, (8, 16, 256)),
        (dict(global_batch_size=96), 1, (1, 3, 32)),
    ],
)
def test_global_batch_is_ranks_times_micro_batches_times_size(settings, world_size, expected):
    found = RunConfig(**settings).arithmetic(world_size)
    assert (found.world_size, found.num_micro_batches, found.micro_batch_size) == expected
    assert found.global_batch_size == expected[0] * expected[1] * expected[2]


def test_run_that_is_shorter_than_its_warm_up_does_not_reach_the_peak():
    moments = Moments(0.9, 0.98, 1e-6)
    config = RunConfig(epochs=2, warmup=10_000, lr=1.0).training(24, 1, moments)
    assert learning_rate_at(47, config) == pytest.approx(48 / 10_000)
    config = RunConfig(epochs=2, warmup=10_000, lr=1.0, skip_scheduler=True).training(
        24, 1, moments
    )
    assert learning_rate_at(0, config) == learning_rate_at(47, config) == 1.0


def test_global_batch_that_cannot_be_dealt_raises():
    with pytest.raises(
        ValueError, match=r"1000 must be a multiple of .* 3 ranks x micro_batch_size"
    ):
        RunConfig(global_batch_size=1000).arithmetic(3)
    with pytest.raises(
        ValueError, match=r"100 must be a multiple of .* 1 rank x micro_batch_size 64"
    ):
        RunConfig(global_batch_size=100, micro_batch_size=64).arithmetic(1)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(batch_size=0), "batch_size must be at least 1"),
        (dict(global_batch_size=0), "global_batch_size"),
        (dict(activation_budget="much"), "activation_budget"),
        (dict(precision="fp8"), "precision"),
        (dict(lr_scheduler="linear"), "lr_scheduler"),
        (dict(loss_schedule="tree"), "loss_schedule"),
        (dict(workers=-1), "workers"),
        (dict(ema_decay=1.0), "ema_decay must be in"),
        (dict(lr_scheduler="const-cooldown"), "epochs_cooldown must be given"),
        (dict(fsdp=True, precision="bf16"), "precision must be one that holds"),
        (
            dict(fsdp=True, precision="amp"),
            "precision must be amp_bf16, or another without a scaler",
        ),
        (dict(report_to="mail"), "report_to must be some of"),
        (dict(zeroshot_frequency=-1), "zeroshot_frequency"),
    ],
)
def test_settings_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**change)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--train-data", "/nowhere.csv"], "nowhere.csv"),
        (["--train-data", "digits", "--model", "ViT-B-33"], "no model 'ViT-B-33'"),
        (["--train-data", "digits", "--model", "digits", "--batch-size", "100000"], "do not fill"),
        (["--resume", "latest"], "needs the --name"),
        ([], "--train-data must be given"),
        (["--train-data", "digits", "--model", "ViT-B-32", "--aug-cfg", "nonsense=3"], "nonsense"),
    ],
)
def test_run_that_cannot_start_says_why_in_a_line(flags, message, tmp_path, capsys):
    assert (
        main(["train", "--logs", str(tmp_path), "--device", "cpu", "--workers", "0", *flags]) == 2
    )
    error = capsys.readouterr().err
    assert error.startswith("fastclip train: ") and message in error


def test_run_of_the_same_name_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "mine" / "checkpoints").mkdir(parents=True)
    (tmp_path / "mine" / "checkpoints" / "step_000000001.pt").touch()
    argv = ["train", "--train-data", "digits", "--logs", str(tmp_path), "--name", "mine"]
    assert main([*argv, "--device", "cpu"]) == 2
    assert "mine has a run already: choose another --name, or resume" in capsys.readouterr().err


def open_clips_flags():
    params = pytest.importorskip("open_clip_train.params")
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        parse_args = argparse.ArgumentParser.parse_args
        patch.setattr(
            argparse.ArgumentParser, "parse_args",
            lambda self, *rest: seen.append(self) or parse_args(self, *rest),
        )  # fmt: skip
        params.parse_args([])
    return {flag: action for action in seen[0]._actions for flag in action.option_strings}


# What is not about this loss, is done by another tool, or would mean something else here.
NOT_TAKEN = {
    "--copy-codebase",
    "--dist-url", "--horovod", "--momentum", "--opt",
    "--no-set-device-rank", "--pretrained-image", "--remote-sync", "--remote-sync-frequency",
    "--remote-sync-protocol", "--torchscript", "--trace", "--train-data-upsampling-factors",
    "--use-bn-sync", "--use-bnb-linear",
}  # fmt: skip
OTHER_DEFAULTS = {"model", "precision", "device", "logs"}  # ViT-B-32; what the machine has; a slash


def test_open_clips_flags_are_taken_with_open_clips_defaults():
    theirs = open_clips_flags()
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    ours = {flag for action in parser._actions for flag in action.option_strings}
    assert set(theirs) - ours == NOT_TAKEN
    config = RunConfig()
    compared = 0
    for action in theirs.values():
        value = getattr(config, action.dest, None)
        if value is not None and action.default is not None and action.dest not in OTHER_DEFAULTS:
            assert value == action.default, action.dest
            compared += 1
    assert compared > 25


def test_values_of_several_parts_are_read_as_open_clip_reads_them():
    args = parse(
        "--image-mean", "0.5", "0.4", "0.3", "--force-image-size", "32", "48",
        "--aug-cfg", "scale=(0.8, 1.0)", "gray_scale_prob=0.2", "kind=word",
    )  # fmt: skip
    config = make_config(args)
    assert list(config.image_mean) == [0.5, 0.4, 0.3] and list(config.force_image_size) == [32, 48]
    assert config.aug_cfg == {"scale": (0.8, 1.0), "gray_scale_prob": 0.2, "kind": "word"}


def test_reporters_are_named_with_commas_between_or_all():
    assert RunConfig().reporters == ()
    assert RunConfig(report_to="wandb,tensorboard").reporters == ("wandb", "tensorboard")
    assert RunConfig(report_to="all").reporters == ("tensorboard", "wandb")


def test_flag_without_effect_says_so_once(tmp_path, capsys):
    argv = [
        "train", "--train-data", "digits", "--model", "digits", "--train-num-samples", "64",
        "--epochs", "1", "--workers", "0", "--device", "cpu", "--logs", str(tmp_path),
        "--local-loss", "--val-num-samples", "7", "--lock-text-unlocked-layers", "2",
    ]  # fmt: skip
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert out.count("--local-loss has no effect: gradients are exact without it") == 1
    assert out.count("--val-num-samples has no effect") == 1
    assert (
        out.count("--lock-text-unlocked-layers has no effect: it applies to a locked text tower")
        == 1
    )
    assert out.count("has no effect") == 3
    assert "--gather-with-grad" not in out


def test_unknown_flag_is_an_error_with_the_nearest_name(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["train", "--globl-batch-size", "3"])
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert "unrecognized arguments: --globl-batch-size 3; nearest: --global-batch-size" in error


def test_help_groups_the_flags(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["train", "--help"])
    assert raised.value.code == 0
    text = capsys.readouterr().out
    assert all(f"{title}:" in text for title in PARTS)
    assert "--global-batch-size" in text and "fastclip train --train-data" in text


def test_missing_vocabulary_ends_a_run_before_a_model_is_made_or_fetched(
    no_vocabulary, tmp_path, monkeypatch, capsys
):
    from fastclip.train.run import model as run_model

    def made(*args, **settings):
        raise AssertionError("the model was made before the vocabulary was looked for")

    monkeypatch.setattr(run_model, "create_model", made)
    logs = ["--logs", str(tmp_path), "--device", "cpu"]
    assert main(["train", "--model", "ViT-B-32", "--train-data", "a.csv", *logs]) == 2
    assert "pip install open_clip_torch" in capsys.readouterr().err
