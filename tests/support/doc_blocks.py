"""Code blocks of a Markdown page, and what the page says about running them.

A block begins and ends with three backticks at the beginning of a line. What follows a block of
code as ```text is its output. A block that cannot run where the others do says so, in a comment
that readers do not see, on the line before it or with an empty line between:

    <!-- not run: it needs a GPU -->
    <!-- run by: tests/hosts/test_search_engines.py -->

and a page all of whose blocks are run elsewhere says it once, anywhere:

    <!-- page run by: tests/hosts/test_search_engines.py -->
"""

import re
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^```([\w+-]*)[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (not run|run by): ((?:(?!-->).)+?) -->\s*\Z", re.DOTALL)
PAGE_MARK = re.compile(r"<!-- page (not run|run by): (.+?) -->")
CODE = ("python", "", "bash")


class Block(NamedTuple):
    """A block of code.

    Attributes:
        page, line: where its first line of code is, counted from 1.
        language: "python", or "" or "bash" for commands; anything else is only shown.
        text: the code.
        output: what it prints, according to the page; None if the page does not show it.
        mark: ("not run" or "run by", the reason or the test); None if it runs with the others.
    """

    page: str
    line: int
    language: str
    text: str
    output: str | None
    mark: tuple[str, str] | None

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(path: Path) -> list[Block]:
    """The blocks of a page, in order; an output belongs to the block before it.

    Raises:
        ValueError: a fence is indented or has no end, or an output follows no code.
    """
    page = path.read_text(encoding="utf-8")
    of_page = PAGE_MARK.search(page)
    blocks, end = [], 0
    for match in FENCE.finditer(page):
        between, line = page[end : match.start()], page.count("\n", 0, match.start()) + 2
        _refuse_other_fences(between, path.name, line)
        language, text = match.groups()
        if language == "text" and blocks and not between.strip():
            blocks[-1] = blocks[-1]._replace(output=text)
        else:
            found = MARK.search(between) or of_page
            mark = (found[1], " ".join(found[2].split())) if found else None
            if language == "text" and mark is None:
                raise ValueError(f"{path.name}:{line} is an output, and follows no code")
            blocks.append(Block(path.name, line, language, text, None, mark))
        end = match.end()
    _refuse_other_fences(page[end:], path.name, page.count("\n") + 1)
    return blocks


def _refuse_other_fences(text: str, page: str, line: int) -> None:
    if "```" in text:
        raise ValueError(f"{page} has a fence before line {line} that is indented or has no end")
