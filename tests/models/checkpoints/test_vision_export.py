"""An image tower that language models load: in transformers it has the same hidden states."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from fastclip.cli import main
from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.write import save_pretrained
from tests.support.peers import transformers
from tests.support.small_models import SMALL, build, inputs

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
# Text towers that transformers has no place for are no objection to the image tower.
CLIPS = {
    "quick_gelu": SMALL["quick_gelu"],
    "texts without a mask": SMALL["first"],
    "a text tower apart": SMALL["custom_text"],
    "a wide MLP": SMALL["wide_mlp"],
}
CLASSES = {
    "clip": (transformers.CLIPVisionModel, transformers.CLIPImageProcessor),
    "siglip": (transformers.SiglipVisionModel, transformers.SiglipImageProcessor),
}


def loaded_by_transformers(kind, directory):
    """As LLaVA's loaders do; nothing may be missing or left over."""
    model_class, processor_class = CLASSES[kind]
    tower, told = model_class.from_pretrained(directory, output_loading_info=True)
    assert not any(told[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return tower.eval(), processor_class.from_pretrained(directory)


def assert_same_hidden_states(visual, tower, images):
    """Every layer, and the last but one as LLaVA's `select_layer=-2` reads it."""
    with torch.no_grad():
        theirs = tower(images, output_hidden_states=True).hidden_states
        num_prefix = theirs[0].shape[1] - visual.grid_size[0] * visual.grid_size[1]
        assert len(theirs) == tower.config.num_hidden_layers + 1
        for layer in range(len(theirs) - 1):
            found = visual.patch_tokens(images, layer=layer, norm=False)
            expected = theirs[layer + 1][:, num_prefix:]
            torch.testing.assert_close(found, expected, **TOLERANCE)
        found = visual.patch_tokens(images, layer=-2, norm=False)
        torch.testing.assert_close(found, theirs[-2][:, num_prefix:], **TOLERANCE)


@pytest.mark.parametrize("config", CLIPS.values(), ids=CLIPS)
def test_hidden_states_of_clips_tower(config, tmp_path):
    model = build(config)
    save_pretrained(model, tmp_path / "tower", layout="hf_vision")
    tower, _ = loaded_by_transformers("clip", tmp_path / "tower")
    images, _ = inputs(config)
    assert_same_hidden_states(model.visual, tower, images)
    pooled = tower(images).pooler_output
    torch.testing.assert_close(pooled @ model.visual.proj, model.encode_image(images), **TOLERANCE)
    assert tower.config.projection_dim == config.embed_dim


def test_hidden_states_of_siglips_tower(tmp_path):
    config = SMALL["siglip"]
    config = replace(config, text_cfg=replace(config.text_cfg, no_causal_mask=False))
    model = build(config)
    save_pretrained(model, tmp_path / "tower", layout="hf_vision")
    tower, _ = loaded_by_transformers("siglip", tmp_path / "tower")
    images, _ = inputs(config)
    assert_same_hidden_states(model.visual, tower, images)
    torch.testing.assert_close(tower(images).pooler_output, model.encode_image(images), **TOLERANCE)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_images_are_prepared_as_here(kind, tmp_path):
    model = build(SMALL["quick_gelu" if kind == "clip" else "siglip"])
    preprocess = PreprocessCfg(
        32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4),
        resize_mode="shortest" if kind == "clip" else "squash",
    )  # fmt: skip
    model.visual.preprocess_cfg = preprocess.to_dict()
    save_pretrained(model, tmp_path / "tower", layout="hf_vision")
    _, processor = loaded_by_transformers(kind, tmp_path / "tower")
    pixels = torch.randint(256, (48, 64, 3), generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(pixels.byte().numpy())
    found = processor(images=image, return_tensors="pt")["pixel_values"][0]
    expected = image_transform_v2(preprocess, is_train=False)(image)
    assert found.shape == expected.shape
    assert (found - expected).abs().mean() < 0.02  # resizing by another library


def test_the_command_writes_it_and_says_what(tmp_path, capsys):
    model = build(SMALL["custom_text"])
    save_pretrained(model, tmp_path / "model")
    assert (
        main(["convert", str(tmp_path / "model"), str(tmp_path / "tower"), "--to", "hf_vision"])
        == 0
    )
    said = capsys.readouterr().out
    tower, _ = loaded_by_transformers("clip", tmp_path / "tower")
    count = sum(p.numel() for p in tower.parameters())
    assert said == f"wrote {tmp_path / 'tower'}: {count:,} parameters, gelu\n"
    names = {path.name for path in (tmp_path / "tower").iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}
    values = json.loads((tmp_path / "tower" / "config.json").read_text())
    assert values["architectures"] == ["CLIPVisionModel"]
    assert values["model_type"] == "clip_vision_model"


@pytest.mark.parametrize(
    "name, message",
    [
        ("resnet", "its CLIPVisionModel has no ResNet"),
        ("clipa", "CLIPVisionModel has no place for a vision tower without ln_pre; .*averaged"),
        ("layer_scale", "no place for LayerScale"),
        ("tall", "square images"),
    ],
)
def test_towers_that_transformers_has_no_place_for_are_refused(name, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        save_pretrained(build(SMALL[name]), tmp_path / "tower", layout="hf_vision")
    assert not list(tmp_path.iterdir())


def test_a_tower_has_no_tokenizer(tmp_path):
    with pytest.raises(ValueError, match="leave tokenizer_directory out"):
        save_pretrained(build(SMALL["vit"]), tmp_path / "tower", "hf_vision", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_opened_again_says_what_it_is(tmp_path, capsys):
    save_pretrained(build(SMALL["vit"]), tmp_path / "tower", layout="hf_vision")
    assert main(["convert", str(tmp_path / "tower"), str(tmp_path / "out"), "--to", "hf"]) == 2
    assert "model_type 'clip_vision_model', which is not supported" in capsys.readouterr().err
