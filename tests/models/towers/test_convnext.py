"""ConvNeXt against open_clip's, which is timm's: the same weights, features and gradients."""

import json
from importlib import resources

import pytest
import torch

import fastclip
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.infer import infer_config
from fastclip.models.clip import CLIP
from fastclip.models.clip_config import ClipConfig
from fastclip.models.open_clip_config import from_json, to_json
from fastclip.models.towers.convnext.config import CONVNEXTS, ConvNextConfig
from fastclip.models.towers.convnext.presets import MODELS
from fastclip.models.towers.text.config import TextConfig
from fastclip.models.unfilled import unfilled
from tests.support.peers import open_clip
from tests.support.timm_towers import (
    assert_equal_gradients,
    assert_equal_intermediates,
    timms_with,
    with_random_weights,
)

TEXT = TextConfig(context_length=9, vocab_size=64, width=32, heads=2, layers=1)
SMALL = ConvNextConfig(64, layers=(1, 1, 2, 1), width=8, drop_path=0.3)


def both_towers(proj, proj_bias=False, drop_path=0.0):
    """Ours and open_clip's, with the same random weights, neither of them at its initial gamma."""
    sizes = dict(depths=SMALL.layers, dims=SMALL.widths)
    with timms_with(**sizes):
        theirs = open_clip.timm_model.TimmModel(
            "convnext_tiny", 16, 64, pool="", proj=proj, proj_bias=proj_bias, drop_path=drop_path
        )
    with_random_weights(theirs)
    config = ConvNextConfig(
        64, SMALL.layers, SMALL.width, proj=proj, proj_bias=proj_bias, drop_path=drop_path
    )
    ours = config.build(16)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def images(size=64):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.fast
@pytest.mark.parametrize("proj, proj_bias, drop_path", [("linear", False, 0.0), ("mlp", True, 0.5)])
def test_features_and_gradients_are_open_clips(proj, proj_bias, drop_path):
    assert_equal_gradients(*both_towers(proj, proj_bias, drop_path), images())


def test_intermediates_are_open_clips():
    assert_equal_intermediates(*both_towers("mlp"), images(), indices=[1, 3])


def test_in_float32_it_is_as_exact_as_open_clips():
    ours, theirs = both_towers("linear")
    with torch.no_grad():
        truth = ours.eval().double()(images().double())
        found = [(t.float().eval()(images()) - truth).abs().max() for t in (ours, theirs)]
    assert found[0] <= 4 * found[1] <= 1e-4 * truth.abs().max()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_open_clips_configuration(name):
    told = json.loads(
        (resources.files("open_clip") / f"model_configs/{name}.json").read_text("utf-8")
    )
    assert from_json(told) == fastclip.get_model_config(name) == from_json(to_json(from_json(told)))


@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_large_d", "convnext_xxlarge"])
def test_its_parameters_have_open_clips_names_and_sizes(name):
    config = fastclip.get_model_config(name).vision_cfg
    with unfilled():
        ours = config.build(24).state_dict()
        theirs = open_clip.timm_model.TimmModel(
            config.timm_name, 24, config.image_size, pool="", proj=config.proj
        ).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    of_trunk = sum(v.numel() for k, v in ours.items() if k.startswith("trunk."))
    assert config.num_matrix_parameters() == pytest.approx(of_trunk, rel=0.02)


@pytest.mark.parametrize("size", ["convnext_base", None])
def test_its_configuration_is_json_and_comes_back(size):
    sizes = CONVNEXTS[size] if size else dict(layers=(1, 2, 1, 1), width=16, norm_eps=1e-3)
    vision = ConvNextConfig(96, **sizes, proj="mlp", proj_bias=True, drop=0.1, drop_path=0.2)
    config = ClipConfig(24, vision, TEXT)
    values = json.loads(json.dumps(to_json(config)))
    assert from_json(values) == config
    assert vision.is_portable() == (size is not None)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"patch_dropout": 0.5}, "patch_dropout"),
        ({"timm_model_pretrained": True}, "timm_model_pretrained"),
        ({"timm_drop_path": 1.0}, "drop_path"),
        ({"image_size": 16}, "image_size"),
        ({"timm_kernel_size": 3}, "timm_kernel_size"),
    ],
)
def test_what_a_file_says_is_obeyed_or_refused(changes, said):
    values = to_json(ClipConfig(24, ConvNextConfig(96, **CONVNEXTS["convnext_tiny"]), TEXT))
    with pytest.raises(ValueError, match=said):
        from_json(values | {"vision_cfg": values["vision_cfg"] | changes})


def test_weights_alone_do_not_tell_the_size_of_images():
    model = CLIP(ClipConfig(24, SMALL, TEXT))
    with pytest.raises(CheckpointError, match="ConvNeXt, which do not show the size"):
        infer_config(model.state_dict(), "gelu")


@pytest.mark.filterwarnings("ignore:Importing from timm:FutureWarning")
def test_locking_leaves_the_projection_and_the_last_groups_as_open_clip_does():
    ours, theirs = both_towers("linear")
    for unlocked in (0, 1, 3):
        for tower in (ours, theirs):
            tower.requires_grad_(True)
            tower.lock(unlocked)
        trained = [
            {name for name, p in tower.named_parameters() if p.requires_grad}
            for tower in (ours, theirs)
        ]
        assert trained[0] == trained[1]


def test_checkpointing_changes_no_bit_and_patch_tokens_are_what_is_averaged():
    tower = SMALL.build(16)
    torch.nn.init.normal_(tower.trunk.stages[0].blocks[0].gamma)
    gradients = []
    for enable in (False, True):
        tower.zero_grad()
        tower.set_grad_checkpointing(enable)
        torch.manual_seed(3)
        tower(images()).square().sum().backward()
        gradients.append([p.grad.clone() for p in tower.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    tower.eval()
    with torch.no_grad():
        tokens = tower.patch_tokens(images())
        assert tokens.shape == (2, 4, 64)
        pooled = tower.trunk.head.norm(tokens.mean(1))
        torch.testing.assert_close(tower.head(pooled), tower(images()))
