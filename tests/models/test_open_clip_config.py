import json
from dataclasses import replace
from pathlib import Path

import pytest

from fastclip.models.open_clip_config import from_json, is_portable, to_json
from fastclip.models.presets import PRESETS, preprocess_of
from fastclip.models.towers.siglip.config import SiglipVisionConfig
from fastclip.models.unfilled import unfilled
from tests.support.small_models import SMALL

VISION = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 1}


def model(vision=(), text=(), **top):
    return {"embed_dim": 8, "vision_cfg": {**VISION, **dict(vision)}, "text_cfg": dict(text), **top}


def open_clip_configs() -> dict[str, dict]:
    from tests.support.peers import open_clip

    directory = Path(open_clip.__file__).parent / "model_configs"
    return {p.stem: json.loads(p.read_text()) for p in sorted(directory.glob("*.json"))}


def test_presets_are_open_clips_configurations_of_the_same_name():
    theirs = open_clip_configs()
    assert len(theirs) == 144 and set(theirs) <= set(PRESETS)
    newer = {name for name in set(PRESETS) - set(theirs) if not name.startswith("TIPS-v2")}
    small = {"ViT-Mini-4-32", "ViT-Mini-8-64", "ViT-Ti-16-128"}
    assert newer == small | {"ViT-B-16-SigLIP2-naflex", "ViT-SO400M-16-SigLIP2-naflex"}
    for name in theirs:
        config = PRESETS[name]
        read = from_json(theirs[name])
        if "SigLIP" in name:  # theirs takes the SigLIP scale from the trainer's flags
            read = replace(read, init_logit_scale=config.init_logit_scale)
        assert config == read, name


def test_siglip_towers_have_the_activation_that_timm_builds():
    from tests.support.peers import timm

    for name, config in PRESETS.items():
        if "SigLIP" in name:
            timm_name = to_json(config)["vision_cfg"]["timm_model_name"]

            with unfilled():
                act = timm.create_model(timm_name, depth=1).blocks[0].mlp.act
            tanh = getattr(act, "approximate", None) == "tanh" or type(act).__name__ == "GELUTanh"
            assert tanh == (config.vision_cfg.activation == "gelu_tanh"), (name, act)


def test_json_survives_a_round_trip():
    for name, config in (PRESETS | SMALL).items():
        assert from_json(json.loads(json.dumps(to_json(config)))) == config, name


def test_all_presets_can_be_read_by_open_clip():
    assert all(is_portable(PRESETS[name]) for name in open_clip_configs())


@pytest.mark.parametrize(
    "config",
    [
        SMALL["siglip"],
        replace(SMALL["vit"], text_cfg=replace(SMALL["vit"].text_cfg, activation="quick_gelu")),
        replace(SMALL["vit"], vision_cfg=replace(SMALL["vit"].vision_cfg, channels=1)),
        replace(
            PRESETS["ViT-B-16-SigLIP"],
            vision_cfg=replace(PRESETS["ViT-B-16-SigLIP"].vision_cfg, activation="gelu_tanh"),
        ),
    ],
    ids=["timm has no such tower", "two activations", "grey", "another activation than timm's"],
)
def test_what_open_clip_cannot_build_is_not_portable_and_still_survives(config):
    assert not is_portable(config)
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize(
    "values, message",
    [
        ({"vision_cfg": VISION, "text_cfg": {}}, "embed_dim"),
        (model(extra=1), "the model has .*: extra"),
        (model({"qk_norm": True}), "vision_cfg: qk_norm"),
        (model(text={"scale_fc": True}), "text_cfg: scale_fc"),
        (model(multimodal_cfg={}), "multimodal_cfg needs custom_text"),
        (model(text={"embed_cls": True}), "embed_cls"),
        (model(text={"hf_model_name": "some/encoder"}), "some/encoder.*give its directory"),
        (
            {"embed_dim": 8, "vision_cfg": {"timm_model_name": "hf-hub:x/y"}, "text_cfg": {}},
            "timm_model_name must be a name from timm.*, got 'hf-hub:x/y'",
        ),
        (model({"act_kwargs": {"approximate": "sine"}}), "act_kwargs"),
        (model({"norm_kwargs": {"bias": False}}), "norm_kwargs"),
        (model(quick_gelu=True, text={"act_kwargs": {"approximate": "tanh"}}), "act_kwargs"),
        (model({"patch_size": 7}), r"a multiple of 7 \(patch_size"),
        ({"embed_dim": 8, "vision_cfg": [], "text_cfg": {}}, "not a model configuration"),
    ],
)
def test_configuration_that_is_not_supported_names_the_field(values, message):
    with pytest.raises(ValueError, match=message):
        from_json(values)


def test_siglip_tower_of_a_timm_name_takes_only_fields_of_its_own():
    assert SiglipVisionConfig.of_timm(
        "vit_base_patch16_siglip_224", {"image_size": 256}
    ).grid_size == (
        16,
        16,
    )
    with pytest.raises(ValueError, match="width"):
        SiglipVisionConfig.of_timm("vit_base_patch16_siglip_224", {"width": 64})


def test_preprocessing_of_published_models_is_theirs():
    from tests.support.peers import open_clip

    for name, config in PRESETS.items():
        tags = open_clip.pretrained._PRETRAINED.get(name, {})
        for tag in {"openai", "laion2b_s34b_b79k", "webli", "datacomp1b"} & set(tags):
            ours = preprocess_of(config).to_dict()
            for field in ("mean", "std", "interpolation", "resize_mode"):
                assert ours[field] == tags[tag][field], (name, tag, field)
