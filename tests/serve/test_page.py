"""The page: whole, from this server alone, without markup from data, and legible in both modes."""

import re
from pathlib import Path

import pytest

from fastclip.serve.app import PAGE
from tests.support.asgi import get

FOLDER = Path(__file__).parents[2] / "fastclip" / "serve" / "page"
HTML = (FOLDER / "index.html").read_text()
CSS = (FOLDER / "page.css").read_text()
SCRIPTS = {path.name: path.read_text() for path in FOLDER.glob("*.js")}


@pytest.mark.parametrize("path", list(PAGE))
def test_files_of_the_page_come_with_their_type_and_policy(app, path):
    answer = get(app, path)
    assert answer.status == 200 and answer.headers["content-type"].startswith(PAGE[path][1])
    assert "script-src 'self';" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-cache" and len(answer.body) > 100


def test_everything_in_the_folder_is_served_and_what_is_named_is_there():
    served = {"/" if path == "/" else path.removeprefix("/page/") for path in PAGE}
    assert {path.name for path in FOLDER.iterdir()} == (served - {"/"}) | {"index.html"}
    named = re.findall(r'(?:href|src)="(page/[^"]+)"', HTML)
    assert named and {f"/{name}" for name in named} <= set(PAGE)
    imported = re.findall(r'from "\./([^"]+)"', "".join(SCRIPTS.values()))
    assert imported and set(imported) <= set(SCRIPTS)
    for text in (HTML, CSS, *SCRIPTS.values()):
        assert not re.search(r"https?://(?!www\.w3\.org)", text)


def test_there_is_no_script_in_the_page_and_no_markup_from_data():
    assert re.findall(r"<script[^>]*>", HTML) == ['<script type="module" src="page/main.js">']
    assert not re.search(r"\son\w+=|<style|\sstyle=|javascript:", HTML)
    for name, text in SCRIPTS.items():
        found = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
        assert not found, name


def test_elements_that_scripts_ask_for_are_there():
    ids = set(re.findall(r'\bid="([^"]+)"', HTML))
    asked = re.findall(r'(?:\bat|getElementById)\("([\w-]+)"\)', "".join(SCRIPTS.values()))
    assert len(set(asked)) > 10 and set(asked) <= ids
    for label in re.findall(r'\bfor="([^"]+)"|aria-describedby="([^"]+)"', HTML):
        assert set(filter(None, label)) <= ids


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground", "least"),
    [
        ("ink", "ground", 7), ("ink", "raised", 7), ("quiet", "ground", 4.5),
        ("quiet", "raised", 4.5), ("mark", "raised", 4.5), ("wrong", "ground", 4.5),
        ("less", "raised", 4.5), ("on-accent", "accent", 4.5), ("accent", "ground", 3),
    ],
)  # fmt: skip
def test_contrast_is_that_of_wcag(mode, ink, ground, least):
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", CSS.split(":root {")[1 + mode]))
    light, dark = sorted((_luminance(colours[ink]), _luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    values = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
