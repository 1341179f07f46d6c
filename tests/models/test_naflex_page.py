"""docs/naflex.md: its examples run, one after the other, on a small model of the same name."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fastclip
from fastclip.data.patches import collate_patches
from fastclip.models import registry
from tests.support.images import random_image
from tests.support.ready import TINY_NAFLEX, naflex_checkpoint

PAGE = Path(__file__).parents[2] / "docs" / "naflex.md"
NAME = "ViT-B-16-SigLIP2-naflex"
SIZES = [(90, 90), (400, 100), (40, 160), (50, 30)]


@pytest.fixture(scope="module")
def text() -> str:
    if not PAGE.exists():
        pytest.skip("docs/ is not beside the tests")
    return PAGE.read_text()


def test_examples_run(text, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(registry.architectures, NAME, replace(TINY_NAFLEX, init_logit_bias=-10.0))
    images = [random_image("RGB", *size) for size in SIZES]
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    scope = {
        "images": images, "paths": paths, "captions": ["a cat", "a dog", "an ox", "a fox"],
        "directory": naflex_checkpoint(tmp_path / "naflex.pt"),
    }  # fmt: skip
    codes = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(codes) == 3
    for code in codes:
        exec(code, scope)
    model, batch, features = (scope[name] for name in ("model", "batch", "features"))
    assert features.shape == (4, 32) and scope["tokens"].shape[:2] == (4, 16)
    torch.testing.assert_close(scope["one"][0], features[0], rtol=1e-4, atol=1e-5)
    assert set(batch) == set(collate_patches(scope["pixels"]))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert set(scope["found"]) == {0, 1, 2, 3}
    said = capsys.readouterr().out
    assert "4 images in 1 batches have 63 patches; with padding they are 64 tokens" in said
    assert said.endswith("0 images were skipped\n")


def test_functions_and_classes_that_it_names_are_there(text):
    names = set(re.findall(r"fastclip\.(\w+)\(", text))
    assert names > {"collate_patches", "TokenBudgetSampler"}
    assert [name for name in names if not hasattr(fastclip, name)] == []
