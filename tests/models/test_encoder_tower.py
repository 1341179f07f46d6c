"""What encoders of other libraries return is read at its right width, or the error says which."""

import pytest
import torch
from torch import nn

from fastclip.models.encoder_tower import EncoderTower
from fastclip.models.two_tower import TwoTower
from fastclip.models.unfilled import unfilled

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "name, settings, width",
    [
        ("mobilenetv3_small_050", dict(num_classes=0), 1024),
        ("mobilenetv4_conv_small_035", dict(num_classes=0), 1280),
        ("mobilenetv4_conv_small", dict(num_classes=0), 1280),
        ("hgnet_tiny", dict(num_classes=0), 2048),
        ("resnet10t", dict(), 1000),  # its classifier left on
        ("resnet10t", dict(num_classes=7), 7),
        ("resnet10t", dict(num_classes=0), 512),
        ("test_vit", dict(num_classes=0, img_size=64), 64),
    ],
)
def test_timm_models_are_projected_from_the_width_of_what_they_return(name, settings, width):
    from tests.support.peers import timm

    with unfilled():
        tower = EncoderTower(timm.create_model(name, **settings).eval(), embed_dim=16)
        assert tower.proj.in_features == width
        assert tower(torch.empty(2, 3, 64, 64)).shape == (2, 16)


def test_a_timm_model_whose_classifier_was_replaced_is_read_at_the_width_of_what_it_returns():
    from tests.support.peers import timm

    encoder = timm.create_model("resnet10t")
    encoder.fc = nn.Identity()  # num_classes is 1000 still
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    tower = EncoderTower(encoder, embed_dim=16)
    assert tower.proj.in_features == 512 and tower(IMAGES).shape == (2, 16)
    fresh = EncoderTower(encoder, embed_dim=16)
    assert fresh.encoder.bn1.num_batches_tracked == 1  # of the forward above, and of no other
    assert before.keys() == encoder.state_dict().keys()
    assert torch.equal(before["conv1.0.weight"], encoder.state_dict()["conv1.0.weight"])


def clip_config(transformers):
    return dict(
        hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1,
        projection_dim=48,
    )  # fmt: skip


@pytest.mark.parametrize("pool, width", [("auto", 48), ("mean", 64), ("first", 64)])
def test_transformers_projections_are_read_unless_tokens_are_pooled(pool, width):
    from tests.support.peers import transformers

    config = clip_config(transformers)
    image = transformers.CLIPVisionConfig(**config, image_size=64, patch_size=16)
    text = transformers.CLIPTextConfig(**config, vocab_size=50, eos_token_id=2)
    images = EncoderTower(transformers.CLIPVisionModelWithProjection(image), 16, pool=pool)
    texts = EncoderTower(transformers.CLIPTextModelWithProjection(text), 16, pool=pool)
    ids = {"input_ids": torch.randint(3, 50, (2, 5)), "attention_mask": torch.ones(2, 5)}
    assert images.proj.in_features == texts.proj.in_features == width
    assert images(IMAGES).shape == texts(ids).shape == (2, 16)


def test_transformers_convolutional_models_are_read_too():
    from tests.support.peers import transformers

    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic"
    )
    tower = EncoderTower(transformers.ResNetModel(config), 16)
    assert tower.proj.in_features == 12 and tower(IMAGES).shape == (2, 16)


class Wide(nn.Module):
    """Says one width and returns another."""

    num_features = 8

    def forward(self, x):
        return torch.ones(x.shape[0], 12)


def test_another_width_than_was_said_names_the_encoder_both_widths_and_the_way():
    tower = EncoderTower(Wide(), 16)
    message = r"Wide have width 12.*width 8: wrap.*EncoderTower\(encoder, embed_dim=16, width=12\)"
    with pytest.raises(ValueError, match=message):
        tower(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=message):
        TwoTower(Wide(), Wide(), embed_dim=16)(torch.zeros(3, 2), torch.zeros(3, 2))
    assert EncoderTower(Wide(), 16, width=12)(torch.zeros(3, 2)).shape == (3, 16)


class Tokens(nn.Module):
    num_features = 8

    def forward(self, input_ids, attention_mask=None):
        return torch.nn.functional.one_hot(input_ids, 8).float().requires_grad_()


def masked(mask, dtype=torch.int64):
    return {"input_ids": torch.arange(5).expand(2, 5), "attention_mask": mask.to(dtype)}


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32])
def test_a_text_without_tokens_has_features_of_zero_and_finite_gradients(dtype):
    tower = EncoderTower(Tokens(), 8, pool="mean")
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    features = tower(masked(mask, dtype))
    assert torch.equal(features[1], torch.zeros(8))
    expected = tower.proj(torch.tensor([1, 1, 1, 0, 0, 0, 0, 0]) / 3)
    torch.testing.assert_close(features[0], expected)
    features.square().sum().backward()
    assert tower.proj.weight.grad.isfinite().all() and tower.proj.weight.grad.any()


def test_a_batch_of_such_texts_is_finite_in_half_precision_and_normalised():
    tower = EncoderTower(Tokens(), 8, pool="mean")
    model = TwoTower(nn.Identity(), tower)
    with torch.autocast("cpu", torch.bfloat16):
        features = model.encode_text(masked(torch.zeros(2, 5)), normalize=True)
    assert torch.equal(features.float(), torch.zeros(2, 8))


def test_small_weights_of_a_mask_are_weights():
    tower = EncoderTower(Tokens(), 8, pool="mean")
    features = tower(masked(torch.tensor([[1e-3, 1e-3, 0, 0, 0]] * 2), torch.float32))
    expected = tower.proj(torch.tensor([0.5, 0.5, 0, 0, 0, 0, 0, 0]))
    torch.testing.assert_close(features[0], expected)


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_tokens_are_returned_along_with_the_features(pool):
    tower = EncoderTower(Tokens(), 16, pool=pool)
    ids = torch.arange(5).expand(2, 5)
    features = tower(ids)
    tower.output_tokens = True
    pooled, tokens = tower(ids)
    assert torch.equal(pooled, features) and torch.equal(tokens, tower.encoder(ids))


def test_an_encoder_without_tokens_says_so():
    tower = EncoderTower(Wide(), 16, width=12)
    tower.output_tokens = True
    with pytest.raises(TypeError, match=r"Wide returned \(3, 12\), which holds no \(B, T, width\)"):
        tower(torch.zeros(3, 2))
