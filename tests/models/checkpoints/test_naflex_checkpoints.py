"""NaFlex models as files: transformers' Siglip2Model both ways, and open_clip's settings."""

import json
import warnings
from dataclasses import replace

import pytest
import torch

from fastclip.data.patches import collate_patches
from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.models import registry
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.open_clip_preprocess import (
    from_open_clip_preprocess,
    to_open_clip_preprocess,
)
from fastclip.models.checkpoints.stored_model import read_stored_model
from fastclip.models.checkpoints.transformers_config import (
    from_transformers_config,
    to_transformers_config,
)
from fastclip.models.checkpoints.transformers_preprocessor import (
    from_transformers_preprocessor,
    to_transformers_preprocessor,
)
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.factory import create_model, create_model_and_transforms
from fastclip.models.open_clip_config import to_json
from fastclip.models.presets import PRESETS
from tests.support.images import random_image
from tests.support.small_models import SMALL, build

# As many positions as patches: transformers' files do not tell them apart.
CONFIG = replace(
    SMALL["naflex"], vision_cfg=replace(SMALL["naflex"].vision_cfg, position_grid=(4, 4))
)
CFG = replace(CONFIG.vision_cfg.preprocess(), mean=(0.4, 0.5, 0.6), max_num_patches=12)
PROCESSOR = {
    "image_processor_type": "Siglip2ImageProcessor", "do_resize": True, "resample": 2,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3, "do_convert_rgb": None, "patch_size": 8, "max_num_patches": 12,
    "processor_class": "Siglip2Processor",
}  # fmt: skip


def test_directory_is_loaded_by_transformers_and_again_here(tmp_path):
    from tests.support.peers import transformers

    model = build(CONFIG)
    model.visual.preprocess_cfg = CFG.to_dict()
    save_pretrained(model, tmp_path / "hf", layout="hf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transformers.Siglip2Model.from_pretrained(tmp_path / "hf").eval()
        processor = transformers.Siglip2ImageProcessorPil.from_pretrained(tmp_path / "hf")
    images = [random_image("RGB", *size, seed=1) for size in ((70, 30), (20, 20))]
    prepared = processor(images, return_tensors="pt")
    transform = image_transform_v2(CFG, is_train=False)
    batch = collate_patches([transform(image) for image in images], 8)
    with torch.no_grad():
        found, expected = model.encode_image(batch), theirs.get_image_features(**prepared)
        torch.testing.assert_close(found, expected.pooler_output, rtol=1e-4, atol=1e-5)
        again, _, transform = create_model_and_transforms(str(tmp_path / "hf"))
        assert again.eval().config.vision_cfg == CONFIG.vision_cfg and transform.cfg == CFG
        assert torch.equal(again.encode_image(batch), found)
        # What transformers' processor makes is taken as it is.
        torch.testing.assert_close(model.encode_image(prepared), found, rtol=1e-4, atol=1e-5)
    save_pretrained(model, tmp_path / "tower", layout="hf_vision")
    values = json.loads((tmp_path / "tower" / "config.json").read_text())
    assert values["architectures"] == ["Siglip2VisionModel"] and values["num_patches"] == 16


def test_published_configuration_is_the_preset():
    config = from_transformers_config({
        "architectures": ["Siglip2Model"], "initializer_factor": 1.0, "model_type": "siglip2",
        "text_config": {"model_type": "siglip2_text_model", "vocab_size": 256000},
        "torch_dtype": "float32", "transformers_version": "4.50.0.dev0",
        "vision_config": {"model_type": "siglip2_vision_model"},
    })  # fmt: skip
    preset = PRESETS["ViT-B-16-SigLIP2-naflex"]
    assert config.vision_cfg == preset.vision_cfg
    text = replace(config.text_cfg, hf_tokenizer_name=preset.text_cfg.hf_tokenizer_name)
    assert replace(config, text_cfg=text) == preset


def test_every_field_that_transformers_writes_today_is_known():
    from tests.support.peers import transformers

    theirs = transformers.Siglip2Config().to_dict()
    assert from_transformers_config(theirs) == from_transformers_config({"model_type": "siglip2"})
    assert from_transformers_config(to_transformers_config(CONFIG)).vision_cfg == CONFIG.vision_cfg


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_patches": 15}, "num_patches 15 is not supported: it must be a square number"),
        ({"vision_use_head": False}, "vision_use_head False"),
        ({"image_size": 32}, "vision_config has fields that are not supported: image_size"),
    ],
    ids=str,
)
def test_field_that_is_not_obeyed_is_refused_by_name(change, message):
    values = to_transformers_config(CONFIG)
    values["vision_config"] |= change
    with pytest.raises(ValueError, match=message):
        from_transformers_config(values)


def test_processor_is_read_and_written():
    cfg = from_transformers_preprocessor(PROCESSOR, CONFIG)
    assert cfg == replace(CFG, mean=(0.5, 0.5, 0.5))
    written = to_transformers_preprocessor(cfg, CONFIG)
    assert {name: PROCESSOR[name] for name in written} == written
    left_out = from_transformers_preprocessor({}, PRESETS["ViT-B-16-SigLIP2-naflex"])
    assert left_out == PRESETS["ViT-B-16-SigLIP2-naflex"].vision_cfg.preprocess()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"patch_size": 16}, "patch_size 16 is not the 8 of the model"),
        ({"max_num_patches": None}, "max_num_patches None is not supported"),
        ({"size": {"height": 32}}, "size .* is not supported"),
        ({"do_resize": False}, "do_resize False is not supported"),
        ({"resample": 0}, "resample 0 is not supported"),
        ({"frames": 3}, "has fields that are not supported: frames"),
        (
            {"image_processor_type": "SiglipImageProcessor"},
            "supported: max_num_patches, patch_size",
        ),
        ({"image_processor_type": 3}, "image_processor_type 3 is not the name of a processor"),
    ],
    ids=str,
)
def test_field_of_the_processor_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        from_transformers_preprocessor(PROCESSOR | change, CONFIG)


def test_processor_and_model_must_fit():
    with pytest.raises(ValueError, match="Siglip2ImageProcessor is not supported for a SigLIP"):
        from_transformers_preprocessor(PROCESSOR, SMALL["siglip"])
    for cfg, config in ((CFG, SMALL["siglip"]), (PreprocessCfg(32), CONFIG)):
        with pytest.raises(CheckpointError, match="has no resize_mode"):
            to_transformers_preprocessor(cfg, config)


def test_open_clips_file_squashes_there_and_keeps_the_ratio_here():
    values = json.loads(json.dumps(to_open_clip_preprocess(CFG)))
    assert values["preprocess_cfg"]["resize_mode"] == "squash"
    assert not {"patch_size", "max_num_patches"} & set(values["preprocess_cfg"])
    assert from_open_clip_preprocess(values, (32, 32)) == CFG
    for name in ("preprocess_cfg", "naflex_preprocess_cfg"):
        for wrong in (3, [3], "x"):
            with pytest.raises(ValueError, match=f"^{name} must be an object, got "):
                from_open_clip_preprocess(values | {name: wrong}, (32, 32))
    values["naflex_preprocess_cfg"]["stride"] = 2
    with pytest.raises(ValueError, match=r"naflex_preprocess_cfg has .* not supported: .*stride"):
        from_open_clip_preprocess(values, (32, 32))


@pytest.fixture
def hf(tmp_path):
    model = build(CONFIG)
    model.visual.preprocess_cfg = CFG.to_dict()
    save_pretrained(model, tmp_path / "hf", layout="hf")
    assert read_stored_model(tmp_path / "hf").preprocess == CFG
    return str(tmp_path / "hf")


def test_settings_of_images_can_be_forced(hf):
    def made(**changes):
        model = create_model(hf, load_weights=False, force_preprocess_cfg=changes)
        return PreprocessCfg.from_dict(model.visual.preprocess_cfg)

    assert made(max_num_patches=5).patches == (8, 5)
    assert made(patch_size=None, max_num_patches=5).patches == (8, 5)
    assert made(size=64).patches == (8, 64)
    assert made(size=64, max_num_patches=5).patches == (8, 5)
    squashed = made(resize_mode="squash")
    assert squashed.patches is None and squashed.height_width == (32, 32)
    with pytest.raises(ValueError, match="patch_size 16 must be 8, as in the model's NaFlex tower"):
        made(patch_size=16)
    with pytest.raises(ValueError, match="patch_size must be None without 'naflex'"):
        made(resize_mode="squash", patch_size=8)
    with pytest.raises(ValueError, match="'naflex' leaves images of different sizes, which a "):
        create_model("ViT-S-32-alt", force_preprocess_cfg={"resize_mode": "naflex"})


@pytest.mark.parametrize(
    "changes, most", [({}, 12), ({"size": 64}, 64), ({"size": 32}, 16)], ids=str
)
def test_a_size_that_is_forced_says_the_patches_anew(hf, changes, most):
    model = create_model(hf, force_preprocess_cfg={"mean": 0.5} | changes)
    assert PreprocessCfg.from_dict(model.visual.preprocess_cfg).patches == (8, most)


def test_images_of_weights_that_squash_them_can_keep_their_ratio(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.architectures, "tiny-naflex", CONFIG)
    squashed = PreprocessCfg(32, resize_mode="squash", mean=0.5, std=0.5)
    content = {"state_dict": build(CONFIG).state_dict(), "model_config": to_json(CONFIG)}
    torch.save(content | {"preprocess_cfg": squashed.to_dict()}, tmp_path / "weights.pt")
    made = ["tiny-naflex", str(tmp_path / "weights.pt")]
    assert create_model_and_transforms(*made)[2].cfg.height_width == (32, 32)
    transform = create_model_and_transforms(*made, image_resize_mode="naflex")[2]
    assert transform.cfg.patches == (8, 16)
    assert transform.cfg == replace(squashed, size=(32, 32), resize_mode="naflex", patch_size=8)


def test_larger_images_need_no_other_weights(hf):
    model, _, transform = create_model_and_transforms(hf, force_image_size=64)
    assert transform.cfg.patches == (8, 64)
    image = transform(random_image("RGB", 300, 200))
    assert image.shape[1] * image.shape[2] // 64 in range(50, 65)
    assert model.encode_image(image[None]).shape == (1, 128)
