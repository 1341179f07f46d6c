"""Files of prompts and of class names, checked as they are read: long before they are used.

A template is a text with one pair of braces, {}, where the name of a class goes, as `str.format`
has it: a brace that is meant as such is doubled. In files the name may also go where {c} is, which
is CLIP_benchmark's way.
"""

import os
import re
from collections.abc import Iterator

from fastclip.data.regular_file import read_regular

DEFAULT_TEMPLATES = ("a photo of a {}.",)
MAX_BYTES = 2**24
# {c}, but not where its brace is the second of a pair, which stands for a brace as such.
FIELD = re.compile(r"(?<!\{)((?:\{\{)*)\{c\}")
WIDE = re.compile(r"\{[^{}]*\d{4}")  # a field that would be padded to a thousand letters or more
NAME = "the name of a class, longer than any number of letters that a field may be cut to"


def objection_to(template: str) -> str | None:
    """Why a text cannot be a template, or None."""
    if WIDE.search(template):
        return "it asks for a field of more than 999 letters"
    try:
        filled = template.format(NAME)
    except IndexError:
        return "it asks for more than the name of the class"
    except KeyError as error:
        return f"it has a further field {{{error.args[0]}}}: the class name goes where {{}} is"
    except (ValueError, AttributeError, TypeError) as error:
        return f"its braces cannot be filled in ({error})"
    if NAME not in filled:
        return "it must hold {} for the class name"
    return None


def check_template(template: str, place: str = "") -> None:
    """Raise unless a text can be a template.

    Args:
        place: where the template stands, such as "prompts.txt, line 3: ".

    Raises:
        ValueError: it cannot be filled in with the name of a class.
    """
    objection = objection_to(template)
    if objection is not None:
        raise ValueError(
            f"{place}{template!r} is no template: {objection}; a brace that is meant as such is "
            "doubled, {{ or }}"
        )


def with_braces(text: str) -> str:
    """Return a template of a file with {} for {c}, or with {0} where it has several of these.

    Example:
        >>> with_braces("a photo of a {c}."), with_braces("{c} and {c}, no {{c}}")
        ('a photo of a {}.', '{0} and {0}, no {{c}}')
    """
    field = "{}" if len(FIELD.findall(text)) < 2 else "{0}"
    return FIELD.sub(rf"\1{field}", text)


def read_templates(path: str | os.PathLike) -> list[str]:
    """Read a text with a template per line, in which {} or {c} stands for the class name.

    Raises:
        OSError: there is no such file, or it is no regular one.
        ValueError: there is no line, or one that is no template; the message has its number.
    """
    templates = []
    for number, line in _lines(path):
        template = with_braces(line)
        check_template(template, f"{os.fspath(path)}, line {number}: ")
        templates.append(template)
    return templates


def read_class_names(path: str | os.PathLike) -> list[str]:
    """Read a text with a class name per line.

    Raises:
        OSError: there is no such file, or it is no regular one.
        ValueError: there is no line in it, or it is not text in UTF-8, or has more than
            `MAX_BYTES`.
    """
    return [line for _, line in _lines(path)]


def _lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1."""
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} must be text in UTF-8: {error}") from error
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError(f"{os.fspath(path)} is empty: a line is needed at least")
    yield from lines
