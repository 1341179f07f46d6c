"""A small TIPS model, and transformers' own model of the same configuration."""

import pytest
import torch
from torch import Tensor

from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.clip_config import ClipConfig
from fastclip.models.towers.tips.config import TipsVisionConfig
from fastclip.models.towers.tips.text_config import TipsTextConfig
from fastclip.models.two_tower import CustomTextCLIP
from tests.support.peers import transformers
from tests.support.small_models import build

if not hasattr(transformers, "Tipsv2Model"):
    pytest.skip("transformers has TIPS from 5.14 on", allow_module_level=True)
VISION = TipsVisionConfig((28, 28), 7, width=32, layers=2, heads=2, mlp_ratio=3.0)
TEXT = TipsTextConfig(9, 60, width=32, heads=4, layers=2, mlp_ratio=1.5)
TIPS = ClipConfig(32, VISION, TEXT, custom_text=True, init_logit_scale=3.0)


def small(config: ClipConfig = TIPS) -> CustomTextCLIP:
    """A model in evaluation mode in which no parameter is zero, one or the same as another."""
    return build(config)


def inputs(config: ClipConfig = TIPS) -> tuple[Tensor, Tensor]:
    """(3, 3, height, width) pixels from 0 to 1, and (3, 9) tokens with padding, one without."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, *config.vision_cfg.image_size, generator=generator)
    tokens = torch.randint(1, config.text_cfg.vocab_size, (3, 9), generator=generator)
    for row, length in enumerate((4, 9, 1)):
        tokens[row, length:] = config.text_cfg.pad_id
    return images, tokens


def theirs_of(model: CustomTextCLIP, directory) -> torch.nn.Module:
    """transformers' Tipsv2Model with the weights of ours, by way of its own loader."""
    save_pretrained(model, directory, layout="hf")
    theirs, told = transformers.Tipsv2Model.from_pretrained(directory, output_loading_info=True)
    assert not any(told[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return theirs.eval()
