"""Every public name has an example in its docstring, and examples name what there is."""

import ast
import doctest
import inspect

import pytest
import torch
from PIL import Image

import fastclip

PUBLIC = [
    name
    for name in dir(fastclip)
    if not name.startswith("__") and inspect.getmodule(getattr(fastclip, name)) is not None
]
# Of those, what runs with nothing at hand but torch and fastclip, and says what it prints.
COMPLETE = [
    "ClipStats", "SigLipLoss", "available_backends", "available_models", "clip_loss",
    "get_model_config", "list_models", "list_openai_models", "siglip_loss", "tokenize",
     "list_pretrained", "list_pretrained_models_by_tag",
    "list_pretrained_tags_by_model", "is_pretrained_cfg", "get_pretrained_url", "get_input_dtype",
    "image_transform",
]  # fmt: skip


def lines_of(name: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.getdoc(getattr(fastclip, name)))


def test_public_names_have_an_example_of_names_that_exist():
    for name in PUBLIC:
        value = getattr(fastclip, name)
        if not callable(value):
            continue
        assert "Example:" in inspect.getdoc(value), name
        source = "".join(example.source for example in lines_of(name))
        assert inspect.isclass(value) or name in source or value.__name__ in source, name
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "fastclip":
                assert hasattr(fastclip, node.attr), f"{name}: {node.attr}"


@pytest.mark.parametrize("name", COMPLETE)
def test_complete_examples_print_what_they_say(name):
    names = {"torch": torch, "fastclip": fastclip, "Image": Image}
    test = doctest.DocTest(lines_of(name), names, name, None, None, None)
    assert any(example.want for example in test.examples)
    failed, _ = doctest.DocTestRunner(verbose=False).run(test)
    assert failed == 0
