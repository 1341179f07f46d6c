"""What a model says about its inputs, and configurations that read as open_clip's dicts do."""

import json

import pytest
import torch
from torch import nn

import fastclip
from fastclip.models.config import ClipConfig
from fastclip.models.open_clip_config import from_json, to_json
from fastclip.models.presets import PRESETS
from fastclip.models.unfilled import unfilled
from tests.support.peers import open_clip
from tests.support.small_models import SMALL, build, inputs


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50x4-quickgelu", "ViT-B-16-SigLIP"])
def test_configuration_reads_as_open_clips(name):
    ours, theirs = fastclip.get_model_config(name), open_clip.get_model_config(name)
    assert ours["embed_dim"] == theirs["embed_dim"]
    for tower in ("vision_cfg", "text_cfg"):
        for field in theirs[tower].keys() & ours[tower].keys():
            assert ours[tower][field] == theirs[tower][field], (name, tower, field)
        assert {"image_size"} if tower == "vision_cfg" else {"width"} <= ours[tower].keys()
    assert ours.get("quick_gelu", False) == theirs.get("quick_gelu", False)
    assert "text_cfg" in ours and "nonsense" not in ours and ours.get("nonsense", 3) == 3
    with pytest.raises(KeyError):
        ours["nonsense"]


def test_configuration_as_a_dict_is_its_json():
    for name, config in PRESETS.items():
        copied = json.loads(json.dumps(dict(config)))
        assert copied == to_json(config) == {**config}, name
        assert from_json(copied) == config and len(config) == len(copied), name


def test_configuration_stays_a_value():
    config = fastclip.get_model_config("ViT-B-32")
    config["text_cfg"]["width"] = 1  # of a copy
    assert fastclip.get_model_config("ViT-B-32")["text_cfg"]["width"] == 512
    assert isinstance(config, ClipConfig) and config == PRESETS["ViT-B-32"] != dict(config)


@pytest.mark.parametrize("custom_text", [False, True])
def test_nonscalar_scale_and_bias_have_open_clips_shape(custom_text, tmp_path):
    values = to_json(SMALL["vit"]) | {"nonscalar_logit_scale": True, "init_logit_bias": -10.0}
    config = from_json(values | {"custom_text": custom_text})
    assert config.nonscalar_logit_scale and to_json(config)["nonscalar_logit_scale"] is True
    model = build(config)
    theirs = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**values)
    for name in ("logit_scale", "logit_bias"):
        assert getattr(model, name).shape == getattr(theirs, name).shape == (1,)
        torch.testing.assert_close(getattr(model, name).data, getattr(theirs, name).data)
    images, tokens = inputs(config)
    image_features, text_features, scale, bias = model(images, tokens)
    loss = fastclip.SigLipLoss()(image_features, text_features, scale, bias)
    loss.backward()
    assert model.logit_scale.grad.shape == model.logit_bias.grad.shape == (1,)
    fastclip.save_pretrained(model, tmp_path / "model")
    again = fastclip.create_model(f"local-dir:{tmp_path / 'model'}")
    assert torch.equal(again.logit_scale, model.logit_scale)


def test_scalar_and_nonscalar_weights_load_into_each_other(tmp_path):
    model = build(SMALL["vit"])
    fastclip.save_pretrained(model, tmp_path / "model")
    place = f"local-dir:{tmp_path / 'model'}"
    nonscalar = fastclip.create_model(place, nonscalar_logit_scale=True)
    assert nonscalar.logit_scale.shape == (1,)
    torch.save(nonscalar.state_dict(), tmp_path / "nonscalar.pt")
    scalar = fastclip.create_model(place)
    fastclip.load_checkpoint(scalar, checkpoint_path=tmp_path / "nonscalar.pt")
    assert scalar.logit_scale.shape == () and scalar.logit_scale == nonscalar.logit_scale


def test_preprocessing_is_read_and_written_as_by_open_clip():
    with unfilled():
        model = fastclip.create_model("ViT-B-16-SigLIP", load_weights=False, device="meta")
    cfg = fastclip.get_model_preprocess_cfg(model)
    assert cfg == model.visual.preprocess_cfg and cfg is not model.visual.preprocess_cfg
    fastclip.set_model_preprocess_cfg(model, cfg | {"mean": (0.1, 0.2, 0.3)})
    assert fastclip.get_model_preprocess_cfg(model)["mean"] == model.visual.image_mean
    assert fastclip.get_model_tokenize_cfg(model) == {"context_length": 64, "vocab_size": 32000}
    bare = nn.Module()
    bare.image_size, bare.image_mean = 32, (0.5, 0.5, 0.5)
    assert fastclip.get_model_preprocess_cfg(bare) == {"size": 32, "mean": (0.5, 0.5, 0.5)}
    with pytest.raises(ValueError, match="preprocess_cfg must have mean and std"):
        fastclip.set_model_preprocess_cfg(bare, {"size": 3})


@pytest.mark.parametrize(
    "precision", ["fp32", "amp", "amp_bf16", "fp16", "bf16", "pure_fp16", "pure_bf16"]
)
def test_dtypes_of_a_precision_are_open_clips(precision):
    assert fastclip.get_cast_dtype(precision) == open_clip.get_cast_dtype(precision)
    assert fastclip.get_input_dtype(precision) == open_clip.get_input_dtype(precision)


def test_weights_are_converted_as_by_open_clip():
    values = to_json(SMALL["vit"])
    for dtype in (torch.float16, torch.bfloat16):
        ours, theirs = build(SMALL["vit"]), open_clip.CLIP(**values)
        fastclip.convert_weights_to_lp(ours, dtype)
        open_clip.convert_weights_to_lp(theirs, dtype)
        expected = {name: value.dtype for name, value in theirs.state_dict().items()}
        assert {name: value.dtype for name, value in ours.state_dict().items()} == expected
    with pytest.raises(ValueError, match="dtype must be one of"):
        fastclip.convert_weights_to_lp(ours, torch.float64)
    with pytest.raises(ValueError, match="precision must be one of"):
        fastclip.get_input_dtype("fp8")
