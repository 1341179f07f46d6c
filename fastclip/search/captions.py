"""Captions such as people search for: the queries with which `CaptionNull` calibrates scores."""

import hashlib
import os
from importlib.resources import files

from fastclip.data.quoting import quoted_text
from fastclip.data.regular_file import read_regular

MAX_BYTES = 2**24
BUNDLED = "captions.txt"


def read_captions(path: str | os.PathLike | None = None) -> list[str]:
    """Return the captions of a text file, one per line; by default the 500 that are bundled.

    Empty lines and repeated lines are left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not text in UTF-8, or has no caption.

    Example:
        >>> read_captions()[0]
        'a plate of pasta on a white plate'
    """
    if path is None:
        text = (files("fastclip.search") / BUNDLED).read_text("utf-8")
    else:
        try:
            text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{quoted_text(os.fspath(path))} must be text in UTF-8: {error}"
            ) from None
    captions = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not captions:
        raise ValueError(
            f"{quoted_text(os.fspath(path or BUNDLED))} has no caption; write one per line"
        )
    return captions


def digest_of(captions: list[str]) -> str:
    """Return the SHA-256 of a list of captions."""
    return hashlib.sha256("\n".join(captions).encode(errors="surrogatepass")).hexdigest()
