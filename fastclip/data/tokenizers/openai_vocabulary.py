"""Finds or fetches OpenAI's 48,894 merges, the vocabulary of CLIP.

They are looked for in this order, and the first copy that is OpenAI's is used:

    installed   bpe_simple_vocab_16e6.txt.gz in `open_clip_torch`, or in OpenAI's `clip`
    copied      that file, or merges.txt, in ~/.cache/fastclip
    cached      merges.txt of any repository in the Hub's cache, or fetched earlier
    fetched     merges.txt of openai/clip-vit-base-patch32 from the Hub, like weights

Every copy is checked by the SHA-256 of the merges themselves. OpenAI's file (which has more lines
than CLIP uses, and another first line) and the Hub's file hold the same 48,894 merges.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fastclip.data.installed_files import installed_file
from fastclip.data.tokenizers.vocabulary import (
    BYTES,
    CLIP_MERGES,
    MERGES_FILE,
    BytePairVocabulary,
    read_vocabulary,
)
from fastclip.hub import cache_directory, cached_hub_files, hub_address, hub_file

OPENAI_FILE = "bpe_simple_vocab_16e6.txt.gz"
REPOSITORY = "openai/clip-vit-base-patch32"
# The SHA-256 of `BytePairVocabulary.to_text()`, which equals the Hub's file byte for byte.
SHA256 = "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"
PACKAGES = {"open_clip": "open_clip_torch", "clip": "OpenAI's clip"}


class Located(NamedTuple):
    """A copy of OpenAI's vocabulary on this machine.

    Attributes:
        path: the path of the file.
        origin: where the copy comes from, in words.
    """

    path: Path
    origin: str


def find_vocabulary(
    source: BytePairVocabulary | str | os.PathLike | None = None,
    num_merges: int = CLIP_MERGES,
    cache_dir: str | os.PathLike | None = None,
) -> BytePairVocabulary:
    """Return the vocabulary at `source`, or OpenAI's.

    Args:
        source: a vocabulary, or the path of one: see `read_vocabulary`. None for OpenAI's, which is
            looked for on this machine and otherwise fetched (see the module); it is read once
            per process. "bytes" for the vocabulary without merges, whose tokens are bytes, and
            which needs no file.
        num_merges: how many merges the vocabulary at `source` has.
        cache_dir: where published files are kept, instead of the Hub's cache or fastclip's.

    Raises:
        FileNotFoundError: there is nothing at `source`; or OpenAI's vocabulary is not on this
            machine and could not be fetched: the message says every way to get it.
        ValueError: see `read_vocabulary`.
    """
    if isinstance(source, BytePairVocabulary):
        return source
    if source == BYTES:
        return BytePairVocabulary(())
    if source is not None:
        try:
            return read_vocabulary(source, num_merges)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}. {ways_to_get_it(cache_dir)}") from None
    return _openai_vocabulary(None if cache_dir is None else os.fspath(cache_dir))


def locate_openai_vocabulary(cache_dir: str | os.PathLike | None = None) -> Located | None:
    """Return where OpenAI's vocabulary is on this machine, or None; nothing is fetched."""
    return next((copy for copy in _copies(cache_dir) if _objection(copy.path) is None), None)


def openai_vocabulary_address() -> str:
    """Return the address of OpenAI's vocabulary, on the Hub or on the mirror in HF_ENDPOINT."""
    return hub_address(REPOSITORY, MERGES_FILE)


def ways_to_get_it(cache_dir: str | os.PathLike | None = None) -> str:
    """Return sentences that say how to get the vocabulary without a connection."""
    return (
        f"Any one of these gives OpenAI's vocabulary: pip install open_clip_torch, which contains "
        f"it; copy {MERGES_FILE} of {REPOSITORY}, or {OPENAI_FILE} of open_clip or OpenAI's clip, "
        f"to {cache_directory(cache_dir)}; pass the path of one of these files, or of a directory "
        "with a CLIP tokenizer, as vocabulary=; set HF_HOME to the place of a cache of the Hugging "
        "Face Hub that has a CLIP model; set HF_ENDPOINT to a mirror of the Hub that can be reached"
    )


@cache
def _openai_vocabulary(cache_dir: str | None) -> BytePairVocabulary:
    located = locate_openai_vocabulary(cache_dir)
    path = _fetch(cache_dir) if located is None else located.path
    return read_vocabulary(path, CLIP_MERGES)


def _fetch(cache_dir: str | None) -> Path:
    try:
        path = hub_file(REPOSITORY, MERGES_FILE, cache_dir, _check)
        if path is None:
            raise OSError("there is no such file (HTTP status 404)")
    except (OSError, RuntimeError) as error:
        others = "".join(
            f" {copy.path} was not used: {_objection(copy.path)}."
            for copy in _copies(cache_dir, only_ours=True)
        )
        raise FileNotFoundError(
            "OpenAI's vocabulary of CLIP is not on this machine, and could not be fetched from "
            f"{openai_vocabulary_address()}: {error}.{others} {ways_to_get_it(cache_dir)}"
        ) from error
    return path


def _copies(cache_dir: str | os.PathLike | None, only_ours: bool = False) -> Iterator[Located]:
    """Yield files that may be OpenAI's vocabulary; `only_ours` leaves out the Hub's cache."""
    for package, distribution in PACKAGES.items():
        path = installed_file(package, OPENAI_FILE)
        if path is not None:
            yield Located(path, f"comes with {distribution}")
    for directory in dict.fromkeys([cache_directory(cache_dir), cache_directory()]):
        for name in (OPENAI_FILE, MERGES_FILE):
            if (directory / name).is_file():
                yield Located(directory / name, "copied there")
        fetched = directory / REPOSITORY / MERGES_FILE
        if fetched.is_file():
            yield Located(fetched, "fetched earlier")
    if not only_ours:
        for path in cached_hub_files(MERGES_FILE, cache_dir):
            yield Located(path, "in the Hub's cache")


def _objection(path: Path) -> str | None:
    """Return why a file is not OpenAI's vocabulary, or None if it is."""
    try:
        _check(path)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _check(path: Path) -> None:
    found = read_vocabulary(path, CLIP_MERGES).sha256
    if found != SHA256:
        raise ValueError(f"the SHA-256 of its merges is {found}, but OpenAI's is {SHA256}")
