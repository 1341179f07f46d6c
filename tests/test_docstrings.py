"""Every public name has an example in its docstring, and examples name what there is."""

import ast
import doctest
import inspect

import pytest

import fastclip

PUBLIC = [
    name
    for name in dir(fastclip)
    if not name.startswith("__") and inspect.getmodule(getattr(fastclip, name)) is not None
]
# Of those, what runs with nothing at hand but torch and fastclip, and says what it prints.
COMPLETE = [
    "clip_loss", "siglip_loss", "available_backends", "available_models", "list_openai_models",
    "list_models",
    "get_model_config", "list_pretrained", "list_pretrained_models_by_tag",
    "list_pretrained_tags_by_model", "is_pretrained_cfg", "get_pretrained_url", "get_input_dtype",
    "image_transform",
]  # fmt: skip


def lines_of(name: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.getdoc(getattr(fastclip, name)))


@pytest.mark.parametrize("name", [n for n in PUBLIC if callable(getattr(fastclip, n))])
def test_public_name_has_an_example_of_names_that_exist(name):
    assert "Example:" in inspect.getdoc(getattr(fastclip, name))
    examples = lines_of(name)
    source = "".join(example.source for example in examples)
    value = getattr(fastclip, name)
    assert inspect.isclass(value) or name in source or value.__name__ in source
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id != "fastclip" or hasattr(fastclip, node.attr), node.attr


@pytest.mark.parametrize("name", COMPLETE)
def test_complete_examples_print_what_they_say(name):
    import torch
    from PIL import Image

    names = {"torch": torch, "fastclip": fastclip, "Image": Image}
    test = doctest.DocTest(lines_of(name), names, name, None, None, None)
    assert test.examples and any(example.want for example in test.examples)
    failed, _ = doctest.DocTestRunner(verbose=False).run(test)
    assert failed == 0
