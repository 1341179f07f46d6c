"""Small images of rows: decoded from a closed list of formats, and encoded again as JPEG.

A browser gets only pixels that were encoded here, so that a file that pretends to be an image but
is HTML, SVG or something else never reaches it.
"""

import hashlib
import io
import os
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from fastclip.data.images import ImageError, load_image
from fastclip.data.regular_file import open_regular
from fastclip.embeddings.reader import Embeddings
from fastclip.serve.limits import Limits
from fastclip.serve.refusal import Refusal

SIZES = {"small": 384, "large": 1280}  # pixels of the longer side, at most
QUALITY = 85


class Thumbnail(NamedTuple):
    """A JPEG, and a mark that changes with the file; `jpeg` is None if the client has this mark."""

    mark: str
    jpeg: bytes | None


def thumbnail(
    embeddings: Embeddings, limits: Limits, row: int, size: str, known: str | None = None
) -> Thumbnail:
    """Return the image of a row as a JPEG.

    Args:
        embeddings: the embeddings.
        limits: limits the size of the file.
        row: the number of the row.
        size: "small" or "large".
        known: the mark of the JPEG that the client has already, or None.

    Raises:
        Refusal: the row has no image that can be shown; the message contains no path.
    """
    path = _path_of(embeddings, row)
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            if status.st_size > limits.image_bytes:
                raise _unseen(row, f"its file has more than {limits.image_bytes:,} bytes")
            facts = (str(path), status.st_mtime_ns, status.st_size, size)
            mark = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
            return Thumbnail(mark, None if mark == known else _jpeg(file, SIZES[size]))
    except OSError:
        raise _unseen(row, "its file cannot be read") from None
    except ImageError:
        raise _unseen(row, "its file is not an image, is damaged or is too large") from None


def _path_of(embeddings: Embeddings, row: int) -> Path:
    try:
        (known,) = embeddings.metadata([row])
    except IndexError:
        raise Refusal(404, f"there is no row {row}") from None
    try:
        return embeddings.image_of(row, known)
    except ValueError:
        raise _unseen(row, "it names no file inside the folder of images") from None


def _jpeg(file: io.BufferedReader, side: int) -> bytes:
    image = load_image(file, least_side=side)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    output = io.BytesIO()
    image.save(output, "JPEG", quality=QUALITY)
    return output.getvalue()


def _unseen(row: int, reason: str) -> Refusal:
    return Refusal(404, f"row {row} has no image that can be shown: {reason}")
