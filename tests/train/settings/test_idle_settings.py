"""Settings of a run are obeyed, or it is said why they have no effect."""

import argparse
import json
from dataclasses import fields

import pytest

from fastclip.commands.train import add_arguments, make_config
from fastclip.train.settings.idle import IDLE, idle_settings
from fastclip.train.settings.run_config import RunConfig


@pytest.mark.parametrize(
    "idle, obeyed",
    [
        ({"lock_image_unlocked_groups": 1}, {"lock_image": True}),
        ({"lock_image_freeze_bn_stats": True}, {"lock_image": True}),
        ({"lock_text_unlocked_layers": 2}, {"lock_text": True}),
        ({"pretrained_text": True, "pretrained": "openai"}, {"pretrained": None}),
        ({"warmup": 5, "skip_scheduler": True}, {"skip_scheduler": False}),
        ({"lr_scheduler": "const", "skip_scheduler": True}, {"skip_scheduler": False}),
        ({"epochs_cooldown": 3}, {"lr_scheduler": "const-cooldown"}),
        ({"lr_cooldown_power": 2.0}, {"lr_scheduler": "const-cooldown", "epochs_cooldown": 1}),
        (
            {"batch_size": 8, "global_batch_size": 64, "micro_batch_size": 16},
            {"micro_batch_size": None},
        ),
        ({"csv_separator": ",", "dataset_type": "webdataset"}, {"dataset_type": "auto"}),
        ({"csv_img_key": "url", "dataset_type": "folder"}, {"dataset_type": "hf"}),
        ({"csv_separator": ",", "dataset_type": "synthetic"}, {"val_data": "pairs.csv"}),
        ({"csv_caption_key": "text", "dataset_type": "builtin"}, {"val_data": "pairs.csv"}),
        ({"zeroshot_classes": "names.txt"}, {"zeroshot_data": "folder"}),
        ({"zeroshot_frequency": 3}, {"imagenet_v2": "folder"}),
        ({"val_frequency": 3}, {"val_data": "digits"}),
        ({"wandb_notes": "a try"}, {"report_to": "all"}),
        ({"batch_curve_every": 5, "siglip": True}, {"siglip": False}),
        ({"batch_curve_every": 5, "loss": "queue"}, {"loss": "clip"}),
        ({"batch_curve_every": 5, "matryoshka_dims": [8]}, {"matryoshka_dims": None}),
    ],
    ids=str,
)
def test_setting_that_another_makes_idle_is_listed_with_the_reason(idle, obeyed):
    found = idle_settings(RunConfig(**idle))
    assert next(iter(idle)) in found and all(reason for reason in found.values())
    assert next(iter(idle)) not in idle_settings(RunConfig(**idle | obeyed))


def test_nothing_is_idle_in_a_run_that_leaves_all_else_at_its_default():
    assert idle_settings(RunConfig()) == {}
    assert idle_settings(RunConfig(skip_scheduler=True, global_batch_size=64)) == {}
    names = {f.name for f in fields(RunConfig)}
    assert names >= {name for idle in IDLE for name in idle.settings}


def settings_of(path, values: dict) -> RunConfig:
    path.write_text(json.dumps(values))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return make_config(parser.parse_args(["--config", str(path)]))


def test_setting_that_a_file_spells_twice_is_refused(tmp_path):
    assert settings_of(tmp_path / "run.json", {"batch-size": 32}).batch_size == 32
    with pytest.raises(ValueError, match=r"these settings twice, once with - and .* _: batch-size"):
        settings_of(tmp_path / "run.json", {"batch-size": 32, "batch_size": 64})


def test_micro_batches_that_the_global_batch_contradicts_are_refused():
    agreed = RunConfig(global_batch_size=256, micro_batch_size=32, accum_freq=4)
    assert agreed.arithmetic(world_size=2).num_micro_batches == 4
    with pytest.raises(ValueError, match=r"accum_freq 2 disagrees with .* rank 4 micro"):
        RunConfig(global_batch_size=256, micro_batch_size=32, accum_freq=2).arithmetic(2)
