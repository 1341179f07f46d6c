"""The API reference names what there is; `tests/test_docstrings.py` is about the examples."""

import importlib
import inspect
import re

import pytest

from tests.support.doc_pages import DOCS

NAMES = [
    name
    for page in sorted((DOCS / "api").glob("*.md"))
    for name in re.findall(r"^::: ([\w.]+)$", page.read_text("utf-8"), re.M)
]

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="docs/ is not beside the tests")


def test_the_reference_is_of_names_that_exist_and_have_an_example():
    assert len(NAMES) == len(set(NAMES)) > 50
    for name in NAMES:
        module, _, attribute = name.rpartition(".")
        if module == "fastclip":
            importlib.import_module(name)
            continue
        value = getattr(importlib.import_module(module), attribute)
        assert ">>> " in inspect.getdoc(value), name
