"""The API reference names what is there, each name has an example, and examples that need no files
and no weights are run."""

import doctest
import importlib
import inspect
import re

import pytest
import torch
from PIL import Image

import fastclip
from tests.support.doc_pages import DOCS

NAMES = [
    name
    for page in sorted((DOCS / "api").glob("*.md"))
    for name in re.findall(r"^::: ([\w.]+)$", page.read_text("utf-8"), re.M)
]
RUN = (
    "fastclip.functional.clip_loss", "fastclip.functional.ClipStats",
    "fastclip.functional.siglip_loss",
    "fastclip.losses.siglip.SigLipLoss", "fastclip.ops.dispatch.available_backends",
    "fastclip.models.registry.list_models", "fastclip.models.pretrained.list_pretrained",
    "fastclip.data.tokenizers.openai.tokenize", "fastclip.data.preprocess.image_transform",
)  # fmt: skip

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="docs/ is not beside the tests")


def named(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    if module == "fastclip":
        return importlib.import_module(name)
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_has_an_example(name):
    text = inspect.getdoc(named(name))
    assert re.search(r"^Example:.*\n( +.*\n)?? +>>> ", text, re.M) or inspect.ismodule(named(name))


def test_the_reference_is_large():
    assert len(NAMES) == len(set(NAMES)) > 50 and set(RUN) <= set(NAMES)


@pytest.mark.parametrize("name", RUN)
def test_the_example_runs_and_prints_what_it_says(name):
    names = {"fastclip": fastclip, "torch": torch, "Image": Image}
    (example,) = doctest.DocTestFinder(recurse=False).find(named(name), name, globs=names)
    runner = doctest.DocTestRunner()
    runner.run(example)
    assert runner.tries >= 1 and runner.failures == 0, example.docstring
