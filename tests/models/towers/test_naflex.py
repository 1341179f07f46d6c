"""SigLIP 2's NaFlex tower: transformers' model and timm's, to the last digits, and its inputs."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fastclip.data.patches import MASK, PIXELS, SHAPES, collate_patches
from fastclip.models.build import class_of
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.infer import infer_config
from fastclip.models.checkpoints.transformers_config import to_transformers_config
from fastclip.models.checkpoints.transformers_layout import (
    from_transformers,
    to_transformers,
    to_transformers_vision,
)
from fastclip.models.clip_config import ClipConfig
from fastclip.models.config import NaflexConfig
from fastclip.models.open_clip_config import from_json, to_json
from fastclip.models.parts.grid_resize import resized_grid
from fastclip.models.presets import PRESETS
from fastclip.models.unfilled import unfilled
from tests.support.small_models import SMALL, build, inputs

SMALL_NAFLEX = SMALL["naflex"]
SIDE = SMALL_NAFLEX.vision_cfg.patch_size
# Square, wide, tall, one patch, as many as the positions, more of them: rows and columns.
GRIDS = [(4, 4), (2, 6), (5, 1), (1, 1), (3, 3), (7, 4)]
NAMES = [name for name in PRESETS if name.endswith("naflex")]


def images_of(grids=GRIDS, seed=3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(3, rows * SIDE, columns * SIDE, generator=generator, dtype=torch.float64)
        for rows, columns in grids
    ]


@pytest.fixture(scope="module")
def model():
    return build(SMALL_NAFLEX).double()


@pytest.fixture
def batch():
    return collate_patches(images_of(), SIDE, num_patches=30)


@pytest.fixture
def siglip2(model, monkeypatch):
    """transformers' Siglip2Model with the weights of `model`, computing in float64 throughout."""
    from tests.support.peers import transformers

    config = transformers.Siglip2Config(**to_transformers_config(SMALL_NAFLEX))
    config._attn_implementation = "sdpa"  # the eager one has a softmax in float32
    theirs = transformers.Siglip2Model(config).double().eval()
    theirs.load_state_dict(to_transformers(model.state_dict(), SMALL_NAFLEX))
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # of resized positions
    return theirs


def test_features_and_gradients_are_those_of_transformers(model, siglip2, batch):
    _, tokens = inputs(SMALL_NAFLEX, len(GRIDS))
    weights = torch.linspace(-1, 1, 128, dtype=torch.float64)
    ours = model.encode_image(batch), model.encode_text(tokens)
    theirs = siglip2.get_image_features(**batch), siglip2.get_text_features(tokens)
    theirs = [found.pooler_output for found in theirs]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    model.zero_grad()
    for features in (ours, theirs):
        sum((part * weights).sin().sum() for part in features).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    scale = {name: torch.zeros(()) for name in ("logit_scale", "logit_bias")}
    expected = to_transformers(gradients | scale, SMALL_NAFLEX)
    for name, parameter in siglip2.named_parameters():
        if "logit" not in name:
            torch.testing.assert_close(
                expected[name], parameter.grad, rtol=1e-9, atol=1e-9, msg=name
            )
            assert parameter.grad.any(), name


def test_features_are_those_of_timm(model, batch, monkeypatch):
    from tests.support.peers import timm

    config = SMALL_NAFLEX.vision_cfg
    theirs = timm.create_model(
        "naflexvit_base_patch16_siglip", num_classes=0, patch_size=SIDE, embed_dim=config.width,
        depth=config.layers, num_heads=config.heads, pos_embed_grid_size=config.position_grid,
    ).double().eval()  # fmt: skip
    theirs.load_state_dict(model.visual.trunk.state_dict())
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    places = model.visual.patch_tokens(batch, positions=True)[1]
    with torch.no_grad():
        known = {"patch_coord": places.clamp(min=0), "patch_valid": batch[MASK]}
        expected = theirs({"patches": batch[PIXELS]} | known)
        torch.testing.assert_close(model.visual(batch), expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_features_do_not_depend_on_padding_nor_on_what_it_holds(model, batch):
    expected = model.encode_image(batch)
    for number, image in enumerate(images_of()):  # alone, as an image: no mask, no padding
        alone = model.encode_image(image[None])[0]
        torch.testing.assert_close(alone, expected[number], rtol=1e-9, atol=1e-12)
    longer = collate_patches(images_of(), SIDE, num_patches=41)
    torch.testing.assert_close(model.encode_image(longer), expected, rtol=1e-9, atol=1e-12)
    for garbage in (1e9, torch.nan, torch.inf):
        values = batch[PIXELS].masked_fill(~batch[MASK][..., None], garbage)
        assert torch.equal(model.encode_image({**batch, PIXELS: values}), expected)


@torch.no_grad()
def test_mask_leaves_out_patches_within_an_image_as_transformers_does(model, siglip2, batch):
    mask = batch[MASK].clone()
    mask[:, 0] &= batch[MASK].sum(1) == 1  # all but the image of one patch lose their first
    masked = {**batch, MASK: mask}
    features = model.encode_image(masked)
    expected = siglip2.get_image_features(**masked).pooler_output
    torch.testing.assert_close(features, expected, rtol=1e-9, atol=1e-9)
    assert (features != model.encode_image(batch)).any(1).sum() == len(GRIDS) - 1
    integers = {**masked, MASK: mask.int()}  # as transformers' processor makes it
    assert torch.equal(model.encode_image(integers), features)
    without = {name: batch[name] for name in (PIXELS, SHAPES)}
    assert torch.equal(model.encode_image(without), model.encode_image(batch))


@torch.no_grad()
def test_tokens_and_intermediates_are_those_of_transformers(model, siglip2, batch):
    valid = batch[MASK]
    theirs = siglip2.vision_model(**batch, output_hidden_states=True)
    tokens, places = model.visual.patch_tokens(batch, positions=True)
    torch.testing.assert_close(tokens[valid], theirs.last_hidden_state[valid], rtol=1e-9, atol=1e-9)
    assert not tokens[~valid].any() and (places[~valid] == -1).all()
    rows, columns = GRIDS[1]
    assert places[1, : rows * columns].tolist() == [[r, c] for r in range(2) for c in range(6)]
    found = model.visual.forward_intermediates(batch, indices=[0], output_fmt="NLC")
    (first,) = found["image_intermediates"]
    torch.testing.assert_close(first[valid], theirs.hidden_states[1][valid], rtol=1e-9, atol=1e-9)
    assert not first[~valid].any()
    torch.testing.assert_close(found["image_features"], model.visual(batch))
    first = model.visual.patch_tokens(batch, layer=0, norm=False)
    torch.testing.assert_close(first, found["image_intermediates"][0])
    with pytest.raises(ValueError, match="output_fmt must be 'NLC' for a batch of patches"):
        model.visual.forward_intermediates(batch)
    image = images_of([(2, 3)])[0][None]
    maps = model.visual.forward_intermediates(image)["image_intermediates"]
    assert [tuple(each.shape) for each in maps] == [(1, 128, 2, 3)] * 2
    tokens, places = model.visual.patch_tokens(image, positions=True)
    assert tuple(tokens.shape) == (1, 6, 128) and places.tolist()[3] == [1, 0]


def test_checkpointing_changes_no_gradient(model, batch):
    found = []
    for enable in (False, True):
        model.visual.set_grad_checkpointing(enable)
        model.zero_grad()
        model.visual(batch).square().sum().backward()
        found.append([p.grad for p in model.visual.parameters()])
    model.visual.set_grad_checkpointing(False)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("grid", [(3, 3), (5, 5), (4, 9), (1, 2), (2, 3)])
def test_positions_are_resized_as_torch_interpolates(grid):
    table = torch.randn(3, 5, 7, dtype=torch.float64)
    expected = F.interpolate(
        table.permute(2, 0, 1)[None], grid, mode="bilinear", align_corners=False, antialias=True
    )[0].permute(1, 2, 0)
    torch.testing.assert_close(resized_grid(table, grid), expected, rtol=1e-12, atol=1e-12)
    half = table.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        resized = resized_grid(half, grid)
    torch.testing.assert_close(resized, resized_grid(half.double(), grid).bfloat16())


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"pixels": 0}, ValueError, "got also pixels"),
        ({PIXELS: None}, ValueError, "images must be a batch with pixel_values"),
        ({PIXELS: torch.zeros(2, 5, 7)}, ValueError, r"pixel_values must be \(B, S, 192\)"),
        ({PIXELS: torch.zeros(2, 5, 192).byte()}, TypeError, "pixel_values must be floating-point"),
        ({SHAPES: torch.ones(3, 2).long()}, ValueError, r"spatial_shapes must be \(2, 2\)"),
        ({SHAPES: torch.ones(2, 2)}, TypeError, "spatial_shapes must be integers"),
        (
            {SHAPES: torch.tensor([[2, 3], [1, 1]])},
            ValueError,
            r"each image from 1 to 5 patches, .*got \(2",
        ),
        ({SHAPES: torch.tensor([[2, 0], [1, 1]])}, ValueError, r"1 to 5 patches.*got \(2, 0\)"),
        ({MASK: torch.ones(2, 4)}, ValueError, r"pixel_attention_mask must be \(2, 5\)"),
        ({MASK: torch.ones(2, 5)}, ValueError, "it reads padding after an image's patches"),
        ({MASK: torch.zeros(2, 5)}, ValueError, "it reads no patch"),
    ],
    ids=str,
)
def test_wrong_batch_is_refused_by_name(change, error, message, model):
    batch = collate_patches([torch.zeros(3, 8, 40), torch.zeros(3, 8, 8)], SIDE) | change
    batch = {name: value for name, value in batch.items() if value is not None}
    with pytest.raises(error, match=message):
        model.encode_image(batch)


def test_state_dict_goes_to_transformers_and_back(model):
    tensors = model.state_dict()
    back = from_transformers(to_transformers(tensors, SMALL_NAFLEX), SMALL_NAFLEX)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    vision = to_transformers_vision(tensors, SMALL_NAFLEX)
    assert vision["vision_model.embeddings.position_embedding.weight"].shape == (9, 128)
    oblong = replace(SMALL_NAFLEX.vision_cfg, position_grid=(2, 3))
    with pytest.raises(CheckpointError, match="positions on a grid of 2 x 3"):
        to_transformers_vision(tensors, replace(SMALL_NAFLEX, vision_cfg=oblong))


def test_shapes_tell_the_configuration(model):
    inferred = infer_config(model.state_dict(), "gelu_tanh", (4, 2))
    # Images are taken to have as many patches as there are positions.
    vision = replace(SMALL_NAFLEX.vision_cfg, image_size=(24, 24))
    assert inferred.vision_cfg == vision


@pytest.mark.parametrize("name", NAMES)
def test_preset_has_the_tensors_of_transformers_model_of_its_size(name):
    from tests.support.peers import transformers

    config = PRESETS[name]
    theirs_config = transformers.Siglip2Config(**to_transformers_config(config))
    with torch.device("meta"):
        theirs = transformers.Siglip2Model(theirs_config).state_dict()
    with unfilled():
        ours = class_of(config)(config).state_dict()
    found = to_transformers(ours, config)
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in theirs.items()}


# As in open_clip's main branch, but for the text towers, which are those of its SigLIP2 models.
OPEN_CLIPS = {
    "ViT-B-16-SigLIP2-naflex": {
        "image_size": 256, "timm_model_name": "naflexvit_base_patch16_siglip",
        "timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none",
    },
    "ViT-SO400M-16-SigLIP2-naflex": {
        "image_size": 384, "image_seq_len": 576,
        "timm_model_name": "naflexvit_so400m_patch16_siglip",
        "timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_what_open_clips_main_branch_has_of_the_name(name):
    config = PRESETS[name]
    assert from_json(to_json(config) | {"vision_cfg": OPEN_CLIPS[name]}) == config
    sibling = PRESETS[name.replace("naflex", "256")]
    assert replace(config.text_cfg, hf_tokenizer_name=None) == replace(
        sibling.text_cfg, hf_tokenizer_name=None
    )
    assert config.text_cfg.hf_tokenizer_name == f"timm/{name.replace('naflex', '256')}"
    wrong = OPEN_CLIPS[name] | {"image_seq_len": 100}
    with pytest.raises(ValueError, match="image_seq_len 100 is not supported"):
        from_json(to_json(config) | {"vision_cfg": wrong})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"patch_dropout": 0.5}, "patch_dropout must be 0 in a NaFlex tower, got 0.5"),
        ({"position_grid": (3,)}, r"position_grid must be \(rows, columns\)"),
        ({"position_grid": (3, 10**9)}, r"position_grid\[1\] must be a whole number from 1"),
        ({"image_size": 33}, "image_size must be a multiple of .*33"),
        ({"heads": 3}, r"width must be a multiple of 3 \(heads\), got 128"),
    ],
    ids=str,
)
def test_configuration_that_is_not_possible_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL_NAFLEX.vision_cfg, **change)


def test_many_positions_count_as_parameters():
    vision = NaflexConfig(16, 16, 2**13, 1, 1, position_grid=(2**16, 2**16))
    with pytest.raises(ValueError, match="parameters, more than"):
        ClipConfig(2**13, vision, SMALL_NAFLEX.text_cfg, custom_text=True)
