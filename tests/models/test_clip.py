import math
from dataclasses import replace

import pytest
import torch

from fastclip.models.clip import CLIP
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.unfilled import unfilled

CONFIG = ClipConfig(
    embed_dim=12,
    vision_cfg=VisionConfig((16, 24), patch_size=8, width=32, layers=2, head_width=16, channels=1),
    text_cfg=TextConfig(context_length=9, vocab_size=11, width=24, heads=2, layers=1),
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CLIP(CONFIG).eval()


@pytest.fixture
def images():
    return torch.randn(5, 1, 16, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tokens():
    return torch.tensor([[9, 3, 4, 10, 0, 0, 0, 0, 0], [9, 5, 6, 7, 8, 2, 1, 3, 10]])


def block_keys(prefix, layers):
    parts = ["ln_1", "attn.in_proj", "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]
    return {
        f"{prefix}transformer.resblocks.{i}.{part}{'_' if 'in_proj' in part else '.'}{kind}"
        for i in range(layers)
        for part in parts
        for kind in ("weight", "bias")
    }


def test_state_dict_has_the_keys_of_openai_checkpoints(model):
    expected = {
        "logit_scale", "token_embedding.weight", "positional_embedding", "text_projection",
        "ln_final.weight", "ln_final.bias", "visual.conv1.weight", "visual.class_embedding",
        "visual.positional_embedding", "visual.ln_pre.weight", "visual.ln_pre.bias",
        "visual.ln_post.weight", "visual.ln_post.bias", "visual.proj",
    } | block_keys("", 1) | block_keys("visual.", 2)  # fmt: skip
    assert set(model.state_dict()) == expected


def test_vit_b_32_has_the_shapes_of_openai_checkpoints():
    with unfilled():
        model = CLIP(
            ClipConfig(
                embed_dim=512,
                vision_cfg=VisionConfig((224, 224), patch_size=32, width=768, layers=12),
                text_cfg=TextConfig(77, vocab_size=49408, width=512, heads=8, layers=12),
            )
        )
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert len(shapes) == 302
    assert sum(math.prod(shape) for shape in shapes.values()) == 151_277_313
    assert shapes["visual.conv1.weight"] == (768, 3, 32, 32)
    assert shapes["visual.positional_embedding"] == (50, 768)
    assert shapes["visual.transformer.resblocks.11.attn.in_proj_weight"] == (2304, 768)
    assert shapes["transformer.resblocks.0.mlp.c_fc.weight"] == (2048, 512)
    assert shapes["text_projection"] == (512, 512)
    assert shapes["logit_scale"] == ()


def test_forward_returns_unit_features_and_the_multiplicative_scale(model, images, tokens):
    image_features, text_features, logit_scale = model(images, tokens)
    assert image_features.shape == (5, 12)
    assert text_features.shape == (2, 12)
    torch.testing.assert_close(image_features.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(text_features.norm(dim=1), torch.ones(2))
    assert logit_scale.item() == pytest.approx(1 / 0.07, rel=1e-6)


def test_features_are_normalised_only_on_request(model, images, tokens):
    for encode, inputs in ((model.encode_image, images), (model.encode_text, tokens)):
        raw, unit = encode(inputs), encode(inputs, normalize=True)
        assert not torch.allclose(raw.norm(dim=1), torch.ones(len(raw)))
        torch.testing.assert_close(raw / raw.norm(dim=1, keepdim=True), unit)


def test_gradient_reaches_every_parameter(model, images, tokens):
    image_features, text_features, logit_scale = model(images[:2], tokens)
    (logit_scale * (image_features * text_features.roll(1, 1)).sum()).backward()
    unreached = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached


def test_text_after_the_end_token_changes_nothing(model, tokens):
    padded, junk = tokens[:1], tokens[:1].clone()
    junk[0, 4:] = 5
    assert torch.equal(model.encode_text(padded), model.encode_text(junk))
    torch.testing.assert_close(model.encode_text(padded), model.encode_text(padded[:, :4]))


def test_text_before_the_end_token_matters(model, tokens):
    changed = tokens.clone()
    changed[:, 1] = 8
    difference = (model.encode_text(tokens) - model.encode_text(changed)).abs().amax(1)
    assert (difference > 1e-4).all()


def test_word_order_matters(model):
    one, other = torch.tensor([[9, 3, 4, 10]]), torch.tensor([[9, 4, 3, 10]])
    assert (model.encode_text(one) - model.encode_text(other)).abs().max() > 1e-4


def test_every_patch_reaches_the_image_features(model, images):
    before = model.encode_image(images)
    for y in (0, 8):
        for x in (0, 8, 16):
            changed = images.clone()
            changed[:, :, y : y + 8, x : x + 8] += 1
            assert ((model.encode_image(changed) - before).abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize("value, expected", [(-3.0, 1.0), (2.0, math.exp(2)), (9.0, 100.0)])
def test_clamp_keeps_the_scale_within_one_and_a_hundred(model, value, expected):
    with torch.no_grad():
        model.logit_scale.fill_(value)
    model.clamp_logit_scale()
    assert model.logit_scale.exp().item() == pytest.approx(expected, rel=1e-5)


def test_wrong_image_shape_raises_and_names_it(model):
    with pytest.raises(ValueError, match=r"\(B, 1, 16, 24\), got \(2, 3, 16, 24\)"):
        model.encode_image(torch.zeros(2, 3, 16, 24))


@pytest.mark.parametrize("shape", [(10,), (2, 10), (2, 0)])
def test_wrong_token_shape_raises_and_names_it(model, shape):
    with pytest.raises(ValueError, match=r"T in \[1, 9\]"):
        model.encode_text(torch.zeros(shape, dtype=torch.int64))


def test_output_is_a_tuple_or_a_dict_with_the_same_values(images, tokens):
    torch.manual_seed(0)
    model = CLIP(replace(CONFIG, init_logit_bias=-10.0)).eval()
    values = model(images, tokens)
    model.output_dict = True
    named = model(images, tokens)
    assert list(named) == ["image_features", "text_features", "logit_scale", "logit_bias"]
    assert all(torch.equal(a, b) for a, b in zip(values, named.values(), strict=True))
    assert named["logit_bias"].item() == -10


def test_either_input_may_be_missing(model, images, tokens):
    assert model(images)[1] is None
    assert model(text=tokens)[0] is None
    assert torch.equal(model(text=tokens)[1], model(images, tokens)[1])


def test_logits_are_scaled_cosines_plus_the_bias(images, tokens):
    model = CLIP(replace(CONFIG, init_logit_bias=-3.0)).eval()
    image_features, text_features, scale, bias = model(images, tokens)
    per_image, per_text = model.get_logits(images, tokens)
    torch.testing.assert_close(per_image, scale * image_features @ text_features.T + bias)
    assert torch.equal(per_text, per_image.T)


def test_locking_one_tower_leaves_the_other_and_the_scale(model):
    def trainable():
        return {n for n, p in model.named_parameters() if p.requires_grad}

    everything = trainable()
    visual = {n for n in everything if n.startswith("visual.")}
    model.lock_image_tower()
    assert trainable() == everything - visual
    model.lock_text_tower()
    assert trainable() == {"logit_scale"}
    model.lock_image_tower(unlocked_groups=1)
    assert trainable() == {"logit_scale", "visual.proj"}
    model.lock_text_tower(unlocked_layers=1)
    assert trainable() == {"logit_scale", "visual.proj", "text_projection"}


def test_checkpointing_reaches_both_towers(model):
    model.set_grad_checkpointing()
    assert model.visual.transformer.grad_checkpointing and model.transformer.grad_checkpointing
    model.set_grad_checkpointing(False)
    assert not model.visual.transformer.grad_checkpointing


def test_model_names_its_dtype_and_sizes_as_openais(model):
    assert model.dtype == torch.float32
    assert (model.context_length, model.vocab_size) == (9, 11)
    assert model.visual.image_size == (16, 24) and model.visual.output_dim == 12
