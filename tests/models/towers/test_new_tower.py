"""A new tower is one file, as this one, and one line in the table: nothing else is told of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

import fastclip
from fastclip.losses.clip import ClipLoss
from fastclip.models import registry
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.infer import infer_config
from fastclip.models.checkpoints.load import load_checkpoint
from fastclip.models.checkpoints.shapes import side_of, sizes_of
from fastclip.models.checkpoints.stored_model import read_stored_model
from fastclip.models.clip import CLIP
from fastclip.models.clip_config import ClipConfig
from fastclip.models.open_clip_config import from_json, to_json
from fastclip.models.towers import table
from fastclip.models.towers.image_config import ImageTowerConfig, Moments, Positions
from fastclip.models.towers.image_tower import ImageTower
from fastclip.models.towers.text.config import TextConfig
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.optimizer import make_optimizer, moments_of


@dataclass(frozen=True)
class PatchMeanConfig(ImageTowerConfig):
    """The mean of linear patches: no attention, no activation."""

    kind: ClassVar = "patch mean"
    layers: ClassVar = 0
    heads: ClassVar = None
    positions: ClassVar = Positions("places", num_before=0)
    moments: ClassVar = Moments(0.8, 0.95, 1e-7)

    image_size: tuple[int, int]
    patch_size: int
    width: int

    def __post_init__(self):
        if isinstance(self.image_size, int):
            object.__setattr__(self, "image_size", (self.image_size, self.image_size))

    @property
    def grid_size(self):
        return tuple(side // self.patch_size for side in self.image_size)

    def build(self, embed_dim):
        return PatchMean(self, embed_dim)

    def num_matrix_parameters(self):
        return 3 * self.patch_size**2 * self.width

    @classmethod
    def is_told_by(cls, values: Mapping):
        return values.get("pool_type") == "patch_mean"

    @classmethod
    def from_json(cls, values, quick_gelu):
        return cls(**{name: value for name, value in values.items() if name != "pool_type"})

    def to_json(self, quick_gelu):
        return asdict(self) | {"pool_type": "patch_mean"}

    @classmethod
    def has_weights_in(cls, tensors):
        return "visual.patches.weight" in tensors

    @classmethod
    def of_weights(cls, tensors, activation):
        width, _, _, patch_size = sizes_of(tensors, "visual.patches.weight", 4)
        grid = side_of(sizes_of(tensors, "visual.places", 2)[0], "visual.places")
        embed_dim, _ = sizes_of(tensors, "visual.head.weight", 2)
        return cls(grid * patch_size, patch_size, width), embed_dim

    def shape(self):
        return PatchMeanConfig, self.width


class PatchMean(ImageTower):
    positions = PatchMeanConfig.positions

    def __init__(self, config, embed_dim):
        super().__init__(config.image_size, config.channels, embed_dim)
        self.grid_size = config.grid_size
        size = config.patch_size
        self.patches = nn.Conv2d(3, config.width, size, stride=size)
        self.places = nn.Parameter(torch.randn(config.grid_size[0] ** 2, config.width))
        self.head = nn.Linear(config.width, embed_dim)

    def forward(self, images):
        return self.head(self.patch_tokens(images).mean(1))

    def patch_tokens(self, images):
        self.require_images(images)
        return self.patches(images).flatten(2).transpose(1, 2) + self.places

    def groups(self):
        return [[self.patches, self.places], [self.head]]


TEXT = TextConfig(context_length=9, vocab_size=64, width=128, heads=2, layers=1)
CONFIG = ClipConfig(24, PatchMeanConfig(16, patch_size=4, width=12), TEXT)


@pytest.fixture(autouse=True)
def the_one_line(monkeypatch):
    monkeypatch.setattr(table, "IMAGE_TOWERS", [PatchMeanConfig, *table.IMAGE_TOWERS])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CLIP(CONFIG)


@pytest.fixture
def checkpoint(model, tmp_path):
    """As a run writes it: weights, and the configuration as JSON."""
    path = tmp_path / "epoch_1.pt"
    torch.save({"state_dict": model.state_dict(), "model_config": to_json(CONFIG)}, path)
    return path


def inputs(size=16):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, size, size, generator=generator)
    return images, torch.randint(1, 64, (4, 9), generator=generator)


def test_its_configuration_is_json_and_comes_back():
    values = json.loads(json.dumps(to_json(CONFIG)))
    assert values["vision_cfg"]["image_size"] == 16
    assert from_json(values) == CONFIG


def test_it_is_built_saved_and_loaded_by_name(model, checkpoint, monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "architectures", dict(registry.architectures))
    (tmp_path / "patch-mean.json").write_text(json.dumps(to_json(CONFIG)))
    fastclip.add_model_config(tmp_path / "patch-mean.json")
    loaded = fastclip.create_model("patch-mean", pretrained=checkpoint)
    assert loaded.config == CONFIG == read_stored_model(checkpoint).config
    for found, expected in zip(loaded(*inputs()), model(*inputs()), strict=True):
        assert torch.equal(found, expected)
    assert fastclip.get_model_preprocess_cfg(loaded)["size"] == (16, 16)


def test_its_positions_are_resized(model, checkpoint):
    larger = CLIP(ClipConfig(24, PatchMeanConfig(32, patch_size=4, width=12), TEXT))
    assert load_checkpoint(larger, checkpoint, resize=True) is None
    assert larger.visual.patch_tokens(inputs(32)[0]).shape == (4, 64, 12)
    assert torch.equal(larger.visual.head.weight, model.visual.head.weight)


def test_it_is_inferred_from_its_weights(model):
    assert infer_config(model.state_dict(), "gelu", heads=(None, 2)) == CONFIG
    assert infer_config(model.state_dict(), "gelu", heads=2) == CONFIG


@pytest.mark.parametrize(
    "layout, message",
    [
        ("open_clip", "open_clip cannot build this model"),
        ("hf", "its CLIPModel has no patch mean"),
        ("openai", "openai/CLIP has no"),
    ],
)
def test_formats_that_do_not_know_it_refuse_it(model, layout, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        fastclip.save_pretrained(model, tmp_path / "there", layout)
    assert not (tmp_path / "there").exists()


def test_it_is_trained_with_its_own_moments_and_its_groups_are_locked(model):
    assert moments_of(model) == (0.8, 0.95, 1e-7)
    model.lock_image_tower(unlocked_groups=1)
    before = {name: value.clone() for name, value in model.visual.state_dict().items()}
    optimizer = make_optimizer(
        model, StepConfig(batch_size=4, steps=1, **moments_of(model)._asdict())
    )
    CachedStep(model, ClipLoss(), micro_batch_size=2)(*inputs())
    optimizer.step()
    changed = {n for n, value in model.visual.state_dict().items() if (value != before[n]).any()}
    assert changed == {"head.weight", "head.bias"}
