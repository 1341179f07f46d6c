"""PE-Core against open_clip's, which is timm's: the same weights, features and gradients."""

import json
from dataclasses import replace
from importlib import resources

import pytest
import torch

import fastclip
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.infer import infer_config
from fastclip.models.checkpoints.resize import resize_positions
from fastclip.models.clip_config import ClipConfig
from fastclip.models.open_clip_config import from_json, to_json
from fastclip.models.parts.rotary import grid_rotation
from fastclip.models.towers.pe_core.config import PE_CORES, PECoreConfig
from fastclip.models.towers.pe_core.presets import MODELS
from fastclip.models.towers.text.config import TextConfig
from fastclip.models.two_tower import CustomTextCLIP
from fastclip.models.unfilled import unfilled
from tests.support.peers import open_clip
from tests.support.timm_towers import (
    assert_equal_gradients,
    assert_equal_intermediates,
    timms_with,
    with_random_weights,
)

TEXT = TextConfig(context_length=9, vocab_size=64, width=32, heads=2, layers=1)
SMALL = PECoreConfig(32, patch_size=8, width=32, layers=2, heads=2, mlp_ratio=2.0)
GIANT = replace(SMALL, class_token=False, first_place=0)


def both_towers(config):
    """Ours and open_clip's, with the same random weights."""
    name = "tiny_patch16_384" if config.class_token else "gigantic_patch14_448"
    sizes = dict(
        img_size=config.image_size, patch_size=config.patch_size, embed_dim=config.width,
        depth=config.layers, num_heads=config.heads, mlp_ratio=config.mlp_ratio,
        ref_feat_shape=config.reference_grid,
    )  # fmt: skip
    with timms_with(**sizes):
        theirs = open_clip.timm_model.TimmModel(
            f"vit_pe_core_{name}", 16, config.image_size, pool="map", proj=None
        )
    ours = config.build(16)
    ours.load_state_dict(with_random_weights(theirs).state_dict())
    return ours, theirs


def images(height=32, width=32):
    return torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.fast
@pytest.mark.parametrize(
    "config, size",
    [
        (SMALL, (32, 32)),
        (GIANT, (32, 32)),
        (replace(SMALL, image_size=(24, 40), reference_grid=(5, 7)), (24, 40)),
    ],
    ids=["class", "giant", "stretched"],
)
def test_features_and_gradients_are_open_clips(config, size):
    assert_equal_gradients(*both_towers(config), images(*size))


@pytest.mark.parametrize(
    "config, settings",
    [
        (SMALL, dict(indices=[0], normalize_intermediates=True, output_extra_tokens=True)),
        (GIANT, dict(indices=1, output_fmt="NLC", intermediates_only=True)),
    ],
    ids=["class", "giant"],
)
def test_intermediates_are_open_clips(config, settings):
    towers = both_towers(config)
    assert_equal_intermediates(*towers, images(), **settings)
    tokens, places = towers[0].patch_tokens(images().double(), 0, norm=False, positions=True)
    assert tokens.shape == (3, 16, 32) and places[-1].tolist() == [3, 3]


def test_in_float32_it_is_as_exact_as_open_clips():
    ours, theirs = both_towers(SMALL)
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


@pytest.mark.parametrize("name", ["PE-Core-B-16", "PE-Core-bigG-14-448"])
def test_its_parameters_have_open_clips_names_and_sizes(name):
    config = fastclip.get_model_config(name).vision_cfg
    with unfilled():
        ours = config.build(24).state_dict()
        theirs = open_clip.timm_model.TimmModel(
            config.timm_name, 24, config.image_size, pool="map", proj=None
        ).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    num = sum(v.numel() for v in ours.values())
    assert config.num_matrix_parameters() == pytest.approx(num, rel=0.12)  # but for the readout


@pytest.mark.parametrize("size", [None, 256])
def test_its_configuration_is_json_and_comes_back(size):
    vision = PECoreConfig(**PE_CORES["vit_pe_core_base_patch16_224"])
    if size is not None:
        vision = replace(vision, image_size=(size, size), patch_dropout=0.5)
    config = ClipConfig(24, vision, TEXT, custom_text=True)
    values = json.loads(json.dumps(to_json(config)))
    assert from_json(values) == config
    assert vision.is_portable() == (size is None)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"timm_model_pretrained": True}, "timm_model_pretrained"),
        ({"timm_drop_path": 0.1}, "timm_drop_path"),
        ({"patch_dropout": 1.0}, "patch_dropout"),
        ({"image_size": 0}, "image_size"),
        ({"rope_type": "mixed"}, "rope_type"),
    ],
)
def test_what_a_file_says_is_obeyed_or_refused(changes, said):
    values = to_json(fastclip.get_model_config("PE-Core-T-16-384"))
    with pytest.raises(ValueError, match=said):
        from_json(values | {"vision_cfg": values["vision_cfg"] | changes})


def test_weights_alone_do_not_tell_rotary_positions():
    model = CustomTextCLIP(ClipConfig(24, SMALL, TEXT, custom_text=True))
    with pytest.raises(CheckpointError, match="PE-Core tower, which do not show its rotary"):
        infer_config(model.state_dict(), "gelu")


@pytest.mark.parametrize("config", [SMALL, GIANT], ids=["class", "giant"])
def test_positions_of_another_image_size_are_resized_and_rotary_ones_stretched(config):
    model = CustomTextCLIP(ClipConfig(24, config, TEXT))
    larger = replace(config, image_size=(48, 48))
    resized = CustomTextCLIP(ClipConfig(24, larger, TEXT))
    weights = resize_positions(model.state_dict(), resized)
    assert weights["visual.trunk.pos_embed"].shape[1] == config.num_prefix + 36
    resized.load_state_dict(weights)
    assert resized.encode_image(images(48, 48)).shape == (3, 24)
    assert larger.reference_grid == (4, 4)
    _, last = (grid_rotation((n, n), (4, 4), 0, 8, "cpu").sin[:, 0] for n in (4, 6))
    torch.testing.assert_close(last[5], torch.tensor(5 / 6 * 4).sin())


@pytest.mark.filterwarnings("ignore:Importing from timm:FutureWarning")
@pytest.mark.parametrize("unlocked", [0, 1, 2])
def test_locking_is_open_clips(unlocked):
    trained = []
    for tower in both_towers(SMALL):
        tower.lock(unlocked)
        trained.append({name for name, p in tower.named_parameters() if p.requires_grad})
    assert trained[0] == trained[1]


def test_half_of_the_patches_keep_their_places():
    tower = replace(SMALL, patch_dropout=0.5).build(16)
    with_random_weights(tower)
    places = torch.tensor([[3, 0, 9], [1, 2, 15]])
    rotation = grid_rotation((4, 4), (4, 4), 1, 16, "cpu")
    assert torch.equal(rotation.at(places).cos[1, 0, 2], rotation.cos[15])
    assert tower.train()(images()).shape == (3, 16)
    assert tower.patch_tokens(images()).shape == (3, 8, 32)
    assert torch.equal(tower.eval()(images()), tower(images()))
    assert tower.patch_tokens(images()).shape == (3, 16, 32)


def test_checkpointing_changes_no_bit():
    tower = with_random_weights(SMALL.build(16))
    gradients = []
    for enable in (False, True):
        tower.zero_grad()
        tower.set_grad_checkpointing(enable)
        tower(images()).square().sum().backward()
        gradients.append([p.grad.clone() for p in tower.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
