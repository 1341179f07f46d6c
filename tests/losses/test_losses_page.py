"""docs/losses.md: its example runs, it names every loss, and what it names is there."""

import re
from pathlib import Path

import pytest

import fastclip
from fastclip.benchmarks.family.losses import LOSSES

PAGE = Path(__file__).parents[2] / "docs" / "losses.md"


@pytest.fixture(scope="module")
def text() -> str:
    if not PAGE.exists():
        pytest.skip("docs/ is not beside the tests")
    return PAGE.read_text()


def test_the_example_has_gradients(text):
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope = {}
    exec(code, scope)
    assert scope["loss"].isfinite()
    images, texts = scope["images"], scope["texts"]
    assert images.shape == texts.shape and (images.grad is not None or texts.grad is not None)


@pytest.mark.parametrize("heading", ["By need", "What it is called elsewhere", "What was measured"])
def test_each_part_names_every_loss(text, heading):
    part = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    assert [name for name in LOSSES if f"`{name}" not in part] == []


def test_functions_and_classes_that_it_names_are_there(text):
    for name in re.findall(r"`fastclip\.(\w+)", text):
        assert hasattr(fastclip, name)
