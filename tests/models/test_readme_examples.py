"""The examples that users of OpenAI's CLIP and of open_clip begin with, with the import changed."""

import importlib.metadata
import re

import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.models import factory, registry
from fastclip.models.checkpoints.files import OPENAI_EXTRAS
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.factory import build_model
from fastclip.models.presets import PRESETS
from tests.support.published import publish_as_openais
from tests.support.small_models import with_layers

# The calls of the README of openai/CLIP.
OPENAI_EXAMPLE = """
import torch
import clip
from PIL import Image

device = "cuda" if torch.cuda.is_available() else "cpu"
model, preprocess = clip.load("ViT-B/32", device=device)

image = preprocess(Image.open("CLIP.png")).unsqueeze(0).to(device)
text = clip.tokenize(["a diagram", "a dog", "a cat"]).to(device)

with torch.no_grad():
    image_features = model.encode_image(image)
    text_features = model.encode_text(text)

    logits_per_image, logits_per_text = model(image, text)
    probs = logits_per_image.softmax(dim=-1).cpu().numpy()

print("Label probs:", probs)
"""


@pytest.fixture
def image(tmp_path, monkeypatch):
    """The examples' image where they look for it."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    (tmp_path / "docs").mkdir()
    for path in ("CLIP.png", "docs/CLIP.png"):
        Image.fromarray(pixels).save(tmp_path / path)
    monkeypatch.chdir(tmp_path)


def run(example: str, import_line: str) -> dict:
    changed, count = re.subn(r"^import (clip|open_clip)$", import_line, example, flags=re.M)
    assert count == 1
    names: dict = {}
    exec(compile(changed, "example", "exec"), names)
    return names


@pytest.mark.slow
def test_openais_example_runs_with_the_import_changed(image, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fastclip.models.fetch.OPENAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.manual_seed(0)
    model = build_model(with_layers(PRESETS["ViT-B-32-quickgelu"], 1)).half()
    (tmp_path / "cache").mkdir()
    extras = dict.fromkeys(OPENAI_EXTRAS, torch.tensor(1))
    torch.save(model.state_dict() | extras, tmp_path / "cache" / "ViT-B-32.pt")
    publish_as_openais(tmp_path / "cache" / "ViT-B-32.pt", monkeypatch)
    names = run(OPENAI_EXAMPLE, "import fastclip as clip")
    assert names["probs"].shape == (1, 3) and names["probs"].sum() == pytest.approx(1)
    assert names["image_features"].shape == (1, 512)
    assert "Label probs:" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")
def test_open_clips_example_runs_with_the_import_changed(image, tmp_path, monkeypatch, capsys):
    try:
        readme = importlib.metadata.metadata("open_clip_torch").get_payload()
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("open_clip_torch is not installed")
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.S)
    (example,) = [b for b in blocks if "Label probs" in b]
    torch.manual_seed(0)
    config = with_layers(PRESETS["ViT-B-32"], 1)
    monkeypatch.setitem(registry.architectures, "ViT-B-32", config)
    save_pretrained(build_model(config), tmp_path / "laion")
    monkeypatch.setattr(factory, "fetch_repository", lambda *args: tmp_path / "laion")
    names = run(example, "import fastclip as open_clip")
    assert names["text_probs"].sum().item() == pytest.approx(1, abs=1e-3)
    assert not names["model"].training
    assert "Label probs:" in capsys.readouterr().out
