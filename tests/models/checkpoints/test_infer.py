from dataclasses import replace

import pytest
import torch

import tests.support.peers  # noqa: F401  # before transformers, which asks for a whole torchvision
from fastclip.models.build import class_of
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.infer import PUBLISHED, infer_config
from fastclip.models.parts.mlp_ratio import mlp_ratio
from fastclip.models.presets import PRESETS
from fastclip.models.unfilled import unfilled
from tests.support.small_models import SMALL

# Shapes tell nothing of how CLIPA is read out, or of 384 = 27 * 14 + 6.
UNTOLD = ("CLIPA", "14-SigLIP-384", "large-siglip", "convnext", "PE-Core")
# Nor of tokenizers, which the small models of our own name.
UNTOLD += ("ViT-Mini", "ViT-Ti")
TOLD = [n for n in PRESETS if not any(w in n for w in UNTOLD)]
# Nor which of timm's trunks it is.
TOLD = [n for n in TOLD if not PRESETS[n].vision_cfg.is_named]
# Nor of the activation, which is given: one name of those that differ in nothing else.
TOLD = [n for n in TOLD if n == "ViT-B-32-quickgelu" or not n.endswith("-quickgelu")]


def tensors_of(config):
    with unfilled():
        model = class_of(config)(config)
    return model.state_dict()


@pytest.mark.parametrize("name", TOLD)
def test_published_architectures_are_inferred_from_their_shapes(name):
    config = PRESETS[name]
    vision, text = config.activations
    inferred = infer_config(tensors_of(config), text if vision in (None, text) else (vision, text))
    if "SigLIP" in name:
        assert inferred.text_cfg.hf_tokenizer_name.startswith("timm/ViT-B-16-SigLIP")
        tokenizer = config.text_cfg.hf_tokenizer_name
        text_cfg = replace(inferred.text_cfg, hf_tokenizer_name=tokenizer)
        inferred = replace(inferred, text_cfg=text_cfg)
    if name.endswith("naflex"):  # images may have another number of patches than positions
        vision = replace(inferred.vision_cfg, image_size=config.vision_cfg.image_size)
        inferred = replace(inferred, vision_cfg=vision)
    if name.startswith(("nllb", "TIPS")):  # where a scale begins is of no account to weights
        inferred = replace(inferred, init_logit_scale=config.init_logit_scale)
    if name == "ViT-g-14":  # 4.3637 and 4.364 give the same hidden width
        assert int(1408 * inferred.vision_cfg.mlp_ratio) == int(1408 * 4.3637)
        inferred = replace(inferred, vision_cfg=replace(inferred.vision_cfg, mlp_ratio=4.3637))
    assert inferred == config


@pytest.fixture
def tensors():
    return tensors_of(PRESETS["ViT-S-32"])


def test_unknown_activation_is_asked_for(tensors):
    with pytest.raises(CheckpointError, match=r"activation='quick_gelu' \(OpenAI.*or 'gelu'"):
        infer_config(tensors, None)


@pytest.mark.parametrize(
    "name",
    ["visual.conv1.weight", "token_embedding.weight", "text_projection", "positional_embedding"],
)
def test_missing_tensor_is_named(name, tensors):
    del tensors[name]
    with pytest.raises(CheckpointError, match="cannot be inferred: there is no tensor"):
        infer_config(tensors, "gelu")


def test_grid_that_is_not_square_asks_for_a_configuration(tensors):
    tensors["visual.positional_embedding"] = torch.empty(51, 384, device="meta")
    with pytest.raises(CheckpointError, match="50 positions, which are not a square"):
        infer_config(tensors, "gelu")


def test_tower_without_ln_pre_asks_for_the_name():
    with pytest.raises(CheckpointError, match=r"ln_pre.*give the name"):
        infer_config(tensors_of(PRESETS["ViT-L-14-CLIPA"]), "gelu")


def test_activation_of_one_tower_is_not_taken_for_both_where_published_models_have_two():
    config = PRESETS["ViT-B-16-SigLIP2"]
    assert config.activations == ("gelu", "gelu_tanh")
    with pytest.raises(CheckpointError, match="gelu in the vision tower and gelu_tanh in the text"):
        infer_config(tensors_of(config), "gelu_tanh")
    both = infer_config(tensors_of(config), ("gelu_tanh", "gelu_tanh"))
    assert both.activations == ("gelu_tanh", "gelu_tanh")


def test_siglip_of_an_unpublished_width_asks_for_the_heads():
    tensors = tensors_of(PRESETS["ViT-B-16-SigLIP"])
    tensors["visual.trunk.patch_embed.proj.weight"] = torch.empty(100, 3, 16, 16, device="meta")
    with pytest.raises(CheckpointError, match="width 100"):
        infer_config(tensors, "gelu")


@pytest.mark.parametrize(
    "hidden_width, width, ratio", [(3072, 768, 4.0), (4304, 1152, 3.7362), (8192, 1664, 4.9231)]
)
def test_ratio_is_the_shortest_that_gives_the_width_back(hidden_width, width, ratio):
    assert mlp_ratio(hidden_width, width) == ratio


def test_every_ratio_gives_its_width_back():
    for width in (7, 384, 1152, 1408):
        for hidden_width in range(width // 2, 9 * width, 13):
            assert int(width * mlp_ratio(hidden_width, width)) == hidden_width


# Heads


OWN = ["vit", "wide_mlp", "resnet", "siglip"]


@pytest.mark.parametrize("name", OWN)
def test_heads_of_a_tower_of_ones_own_are_asked_for_and_taken(name):
    config = SMALL[name]
    tensors = tensors_of(config)
    with pytest.raises(CheckpointError, match=r"the vision tower has width .* Give heads="):
        infer_config(tensors, config.text_cfg.activation)
    heads = config.vision_cfg.heads, config.text_cfg.heads
    inferred = infer_config(tensors, config.text_cfg.activation, heads)
    assert inferred.vision_cfg == config.vision_cfg
    assert inferred.text_cfg.heads == config.text_cfg.heads


@pytest.mark.parametrize(
    "change, width",
    [
        ({"layers": 2}, "width 512, 2 layers, 49408 tokens"),
        ({"width": 128, "heads": 4}, "width 128, 12 layers"),
        ({"vocab_size": 49410}, "width 512, 12 layers, 49410 tokens"),
        ({"mlp_ratio": 2.0}, "width 512, 12 layers"),
    ],
    ids=str,
)
def test_heads_of_a_text_tower_unlike_published_ones_are_asked_for(change, width):
    base = PRESETS["ViT-B-32"]
    config = replace(base, text_cfg=replace(base.text_cfg, **change))
    tensors = tensors_of(config)
    with pytest.raises(CheckpointError, match=f"the text tower has {width}"):
        infer_config(tensors, "gelu")
    assert infer_config(tensors, "gelu", (12, config.text_cfg.heads)) == config


def test_one_number_stands_for_both_towers_and_what_is_told_comes_first():
    tensors = tensors_of(PRESETS["ViT-S-32"])
    inferred = infer_config(tensors, "gelu", heads=3)
    assert (inferred.vision_cfg.heads, inferred.text_cfg.heads) == (3, 3)
    with pytest.raises(ValueError, match=r"vision tower must divide its width 384, got 5"):
        infer_config(tensors, "gelu", heads=(5, 6))


@pytest.mark.parametrize(
    "preset, own, told, refused",
    [
        ("ViT-B-32", "text_cfg", 8, "vision tower .* a published one with 12 heads"),
        ("RN50", "text_cfg", 8, "vision tower .* a published one with 32 heads"),
        ("ViT-B-32", "vision_cfg", 16, "text tower .* a published one with 8 heads"),
        ("ViT-B-32", "vision_cfg", 8, None),
    ],
)
def test_one_number_that_is_meant_for_one_tower_is_not_taken_for_the_other(
    preset, own, told, refused
):
    config = PRESETS[preset]
    tensors = tensors_of(replace(config, **{own: replace(getattr(config, own), layers=2)}))
    if refused is not None:
        with pytest.raises(CheckpointError, match=f"heads {told} for both .*{refused}"):
            infer_config(tensors, "gelu", told)
    inferred = infer_config(tensors, "gelu", (told, told) if refused else told)
    assert (inferred.vision_cfg.heads, inferred.text_cfg.heads) == (told, told)


@pytest.mark.parametrize(
    "heads, message",
    [
        ((12, 8, 1), r"heads must be one value for both towers, or two .*, got \(12, 8, 1\)"),
        ((12,), r"heads must be one value for both towers, or two .*, got \(12,\)"),
        (("12", 8), "heads of the vision tower must divide its width 768, got '12'"),
        ([12, 1.5], "heads of the text tower must divide its width 512, got 1.5"),
    ],
)
def test_heads_that_are_no_number_or_two_are_named(heads, message):
    tensors = tensors_of(PRESETS["ViT-B-32"])
    with pytest.raises(ValueError, match=message):
        infer_config(tensors, "gelu", heads)
    assert infer_config(tensors, ["gelu", "gelu"], [12, 8]) == PRESETS["ViT-B-32"]


def test_openais_format_has_heads_of_64_channels():
    inferred = infer_config(tensors_of(SMALL["wide_mlp"]), "quick_gelu", is_openai=True)
    assert (inferred.vision_cfg.heads, inferred.text_cfg.heads) == (2, 2)
    resnet = infer_config(tensors_of(SMALL["resnet"]), "quick_gelu", is_openai=True)
    assert resnet.vision_cfg.head_width == 64
    # No multiple of 64: of such a tower of somebody else's the format does not tell the heads.
    text = replace(SMALL["vit"].text_cfg, width=32, heads=2)
    tensors = tensors_of(replace(SMALL["vit"], text_cfg=text))
    with pytest.raises(CheckpointError, match=r"the text tower has width 32.*Give heads="):
        infer_config(tensors, "quick_gelu", is_openai=True)
    told = infer_config(tensors, "quick_gelu", (2, 4), is_openai=True)
    assert told.text_cfg.heads == 4


def test_towers_that_shapes_do_not_tell_apart_have_the_same_heads():
    for config in PRESETS.values():
        for tower in (config.vision_cfg, config.text_cfg):
            assert PUBLISHED[tower.shape()].heads == tower.heads
