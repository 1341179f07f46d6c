"""Read files of prompts and of class names, and check them while reading, long before their use.

A template is a text with a pair of braces, {}, where the name of a class goes, in the syntax of
`str.format`: double a brace that is to stand for itself. In files, {c} may take the place of {}, as
in CLIP_benchmark's files.
"""

import os
import re
from collections.abc import Iterator

from fastclip.data.regular_file import read_regular

DEFAULT_TEMPLATES = ("a photo of a {}.",)
MAX_BYTES = 2**24
# {c}, unless its brace is the second of a doubled brace, which stands for a plain brace.
FIELD = re.compile(r"(?<!\{)((?:\{\{)*)\{c\}")
WIDE = re.compile(r"\{[^{}]*\d{4}")  # a field that would be padded to a thousand letters or more
NAME = "the name of a class, longer than any number of letters that a field may be cut to"


def objection_to(template: str) -> str | None:
    """Return the reason why a text cannot be a template, or None if it can."""
    if WIDE.search(template):
        return "it has a field of more than 999 letters"
    try:
        filled = template.format(NAME)
    except IndexError:
        return "it has more than one field, but only the class name is filled in"
    except KeyError as error:
        return f"it has a field {{{error.args[0]}}}, but the class name goes where {{}} is"
    except (ValueError, AttributeError, TypeError) as error:
        return f"its braces cannot be filled in ({error})"
    if NAME not in filled:
        return "it must contain {} where the class name goes"
    return None


def check_template(template: str, place: str = "") -> None:
    """Raise a ValueError unless a text can be a template.

    Args:
        template: the text.
        place: where the template is, such as "prompts.txt, line 3: ", for the message.

    Raises:
        ValueError: the text cannot be filled in with the name of a class.
    """
    objection = objection_to(template)
    if objection is not None:
        raise ValueError(
            f"{place}{template!r} is not a template: {objection}. To get a plain brace, double it: "
            "{{ or }}"
        )


def with_braces(text: str) -> str:
    """Return a template with {} in place of {c}, or {0} in place of each {c} if it has several.

    Example:
        >>> with_braces("a photo of a {c}."), with_braces("{c} and {c}, no {{c}}")
        ('a photo of a {}.', '{0} and {0}, no {{c}}')
    """
    field = "{}" if len(FIELD.findall(text)) < 2 else "{0}"
    return FIELD.sub(rf"\1{field}", text)


def read_templates(path: str | os.PathLike) -> list[str]:
    """Read a text file with a template per line, in which {} or {c} stands for the class name.

    Raises:
        OSError: there is no such file, or it is not a regular file.
        ValueError: the file has no lines, or a line is not a template, whose number the message
            says.
    """
    templates = []
    for number, line in _lines(path):
        template = with_braces(line)
        check_template(template, f"{os.fspath(path)}, line {number}: ")
        templates.append(template)
    return templates


def read_class_names(path: str | os.PathLike) -> list[str]:
    """Read a text file with a class name per line.

    Raises:
        OSError: there is no such file, or it is not a regular file.
        ValueError: the file has no lines, is not text in UTF-8, or is larger than `MAX_BYTES`.
    """
    return [line for _, line in _lines(path)]


def _lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers, counted from 1."""
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} must be text in UTF-8: {error}") from error
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError(f"{os.fspath(path)} is empty, but it must have at least one line")
    yield from lines
