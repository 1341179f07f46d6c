"""What is written: complete or not there, and refused where the layout has no place for it."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from fastclip import atomic_file, new_directory
from fastclip.atomic_file import CannotWrite
from fastclip.data.preprocess import PreprocessCfg
from fastclip.models.checkpoints import write
from fastclip.models.checkpoints.errors import ActivationMismatchError, CheckpointError
from fastclip.models.checkpoints.files import read_weights_file
from fastclip.models.checkpoints.stored_model import read_stored_model
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.config import TextConfig
from fastclip.models.two_tower import TwoTower
from tests.support.full_disk import files_of_at_most
from tests.support.peers import open_clip
from tests.support.small_models import SMALL, build


def test_open_clip_builds_the_model_with_its_preprocessing(tmp_path):
    model = build(SMALL["vit"])
    model.visual.preprocess_cfg = PreprocessCfg(32, mean=0.25, resize_mode="squash").to_dict()
    save_pretrained(model, tmp_path / "out")
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'out'}")
    assert theirs.visual.preprocess_cfg["mean"] == [0.25] * 3
    assert theirs.visual.preprocess_cfg["resize_mode"] == "squash"
    assert "Resize(size=(32, 32)" in str(preprocess) or "Resize(size=[32, 32]" in str(preprocess)


def test_openais_file_is_a_bare_state_dict(tmp_path):
    model = build(SMALL["quick_gelu"])
    save_pretrained(model, tmp_path / "model.pt", layout="openai")
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert state.keys() == model.state_dict().keys()
    rebuilt = open_clip.model.build_model_from_openai_state_dict(state, cast_dtype=torch.float32)
    assert rebuilt.visual.conv1.weight.shape == model.visual.conv1.weight.shape


@pytest.mark.parametrize(
    "name, layout, message",
    [
        ("siglip", "open_clip", "open_clip cannot build"),
        ("resnet", "hf", "no ResNet"),
        ("clipa", "hf", "without ln_pre; .*averaged patches"),
        ("layer_scale", "hf", "LayerScale"),
        ("first", "hf", "without causal mask.*pooling by first"),
        ("no_projection", "hf", "without projection"),
        ("custom_text", "hf", "logit_bias"),
        ("tall", "hf", "square"),
        ("custom_text", "openai", "its text tower is not a separate module"),
        ("siglip", "openai", "its image towers are OpenAI's ViTs and ResNets"),
        ("wide_mlp", "openai", "different model, which has heads of 64 channels in the vision"),
        ("resnet", "openai", "heads of 64 channels in the vision tower"),
        ("avg", "openai", "image pooling by the class token"),
        ("eos", "openai", "text pooling by argmax"),
        ("first", "openai", "text pooling by argmax"),
        ("tall", "openai", "square images"),
        ("wide_mlp", "openai", "MLPs of 4 times the width in the vision tower"),
    ],
)
def test_model_that_a_layout_has_no_place_for_is_refused_and_nothing_is_left(
    name, layout, message, tmp_path
):
    with pytest.raises(CheckpointError, match=message):
        save_pretrained(build(SMALL[name]), tmp_path / "out", layout=layout)
    assert not list(tmp_path.iterdir())


def test_openai_has_no_grey_images_and_no_other_mlps_of_texts(tmp_path):
    config = SMALL["quick_gelu"]
    grey = replace(config, vision_cfg=replace(config.vision_cfg, channels=1))
    wide = replace(config, text_cfg=replace(config.text_cfg, mlp_ratio=2.0))
    for other, message in ((grey, "images of three channels"), (wide, "MLPs .* in the text tower")):
        with pytest.raises(CheckpointError, match=message):
            save_pretrained(build(other), tmp_path / "model.pt", layout="openai")


def test_a_scale_that_is_no_scalar_becomes_one_where_the_layout_has_one(tmp_path):
    model = build(replace(SMALL["quick_gelu"], nonscalar_logit_scale=True))
    for layout in ("openai", "hf"):
        save_pretrained(model, tmp_path / layout, layout=layout)
    files = (tmp_path / "openai", tmp_path / "hf" / "model.safetensors")
    for scale in (read_weights_file(file).tensors["logit_scale"] for file in files):
        assert scale.shape == () and scale == model.logit_scale
    assert read_stored_model(tmp_path / "hf").tensors["logit_scale"].shape == ()


def test_siglip_with_another_text_tower_is_refused_by_transformers(tmp_path):
    config = SMALL["siglip"]
    config = replace(config, text_cfg=replace(config.text_cfg, no_causal_mask=False))
    with pytest.raises(CheckpointError, match="one kind of text tower"):
        save_pretrained(build(config), tmp_path / "out", layout="hf")


def test_openais_code_would_run_gelu_weights_with_quick_gelu_so_they_are_refused(tmp_path):
    with pytest.raises(ActivationMismatchError, match="trained with activation gelu"):
        save_pretrained(build(SMALL["vit"]), tmp_path / "model.pt", layout="openai")


def test_resizing_by_the_longest_side_is_refused_by_transformers(tmp_path):
    model = build(SMALL["vit"])
    model.visual.preprocess_cfg = PreprocessCfg(32, resize_mode="longest").to_dict()
    with pytest.raises(CheckpointError, match="resize_mode 'longest'"):
        save_pretrained(model, tmp_path / "out", layout="hf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["open_clip", "hf", "hf_vision", "openai"])
def test_what_exists_is_never_touched(layout, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(FileExistsError, match="out exists"):
        save_pretrained(build(SMALL["quick_gelu"]), tmp_path / "out", layout=layout)
    assert (tmp_path / "out" / "mine").read_text() == "precious"


@pytest.mark.parametrize("layout", ["open_clip", "hf", "hf_vision", "openai"])
@pytest.mark.parametrize("limit", [0, 10_000])
def test_full_disk_leaves_nothing_behind_and_is_named(limit, layout, tmp_path):
    model = build(SMALL["quick_gelu"])
    with files_of_at_most(limit), pytest.raises(CannotWrite) as raised:
        save_pretrained(model, tmp_path / "out", layout=layout)
    assert str(raised.value).startswith(f"{tmp_path / 'out'} cannot be written: ")
    assert "File too large" in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["open_clip", "openai"])
def test_link_that_lies_where_it_is_written_is_not_followed(layout, tmp_path, monkeypatch):
    """Not even by who would foresee the name."""
    place = tmp_path / ".foreseen"
    place.symlink_to(tmp_path / "victim")
    for module in (new_directory, atomic_file):
        monkeypatch.setattr(module, "temporary_beside", lambda path: place)
    with pytest.raises(OSError, match="File exists"):
        save_pretrained(build(SMALL["quick_gelu"]), tmp_path / "out", layout=layout)
    assert [path.name for path in tmp_path.iterdir()] == [".foreseen"]


def test_dangling_link_is_something_that_exists(tmp_path):
    (tmp_path / "out").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match="out exists"):
        save_pretrained(build(SMALL["quick_gelu"]), tmp_path / "out", layout="openai")


def test_unknown_layout_and_foreign_models_raise(tmp_path):
    with pytest.raises(ValueError, match=r"open_clip.*'onnx'"):
        save_pretrained(build(SMALL["vit"]), tmp_path / "out", layout="onnx")
    with pytest.raises(TypeError, match="Identity is neither a built-in model nor a TwoTower"):
        save_pretrained(nn.Identity(), tmp_path / "out")
    with pytest.raises(CheckpointError, match="one layout, its own"):
        save_pretrained(TwoTower(nn.Identity(), nn.Identity()), tmp_path / "out", layout="hf")


def test_tokenizer_files_are_copied_from_a_directory(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "spiece.model").write_bytes(b"pieces")
    (tmp_path / "tokenizer" / "weights.bin").write_bytes(b"not this")
    save_pretrained(
        build(SMALL["siglip"]), tmp_path / "out", "hf", tokenizer_directory=tmp_path / "tokenizer"
    )
    assert (tmp_path / "out" / "spiece.model").read_bytes() == b"pieces"
    assert not (tmp_path / "out" / "weights.bin").exists()


def test_clips_own_tokenizer_is_written_where_its_vocabulary_is_found(tmp_path, monkeypatch):
    clip = replace(SMALL["vit"], text_cfg=TextConfig(9, 49408, width=8, heads=1, layers=1))
    save_pretrained(build(clip), tmp_path / "with", layout="hf")
    vocabulary = json.loads((tmp_path / "with" / "vocab.json").read_text(encoding="utf-8"))
    assert vocabulary["<|endoftext|>"] == 49407

    monkeypatch.setattr(write, "locate_openai_vocabulary", lambda: None)
    save_pretrained(build(clip), tmp_path / "without", layout="hf")
    assert not (tmp_path / "without" / "vocab.json").exists()
    assert read_weights_file(tmp_path / "without" / "model.safetensors").tensors


def test_tokenizer_is_not_written_beside_a_vocabulary_that_is_not_clips(tmp_path):
    save_pretrained(build(SMALL["vit"]), tmp_path / "out", layout="hf")
    assert not (tmp_path / "out" / "vocab.json").exists()


@pytest.mark.parametrize("layout", ["open_clip", "hf"])
def test_others_can_read_what_they_may(layout, tmp_path):
    save_pretrained(build(SMALL["vit"]), tmp_path / "out", layout)
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "out").iterdir()}
    assert len(modes) >= 2 and len(set(modes.values())) == 1, modes
