"""OpenAI's `load`, on files as OpenAI has them and as others save them."""

import warnings

import pytest
import torch

import fastclip
from fastclip.models import openai
from fastclip.models.checkpoints.errors import ActivationMismatchError, CheckpointError
from fastclip.models.checkpoints.files import OPENAI_EXTRAS
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.clip import CLIP
from fastclip.models.open_clip_config import to_json
from fastclip.models.openai import (
    LogitsCLIP,
    available_models,
    build_model_from_openai_state_dict,
    load,
)
from tests.support.peers import open_clip
from tests.support.published import publish_as_openais
from tests.support.small_models import SMALL, build, inputs


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive under OpenAI's name in a download directory, and its model."""
    model = build(SMALL["quick_gelu"])
    original = build(SMALL["quick_gelu"])
    for name, value in zip(OPENAI_EXTRAS, (32, 9, 64), strict=True):
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, inputs(SMALL["quick_gelu"]), check_trace=False)
    traced.save(str(tmp_path / "ViT-B-32.pt"))
    publish_as_openais(tmp_path / "ViT-B-32.pt", monkeypatch)
    return tmp_path / "ViT-B-32.pt", original


def test_names_are_openais():
    assert available_models() == [
        "RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14",
        "ViT-L/14@336px",
    ]  # fmt: skip


@pytest.mark.parametrize("by", ["name", "path"])
def test_archive_becomes_a_model_that_returns_logits(by, archive):
    path, original = archive
    name = "ViT-B/32" if by == "name" else path
    model, preprocess = load(name, device="cpu", download_root=path.parent)
    assert type(model) is LogitsCLIP and not model.training
    assert model.config == original.config
    images, tokens = inputs(SMALL["quick_gelu"])
    with torch.no_grad():
        per_image, per_text = model(images, tokens)
        expected, _ = original.get_logits(images, tokens)
    torch.testing.assert_close(per_image, expected)
    assert torch.equal(per_text, per_image.T)
    assert preprocess.cfg.height_width == (32, 32)
    assert model.visual.input_resolution == 32 and model.dtype == torch.float32


def test_default_device_is_the_cpu_without_a_gpu(archive, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model, _ = load("ViT-B/32", download_root=archive[0].parent)
    assert model.logit_scale.device.type == "cpu"
    half, _ = load("ViT-B/32", download_root=archive[0].parent, precision="fp16")
    assert half.dtype == torch.float16 and half.ln_final.weight.dtype == torch.float32


def test_bare_weights_need_their_activation_and_others_say_it(tmp_path):
    model = build(SMALL["vit"])
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(CheckpointError, match="which activation"):
        load(tmp_path / "bare.pt")
    with pytest.raises(CheckpointError, match="how many attention heads"):
        load(tmp_path / "bare.pt", activation="gelu")
    assert load(tmp_path / "bare.pt", activation="gelu", heads=2)[0].config == model.config
    content = {"state_dict": model.state_dict(), "model_config": to_json(model.config)}
    torch.save(content, tmp_path / "ours.pt")
    assert load(tmp_path / "ours.pt")[0].config == model.config
    save_pretrained(model, tmp_path / "hf", layout="hf")
    assert load(str(tmp_path / "hf"))[0].config == model.config
    with pytest.raises(ActivationMismatchError, match="trained with activation gelu"):
        load(tmp_path / "hf", activation="quick_gelu")


def test_models_of_another_kind_and_unknown_names_are_refused(tmp_path):
    model = build(SMALL["siglip"])
    content = {"state_dict": model.state_dict(), "model_config": to_json(model.config)}
    torch.save(content, tmp_path / "siglip.pt")
    with pytest.raises(
        CheckpointError, match="not a CLIP model of OpenAI's kind: use create_model"
    ):
        load(tmp_path / "siglip.pt")
    with pytest.raises(ValueError, match="no model 'ViT-B/33': it is neither a path nor one of"):
        load("ViT-B/33")


def test_name_without_connection_says_where_the_file_may_be_put(tmp_path, monkeypatch):
    monkeypatch.setattr("fastclip.models.fetch.OPENAI", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"Put the file at .*RN50\.pt, or give the path"):
        openai.load("RN50", download_root=tmp_path)


def test_jit_returns_a_program_that_returns_logits(archive):
    path, original = archive
    program, _ = load("ViT-B/32", device="cpu", jit=True, download_root=path.parent)
    assert isinstance(program, torch.jit.ScriptModule)
    images, tokens = inputs(SMALL["quick_gelu"], batch_size=5)
    with torch.no_grad():
        assert torch.equal(program(images, tokens)[0], original.get_logits(images, tokens)[0])
        assert torch.equal(program.encode_text(tokens), original.encode_text(tokens))


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B/32", "ViT-B-32-quickgelu", "path"])
def test_open_clips_function_returns_features_and_the_model_alone(name, archive):
    path, original = archive
    name = path if name == "path" else name
    model = fastclip.load_openai_model(name, device="cpu", cache_dir=path.parent)
    assert type(model) is CLIP and not model.training and model.visual.image_mean[0] > 0.4
    images, tokens = inputs(SMALL["quick_gelu"])
    for found, expected in zip(model(images, tokens), original(images, tokens), strict=True):
        assert torch.equal(found, expected)
    half = fastclip.load_openai_model(name, "bf16", "cpu", path.parent)
    assert half.dtype == torch.bfloat16
    assert sorted(fastclip.list_openai_models()) == sorted(open_clip.list_openai_models())


def test_state_dicts_are_built_as_by_openai_and_open_clip():
    original = build(SMALL["quick_gelu"])
    state_dict = original.state_dict()
    extras = {name: torch.tensor(1) for name in OPENAI_EXTRAS}
    model = fastclip.build_model({**state_dict, **extras})
    assert type(model) is LogitsCLIP and not model.training and model.dtype == torch.float16
    assert model.config == original.config and model.ln_final.weight.dtype == torch.float32
    _, tokens = inputs(SMALL["quick_gelu"])
    built = build_model_from_openai_state_dict(state_dict, cast_dtype=torch.float32, heads=2)
    assert type(built) is CLIP
    assert torch.equal(built.encode_text(tokens), original.encode_text(tokens))
    other = build_model_from_openai_state_dict(state_dict | extras, False, torch.float32)
    assert other.config.activations == ("gelu", "gelu")
    with pytest.raises(ValueError, match="cast_dtype must be one of"):
        build_model_from_openai_state_dict(state_dict, cast_dtype=torch.int8)
    with pytest.raises(CheckpointError, match="how many attention heads"):
        fastclip.build_model(state_dict)
    with pytest.raises(CheckpointError):
        fastclip.build_model({"weight": torch.ones(2)})
