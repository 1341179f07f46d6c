"""Debian's Chromium, driven by playwright, where both are."""

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator

NAMES = ("chromium", "chromium-browser", "google-chrome")


def objection() -> str | None:
    """Why there is no browser here; None if there is one."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is missing: `make test-hosts` installs it"
    if not any(map(shutil.which, NAMES)):
        return "there is no Chromium: apt-get install chromium"
    return None


@contextlib.contextmanager
def chromium() -> Iterator:
    """A browser without a window, as playwright's `Browser`."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as playwright:
        # The sandbox does not work for root, nor in most containers.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
