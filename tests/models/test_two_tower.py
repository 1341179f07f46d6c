from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fastclip.losses.clip import ClipLoss
from fastclip.models.two_tower import EncoderTower, TwoTower
from tests.support.small_models import SMALL, build, inputs


class Flat(nn.Module):
    """Images to features, as timm's models without head; it names its width as they do."""

    num_features = 12

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 4 * 4, 12)
        self.checkpointing = None

    def forward(self, images):
        return self.layer(images.flatten(1))

    def set_grad_checkpointing(self, enable=True):
        self.checkpointing = enable


class Tokens(nn.Module):
    """Ids by name to an output with hidden states, as transformers' models."""

    def __init__(self, pooler=True):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=10)
        self.embedding = nn.Embedding(20, 10)
        self.pooler = pooler
        self.checkpointing = None

    def forward(self, input_ids, attention_mask=None):
        states = self.embedding(input_ids)
        pooled = states[:, 0] if self.pooler else None
        return SimpleNamespace(last_hidden_state=states, pooler_output=pooled)

    def gradient_checkpointing_enable(self):
        self.checkpointing = True

    def gradient_checkpointing_disable(self):
        self.checkpointing = False


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TwoTower(Flat(), Tokens(), embed_dim=8)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    ids = torch.randint(1, 20, (4, 5))
    mask = torch.ones_like(ids)
    mask[0, 2:] = 0
    return torch.randn(4, 3, 4, 4), {"input_ids": ids, "attention_mask": mask}


def test_any_two_encoders_train_with_the_fused_loss(model, batch):
    loss = ClipLoss()(*model(*batch))
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert set(model.state_dict()) == {
        "logit_scale", "visual.proj.weight", "visual.encoder.layer.weight",
        "visual.encoder.layer.bias", "text.proj.weight", "text.encoder.embedding.weight",
    }  # fmt: skip


def test_outputs_are_unit_features_of_the_shared_space(model, batch):
    image_features, text_features, _ = model(*batch)
    assert image_features.shape == text_features.shape == (4, 8)
    torch.testing.assert_close(text_features.norm(dim=1), torch.ones(4))


def test_encoders_that_return_the_shared_space_are_not_projected(batch):
    model = TwoTower(Flat(), build(SMALL["vit"]), init_logit_bias=-10.0)
    assert torch.equal(model.encode_image(batch[0]), model.visual(batch[0]))
    assert model.logit_bias.item() == -10


@pytest.mark.parametrize("pool", ["first", "mean", "auto"])
def test_hidden_states_are_pooled_as_asked(pool, batch):
    tower = EncoderTower(Tokens(), 8, pool=pool)
    states = tower.encoder(**batch[1]).last_hidden_state
    kept = [row[mask.bool()] for row, mask in zip(states, batch[1]["attention_mask"], strict=True)]
    pooled = torch.stack([k.mean(0) for k in kept]) if pool == "mean" else states[:, 0]
    torch.testing.assert_close(tower(batch[1]), tower.proj(pooled))


def test_mean_without_a_mask_is_over_all_tokens():
    tower = EncoderTower(nn.Embedding(20, 10), 8, width=10, pool="mean")
    ids = torch.randint(0, 20, (2, 5))
    torch.testing.assert_close(tower(ids), tower.proj(tower.encoder(ids).mean(1)))


def test_outputs_without_pooled_features_raise_and_say_what_to_do(batch):
    with pytest.raises(TypeError, match=r"SimpleNamespace .* no pooled features.*pool='first'"):
        EncoderTower(Tokens(pooler=False), 8)(batch[1])
    with pytest.raises(TypeError, match=r"Embedding returned \(2, 5, 10\).*pool='mean'"):
        EncoderTower(nn.Embedding(20, 10), 8, width=10)(torch.zeros(2, 5, dtype=torch.int64))


def test_unknown_width_and_pool_raise():
    with pytest.raises(ValueError, match="width of Embedding's features cannot be determined"):
        TwoTower(Flat(), nn.Embedding(20, 10), embed_dim=8)
    with pytest.raises(ValueError, match="'max'"):
        EncoderTower(Flat(), 8, pool="max")


def test_locking_freezes_the_encoder_and_leaves_the_projection_if_asked(model):
    model.lock_image_tower(unlocked_groups=1)
    assert (
        model.visual.proj.weight.requires_grad
        and not model.visual.encoder.layer.weight.requires_grad
    )
    model.lock_text_tower()
    assert not any(p.requires_grad for p in model.text.parameters())
    for settings in (dict(unlocked_groups=3), dict(freeze_bn_stats=True)):
        with pytest.raises(ValueError):
            model.lock_image_tower(**settings)


def test_checkpointing_is_asked_of_the_encoders(model):
    model.set_grad_checkpointing()
    assert model.visual.encoder.checkpointing and model.text.encoder.checkpointing
    model.set_grad_checkpointing(False)
    assert not model.text.encoder.checkpointing
    with pytest.raises(TypeError, match="Embedding has no gradient checkpointing"):
        EncoderTower(nn.Embedding(2, 3), 8, width=3).set_grad_checkpointing()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_timm_and_transformers_models_are_towers_as_they_come():
    from tests.support.peers import timm, transformers

    torch.manual_seed(0)
    image_encoder = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1)
    bert = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        vocab_size=50,
    )  # fmt: skip
    model = TwoTower(image_encoder, transformers.BertModel(bert), embed_dim=16)
    ids = torch.randint(0, 50, (2, 6))
    features = model(torch.randn(2, 3, 224, 224), {"input_ids": ids})
    assert features[0].shape == features[1].shape == (2, 16)
    model.set_grad_checkpointing()
    ClipLoss()(*model(torch.randn(2, 3, 224, 224), {"input_ids": ids})).backward()
    assert model.visual.encoder.blocks[0].attn.qkv.weight.grad.any()


def test_built_in_siglip_model_has_open_clips_keys():
    model = build(SMALL["siglip"])
    images, tokens = inputs(SMALL["siglip"])
    assert {n.split(".")[0] for n in model.state_dict()} == {
        "visual", "text", "logit_scale", "logit_bias"
    }  # fmt: skip
    assert (model.context_length, model.vocab_size) == (9, 64)
    assert len(model(images, tokens)) == 4
