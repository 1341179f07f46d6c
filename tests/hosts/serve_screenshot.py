"""Writes the picture of `fastclip serve` that the documents show.

    make test-hosts  # once: it installs playwright in .venv-hosts
    .venv-hosts/bin/python -m tests.hosts.serve_screenshot docs/serve.png

The pictures are shapes, and the model measures their colour and shape (tests/support/shapes.py).
"""

import sys
import tempfile
from pathlib import Path

from fastclip.embeddings import embed, open_embeddings
from fastclip.serve.service import open_service
from tests.support import browser
from tests.support.live import live
from tests.support.shapes import draw_shapes, shapes_model

QUERY = "?q=red+heart+%2B+pink+star"


def take(path: Path) -> None:
    """Search, subtract the fourth result, and write what is seen then."""
    with tempfile.TemporaryDirectory() as folder, browser.chromium() as chromium:
        photos, out = Path(folder, "photos"), Path(folder, "shapes")
        draw_shapes(photos, 300)
        embed(shapes_model(), photos, out, metadata="jsonl")
        with live(open_service(open_embeddings(out), shapes_model())) as address:
            page = chromium.new_page(viewport={"width": 1180, "height": 780})
            page.goto(address + QUERY)
            card = page.locator("article").nth(3)
            card.hover()
            card.get_by_text("Subtract").click()
            page.wait_for_selector(".subtracted")
            page.locator("article").nth(2).hover()
            page.wait_for_load_state("networkidle")
            path.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=path)


if __name__ == "__main__":
    if len(sys.argv) != 2 or (why_not := browser.objection()):
        sys.exit(why_not if len(sys.argv) == 2 else __doc__)
    take(Path(sys.argv[1]))
