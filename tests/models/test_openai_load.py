"""OpenAI's `load`, on files as OpenAI has them and as others save them."""

import warnings

import pytest
import torch

from fastclip.models import openai
from fastclip.models.checkpoints.errors import ActivationMismatchError, CheckpointError
from fastclip.models.checkpoints.files import OPENAI_EXTRAS
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.open_clip_config import to_json
from fastclip.models.openai import LogitsCLIP, available_models, load
from tests.support.small_models import SMALL, build, inputs


@pytest.fixture
def archive(tmp_path):
    """An archive under OpenAI's name in a download directory, and its model."""
    model = build(SMALL["quick_gelu"])
    reference = build(SMALL["quick_gelu"])
    for name, value in zip(OPENAI_EXTRAS, (32, 9, 64), strict=True):
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, inputs(SMALL["quick_gelu"]), check_trace=False)
    traced.save(str(tmp_path / "ViT-B-32.pt"))
    return tmp_path / "ViT-B-32.pt", reference


def test_names_are_openais():
    assert available_models() == [
        "RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14",
        "ViT-L/14@336px",
    ]  # fmt: skip


@pytest.mark.parametrize("by", ["name", "path"])
def test_archive_becomes_a_model_that_returns_logits(by, archive):
    path, reference = archive
    name = "ViT-B/32" if by == "name" else path
    model, preprocess = load(name, device="cpu", download_root=path.parent)
    assert type(model) is LogitsCLIP and not model.training
    assert model.config == reference.config
    images, tokens = inputs(SMALL["quick_gelu"])
    with torch.no_grad():
        per_image, per_text = model(images, tokens)
        expected, _ = reference.get_logits(images, tokens)
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
    with pytest.raises(CheckpointError, match="no CLIP model of OpenAI's kind: use create_model"):
        load(tmp_path / "siglip.pt")
    with pytest.raises(ValueError, match="no model 'ViT-B/33': neither a path nor one of"):
        load("ViT-B/33")
    with pytest.raises(ValueError, match=r"torch\.compile"):
        load("ViT-B/32", jit=True)


def test_name_without_connection_says_where_the_file_may_be_put(tmp_path, monkeypatch):
    monkeypatch.setattr("fastclip.models.fetch.OPENAI", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"Put the file at .*RN50\.pt, or give the path"):
        openai.load("RN50", download_root=tmp_path)
