"""`preprocessor_config.json`: transformers' pixels, or an error that names the field."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.stored_model import read_stored_model
from fastclip.models.checkpoints.transformers_preprocessor import (
    from_transformers_preprocessor,
    to_transformers_preprocessor,
)
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.factory import create_model_and_transforms
from fastclip.models.presets import PRESETS
from tests.support.small_models import SMALL, build

# As published beside a model, with another mean per channel.
CLIP = {
    "image_processor_type": "CLIPImageProcessor", "do_resize": True, "resample": 3,
    "size": {"shortest_edge": 32}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32},
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "do_convert_rgb": True,
}  # fmt: skip
SIGLIP = {
    "image_processor_type": "SiglipImageProcessor", "do_resize": True, "resample": 3,
    "size": {"height": 32, "width": 32}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4],
    "do_convert_rgb": None, "processor_class": "SiglipProcessor",
}  # fmt: skip
# Margins that are odd and even, none, and images that are smaller than what is cut out.
SHAPES = [(50, 70), (71, 50), (32, 32), (33, 32), (64, 39), (20, 90), (7, 5)]


def processor(values: dict):
    from tests.support.peers import transformers

    name = values.get("image_processor_type", "CLIPImageProcessor")
    return getattr(transformers, f"{name}Pil")(**values)


def image_of(height: int, width: int) -> Image.Image:
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def assert_transformers_pixels(values: dict, cfg: PreprocessCfg) -> None:
    ours, theirs = image_transform_v2(cfg, is_train=False), processor(values)
    # Three roundings of numbers up to `largest`, each enlarged by the deviation.
    largest = 1 + max(map(abs, cfg.mean))
    limit = 3 * torch.finfo(torch.float32).eps * largest / min(cfg.std)
    for shape in SHAPES:
        image = image_of(*shape)
        expected = torch.as_tensor(theirs(image, return_tensors="np")["pixel_values"][0])
        result = ours(image)
        assert result.shape == expected.shape, shape
        assert (result - expected).abs().max() <= limit, shape


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"size": {"shortest_edge": 40}},
        {"size": {"shortest_edge": 20}},
        {"size": {"shortest_edge": 32, "longest_edge": None}},
        {"size": 41},
        {"size": [32, 32]},
        {"size": {"height": 32, "width": 32}},
        {"size": 32, "default_to_square": True},
        {"size": {"height": 32, "width": 32}, "do_center_crop": False},
        {"size": 224, "crop_size": 32},
        {"crop_size": [32, 32]},
        {"resample": 2},
        {"do_normalize": False},
        {"do_normalize": False, "do_rescale": False},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"image_mean": 0.5, "image_std": 0.25},
        {"image_mean": None, "image_std": None, "do_normalize": None},
        {"crop_size": None, "do_center_crop": None, "size": [32, 32]},
        {"do_rescale": None, "rescale_factor": None},
        {"do_pad": False, "feature_extractor_type": "CLIPFeatureExtractor"},
    ],
    ids=str,
)
def test_pixels_of_every_setting_are_those_of_transformers_clip(change):
    values = CLIP | change
    assert_transformers_pixels(values, from_transformers_preprocessor(values, SMALL["vit"]))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"resample": 2},
        {"do_center_crop": None, "crop_size": None},
        {"size": [32, 32]},
        {"do_normalize": False},
    ],
    ids=str,
)
def test_pixels_of_every_setting_are_those_of_transformers_siglip(change):
    values = SIGLIP | change
    assert_transformers_pixels(values, from_transformers_preprocessor(values, SMALL["siglip"]))


@pytest.mark.parametrize("size", [32, {"height": 32, "width": 32}], ids=str)
def test_pixels_of_the_processor_of_vits_are_those_of_transformers(size):
    # Of models that were trained elsewhere and made CLIP's towers afterwards.
    values = {"image_processor_type": "ViTImageProcessor", "size": size, "use_fast": True}
    cfg = from_transformers_preprocessor(values, SMALL["vit"])
    assert (cfg.resize_mode, cfg.interpolation) == ("squash", "bilinear")
    assert_transformers_pixels(values, cfg)
    legacy = {"feature_extractor_type": "ViTFeatureExtractor", "size": size, "do_resize": True}
    assert from_transformers_preprocessor(legacy, SMALL["vit"]) == cfg


@pytest.mark.parametrize("name", ["vit", "siglip"])
def test_image_of_other_proportions_is_cut_or_squashed_as_transformers_does(name):
    whole = {"height": 40, "width": 24}
    config = SMALL[name]
    config = replace(config, vision_cfg=replace(config.vision_cfg, image_size=(40, 24)))
    values = SIGLIP | {"size": whole} if name == "siglip" else CLIP | {"crop_size": whole}
    assert_transformers_pixels(values, from_transformers_preprocessor(values, config))


def test_fields_that_are_left_out_have_the_defaults_of_the_processor():
    clip, siglip = PRESETS["ViT-B-32"], PRESETS["ViT-B-16-SigLIP"]
    left_out = from_transformers_preprocessor({}, clip)
    assert left_out == PreprocessCfg((224, 224), shortest_edge=224)
    values = {"image_processor_type": "CLIPImageProcessorFast"}
    assert from_transformers_preprocessor(values, siglip) == left_out
    squashed = PreprocessCfg((224, 224), mean=0.5, std=0.5, resize_mode="squash")
    assert from_transformers_preprocessor({}, siglip) == squashed
    values = {"image_processor_type": "SiglipImageProcessor"}
    assert from_transformers_preprocessor(values, clip) == squashed


@pytest.mark.parametrize(
    "change, message",
    [
        ({"resample": 0}, "resample 0 is not supported"),
        ({"resample": 1}, "resample 1 is not supported"),
        ({"resample": 4}, "resample 4 is not supported"),
        ({"resample": 5}, "resample 5 is not supported"),
        ({"resample": None}, "resample None"),
        ({"image_mean": None}, "image_mean None"),
        ({"size": None}, "size None"),
        ({"do_center_crop": None}, "size .* without do_center_crop"),
        ({"resample": "bicubic"}, "resample 'bicubic'"),
        ({"do_resize": False}, "do_resize False"),
        ({"do_center_crop": False}, "size .* without do_center_crop"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "size .*longest_edge"),
        ({"size": {"longest_edge": 32}}, "size .*longest_edge"),
        ({"size": {"max_height": 32, "max_width": 32}}, "size .*max_height"),
        ({"size": {"height": 40, "width": 40}}, "crop_size .* with size"),
        ({"size": "large"}, "size 'large'"),
        ({"crop_size": {"shortest_edge": 32}}, "crop_size .*shortest_edge"),
        ({"crop_size": 24}, r"crop_size 24 is not the image_size \(32, 32\)"),
        ({"image_processor_type": "BitImageProcessor"}, "image_processor_type 'BitImageProcessor'"),
        ({"rescale_factor": 0}, "rescale_factor 0"),
        ({"do_pad": True}, "do_pad True"),
        ({"pad_size": {"height": 40, "width": 40}}, "pad_size"),
        ({"use_square_size": True}, "use_square_size True"),
        ({"data_format": "channels_last"}, "data_format 'channels_last'"),
        ({"crop_pct": 0.9}, "has fields that are not supported: crop_pct"),
        ({"offset": True}, "has fields that are not supported: offset"),
        (
            {"auto_map": {"AutoImageProcessor": "x.Y"}},
            "has fields that are not supported: auto_map",
        ),
        ({"image_std": [0.0, 0.5, 0.5]}, "std must be positive"),
    ],
    ids=str,
)
def test_field_that_is_not_obeyed_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        from_transformers_preprocessor(CLIP | change, SMALL["vit"])


@pytest.fixture
def directory(tmp_path):
    save_pretrained(build(SMALL["quick_gelu"]), tmp_path / "hf", layout="hf")
    return tmp_path / "hf"


def test_model_in_a_directory_is_given_transformers_pixels(directory):
    values = CLIP | {"size": {"shortest_edge": 40}, "do_normalize": False}
    (directory / "preprocessor_config.json").write_text(json.dumps(values))
    _, train, preprocess = create_model_and_transforms(str(directory))
    assert_transformers_pixels(values, preprocess.cfg)
    assert train.cfg == preprocess.cfg
    _, _, larger = create_model_and_transforms(str(directory), force_image_size=64)
    assert (larger.cfg.size, larger.cfg.shortest_edge) == ((64, 64), 80)


def test_refusal_names_the_file(directory):
    (directory / "preprocessor_config.json").write_text(json.dumps(CLIP | {"resample": 1}))
    with pytest.raises(CheckpointError, match=r"hf/preprocessor_config.json: resample 1"):
        create_model_and_transforms(str(directory))


def test_nested_settings_come_first_as_in_transformers(directory):
    nested = {"image_processor": CLIP | {"size": 40}, "processor_class": "CLIPProcessor"}
    (directory / "processor_config.json").write_text(json.dumps(nested))
    assert read_stored_model(directory).preprocess.shortest_edge == 40
    (directory / "preprocessor_config.json").unlink()
    assert read_stored_model(directory).preprocess.shortest_edge == 40
    (directory / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')
    assert read_stored_model(directory).preprocess is None


@pytest.mark.parametrize(
    "cfg",
    [
        PreprocessCfg((32, 32), mean=0.1, shortest_edge=40),
        PreprocessCfg((32, 32), std=0.3, resize_mode="squash", interpolation="bilinear"),
    ],
)
def test_settings_survive_transformers_words(cfg):
    config = SMALL["vit"]
    assert from_transformers_preprocessor(to_transformers_preprocessor(cfg, config), config) == cfg


def test_open_clip_is_given_its_own_crop_and_never_another_size(tmp_path):
    model = build(SMALL["vit"])
    model.visual.preprocess_cfg = PreprocessCfg(32, shortest_edge=32).to_dict()
    save_pretrained(model, tmp_path / "open_clip")
    assert read_stored_model(tmp_path / "open_clip").preprocess == PreprocessCfg((32, 32))
    model.visual.preprocess_cfg = PreprocessCfg(32, shortest_edge=40).to_dict()
    with pytest.raises(CheckpointError, match="open_clip cannot resize the shortest edge to 40"):
        save_pretrained(model, tmp_path / "cannot")
    assert not (tmp_path / "cannot").exists()
