"""Cleans a text before it is split into tokens.

Every cleaner first repairs the text: ftfy (mojibake, ligatures, curly quotes, full-width letters,
control characters, NFC), then HTML entities, escaped once or twice. Then, by name:

    lower         collapses blanks and makes lower case: OpenAI's and open_clip's default
    whitespace    collapses blanks and keeps the case: for tokenizers that have upper case
    canonicalize  turns underscores into blanks, removes ASCII punctuation, then as `lower`

Source: openai/CLIP `simple_tokenizer.py`; big_vision `prompt_engineering.py` (canonicalize), as
open_clip 3.3.0 combines them.
"""

import html
import string
from collections.abc import Callable

import ftfy

_WITHOUT_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))


def lower(text: str) -> str:
    return whitespace(text).lower()


def whitespace(text: str) -> str:
    return collapse(repair(text))


def canonicalize(text: str) -> str:
    return collapse(repair(text).translate(_WITHOUT_PUNCTUATION).lower())


CLEANERS: dict[str, Callable[[str], str]] = {
    "lower": lower,
    "whitespace": whitespace,
    "canonicalize": canonicalize,
}


def find_cleaner(name: str) -> Callable[[str], str]:
    """Return the cleaner called `name`, a function from text to text.

    Raises:
        ValueError: `name` is not one of `CLEANERS`.
    """
    if name not in CLEANERS:
        raise ValueError(f"clean must be one of {', '.join(map(repr, CLEANERS))}, got {name!r}")
    return CLEANERS[name]


def repair(text: str) -> str:
    """Return `text` repaired by ftfy, its HTML entities decoded twice, without blanks around it."""
    # Nothing below changes printable ASCII without an entity, and most captions are that.
    if text.isascii() and text.isprintable() and "&" not in text:
        return text.strip()
    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def collapse(text: str) -> str:
    """Return `text` with one blank between words, and none around them."""
    return " ".join(text.split())
