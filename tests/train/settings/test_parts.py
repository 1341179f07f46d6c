"""The parts that the settings of a run are composed of."""

from dataclasses import dataclass, fields

import pytest

from fastclip.train.settings.data_config import DataConfig
from fastclip.train.settings.evaluation_config import EvaluationConfig
from fastclip.train.settings.run_config import PARTS, RunConfig
from fastclip.train.settings.setting import Settings, setting


def test_every_setting_is_of_one_part():
    names = [field.name for part in PARTS.values() for field in part.own_fields()]
    assert len(names) == len(set(names))
    assert set(names) == {field.name for field in fields(RunConfig)}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_part_stands_alone_and_a_run_config_is_one(part):
    assert isinstance(RunConfig(), part)
    assert part().to_dict().items() <= RunConfig().to_dict().items()


def test_parts_that_share_settings_are_checked_and_kept_alike():
    for kind in (DataConfig, EvaluationConfig, RunConfig):
        assert kind(csv_separator=",").csv_separator == ","
        with pytest.raises(ValueError, match="workers must be at least 0, got -1"):
            kind(workers=-1)
        with pytest.raises(
            ValueError, match=r"image_key must be left out, or 'b' as .* is, got 'a'"
        ):
            kind(image_key="a", csv_img_key="b")


def test_options_that_the_loss_of_siglip_does_not_have_are_refused():
    assert RunConfig(label_smoothing=0.1, margin=-0.2).margin == -0.2
    for name in ("label_smoothing", "margin"):
        with pytest.raises(ValueError, match=f"^{name} must be 0 with siglip, .*, got 0.1"):
            RunConfig(siglip=True, **{name: 0.1})


@pytest.mark.parametrize(
    "loss, given, message",
    [
        ("clip", {"queue_size": 9}, "queue_size must be 65536 with clip, whose loss does not use"),
        ("queue", {"margin": 0.1}, "margin must be 0 with queue, .*, got 0.1"),
        ("infoloob", {"dcl_sigma": 0.5}, "dcl_sigma must be left out with infoloob, .*, got 0.5"),
        ("dcl", {"sogclr_gamma": 0.5}, "sogclr_gamma must be 0.8 with dcl, .*, got 0.5"),
        ("siglip", {"sogclr_rho": 6.5}, "sogclr_rho must be 8 with siglip, .*, got 6.5"),
        ("queue", {"matryoshka_dims": [8]}, "matryoshka_dims must be left out with queue, .*8"),
        (
            "clip",
            {"matryoshka_dims": [8], "distill_model": "a"},
            "matryoshka_dims must be left out with distill_model, whose loss does not use it",
        ),
        ("clip", {"matryoshka_weights": [1.0]}, "matryoshka_weights must be left out if matr"),
        ("clip", {"matryoshka_dims": [8, 8]}, "matryoshka_dims must all be different, got"),
        (
            "clip",
            {"matryoshka_dims": [8, 4], "matryoshka_weights": [1.0]},
            "matryoshka_weights must be as many as dims, 2, got 1",
        ),
        (
            "clip",
            {"matryoshka_dims": 8, "matryoshka_weights": 0.0},
            r"matryoshka_weights\[0\] must be finite and > 0, got 0",
        ),
        ("clip", {"distill_pretrained": ["a"]}, "distill_pretrained must be left out if distill_"),
        (
            "clip",
            {"distill_model": ["a", "b"], "distill_pretrained": "c"},
            r"distill_pretrained must be as many values as distill_model has, 2, got \('c',\)",
        ),
        ("clip", {"distill_model": []}, r"distill_model must be at least one, or left out, got"),
        ("clip", {"distill_model": [1]}, r"distill_model must be a list of texts or null, got \[1"),
        ("clip", {"distill_logit_scale": 9.0}, "distill_logit_scale must be left out if distill_"),
        (
            "clip",
            {"distill_embeddings": "a", "distill_logit_scale": -1.0},
            "distill_logit_scale must be finite and above 0",
        ),
        (
            "clip",
            {"distill_embeddings": "a", "margin": 0.1},
            "margin must be 0 with distill_embeddings, whose loss does not use it, got 0.1",
        ),
        ("queue", {"distill_embeddings": "a"}, "distill_embeddings must be left out with queue"),
        ("queue", {"siglip": True}, "loss must be siglip, or left out, if siglip is true, got"),
        ("clip", {"siglip": True}, "loss must be siglip, or left out, if siglip is true, got"),
    ],
)
def test_option_of_another_loss_is_refused_by_name(loss, given, message):
    assert RunConfig(loss=loss).loss_name == loss
    with pytest.raises(ValueError, match=f"^{message}"):
        RunConfig(loss=loss, **given)


def test_one_teacher_is_a_list_of_one(tmp_path):
    one = RunConfig(distill_model=tmp_path, distill_pretrained="-", distill_embeddings="folder")
    assert (one.distill_model, one.distill_pretrained) == ((str(tmp_path),), ("-",))
    assert one.distill_embeddings == ("folder",) and one.distilled_by == "distill_model"
    other = RunConfig(distill_embeddings=["a", "b"], distill_logit_scale=[100, 70.0])
    assert other.distill_logit_scale == (100.0, 70.0)
    assert other.distilled_by == "distill_embeddings" and RunConfig().distilled_by is None
    assert RunConfig(distill_embeddings="a", distill_logit_scale=50).distill_logit_scale == (50.0,)


def test_both_flags_of_the_loss_of_siglip_are_one():
    one, other = RunConfig(siglip=True), RunConfig(loss="siglip")
    assert one.siglip and other.siglip and one.loss_name == other.loss_name == "siglip"
    assert RunConfig().loss_name == "clip" and not RunConfig(loss="clip").siglip


def test_every_part_of_a_run_config_is_checked():
    wrong = {"workers": -1, "val_frequency": -1, "image_resize_mode": "no", "batch_size": 0,
             "precision": "no", "label_smoothing": 1.0, "margin": float("inf"), "lr": 0.0,
             "keep_last": 0, "name": "..", "loss": "no", "queue_size": 0, "dcl_sigma": 0.0,
             "queue_momentum": 1.0, "sogclr_gamma": 1.5, "sogclr_rho": float("inf")}  # fmt: skip
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"^{name} must be "):
            RunConfig(**{name: value})


@dataclass(frozen=True)
class Example(Settings):
    kind: str | None = setting(None, "The kind.", choices=("a", "b"))
    number: int = setting(2, "The number.", least=1)
    sizes: tuple[int, ...] = setting((), "The sizes.", of_number=lambda size: (size,))


def test_bounds_and_choices_of_a_setting_hold_and_none_is_no_choice():
    assert Example().kind is None and Example(kind="b", number=1).number == 1
    assert Example(sizes=3) == Example(sizes=[3]) and Example(sizes=3).sizes == (3,)
    for given, message in (
        ({"kind": "c"}, r"kind must be one of \('a', 'b'\), got 'c'"),
        ({"number": 0}, "number must be at least 1, got 0"),
        ({"number": "1"}, "number must be a whole number"),
        ({"sizes": True}, "sizes must be a list"),
    ):
        with pytest.raises(ValueError, match=message):
            Example(**given)
