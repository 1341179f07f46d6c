"""A new text tower is one file, as this one, and one line in the table."""

import json
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

import fastclip
from fastclip.losses.clip import ClipLoss
from fastclip.models import registry
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.stored_model import read_stored_model
from fastclip.models.clip_config import ClipConfig
from fastclip.models.open_clip_config import from_json, to_json
from fastclip.models.towers import table
from fastclip.models.towers.text.config import TextConfig
from fastclip.models.towers.text_config import TextTowerConfig
from fastclip.models.towers.vision_transformer.config import VisionConfig
from fastclip.models.two_tower import CustomTextCLIP
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.optimizer import make_optimizer


@dataclass(frozen=True)
class WordMeanConfig(TextTowerConfig):
    """The mean of words: no attention, no activation, and no projection."""

    kind: ClassVar = "word mean"
    layers: ClassVar = 0
    heads: ClassVar = None
    tokenizer_kwargs: ClassVar = {}
    output_tokens: ClassVar = False
    has_projection: ClassVar = False

    context_length: int
    vocab_size: int
    width: int
    hf_tokenizer_name: str = "somebody/words"

    def build(self, embed_dim):
        return WordMean(self)

    def num_matrix_parameters(self):
        return self.vocab_size * self.width

    @classmethod
    def is_told_by(cls, values):
        return values.get("pool_type") == "word_mean"

    @classmethod
    def from_json(cls, values, quick_gelu):
        return cls(**{name: value for name, value in values.items() if name != "pool_type"})

    def to_json(self, quick_gelu):
        return asdict(self) | {"pool_type": "word_mean"}


class WordMean(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.context_length, self.vocab_size = config.context_length, config.vocab_size
        self.words = nn.EmbeddingBag(config.vocab_size, config.width)

    def forward(self, tokens):
        return self.words(tokens)

    def lock(self, unlocked_layers=0, freeze_layer_norm=True):
        self.words.requires_grad_(unlocked_layers > 0)


VISION = VisionConfig(16, 8, width=32, layers=1, head_width=16)
CONFIG = ClipConfig(24, VISION, WordMeanConfig(9, vocab_size=64, width=24), custom_text=True)


@pytest.fixture(autouse=True)
def the_one_line(monkeypatch):
    monkeypatch.setattr(table, "TEXT_TOWERS", [WordMeanConfig, *table.TEXT_TOWERS])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CustomTextCLIP(CONFIG)


def inputs():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 16, 16, generator=generator)
    return images, torch.randint(1, 64, (4, 9), generator=generator)


def test_its_configuration_is_json_and_comes_back():
    values = json.loads(json.dumps(to_json(CONFIG)))
    assert from_json(values) == CONFIG
    del values["custom_text"]  # such a tower is under `text.` whatever a file says
    assert from_json(values) == CONFIG


def test_it_is_built_saved_and_loaded_by_name(model, monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "architectures", dict(registry.architectures))
    (tmp_path / "word-mean.json").write_text(json.dumps(to_json(CONFIG)))
    checkpoint = tmp_path / "epoch_1.pt"
    torch.save({"state_dict": model.state_dict(), "model_config": to_json(CONFIG)}, checkpoint)
    fastclip.add_model_config(tmp_path / "word-mean.json")
    loaded = fastclip.create_model("word-mean", pretrained=checkpoint)
    assert loaded.config == CONFIG == read_stored_model(checkpoint).config
    for found, expected in zip(loaded(*inputs()), model(*inputs()), strict=True):
        assert torch.equal(found, expected)


def test_quick_gelu_is_of_the_towers_that_have_the_choice():
    quick = CONFIG.with_quick_gelu()
    assert quick.activations == ("quick_gelu", None)
    assert quick.text_cfg == CONFIG.text_cfg
    assert to_json(quick)["quick_gelu"] is True
    assert from_json(to_json(quick)) == quick


@pytest.mark.parametrize(
    "layout, message",
    [
        ("open_clip", "open_clip cannot build this model"),
        ("hf", "none of its models has a word mean"),
        ("openai", "openai/CLIP has no"),
    ],
)
def test_formats_that_do_not_know_it_refuse_it(model, layout, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        fastclip.save_pretrained(model, tmp_path / "there", layout)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(custom_text=False), "custom_text must be true: the keys of a word mean"),
        (dict(embed_dim=32), "the text tower has no projection: its width 24"),
    ],
)
def test_a_pair_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_the_text_tower_of_clip_may_stand_anywhere():
    text = TextConfig(context_length=9, vocab_size=64, width=32, heads=2, layers=1)
    for custom_text in (False, True):
        config = ClipConfig(24, VISION, text, custom_text=custom_text)
        assert from_json(to_json(config)) == config


def test_it_is_trained_and_locked(model):
    model.lock_text_tower(unlocked_layers=1)
    before = model.text.words.weight.detach().clone()
    optimizer = make_optimizer(model, StepConfig(batch_size=4, steps=1))
    CachedStep(model, ClipLoss(), micro_batch_size=2)(*inputs())
    optimizer.step()
    assert (model.text.words.weight != before).any()
    model.lock_text_tower()
    assert not model.text.words.weight.requires_grad
