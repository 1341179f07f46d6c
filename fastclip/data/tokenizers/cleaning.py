"""What a text goes through before it is split into tokens.

Every cleaner first repairs: ftfy (mojibake, ligatures, curly quotes, full-width letters, control
characters, NFC), then HTML entities, escaped once or twice. Then, by name:

    lower         blanks collapsed, lower case: OpenAI's and open_clip's default
    whitespace    blanks collapsed, the case kept: for tokenizers that have upper case
    canonicalize  underscores are blanks, ASCII punctuation removed, lower case, blanks collapsed

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
    """Return the function from text to text called `name`.

    Raises:
        ValueError: `name` is not one of `CLEANERS`.
    """
    if name not in CLEANERS:
        raise ValueError(f"clean must be one of {', '.join(map(repr, CLEANERS))}, got {name!r}")
    return CLEANERS[name]


def repair(text: str) -> str:
    """Return `text` as ftfy and two rounds of HTML's entities mend it, without blanks around it."""
    # Nothing below changes printable ASCII without an entity, and most captions are that.
    if text.isascii() and text.isprintable() and "&" not in text:
        return text.strip()
    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def collapse(text: str) -> str:
    """Return `text` with one blank between words, and none around them."""
    return " ".join(text.split())
