"""The pages of the documentation: each has a place, its blocks are run or say why not, links lead
somewhere, and commands name what is there. Blocks are run by tests/test_readme.py."""

import re
import shlex
from pathlib import Path

import pytest

from fastclip.cli import COMMANDS
from tests.support.doc_blocks import CODE, read_blocks
from tests.support.doc_pages import DOCS, ROOT, pages_in_order

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "DESIGN.md", ROOT / "csrc" / "README.md"]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+?)\s*$", re.MULTILINE)
MOST_NOT_RUN = 10  # of all pages; a block that is run is better than one more here

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="docs/ is not beside the tests")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def test_every_page_has_a_line_in_the_nav_and_every_line_a_page():
    assert sorted(pages_in_order()) == sorted(DOCS.rglob("*.md"))


@each_page
def test_a_block_that_is_run_elsewhere_is_run_by_a_test_that_reads_the_page(page):
    for block in read_blocks(page):
        if block.mark is not None and block.mark[0] == "run by":
            assert page.name in (ROOT / block.mark[1]).read_text(), block.where
        elif block.mark is not None:
            assert len(block.mark[1].split()) >= 4, f"{block.where}: the reason says nothing"


def test_few_blocks_are_not_run():
    blocks = [b for page in PAGES for b in read_blocks(page) if b.language in CODE]
    not_run = [b.where for b in blocks if b.mark is not None and b.mark[0] == "not run"]
    assert len(not_run) <= MOST_NOT_RUN, not_run
    assert len(blocks) > 4 * len(not_run)


def anchors_of(page: Path) -> set[str]:
    """The anchors of its headings, as mkdocs and GitHub make them of plain words."""
    words = (re.sub(r"[^\w\s-]", "", title.lower()) for title in HEADING.findall(page.read_text()))
    return {re.sub(r"\s+", "-", title.strip()) for title in words}


@pytest.mark.parametrize("page", LINKED, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page):
    for target in LINK.findall(page.read_text()):
        if target.startswith("https://"):
            continue
        assert "://" not in target and not target.startswith("/"), target
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{target} leads nowhere"
        assert not page.is_relative_to(DOCS) or path.is_relative_to(DOCS), f"{target} leaves docs/"
        assert not anchor or anchor in anchors_of(path), f"{target} names no heading"


@each_page
def test_commands_name_what_is_there(page):
    for block in read_blocks(page):
        if block.language in ("", "bash"):
            for line in block.text.replace("\\\n", " ").splitlines():
                check_command(*shlex.split(line, comments=True))


def extras_named(text: str) -> set[str]:
    """What stands between the brackets of a requirement: `.[serve,sentence-transformers]`."""
    lists = re.findall(r"(?<=[\w.])\[([\w, -]+)\]", text)
    return {name.strip() for names in lists for name in names.split(",")}


def extras() -> set[str]:
    # As text: Python 3.10 has no TOML.
    text = (ROOT / "pyproject.toml").read_text()
    section = text.split("[project.optional-dependencies]")[1].split("[project.scripts]")[0]
    return set(re.findall(r"^([\w-]+) = \[", section, re.M))


def check_command(*words: str) -> None:
    if not words:
        return
    name, *rest = words
    if name == "make":
        targets = re.findall(r"^([\w-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(), re.M)
        named = [word for word in rest if "=" not in word]
        assert set(named) <= set(" ".join(targets).split()), words
    elif name == "python":
        assert (ROOT / rest[0]).exists() if rest[0] != "-m" else rest[1].startswith("fastclip")
    elif name == "pip":
        assert rest[0] == "install"
        assert extras_named(" ".join(rest)) <= extras(), words
    elif name == "fastclip":
        assert rest[0] in COMMANDS, words
    else:
        assert name in ("torchrun", "git", "cd", "python3", ".venv/bin/python"), words


def test_the_list_of_extras_is_complete():
    page = (DOCS / "getting-started.md").read_text()
    (listed,) = re.findall(r"The extras are (.+?) For example:", page, re.S)
    assert set(re.findall(r"`([\w-]+)`", listed)) == extras()
    assert extras_named("pip install '.[serve,sentence-transformers]'") < extras()


@each_page
def test_no_page_installs_from_an_index_before_the_release(page):
    if "- unreleased" not in (ROOT / "CHANGELOG.md").read_text():
        return
    for command in re.findall(r"pip install[^\n`]*", page.read_text()):
        assert "fastclip-kernels" not in command, command
    for extra in re.findall(r"pip install[^\n`]*\.\[[^\n`]*", page.read_text()):
        assert extras_named(extra) <= extras(), extra


@each_page
def test_pages_are_short_and_say_image(page):
    text = page.read_text()
    limit = 90 if page.name == "README.md" else 200
    assert text.count("\n") <= limit, f"{page.name} has more than {limit} lines"
    assert "picture" not in text.lower().replace("pictionary", "")
