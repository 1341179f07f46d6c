"""What a source yields: a sample, or the reason why there is none."""

import codecs
import json
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

# Characters. No model reads that many, and a million accents would take half an hour to clean:
# sorting them for Unicode's normal form takes quadratic time.
MAX_CAPTION = 2**15
MAX_CAPTION_BYTES = 4 * MAX_CAPTION
JSON_FIELDS = ("caption", "text")  # in order of preference
NO_CAPTION, EMPTY_CAPTION = "no caption", "empty caption"


class Sample(NamedTuple):
    key: str  # names the sample in logs, with its file
    image: bytes | str | Tensor | Image.Image  # a file, its path, or (C, H, W) uint8 pixels
    caption: str  # "" only if the source accepts images without a caption
    columns: dict[str, Any] | None = None  # further values, if the source was asked for them
    left_out: int = 0  # values of columns that None has replaced; see `sample_columns.py`


class BadSample(NamedTuple):
    key: str
    reason: str  # one of a small set of phrases, by which bad samples are counted
    detail: str = ""  # what is particular to this sample
    lost: int = 1  # lost samples: a missing shard may be many, a file of no sample is 0


def even_alone(found: Sample | BadSample, image: bytes | str | Tensor | Any) -> Sample | BadSample:
    """Return a sample without a caption if the missing caption is all that is wrong."""
    if isinstance(found, BadSample) and found.reason in (NO_CAPTION, EMPTY_CAPTION):
        return Sample(found.key, image, "")
    return found


def with_caption_of(key: str, image: bytes | str, name: str, contents: bytes) -> Sample | BadSample:
    """Return a Sample with the caption from a file, or a BadSample; see `with_caption`.

    In a file whose name ends with .json, the caption is the value of "caption", or of "text".
    """
    if not name.lower().endswith(".json"):
        return with_caption(key, image, contents)
    try:
        values = json.loads(contents)
        caption = next(values[field] for field in JSON_FIELDS if field in values)
    except (ValueError, TypeError, StopIteration, RecursionError):
        return BadSample(key, NO_CAPTION, f"{name} has none of {', '.join(JSON_FIELDS)}")
    return with_caption(key, image, caption)


def with_caption(
    key: str, image: bytes | str | Tensor | Image.Image, caption: object
) -> Sample | BadSample:
    """Return a Sample with the caption, stripped of space, or a BadSample if nothing is left of it.

    A caption longer than `MAX_CAPTION` is cut. Bytes are read as UTF-8, with or without a byte
    order mark. A caption with a surrogate, which no valid text holds and no tokenizer accepts, is
    bad like one with bytes that are not UTF-8.
    """
    try:
        if isinstance(caption, bytes):
            is_whole = len(caption) <= MAX_CAPTION_BYTES  # else the cut may be inside a character
            decoder = codecs.getincrementaldecoder("utf-8-sig")()
            caption = decoder.decode(caption[:MAX_CAPTION_BYTES], final=is_whole)
        if not isinstance(caption, str):
            return BadSample(key, NO_CAPTION, f"got {type(caption).__name__}")
        caption.encode()
    except UnicodeError as error:
        return BadSample(key, "caption is not UTF-8", str(error))
    caption = caption.strip()[:MAX_CAPTION]
    return Sample(key, image, caption) if caption else BadSample(key, EMPTY_CAPTION)
