"""TIPS against transformers' Tipsv2Model: the same weights, features, layers and gradients."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import fastclip
from fastclip.losses.clip import ClipLoss
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.infer import infer_config
from fastclip.models.checkpoints.resize import resize_positions
from fastclip.models.checkpoints.transformers_layout import _tips
from fastclip.models.config import TextConfig
from fastclip.models.open_clip_config import from_json, is_portable, to_json
from fastclip.models.precision import set_precision
from fastclip.models.registry import get_model_config
from fastclip.models.towers.tips.presets import MODELS
from fastclip.models.unfilled import unfilled
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.optimizer import make_optimizer
from tests.support.peers import transformers
from tests.support.tips_towers import TIPS, VISION, inputs, small, theirs_of

GATED = replace(TIPS, vision_cfg=replace(VISION, swiglu=True))
EXACT = dict(rtol=1e-9, atol=1e-11)


def with_vision(**changes):
    return replace(TIPS, vision_cfg=replace(VISION, **changes))


@pytest.fixture(params=[TIPS, GATED], ids=["plain", "gated"])
def pair(request, tmp_path):
    """Ours and transformers' in float64, and what goes in."""
    model = small(request.param)
    theirs = theirs_of(model, tmp_path / "hf").double()
    images, tokens = inputs(request.param)
    return model.double(), theirs, images.double(), tokens


def seen_by(theirs, images, tokens):
    return theirs(
        input_ids=tokens, attention_mask=(tokens != 0).long(), pixel_values=images,
        output_hidden_states=True,
    )  # fmt: skip


@pytest.mark.fast
def test_features_and_gradients_are_transformers(pair):
    model, theirs, images, tokens = pair
    found = seen_by(theirs, images, tokens)
    vision, text = found.vision_model_output, found.text_model_output
    torch.testing.assert_close(model.encode_image(images), vision.pooler_output, **EXACT)
    torch.testing.assert_close(model.encode_text(tokens), text.pooler_output, **EXACT)
    states = vision.last_hidden_state
    torch.testing.assert_close(model.visual.class_tokens(images), states[:, :2], **EXACT)
    torch.testing.assert_close(model.visual.patch_tokens(images), states[:, 2:], **EXACT)
    assert not torch.allclose(states[:, 0], states[:, 1])
    # The scale of ours is a logarithm in float32, theirs its exponential.
    logits = model.get_logits(images, tokens)[0]
    torch.testing.assert_close(logits, found.logits_per_image, rtol=1e-6, atol=1e-6)

    weights = torch.linspace(-1, 1, states.numel(), dtype=torch.float64).view_as(states)
    (states * weights).sum().add(text.pooler_output.square().sum()).backward()
    tokens_of_ours = torch.cat(
        (model.visual.class_tokens(images), model.visual.patch_tokens(images)), dim=1
    )
    (tokens_of_ours * weights).sum().add(model.encode_text(tokens).square().sum()).backward()
    assert_same_gradients(model, theirs)


def assert_same_gradients(model, theirs):
    ours = dict(model.named_parameters())
    others = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    same = {
        "visual.cls_token": "vision_model.embeddings.cls_token",
        "visual.register_tokens": "vision_model.embeddings.register_tokens",
        "visual.pos_embed": "vision_model.embeddings.position_embeddings",
        "visual.patch_embed.proj.bias": "vision_model.embeddings.patch_embeddings.projection.bias",
        "visual.norm.bias": "vision_model.layernorm.bias",
        "visual.blocks.0.ls1.gamma": "vision_model.encoder.layer.0.layer_scale1.lambda1",
        "visual.blocks.1.ls2.gamma": "vision_model.encoder.layer.1.layer_scale2.lambda1",
        "visual.blocks.0.norm2.weight": "vision_model.encoder.layer.0.norm2.weight",
        "text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "text.ln_final.weight": "text_model.final_layer_norm.weight",
        "text.transformer.resblocks.0.mlp.c_fc.bias": "text_model.encoder.layers.0.mlp.fc1.bias",
    }
    for name, other in same.items():
        torch.testing.assert_close(ours[name].grad, others[other], rtol=1e-8, atol=1e-10, msg=name)
    parts = [others[f"vision_model.encoder.layer.1.attention.{x}_proj.weight"] for x in "qkv"]
    torch.testing.assert_close(
        ours["visual.blocks.1.attn.qkv.weight"].grad, torch.cat(parts), rtol=1e-8, atol=1e-10
    )
    # All that has a gradient here has one there: only the names differ, and the parts of q, k, v.
    norms = [
        sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None),
        sum(grad.square().sum() for grad in others.values()),
    ]
    torch.testing.assert_close(*norms, rtol=1e-9, atol=0)


def test_layers_are_transformers(pair):
    model, theirs, images, tokens = pair
    states = seen_by(theirs, images, tokens)
    found = model.forward_intermediates(
        images, tokens, image_output_fmt="NLC", image_output_extra_tokens=True, normalize=False
    )
    seen = zip(found["image_intermediates_prefix"], found["image_intermediates"], strict=True)
    expected = states.vision_model_output.hidden_states[1:]
    for (prefix, patches), state in zip(seen, expected, strict=True):
        torch.testing.assert_close(prefix, state[:, :2], **EXACT)
        torch.testing.assert_close(patches, state[:, 2:], **EXACT)
    of_texts = states.text_model_output.hidden_states[1:]
    for ours, other in zip(found["text_intermediates"], of_texts, strict=True):
        kept = tokens != 0
        torch.testing.assert_close(ours[kept], other[kept], **EXACT)
    torch.testing.assert_close(found["image_features"], model.encode_image(images))
    torch.testing.assert_close(found["text_features"], model.encode_text(tokens))
    rows, columns = model.visual.grid_size
    assert model.visual.forward_intermediates(images, [0])["image_intermediates"][0].shape == (
        3, 32, rows, columns
    )  # fmt: skip


def test_the_second_class_token_is_a_field_of_the_configuration():
    first, second = small(), small(with_vision(feature_token="synthetic"))
    images, _ = inputs()
    both = first.visual.class_tokens(images)
    assert torch.equal(first.encode_image(images), both[:, 0])
    assert torch.equal(second.encode_image(images), both[:, 1])
    read = second.visual.forward_intermediates(images)["image_features"]
    torch.testing.assert_close(read, both[:, 1])
    assert from_json(json.loads(json.dumps(to_json(second.config)))) == second.config
    with pytest.raises(ValueError, match=r"feature_token must be one of .* got 'patches'"):
        with_vision(feature_token="patches")


def test_either_token_of_a_published_name_is_asked_for_by_create_model(monkeypatch):
    monkeypatch.setitem(fastclip.models.registry.architectures, "TIPS-v2-B-14", TIPS)
    torch.manual_seed(0)
    config = fastclip.get_model_config("TIPS-v2-B-14")
    second = replace(config.vision_cfg, feature_token="synthetic")
    model = fastclip.create_model("TIPS-v2-B-14", vision_cfg=second)
    images, _ = inputs()
    tokens = F.normalize(model.visual.class_tokens(images), dim=-1)
    assert torch.equal(model.encode_image(images, normalize=True), tokens[:, 1])
    assert model.visual.preprocess_cfg["mean"] == (0.0, 0.0, 0.0)
    assert model.visual.preprocess_cfg["resize_mode"] == "squash"


def test_texts_of_any_padding_have_the_same_features():
    model, (_, tokens) = small(), inputs()
    expected = model.encode_text(tokens)
    assert model.text.text_lengths(tokens).tolist() == [4, 9, 1]
    torch.testing.assert_close(model.encode_text(tokens[:1, :4]), expected[:1])
    empty = torch.zeros(2, 9, dtype=torch.int64)
    embedding = model.text.token_embedding.weight
    assert torch.equal(model.encode_text(empty), torch.zeros(2, 32))
    model.encode_text(torch.cat((empty, tokens))).sum().backward()
    assert embedding.grad.isfinite().all()
    with pytest.raises(ValueError, match=r"T in \[1, 9\], got \(1, 10\)"):
        model.encode_text(torch.ones(1, 10, dtype=torch.int64))


@pytest.mark.parametrize("config", [TIPS, GATED], ids=["plain", "gated"])
def test_what_is_written_for_transformers_comes_back(config, tmp_path):
    model = small(config)
    fastclip.save_pretrained(model, tmp_path / "hf", layout="hf")
    again = fastclip.create_model(str(tmp_path / "hf"))
    assert again.config.init_logit_scale == pytest.approx(config.init_logit_scale, rel=1e-12)
    assert replace(again.config, init_logit_scale=config.init_logit_scale) == config
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert again.visual.preprocess_cfg["std"] == (1.0, 1.0, 1.0)


def test_what_transformers_writes_is_read(tmp_path):
    theirs = theirs_of(small(), tmp_path / "hf")
    theirs.save_pretrained(tmp_path / "theirs")
    again = fastclip.create_model(str(tmp_path / "theirs"))
    for name, value in again.state_dict().items():
        assert torch.equal(value, small().state_dict()[name]), name


def test_scales_come_back_from_temperatures():
    (row,) = (row for row in _tips(TIPS) if row.theirs == ("temperature",))
    usual, small_ones = torch.linspace(1, 6, 5001), torch.linspace(-1, 1, 2001)
    for dtype in (torch.float32, torch.bfloat16):
        for scale in usual.to(dtype):
            assert torch.equal(row.to_ours(*row.to_theirs(scale))[0], scale)
    errors = [(row.to_ours(*row.to_theirs(x))[0] - x).abs().item() for x in small_ones]
    assert 0 < max(errors) <= 2 * 6e-8


def test_published_files_hold_no_temperature_and_another_name_of_an_mlp(tmp_path):
    from safetensors.torch import load_file, save_file

    fastclip.save_pretrained(small(), tmp_path / "hf", layout="hf")
    file = tmp_path / "hf" / "model.safetensors"
    tensors = load_file(file)
    del tensors["temperature"]
    renamed = {
        name.replace("c_fc", "fc1").replace("c_proj", "fc2") if "vision" in name else name: value
        for name, value in tensors.items()
    }
    save_file(renamed, file)
    values = json.loads((tmp_path / "hf" / "config.json").read_text())
    values |= {"temperature_init_value": 0.02, "auto_map": {"AutoModel": "modeling_tips.Model"}}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(values))
    again = fastclip.create_model(str(tmp_path / "hf"))
    assert again.logit_scale.item() == pytest.approx(-math.log(0.02))
    assert torch.equal(again.visual.pos_embed, small().visual.pos_embed)
    with pytest.raises(CheckpointError, match="one file of a transformers model"):
        fastclip.create_model("TIPS-v2-B-14", pretrained=file)


@pytest.mark.parametrize(
    "place, change, message",
    [
        ("vision_config", {"num_register_tokens": 4}, "num_register_tokens 4 is not supported"),
        ("vision_config", {"hidden_act": "relu"}, "vision_config: hidden_act 'relu'"),
        ("text_config", {"scale_sqrt_depth": False}, "scale_sqrt_depth False is not supported"),
        ("text_config", {"rope": 1}, "text_config has fields that are not supported: rope"),
        (None, {"temperature_init_value": 0}, "temperature_init_value 0 is not supported"),
        (None, {"embed_dim": 768}, "the model has fields that are not supported: embed_dim"),
    ],
)
def test_fields_of_transformers_are_obeyed_or_refused(place, change, message, tmp_path):
    fastclip.save_pretrained(small(), tmp_path / "hf", layout="hf")
    file = tmp_path / "hf" / "config.json"
    values = json.loads(file.read_text())
    (values if place is None else values[place]).update(change)
    file.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=message):
        get_model_config(str(tmp_path / "hf"))


def test_the_image_tower_alone_is_transformers(tmp_path):
    model, (images, _) = small(), inputs()
    model.visual.preprocess_cfg = TIPS.vision_cfg.preprocess().to_dict()
    fastclip.save_pretrained(model, tmp_path / "tower", layout="hf_vision")
    tower, told = transformers.Tipsv2VisionModel.from_pretrained(
        tmp_path / "tower", output_loading_info=True
    )
    assert not any(told[what] for what in ("missing_keys", "unexpected_keys"))
    found = tower.eval()(images).last_hidden_state[:, 2:]
    torch.testing.assert_close(found, model.visual.patch_tokens(images), rtol=1e-5, atol=1e-5)
    values = json.loads((tmp_path / "tower" / "preprocessor_config.json").read_text())
    assert values["image_processor_type"] == "Tipsv2ImageProcessor"
    assert values["image_mean"] == [0, 0, 0] and values["resample"] == 2


@pytest.mark.parametrize(
    "config, layout, message",
    [
        (TIPS, "open_clip", "open_clip cannot build this model"),
        (TIPS, "openai", "openai/CLIP has no"),
        (with_vision(feature_token="synthetic"), "hf", "no place for the second class token"),
        (replace(TIPS, init_logit_bias=0.0), "hf", "no place for a logit_bias"),
        (with_vision(image_size=(28, 42)), "hf", "no place for positions of images that are not"),
        (with_vision(image_size=(28, 42)), "hf_vision", "Tipsv2VisionModel has no place for"),
    ],
)
def test_layouts_without_a_place_for_it_refuse_it(config, layout, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        fastclip.save_pretrained(small(config), tmp_path / "there", layout)
    assert not (tmp_path / "there").exists()


def test_positions_of_another_size_are_those_that_transformers_makes(tmp_path):
    model = small()
    theirs = theirs_of(model, tmp_path / "hf")
    wide = with_vision(image_size=(42, 35))
    resized = small(wide)
    resized.load_state_dict(resize_positions(model.state_dict(), resized))
    images, _ = inputs(wide)
    expected = theirs.vision_model(images).last_hidden_state
    torch.testing.assert_close(
        resized.visual.class_tokens(images), expected[:, :2], rtol=1e-5, atol=1e-5
    )


PARAMETERS = {"B": (85.7, 109.6), "L": (303.2, 183.9), "SO400M": (412.4, 448.3), "g": (1100, 389.1)}


@pytest.mark.parametrize("name", MODELS)
def test_published_models_have_the_published_sizes(name):
    config = fastclip.get_model_config(name)
    assert name in fastclip.list_models() and not is_portable(config)
    with unfilled():
        vision = config.vision_cfg.build(config.embed_dim)
        text = config.text_cfg.build(config.embed_dim)
        theirs = transformers.Tipsv2VisionModel(vision_config_of(config))
    sizes = [sum(p.numel() for p in tower.parameters()) / 1e6 for tower in (vision, text)]
    assert sizes == pytest.approx(PARAMETERS[name.split("-")[2]], rel=0.05)
    mask_token = config.embed_dim
    expected = sum(p.numel() for p in theirs.parameters()) - mask_token
    assert round(sizes[0] * 1e6) == expected
    tensors = {f"visual.{n}": v for n, v in vision.state_dict().items()}
    tensors |= {f"text.{n}": v for n, v in text.state_dict().items()}
    inferred = infer_config(tensors, "gelu")
    assert inferred == replace(config, init_logit_scale=inferred.init_logit_scale)


def vision_config_of(config):
    from fastclip.models.checkpoints.transformers_tips import to_tips_vision_config

    values = to_tips_vision_config(config)
    return transformers.Tipsv2VisionConfig(**{k: v for k, v in values.items() if k != "model_type"})


@pytest.mark.parametrize(
    "side, change, message",
    [
        ("vision_cfg", {"image_size": 30}, "image_size must be a multiple of 7"),
        ("vision_cfg", {"heads": 3}, r"width must be a multiple of 3 \(heads\), got 32"),
        ("vision_cfg", {"swiglu": 2}, "swiglu must be true or false"),
        ("vision_cfg", {"activation": "relu"}, "activation must be one of"),
        ("vision_cfg", {"depth": 2}, "vision_cfg has fields that are not supported: depth"),
        ("text_cfg", {"pad_id": -1}, "pad_id must be the id of a token"),
        ("text_cfg", {"hf_tokenizer_name": 3}, "hf_tokenizer_name must be a name .*got 3"),
        ("text_cfg", {"tokenizer_kwargs": []}, "tokenizer_kwargs must be a mapping of settings"),
        (
            "text_cfg",
            {"no_causal_mask": True},
            "text_cfg has fields that are not supported: no_causal_mask",
        ),
    ],
)
def test_what_a_file_says_is_obeyed_or_refused(side, change, message):
    values = to_json(TIPS)
    with pytest.raises(ValueError, match=message):
        from_json(values | {side: values[side] | change})


def test_sixteen_bits_stay_near():
    images, tokens = inputs()
    expected = small().encode_image(images, normalize=True)
    of_texts = small().encode_text(tokens, normalize=True)
    for precision, dtype in (("bf16", torch.bfloat16), ("pure_fp16", torch.float16)):
        model = set_precision(small(), precision)
        found = model.encode_image(images.to(dtype), normalize=True)
        assert found.dtype == dtype and (found.float() * expected).sum(1).min() > 0.99
        found = model.encode_text(tokens, normalize=True)
        assert found.dtype == dtype and (found.float() * of_texts).sum(1).min() > 0.99


def test_it_is_locked_and_trained():
    model, (images, tokens) = small(with_vision(patch_dropout=0.5)), inputs()
    model.lock_image_tower(unlocked_groups=1)
    model.lock_text_tower(unlocked_layers=1)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "visual.norm.weight" in trained and "visual.cls_token" not in trained
    assert "text.ln_final.bias" in trained and "text.token_embedding.weight" not in trained
    before = model.visual.norm.weight.detach().clone()
    optimizer = make_optimizer(model, StepConfig(batch_size=3, steps=1))
    model.set_grad_checkpointing()
    CachedStep(model.train(), ClipLoss(), micro_batch_size=2)(images, tokens)
    optimizer.step()
    assert (model.visual.norm.weight != before).any()
    assert model.visual.patch_tokens(images).shape == (3, 8, 32)


def test_checkpointing_changes_no_bit():
    model, (images, tokens) = small(), inputs()
    gradients = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        features = model.encode_image(images), model.encode_text(tokens)
        sum(each.square().sum() for each in features).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_text_tower_of_clip_is_no_tips():
    clip = TextConfig(context_length=9, vocab_size=60, width=32, heads=2, layers=1)
    with pytest.raises(CheckpointError, match="none of its models has a CLIP text tower"):
        fastclip.save_pretrained(small(replace(TIPS, text_cfg=clip)), "nowhere", layout="hf")
