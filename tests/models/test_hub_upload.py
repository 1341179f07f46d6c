"""Publishing on a Hub that writes down what it is sent."""

import json
import shutil
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

import fastclip
from fastclip.models import registry
from fastclip.models.hub_upload import model_card_text
from fastclip.models.presets import PRESETS
from tests.support.peers import open_clip
from tests.support.small_models import SMALL, build, inputs

CARD = {
    "license": "apache-2.0", "tags": ["clip", "small"], "description": "A small one.",
    "details": {"Dataset": "Digits", "Sizes": ["a", "b"], "Scores": {"R@1": 0.5}},
    "usage": "Load it.", "citation": "@misc{it}",
}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A module in huggingface_hub's place; `sent` is where uploaded folders go."""
    fake = ModuleType("huggingface_hub")
    fake.sent, fake.calls, fake.has_readme = tmp_path / "sent", [], False

    def create_repo(repo_id, **settings):
        fake.calls.append(("create_repo", repo_id, settings))
        return SimpleNamespace(repo_id=repo_id if "/" in repo_id else f"me/{repo_id}")

    def upload_folder(**settings):
        fake.calls.append(("upload_folder", settings))
        shutil.copytree(settings["folder_path"], fake.sent)
        return "done"

    fake.create_repo, fake.upload_folder = create_repo, upload_folder
    fake.file_exists = lambda repo_id, name, **settings: fake.has_readme
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


class Tokenizer:
    def save_pretrained(self, directory):
        (directory / "vocab.json").write_text("{}")


def test_what_is_published_loads_here_and_in_open_clip(hub):
    model = build(SMALL["vit"])
    assert fastclip.push_to_hf_hub(model, Tokenizer(), None, "me/small", private=True) == "done"
    names = {path.name for path in hub.sent.iterdir()}
    assert names == {
        "open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
        "vocab.json", "README.md",
    }  # fmt: skip
    assert hub.calls[0] == ("create_repo", "me/small", {
        "token": None, "private": True, "exist_ok": True,
    })  # fmt: skip
    images, tokens = inputs(SMALL["vit"])
    for loader in (fastclip, open_clip):
        again = loader.create_model(f"local-dir:{hub.sent}").eval()
        torch.testing.assert_close(again.encode_text(tokens), model.encode_text(tokens))
        torch.testing.assert_close(again.encode_image(images), model.encode_image(images))
    pickled = torch.load(hub.sent / "open_clip_pytorch_model.bin", weights_only=True)
    assert all(torch.equal(pickled[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "safe, written",
    [(True, {"open_clip_model.safetensors"}), (False, {"open_clip_pytorch_model.bin"})],
)
def test_serialization_and_configuration_are_as_asked(hub, safe, written):
    hub.has_readme = True
    config = dict(build(SMALL["vit"]).config) | {"quick_gelu": True}
    fastclip.push_to_hf_hub(
        build(SMALL["vit"]), Tokenizer(), config, "small", token="t", create_pr=True,
        commit_message="m", revision="r", safe_serialization=safe,
    )  # fmt: skip
    names = {path.name for path in hub.sent.iterdir()}
    assert names == written | {"open_clip_config.json", "vocab.json"}
    assert json.loads((hub.sent / "open_clip_config.json").read_text())["model_cfg"] == config
    _, settings = hub.calls[-1]
    assert settings["repo_id"] == "me/small" and settings["create_pr"] and settings["token"] == "t"
    assert (settings["commit_message"], settings["revision"]) == ("m", "r")


def test_pretrained_weights_are_published_with_their_tokenizer(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "architectures", {**PRESETS, "Small": SMALL["vit"]})
    monkeypatch.setattr("fastclip.models.hub_upload.get_tokenizer", lambda name: Tokenizer())
    model = build(SMALL["vit"])
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    fastclip.push_pretrained_to_hf_hub(
        "Small", tmp_path / "weights.pt", "me/small", image_mean=(0.1, 0.2, 0.3),
        hf_tokenizer_self=True, model_card=CARD,
    )  # fmt: skip
    written = json.loads((hub.sent / "open_clip_config.json").read_text())
    assert written["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "me/small"
    assert written["preprocess_cfg"]["mean"] == [0.1, 0.2, 0.3]
    assert (hub.sent / "README.md").read_text() == model_card_text("small", CARD)


def test_model_card_says_what_open_clips_says():
    ours = model_card_text("small", CARD)
    card = {**CARD, "tags": list(CARD["tags"])}
    theirs = sys.modules["open_clip.push_to_hf_hub"].generate_readme(card, "small")
    assert [line for line in ours.splitlines() if line] == [
        line for line in theirs.splitlines() if line
    ]


def test_nothing_is_published_of_what_cannot_be(hub, monkeypatch):
    with pytest.raises(ValueError, match="safe_serialization must be one of"):
        fastclip.push_to_hf_hub(build(SMALL["vit"]), None, None, "x", safe_serialization="no")
    with pytest.raises(TypeError, match="only built-in models can be published"):
        fastclip.push_to_hf_hub(torch.nn.Linear(2, 2), None, None, "x")
    assert hub.calls == []
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match='pip install "huggingface_hub'):
        fastclip.push_to_hf_hub(build(SMALL["vit"]), None, None, "x")
