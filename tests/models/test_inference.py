"""One fixed image and one text through each kind of architecture, as open_clip computes it.

Widths, patches and read-outs are the published ones, blocks are few: tests/hosts has all of them.
"""

import pytest
import torch

from fastclip.models.clip import CLIP
from fastclip.models.two_tower import CustomTextCLIP
from tests.support.inference import assert_inference_is_open_clips, few_blocks, open_clips

KINDS = ["ViT-S-32-alt", "RN50-quickgelu", "ViT-B-16-SigLIP"]


@pytest.mark.parametrize("name", KINDS)
def test_features_traced_and_not_are_open_clips(name, monkeypatch):
    assert_inference_is_open_clips(name, monkeypatch)


# open_clip locks a ResNet as a whole or not at all.
@pytest.mark.parametrize(
    "name, unlocked", [("ViT-S-32-alt", count) for count in range(4)] + [("RN50", 0)]
)
def test_what_a_lock_leaves_to_be_trained_is_what_open_clip_leaves(name, unlocked, monkeypatch):
    trained = []
    for model in (open_clips(name, monkeypatch), CLIP(few_blocks(name))):
        model.lock_image_tower(unlocked_groups=unlocked)
        model.lock_text_tower(unlocked_layers=unlocked)
        trained.append({name for name, value in model.named_parameters() if value.requires_grad})
    assert trained[0] == trained[1]


@pytest.mark.parametrize("name", ["RN50", "ViT-S-32-alt"])
def test_frozen_statistics_stand_still_as_in_open_clip(name, monkeypatch):
    images = torch.randn(2, 3, 224, 224)
    for model in (open_clips(name, monkeypatch), CLIP(few_blocks(name))):
        model.train()
        model.lock_image_tower(freeze_bn_stats=True)
        before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
        model.encode_image(images)
        model.train()
        model.encode_image(images)
        after = model.state_dict()
        assert all(torch.equal(after[k], v) for k, v in before.items())
        assert bool(before) == (name == "RN50")


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16-SigLIP"])
def test_checkpointing_is_switched_on_in_both_towers_as_in_open_clip(name):
    config = few_blocks(name)
    model = (CustomTextCLIP if config.custom_text else CLIP)(config)
    for enable in (True, False):
        model.set_grad_checkpointing(enable)
        found = {
            module.grad_checkpointing
            for module in model.modules()
            if hasattr(module, "grad_checkpointing")
        }
        assert found == {enable}
