"""No field of a configuration is lost: each is obeyed, checked, or listed with a reason."""

from dataclasses import asdict, fields

import pytest

from fastclip.models import open_clip_config
from fastclip.models.checkpoints import transformers_fields
from fastclip.models.json_fields import JsonFields
from fastclip.models.open_clip_config import from_json
from fastclip.models.presets import PRESETS
from fastclip.models.towers.hugging_face import config as hugging_face
from fastclip.models.towers.modified_resnet import config as modified_resnet
from fastclip.models.towers.siglip import config as siglip
from fastclip.models.towers.text import config as text
from fastclip.models.towers.timm import config as timm
from fastclip.models.towers.vision_transformer import config as vision_transformer

OF_TOWERS = (vision_transformer, modified_resnet, siglip, timm, text, hugging_face)
FIELDS = {
    (module.__name__, name): value
    for module in (open_clip_config, *OF_TOWERS, transformers_fields)
    for name, value in vars(module).items()
    if isinstance(value, JsonFields)
}
TOWERS = {
    "VISION_FIELDS": ("vision_cfg", {}),
    "RESNET_FIELDS": ("vision_cfg", {"layers": [1, 1, 1, 1]}),
    "TIMM_FIELDS": (
        "vision_cfg",
        {"timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map", "timm_proj": "none"},
    ),
    "TRUNK_FIELDS": ("vision_cfg", {"timm_model_name": "convnext_tiny"}),
    "TEXT_FIELDS": ("text_cfg", {}),
    "HF_TEXT_FIELDS": ("text_cfg", {"hf_model_name": "roberta-base"}),
}
# The other one has few fields of one value: its sizes come with a name.
OF_BLOCKS = [name for name in TOWERS if name != "HF_TEXT_FIELDS"]


def fields_of(name: str) -> JsonFields:
    (found,) = (getattr(module, name) for module in OF_TOWERS if hasattr(module, name))
    return found


def open_clip_class(tower: str) -> type:
    from tests.support.peers import open_clip

    model = open_clip.model
    return model.CLIPVisionCfg if tower == "vision_cfg" else model.CLIPTextCfg


def other_than(values: tuple) -> object:
    return "another" if isinstance(values[0], (str, type(None), dict)) else not values[0]


def model_with(tower: str, values: dict) -> dict:
    return {"embed_dim": 768, "vision_cfg": {}, "text_cfg": {}, tower: values}


@pytest.mark.parametrize("group", FIELDS, ids=".".join)
def test_a_field_is_in_one_group_and_what_is_without_effect_says_why(group):
    known = FIELDS[group]
    assert len(known.obeyed) + len(known.only) + len(known.without_effect) == len(
        {*known.obeyed, *known.only, *known.without_effect}
    )
    for name, reason in known.without_effect.items():
        assert reason.endswith(".") and len(reason.split()) > 3, name


@pytest.mark.parametrize("name", TOWERS)
def test_every_field_of_open_clips_is_known(name):
    known = fields_of(name)
    theirs = {f.name for f in fields(open_clip_class(TOWERS[name][0]))}
    assert theirs <= {*known.obeyed, *known.only, *known.without_effect}


@pytest.mark.parametrize("name", TOWERS)
def test_file_that_lists_all_of_open_clips_fields_is_the_short_one(name):
    tower, told = TOWERS[name]
    listed = asdict(open_clip_class(tower)(**told))
    assert from_json(model_with(tower, listed)) == from_json(model_with(tower, told))


@pytest.mark.parametrize("name", OF_BLOCKS)
def test_a_flag_that_is_null_is_not_set(name):
    tower, told = TOWERS[name]
    flags = [f for f, values in fields_of(name).only.items() if values[0] is False]
    assert len(flags) > 3
    nulls = dict.fromkeys(flags)
    assert from_json(model_with(tower, told | nulls)) == from_json(model_with(tower, told))


@pytest.mark.parametrize("name", OF_BLOCKS)
def test_another_value_of_a_field_that_is_not_obeyed_is_refused_by_name(name):
    tower, told = TOWERS[name]
    refused = fields_of(name).only
    assert len(refused) > 5
    for field, values in refused.items():
        if field in ("timm_model_name", "hf_model_name"):  # is another kind of tower
            continue
        with pytest.raises(ValueError, match=rf"{tower}: {field} ") as raised:
            from_json(model_with(tower, told | {field: other_than(values)}))
        assert raised.value.args


@pytest.mark.parametrize(
    "change, message",
    [
        ({"timm_pool": "avg"}, "timm_pool 'avg'"),
        ({"timm_proj": "linear"}, "timm_proj 'linear'"),
        ({"timm_proj": None}, "timm_proj None"),
        ({"timm_pool": ""}, "timm_pool ''"),
        ({"timm_drop_path": 0.1}, "timm_drop_path 0.1"),
        ({"timm_model_pretrained": True}, "timm_model_pretrained True"),
        ({"layers": 6}, "layers 6"),
    ],
)
def test_another_siglip_tower_than_the_built_in_one_is_refused(change, message):
    tower, told = TOWERS["TIMM_FIELDS"]
    assert from_json(model_with(tower, told)).vision_cfg == PRESETS["ViT-B-16-SigLIP"].vision_cfg
    with pytest.raises(ValueError, match=message):
        from_json(model_with(tower, told | change))


@pytest.mark.parametrize("field, default", [("timm_pool", "avg"), ("timm_proj", "linear")])
def test_readout_that_is_left_out_is_open_clips_default_and_not_siglips(field, default):
    tower, told = TOWERS["TIMM_FIELDS"]
    with pytest.raises(ValueError, match=f"{field} '{default}'"):
        from_json(model_with(tower, {k: v for k, v in told.items() if k != field}))


def test_resnet_without_a_width_has_open_clips():
    config = from_json(model_with("vision_cfg", {"layers": [1, 1, 1, 1], "image_size": 32}))
    assert (config.vision_cfg.width, config.vision_cfg.head_width) == (768, 64)


def test_unknown_field_of_the_model_is_refused_by_name():
    with pytest.raises(ValueError, match="the model has fields that are not supported: cast_dtype"):
        from_json(model_with("text_cfg", {}) | {"cast_dtype": "fp16"})


def test_values_of_obeyed_fields_come_back_and_others_do_not():
    known = JsonFields(
        {"a"}, {"b": (1, None)}, {"c": "It is a note about the file."}, {"b": "do c"}
    )
    assert known.read("here", {"a": 3, "b": None, "c": 9}) == {"a": 3}
    with pytest.raises(ValueError, match="here: b 2 is not supported: do c"):
        known.read("here", {"b": 2})
    with pytest.raises(ValueError, match="here has fields that are not supported: d, e"):
        known.read("here", {"e": 1, "d": 2, "a": 3})
