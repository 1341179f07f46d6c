"""Words of CONTRIBUTING's "Voice" that a text for strangers does without."""

import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTEAD = {
    r"beside(?!\.py|=|:|`|\()": "next to, besides",
    r"(is|are) through\b": "finished",
    r"passed over": "skipped",
    r"for want of": "because there is no",
    r"pictures?": "image",
    r"told apart": "distinguished",
    r"speaks? against": "objects to",
    r"what it is told": "settings",
}
WORDS = {re.compile(rf"\b{word}\b", re.IGNORECASE): plain for word, plain in INSTEAD.items()}
# The headers of kernels are terse, and read next to their formulas.
KERNELS = ("fastclip/backends/triton/",)
PAGES = [ROOT / "README.md", ROOT / "DESIGN.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("fastclip", "benchmarks", "examples")


def texts_of_python(path):
    """The strings of a file, with their lines; docstrings are strings."""
    if not any(word.search(path.read_text("utf-8")) for word in WORDS):
        return  # without a slow look at its tokens
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.STRING or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
                yield token.start[0], token.string


def found_in(texts):
    for number, text in texts:
        for word, plain in WORDS.items():
            for found in word.finditer(text):
                yield number + text.count("\n", 0, found.start()), found.group(0), plain


@pytest.mark.parametrize("folder", FOLDERS)
def test_strings_have_plain_words(folder):
    dialect = [
        f"{path.relative_to(ROOT)}:{line}: {word!r}; say {plain}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not str(path.relative_to(ROOT)).startswith(KERNELS)
        for line, word, plain in found_in(texts_of_python(path))
    ]
    assert not dialect, "\n".join(dialect)


def test_pages_have_plain_words():
    dialect = [
        f"{path.relative_to(ROOT)}:{line}: {word!r}; say {plain}"
        for path in PAGES
        for line, word, plain in found_in(enumerate(path.read_text("utf-8").splitlines(), 1))
    ]
    assert not dialect, "\n".join(dialect)
