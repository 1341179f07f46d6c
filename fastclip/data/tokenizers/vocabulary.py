"""The merges of a byte pair encoding, and the files that hold them.

A vocabulary is an ordered list of merges; everything else follows from it. In the order of ids,
there are 256 bytes, 256 bytes that end a word (`</w>`), one token per merge, and then the special
tokens, which the tokenizer adds. Bytes are written as printable characters, so that merges are
lines of text.

CLIP's 48,894 merges are not part of fastclip: `openai_vocabulary.py` finds them.

Source: Sennrich et al., "Neural machine translation of rare words with subword units", 2016;
openai/CLIP `simple_tokenizer.py` (byte alphabet, order of ids, file format).
"""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from fastclip.data.json_file import read_json
from fastclip.data.limits import LARGEST_VOCABULARY_TEXT
from fastclip.data.quoting import quoted

CLIP_MERGES = 48_894
# The name of a vocabulary without merges: every byte of a text is a token, and there is no file.
BYTES = "bytes"
MERGES_FILE, IDS_FILE, WHOLE_FILE = "merges.txt", "vocab.json", "tokenizer.json"
HEADER = "#version: 0.2"
END_OF_WORD = "</w>"

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
# In the order of their ids: printable bytes are themselves, the others are letters from U+0100 on.
BYTE_SYMBOLS = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(256 + i) for i, byte in enumerate(_OTHERS)
}


@dataclass(frozen=True)
class BytePairVocabulary:
    """An ordered list of merges; the first is applied first.

    Args:
        merges: pairs of symbols; a symbol is a byte, a byte with `</w>`, or an earlier merge.

    Raises:
        ValueError: a merge is not a pair, joins an unknown symbol, or makes an existing symbol.
    """

    merges: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        known = set(_byte_tokens())
        for rank, merge in enumerate(self.merges):
            if len(merge) != 2 or not known.issuperset(merge) or "".join(merge) in known:
                raise ValueError(
                    f"merges[{rank}] must join two symbols that exist into one that does not, "
                    f"got {quoted(merge)}"
                )
            known.add("".join(merge))

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The token of every id."""
        return (*_byte_tokens(), *map("".join, self.merges))

    @cached_property
    def sha256(self) -> str:
        """The SHA-256, in hexadecimal digits, of the merges written as `merges.txt`.

        It does not depend on the format of the file that the merges were read from.
        """
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    def to_text(self) -> str:
        """Return the merges in the format of `merges.txt`: a header, then a merge per line."""
        return "\n".join([HEADER, *map(" ".join, self.merges), ""])

    @cached_property
    def joined(self) -> dict[tuple[int, int], int]:
        """Maps two adjacent ids to the id they merge into; smaller results are merged first."""
        ids = {token: i for i, token in enumerate(self.tokens)}
        return {(ids[left], ids[right]): ids[left + right] for left, right in self.merges}


def read_vocabulary(path: str | os.PathLike, num_merges: int = CLIP_MERGES) -> BytePairVocabulary:
    """Read a vocabulary from a file or a directory.

    Args:
        path: a text of merges, gzipped or not, as OpenAI published it (a line with `#version`,
            then a merge per line; only the first `num_merges` are used, because the file has more
            than CLIP uses); or a Hugging Face directory of a CLIP tokenizer (`merges.txt` or
            `tokenizer.json`).
        num_merges: how many merges the vocabulary has.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: a file is damaged, does not hold merges, has another number of them, or gives
            tokens other ids than CLIP does.
    """
    path = Path(path)
    if path.is_dir():
        for vocabulary in read_directory(path, num_merges):
            return vocabulary
        raise FileNotFoundError(f"there is no {MERGES_FILE} and no {WHOLE_FILE} in {str(path)!r}")
    if path.is_file():
        return _parse(_read_lines(path)[:num_merges], num_merges, path)
    raise FileNotFoundError(f"there is no vocabulary at {str(path)!r}")


def read_directory(
    directory: str | os.PathLike, num_merges: int = CLIP_MERGES
) -> Iterator[BytePairVocabulary]:
    """Yield the vocabulary of each file in a directory that transformers may read one from.

    Raises:
        ValueError: as `read_vocabulary`.
    """
    merges_file, ids_file = Path(directory, MERGES_FILE), Path(directory, IDS_FILE)
    if merges_file.is_file():
        vocabulary = _parse(_read_lines(merges_file), num_merges, merges_file)
        if ids_file.is_file():
            _check_ids(read_json(ids_file), vocabulary, ids_file)
        yield vocabulary
    whole = Path(directory, WHOLE_FILE)
    if whole.is_file():
        try:
            model = read_json(whole)["model"]
            lines, ids = model["merges"], model["vocab"]
        except (KeyError, TypeError):
            raise ValueError(
                f"{whole} is not the file of a byte pair tokenizer: it has no model.merges"
            ) from None
        vocabulary = _parse(lines, num_merges, whole)
        _check_ids(ids, vocabulary, whole)
        yield vocabulary


def _read_lines(path: Path) -> list[str]:
    """Return the lines after the header of a text of merges."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_VOCABULARY_TEXT + 1)
        if data[:2] == b"\x1f\x8b":
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(LARGEST_VOCABULARY_TEXT + 1)
        if len(data) > LARGEST_VOCABULARY_TEXT:
            raise ValueError(
                f"{path} is not a text of merges: it has more than {LARGEST_VOCABULARY_TEXT:,} "
                "bytes"
            )
        text = data.decode()
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a text of merges, gzipped or not: {error}") from None
    header, *lines = text.split("\n")
    if "#version" not in header:
        raise ValueError(
            f"{path} is not a text of merges: its first line must hold '#version', "
            f"got {header[:40]!r}"
        )
    return lines


def _parse(lines: Iterable[str | list[str]], num_merges: int, path: Path) -> BytePairVocabulary:
    """Make a vocabulary of merges, each "a b" or, as in some `tokenizer.json`, ["a", "b"]."""
    try:
        # Counted before they are split: a file of short lines may have millions.
        lines = [line for line in lines if line]
        if len(lines) != num_merges:
            raise ValueError(f"it must hold {num_merges} merges, got {len(lines)}")
        merges = [tuple(line.split() if isinstance(line, str) else line) for line in lines]
        vocabulary = BytePairVocabulary(tuple(merges))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a list of merges: {error}") from None
    if not any(right.endswith(END_OF_WORD) for _, right in merges):
        raise ValueError(
            f"{path} does not hold merges like CLIP's: no merge ends a word with {END_OF_WORD}"
        )
    return vocabulary


def _check_ids(ids: object, vocabulary: BytePairVocabulary, path: Path) -> None:
    if not isinstance(ids, dict):
        raise ValueError(f"{path} must give every token an id, got {type(ids).__name__}")
    for i, token in enumerate(vocabulary.tokens):
        if ids.get(token) != i:
            raise ValueError(
                f"{path} gives token {quoted(token)} the id {quoted(ids.get(token))}, but CLIP's "
                f"order gives it {i}; HFTokenizer can load such a directory"
            )


@cache
def _byte_tokens() -> tuple[str, ...]:
    symbols = tuple(BYTE_SYMBOLS.values())
    return (*symbols, *(symbol + END_OF_WORD for symbol in symbols))
