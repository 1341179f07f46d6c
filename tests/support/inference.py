"""A published architecture with few blocks, in open_clip and here, on the same image and text."""

import functools
from copy import deepcopy
from dataclasses import replace

import torch

from fastclip.data.preprocess import image_transform
from fastclip.models.build import build_model
from fastclip.models.checkpoints.stored_model import StoredModel
from fastclip.models.config import ClipConfig, ResNetConfig
from fastclip.models.presets import PRESETS
from fastclip.models.towers.convnext.config import ConvNextConfig
from fastclip.models.towers.image_config import ImageTowerConfig
from fastclip.models.tracing import trace_model
from tests.support.images import random_image
from tests.support.peers import open_clip, timm
from tests.support.small_timm import of_few_blocks

BLOCKS, VOCABULARY = 2, 1000
ONE_A_STAGE = (1, 1, 1, 1)


def few_blocks(name: str) -> ClipConfig:
    """The architecture with `BLOCKS` blocks a tower, or one a stage, and few tokens."""
    config = PRESETS[name]
    vision = config.vision_cfg
    if not vision.is_named:  # timm's are made short where they are built
        vision = replace(vision, layers=ONE_A_STAGE if _has_stages(vision) else BLOCKS)
    return replace(
        config,
        vision_cfg=vision,
        text_cfg=replace(config.text_cfg, layers=BLOCKS, vocab_size=VOCABULARY),
    )


def _has_stages(vision: ImageTowerConfig) -> bool:
    return isinstance(vision, ResNetConfig | ConvNextConfig)


def open_clips(name: str, monkeypatch) -> torch.nn.Module:
    """open_clip's model of its own configuration, shortened likewise, in evaluation mode."""
    values = deepcopy(open_clip.get_model_config(name))
    text, vision = values["text_cfg"], values["vision_cfg"]
    text |= {"layers": BLOCKS, "vocab_size": VOCABULARY}
    if "timm_model_name" in vision:
        tower = PRESETS[name].vision_cfg
        sizes = {"depths": ONE_A_STAGE} if _has_stages(tower) else {"depth": BLOCKS}
        if tower.is_named:
            sizes = of_few_blocks(name)
        made = functools.partial(timm.create_model, **sizes)
        monkeypatch.setattr(open_clip.timm_model.timm, "create_model", made)
    else:
        vision["layers"] = list(ONE_A_STAGE) if isinstance(vision["layers"], list) else BLOCKS
    is_custom = values.pop("custom_text", False)
    return (open_clip.CustomTextCLIP if is_custom else open_clip.CLIP)(**values).eval()


def one_of_each(config: ClipConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """A fixed image, prepared, and a text whose end is its last but one token."""
    image = image_transform(config.vision_cfg.image_size, False)(random_image("RGB", 300, 200))
    text = config.text_cfg
    tokens = torch.randint(
        3, VOCABULARY - 1, (1, text.context_length), generator=torch.Generator().manual_seed(0)
    )
    tokens[:, -2] = text.eos_id if text.pool_type == "eos" else VOCABULARY - 1
    return image[None], tokens


@torch.no_grad()
def assert_inference_is_open_clips(name: str, monkeypatch) -> None:
    """Names and order of parameters, features and the scale, traced and not."""
    torch.manual_seed(0)
    theirs = open_clips(name, monkeypatch)
    config = few_blocks(name)
    assert not config.text_cfg.proj_bias or theirs.text.text_projection.bias is not None
    model = build_model(config, StoredModel(theirs.state_dict(), config, None, None, None)).eval()
    own = {name: value.shape for name, value in model.named_parameters()}
    assert own == {name: value.shape for name, value in theirs.named_parameters()}
    image, tokens = one_of_each(config)
    expected, found = theirs(image, tokens), model(image, tokens)
    for ours, other in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5)
    assert found[0].abs().max() > 0.01 and found[1].abs().max() > 0.01
    for traced, eager in zip(trace_model(model, 2)(image, tokens), found, strict=True):
        assert torch.equal(traced, eager)
