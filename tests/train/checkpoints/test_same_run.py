"""A checkpoint and the run that is to go on from it, setting by setting; without training."""

import itertools
from dataclasses import fields, replace

import pytest

from fastclip.models.towers.image_config import Moments
from fastclip.train.checkpoints import resumed_settings
from fastclip.train.checkpoints.contents import (
    MODEL,
    STORED_TEACHER,
    TEACHER,
    TRAIN,
    VALIDATION,
)
from fastclip.train.checkpoints.resumed_settings import (
    BEGINNING,
    CONTENTS,
    FIXED,
    FREE,
    PLACES,
    SIZES,
    STRETCHED,
    changes,
)
from fastclip.train.checkpoints.same_run import OwnRun, resumption
from fastclip.train.settings.loss_options import LOSSES_OF_OPTION, is_obeyed
from fastclip.train.settings.run_config import RunConfig

MOMENTS = Moments(0.9, 0.98, 1e-6)
STEPS, DONE = 5, 6  # of an epoch; of the checkpoint
MODEL_CONFIG = {"embed_dim": 8, "vision_cfg": {"width": 96}, "text_cfg": {"width": 64}}
ARCHITECTURE = [
    ("embed_dim", "8"), ("text_cfg.width", "64"), ("vision_cfg.width", "96"),
]  # fmt: skip
KNOWN = {
    MODEL: ARCHITECTURE,
    TRAIN: [("0.tar", "10 bytes"), ("1.tar", "7 bytes")],
    VALIDATION: [("table", "9 bytes")],
    "zeroshot-val": [("images", "4 files"), ("class 1", "'cat'"), ("class 2", "'dog'")],
}
# With which nothing is idle, so that every setting has an effect.
TOLD = RunConfig(
    model="tiny", train_data="pairs.csv", val_data="val.csv", zeroshot_data="classes", epochs=3,
    lock_image=True, lock_text=True, lr_scheduler="const-cooldown", epochs_cooldown=1, warmup=2,
    report_to="wandb", precision="fp32", device="cpu",
)  # fmt: skip
OTHERS = {
    "train_data": "other.csv", "val_data": "other.csv", "dataset_type": "csv",
    "csv_separator": ",", "csv_img_key": "url", "csv_caption_key": "text", "image_key": "a",
    "caption_key": "b", "train_num_samples": 9, "workers": 3, "shuffle_buffer": 9,
    "max_bad_rate": 0.5, "zeroshot_data": "more", "zeroshot_classes": "names.txt",
    "zeroshot_templates": "prompts.txt", "imagenet_val": "val", "imagenet_v2": "v2",
    "model": "small", "pretrained": "openai", "pretrained_text": True,
    "siglip": True, "lock_image": False,
    "lock_image_unlocked_groups": 1, "lock_image_freeze_bn_stats": True, "lock_text": False,
    "lock_text_unlocked_layers": 2, "grad_checkpointing": True, "force_patch_dropout": 0.5,
    "force_image_size": (64,), "force_context_length": 9, "force_quick_gelu": True,
    "force_custom_text": True, "image_mean": (0.5,), "image_std": (0.5,),
    "image_interpolation": "bilinear", "image_resize_mode": "longest", "aug_cfg": {"a": 1},
    "decode": "fast",
    "cache_dir": "elsewhere", "torchcompile": True, "batch_size": 32, "accum_freq": 2,
    "global_batch_size": 128, "micro_batch_size": 16, "activation_budget": "1GiB",
    "loss_schedule": "ring", "fsdp": True, "backend": "cpu", "precision": "bf16",
    "device": "cuda", "dist_backend": "gloo", "epochs": 4, "lr": 1e-3, "beta1": 0.8, "beta2": 0.5,
    "eps": 1e-2, "wd": 0.0, "warmup": 1, "lr_scheduler": "const", "epochs_cooldown": 2,
    "lr_cooldown_power": 2.0, "lr_cooldown_end": 1e-5, "skip_scheduler": True, "ema_decay": 0.9,
    "grad_clip_norm": 1.0, "seed": 1, "logs": "elsewhere", "name": "other", "resume": "latest",
    "log_every_n_steps": 5, "batch_curve_every": 4, "save_frequency": 2, "save_every_steps": 7,
    "save_every_minutes": 9.0, "keep_last": 5, "save_most_recent": True, "val_frequency": 3,
    "zeroshot_frequency": 3, "report_to": "all", "wandb_project_name": "other",
    "wandb_notes": "a try", "on_nonfinite": "skip", "max_skipped_steps": 3,
    "dist_timeout_minutes": 20.0,
    "loss": "infoloob", "label_smoothing": 0.1, "margin": 0.2, "queue_size": 99,
    "queue_momentum": 0.9, "dcl_sigma": 0.5,
    "sogclr_gamma": 0.5, "sogclr_rho": 6.5, "distill_model": "teacher",
    "coca_caption_loss_weight": 1.5, "coca_contrastive_loss_weight": 0.5,
    "mask_duplicates": "caption",
    "distill_pretrained": "openai", "distill_embeddings": "embeddings",
    "distill_logit_scale": (50.0,), "matryoshka_dims": (8, 4), "matryoshka_weights": (1.0, 0.5),
    "keep_checkpoints": 2, "best_metric": "image_to_text_R@5", "image_cache": "0",
}  # fmt: skip


def told_to_obey(name):
    """The settings of a run whose loss looks at a setting."""
    if name == "matryoshka_weights":
        return replace(TOLD, matryoshka_dims=(16, 8))
    if name == "distill_logit_scale":
        return replace(TOLD, distill_embeddings="embeddings")
    if is_obeyed(name, TOLD.loss_name):
        return TOLD
    return replace(TOLD, loss=LOSSES_OF_OPTION[name][0])


def content_of(told=TOLD, known=KNOWN, step=DONE, **further):
    content = {"config": told.to_dict(), "global_step": step, "model_config": MODEL_CONFIG}
    return content | ({} if known is None else {"contents": known}) | further


def resumed(content, contents=KNOWN, model_config=MODEL_CONFIG, told=TOLD, **given):
    config = replace(told, **given)
    training = config.training(STEPS, 1, MOMENTS)
    own = OwnRun(config, training, MOMENTS, STEPS, 1, model_config, contents)
    return resumption(content, "step_6.pt", own)


def test_every_setting_is_classified_once():
    classes = [FREE, STRETCHED, FIXED, SIZES, CONTENTS, BEGINNING, PLACES]
    names = list(itertools.chain(*classes))
    expected = {f.name for f in fields(RunConfig)}
    assert len(names) == len(set(names))
    assert set(names) == expected, "say in resumed_settings.py what a resume makes of a setting"
    assert set(OTHERS) == expected, "give the setting another value here"
    assert expected >= {*resumed_settings.OF_RATE, *resumed_settings.OF_MEMORY}


def test_nothing_is_said_of_a_run_that_is_told_the_same():
    found = resumed(content_of())
    assert (found.said, found.warned, found.measures_anew) == ([], [], False)
    assert found.config == TOLD


@pytest.mark.parametrize("name, other", list(zip(FREE, (*FREE[1:], *FREE[:1]), strict=True)))
def test_settings_that_may_change_are_said_each_with_both_values(name, other):
    told = told_to_obey(name)
    names = [n for n in (name, other) if n != "ema_decay" and is_obeyed(n, told.loss_name)]
    given = {n: OTHERS[n] for n in names}
    found = resumed(content_of(told), told=told, **given)
    assert found.config == replace(told, **given)
    text = "\n".join(found.said)
    for changed, value in given.items():
        flag = f"--{changed.replace('_', '-')} was "
        # Another setting of the pair may leave this one without effect.
        idle = changed not in {c.name for c in changes(told.to_dict(), found.config, {})}
        assert idle or f", is now {value!r} from step 7 on" in text.split(flag, 1)[1].split("\n")[0]


@pytest.mark.parametrize("name", sorted(FIXED))
def test_settings_that_may_not_change_are_refused_with_both_values_and_the_reason(name):
    flag = f"--{name.replace('_', '-')}"
    told, other = told_to_obey(name), OTHERS["seed"]
    with pytest.raises(ValueError, match=r"step_6\.pt is not of this run") as raised:
        resumed(content_of(told), told=told, **{name: OTHERS[name], "seed": other})
    text = str(raised.value)
    was = told.loss_name if name == "loss" else getattr(told, name)
    shown = f"{flag} was {was!r}, is now {OTHERS[name]!r} ({FIXED[name]})"
    assert shown in text and f"--seed was 0, is now {other} (" in text
    assert "--pretrained step_6.pt" in text


@pytest.mark.parametrize("name", SIZES)
def test_another_number_of_pairs_is_refused_however_it_is_given(name):
    with pytest.raises(ValueError, match="a step was 64 pairs in one loss = 1 rank x 1 micro"):
        resumed(content_of(), **{name: OTHERS[name]})


@pytest.mark.parametrize(
    "given",
    [
        {"global_batch_size": 64, "micro_batch_size": 64},  # as batch_size says
        {"beta1": 0.9, "beta2": 0.98, "eps": 1e-6},  # as by default
        {"loss": "clip"},  # likewise
        {"name": "other", "logs": "elsewhere", "cache_dir": "elsewhere", "resume": "latest"},
        {"ema_decay": 0.0},
    ],
)
def test_what_is_the_same_in_other_words_is_no_difference(given):
    found = resumed(content_of(), **given)
    assert found.said == [] and not found.measures_anew


def test_no_worker_and_one_read_alike_and_a_refusal_names_what_was_given():
    content = content_of(replace(TOLD, workers=0))
    assert resumed(content, workers=1).said == []
    with pytest.raises(ValueError, match="--workers was 0, is now 2 "):
        resumed(content, workers=2)


def test_setting_that_an_older_checkpoint_lacks_is_taken_for_its_default():
    content = content_of()
    del content["config"]["grad_clip_norm"]
    assert resumed(content).said == []
    (said,) = resumed(content, grad_clip_norm=2.0).said
    assert (
        said
        == "--grad-clip-norm was None (in a version without this flag), is now 2.0 from step 7 on"
    )
    content["config"]["of a newer version"] = 3
    assert resumed(content).said == []


def test_weights_to_begin_with_have_no_effect_and_stay_what_they_were():
    found = resumed(content_of(), pretrained="openai")
    assert found.config.pretrained is None
    assert found.said == [
        "--pretrained was None, is now 'openai', without effect: "
        "the weights come from the checkpoint"
    ]


def test_memory_is_measured_anew_where_a_micro_batch_takes_another_amount():
    assert resumed(content_of(), grad_checkpointing=True).measures_anew
    assert not resumed(content_of(), activation_budget="1GiB", lr=1e-3).measures_anew


def test_another_length_is_said_with_what_the_rate_does():
    told = replace(TOLD, lr_scheduler="cosine", epochs_cooldown=None)
    given = {"lr_scheduler": "cosine", "epochs_cooldown": None}
    said = resumed(content_of(told), epochs=6, **given).said
    assert said[0] == "--epochs was 3, is now 6 from step 7 on"
    assert said[1].startswith(
        "the run ends after step 30 instead of 15, and so does its schedule: the learning "
        "rate of step 7 is 0.000475, and would have been 0.000392"
    )
    said = resumed(content_of(told, step=10), epochs=2, **given).said
    assert "the run ends after step 10 instead of 15" in said[1]
    assert said[2] == "all 2 epochs are done: no step is left to train"


def test_fewer_epochs_than_are_done_are_an_error_that_says_how_many_are():
    with pytest.raises(
        ValueError, match=r"--epochs 1 is less than .* 6 steps .*--epochs 2 or more"
    ):
        resumed(content_of(), epochs=1, epochs_cooldown=0)


@pytest.mark.parametrize(
    "data, said",
    [
        ([("0.tar", "10 bytes"), ("1.tar", "8 bytes")], "1.tar was 7 bytes, is now 8 bytes"),
        ([("0.tar", "10 bytes")], "1.tar is gone"),
        ([*KNOWN[TRAIN], ("2.tar", "3 bytes")], "2.tar is new"),
        (KNOWN[TRAIN][::-1], "the order has changed"),
        ([(f"{i}.tar", "") for i in range(9)], "and 6 more"),
    ],
)
def test_other_training_data_is_refused_by_name(data, said):
    with pytest.raises(ValueError, match="the contents of --train-data have changed") as raised:
        resumed(content_of(), KNOWN | {TRAIN: data}, train_data="other.csv")
    assert said in str(raised.value)
    assert "--train-data was 'pairs.csv', is now 'other.csv'" in str(raised.value)


def test_other_model_is_refused_by_what_is_other_about_it():
    known = KNOWN | {MODEL: [("embed_dim", "9"), *ARCHITECTURE[1:]]}
    with pytest.raises(
        ValueError, match="the contents of --model have changed: embed_dim was 8, is now 9"
    ):
        resumed(content_of(), known)


def test_teacher_is_known_by_what_it_is_and_neither_comes_nor_goes():
    told = replace(TOLD, distill_model="teacher")
    known = KNOWN | {TEACHER: [("weights", "0a1b")]}
    content = content_of(told, known)
    assert resumed(content, known, distill_model="moved").said == [
        "--distill-model was 'teacher', is now 'moved', with the same contents"
    ]
    content["config"]["distill_model"] = "teacher"  # as it was stored when there was one at most
    assert resumed(content, known, distill_model="teacher").said == []
    other = KNOWN | {TEACHER: [("weights", "2c3d")]}
    with pytest.raises(
        ValueError, match="the contents of --distill-model have changed: weights was"
    ):
        resumed(content, other, distill_model="teacher")
    with pytest.raises(
        ValueError, match=r"--distill-model was 'teacher', is now None .the loss would"
    ):
        resumed(content)
    with pytest.raises(
        ValueError, match=r"--distill-model was None, is now 'teacher' .the loss would"
    ):
        resumed(content_of(), known, distill_model="teacher")


def test_stored_teacher_is_known_by_what_it_is_too():
    told = replace(TOLD, distill_embeddings=["one", "two"])
    known = KNOWN | {STORED_TEACHER: [("embeddings", "0a1b"), ("embeddings of teacher 2", "3e")]}
    content = content_of(told, known)
    assert resumed(content, known, distill_embeddings=["moved", "two"]).said == [
        "--distill-embeddings was ('one', 'two'), is now ('moved', 'two'), with the same contents"
    ]
    other = KNOWN | {STORED_TEACHER: known[STORED_TEACHER][:1]}
    with pytest.raises(ValueError, match="--distill-embeddings have changed: embeddings of t"):
        resumed(content, other, distill_embeddings="one")
    with pytest.raises(
        ValueError, match=r"--distill-embeddings was .*, is now None .the loss would"
    ):
        resumed(content)
    computed = KNOWN | {TEACHER: [("weights", "2c3d")]}
    with pytest.raises(ValueError, match=r"--distill-model was None, is now 'one' .the loss would"):
        resumed(content, computed, distill_model="one")


def test_model_and_data_in_another_place_are_the_same():
    found = resumed(content_of(), train_data="moved.csv", model="local-dir:moved")
    assert found.said == [
        "--train-data was 'pairs.csv', is now 'moved.csv', with the same contents",
        "--model was 'tiny', is now 'local-dir:moved', with the same contents",
    ]


def test_other_data_of_an_evaluation_is_said():
    now = {name: known for name, known in KNOWN.items() if name != VALIDATION}
    now["zeroshot-val"] = [*KNOWN["zeroshot-val"][:2], ("class 2", "'cow'")]
    now["imagenet-zeroshot-val"] = []
    assert resumed(content_of(), now).warned == [
        "zeroshot-val has changed, so that its metrics before and after do not compare: class 2 "
        "was 'dog', is now 'cow'",
        "--val-data is no longer evaluated",
        "imagenet-zeroshot-val is evaluated from now on",
    ]


def test_evaluation_that_is_new_is_said_to_be_so():
    known = {name: of for name, of in KNOWN.items() if name != VALIDATION}
    found = resumed(content_of(replace(TOLD, val_data=None), known))
    assert found.said == ["--val-data was None, is now 'val.csv' from step 7 on"]
    assert found.warned == ["--val-data is evaluated from now on"]


def test_run_that_had_ended_says_the_rate_of_its_further_steps_alone():
    said = resumed(content_of(step=15), epochs=4).said
    assert "learning rate of step 16 is 0.0005; the learning rate of the last step" in said[-1]


def test_checkpoint_that_does_not_know_its_data_says_so_and_compares_the_model():
    (warned,) = resumed(content_of(known=None)).warned
    assert "does not store the contents of its data" in warned
    other = MODEL_CONFIG | {"embed_dim": 9}
    with pytest.raises(ValueError, match="embed_dim was 8, is now 9"):
        resumed(content_of(known=None), model_config=other)


@pytest.mark.parametrize(
    "was, now, has_average, message",
    [
        (
            0.9,
            None,
            True,
            "--ema-decay was 0.9, is now not given .*--ema-decay 0 goes on without it",
        ),
        (None, 0.9, False, "--ema-decay was None, is now 0.9 .the checkpoint has no average"),
    ],
)
def test_average_is_neither_lost_nor_made_up(was, now, has_average, message):
    content = content_of(replace(TOLD, ema_decay=was))
    if has_average:
        content["ema_state_dict"] = {}
    with pytest.raises(ValueError, match=message):
        resumed(content, ema_decay=now)


def test_average_may_change_its_decay_and_be_dropped_by_name():
    content = content_of(replace(TOLD, ema_decay=0.9), ema_state_dict={})
    assert resumed(content, ema_decay=0.5).said == [
        "--ema-decay was 0.9, is now 0.5 from step 7 on"
    ]
    assert resumed(content, ema_decay=0.0).said == [
        "--ema-decay was 0.9, is now 0.0 from step 7 on"
    ]


@pytest.mark.parametrize(
    "foreign",
    [
        {"config": None},
        {"config": {"lr": -1.0}},
        {"model_config": []},
        {"contents": 7},
        {"contents": {"--model": [1]}},
    ],
    ids=str,
)
def test_content_that_is_none_of_a_run_is_an_error_in_words(foreign):
    with pytest.raises(ValueError, match="checkpoint"):
        resumed(content_of(**foreign))


def test_a_warm_up_that_is_not_given_is_the_checkpoints_however_long_the_run_becomes():
    before = replace(TOLD, warmup=10_000)  # the default of earlier versions
    found = resumed(content_of(before), told=replace(TOLD, warmup=None), epochs=90)
    assert found.config.warmup == found.training.warmup_steps == 10_000
    assert not any("--warmup" in text for text in found.said)
    given = resumed(content_of(before), warmup=1)
    assert given.training.warmup_steps == 1 and "--warmup was 10000, is now 1" in given.said[0]
