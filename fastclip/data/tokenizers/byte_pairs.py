"""OpenAI's byte pair tokenizer: it takes any text, has no unknown token, and gives CLIP's ids.

A cleaned text is split into words by a regular expression: special tokens, English contractions,
runs of letters, single digits, runs of anything else. (U+0345, a mark whose capital is a letter,
matches none of these when the case is ignored, and is dropped; no other character is.) The UTF-8
bytes of a word, the last one marked as its end, are then merged: always the pair whose merge comes
first in the vocabulary, and its leftmost occurrence first.

The ids equal those of open_clip 3.3.0's `SimpleTokenizer` for every string (tests/data/tokenizers),
and with `special_tokens=OPENAI_SPECIAL_TOKENS` those of openai/CLIP.

Cost: merges are found with a heap, O(n log n) for a word of n bytes. The ids of up to
`REMEMBERED_WORDS` words are kept; a caption of known words costs one split and one look-up per
word.

Source: openai/CLIP `simple_tokenizer.py`.
"""

import json
import os
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from pathlib import Path

import regex
import torch
from torch import Tensor

from fastclip.data.tokenizers.arguments import (
    check_context_length,
    check_fits,
    list_ids,
    list_texts,
)
from fastclip.data.tokenizers.cleaning import find_cleaner
from fastclip.data.tokenizers.openai_vocabulary import find_vocabulary
from fastclip.data.tokenizers.vocabulary import (
    BYTE_SYMBOLS,
    END_OF_WORD,
    IDS_FILE,
    MERGES_FILE,
    BytePairVocabulary,
)

SPECIAL_TOKENS = ("<start_of_text>", "<end_of_text>")  # open_clip's spelling
OPENAI_SPECIAL_TOKENS = ("<|startoftext|>", "<|endoftext|>")  # also Hugging Face's

CONTRACTIONS = r"'s|'t|'re|'ve|'m|'ll|'d"
CLASSES = r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
WORDS = f"{CONTRACTIONS}|{CLASSES}"
# Longer words rarely repeat, and a few of them would take more memory than all others.
REMEMBERED_LENGTH, REMEMBERED_WORDS = 64, 65_536

_BYTES = {symbol: byte for byte, symbol in BYTE_SYMBOLS.items()}
_BYTE_IDS = [list(BYTE_SYMBOLS).index(byte) for byte in range(256)]


class BytePairTokenizer:
    """Maps texts to (B, context_length) int64 ids: start, words, end, then zeros.

    The end token is the largest id unless there are additional special tokens, so that its
    position is `ids.argmax(-1)`.

    Args:
        vocabulary: the merges, or where to find them: see `find_vocabulary`.
        context_length: tokens per text, start and end included; at least 2.
        clean: how a text is cleaned first, a name in `cleaning.CLEANERS`.
        additional_special_tokens: strings that become one token each if a cleaned text has them
            literally (open_clip reads them as regular expressions); their ids follow those of start
            and end. As in open_clip, a string with upper-case letters is not found in lower-case
            text.
        special_tokens: the spelling of start and end, which also counts if a text contains them
            literally, and in what `decode` returns.

    Raises:
        FileNotFoundError, ValueError: see `find_vocabulary`.
        ValueError: `context_length` < 2, an unknown `clean`, or a special token that repeats, is
            in the vocabulary, or is not made of visible ASCII characters.
    """

    def __init__(
        self,
        vocabulary: BytePairVocabulary | str | os.PathLike | None = None,
        context_length: int = 77,
        clean: str = "lower",
        additional_special_tokens: Iterable[str] | None = None,
        special_tokens: tuple[str, str] = SPECIAL_TOKENS,
    ) -> None:
        self.vocabulary = vocabulary = find_vocabulary(vocabulary)
        self.context_length = check_context_length(context_length)
        self.clean = clean
        self._clean = find_cleaner(clean)
        self.special_tokens = (*special_tokens, *(additional_special_tokens or ()))
        _check_special_tokens(special_tokens, self.special_tokens, vocabulary)
        self.decoder = dict(enumerate((*vocabulary.tokens, *self.special_tokens)))
        self.encoder = {token: i for i, token in self.decoder.items()}
        self.vocab_size = len(self.decoder)
        self.all_special_ids = [self.encoder[token] for token in self.special_tokens]
        self.sot_token_id, self.eot_token_id = self.all_special_ids[:2]
        literal = "|".join(map(regex.escape, self.special_tokens))
        self._split = regex.compile(f"{literal}|{WORDS}", regex.IGNORECASE).findall
        self._forget()

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without start, end and padding.

        Raises:
            TypeError: `text` is not a string.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, got {type(text).__name__}: {text!r}")
        ids: list[int] = []
        remembered = self._remembered
        for word in self._split(self._clean(text)):
            ids += remembered.get(word) or self._encode_word(word)
        return ids

    def __call__(
        self,
        texts: str | Iterable[str],
        context_length: int | None = None,
        truncate: bool = True,
    ) -> Tensor:
        """Return (B, context_length) int64; a single text gives B = 1.

        Args:
            texts: one text or B of them.
            context_length: used instead of the tokenizer's.
            truncate: cut a text that does not fit; its last id is then the end token.

        Raises:
            TextTooLong: a text does not fit and `truncate` is False.
            TypeError: `texts` is not made of strings.
            ValueError: `context_length` < 2.
        """
        texts = list_texts(texts)
        length = self.context_length if context_length is None else context_length
        check_context_length(length)
        rows = []
        for text in texts:
            ids = self.encode(text)
            if not truncate:
                check_fits(text, len(ids) + 2, length)
            row = [self.sot_token_id, *ids[: length - 2], self.eot_token_id]
            rows.append(row + [0] * (length - len(row)))
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, length)

    def decode(self, ids: Tensor | Iterable[int]) -> str:
        """Return the text of (T,) ids: special tokens are spelled out, words end in a blank.

        Bytes that are not UTF-8, for example of a text cut inside a character, become U+FFFD. A 0
        becomes "!"; so does the padding of a row, unless it is cut off first.

        Raises:
            TypeError: `ids` are not integers.
            ValueError: an id is not in the vocabulary, or `ids` is a tensor that does not have
                exactly one dimension.
        """
        try:
            symbols = "".join(self.decoder[i] for i in list_ids(ids))
        except KeyError as error:
            raise ValueError(f"ids must be in [0, {self.vocab_size}), got {error}") from None
        data = bytes(map(_BYTES.__getitem__, symbols))
        return data.decode(errors="replace").replace(END_OF_WORD, " ")

    def save_pretrained(self, directory: str | os.PathLike) -> None:
        """Write a directory that transformers' AutoTokenizer and `find_vocabulary` load.

        The files are vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json;
        start and end have Hugging Face's spelling. transformers always lower-cases texts, does not
        apply ftfy or decode entities, and pads with the end token, so that only the ids of plain
        text are the same.

        Raises:
            OSError: the directory cannot be made or written.
            ValueError: an additional special token has Hugging Face's spelling of start or end.
        """
        start, end = OPENAI_SPECIAL_TOKENS
        additional = self.special_tokens[2:]
        if start in additional or end in additional:
            raise ValueError(
                f"additional special tokens must not be {start} or {end} to be saved in a file"
            )
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        tokens = (*self.vocabulary.tokens, start, end, *additional)
        special: dict = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
        if additional:
            special["additional_special_tokens"] = additional
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": self.context_length}
        files = {
            IDS_FILE: {token: i for i, token in enumerate(tokens)},
            "tokenizer_config.json": config | special,
            "special_tokens_map.json": special,
        }
        for name, content in files.items():
            text = json.dumps(content, ensure_ascii=False, indent=2)
            (directory / name).write_text(text, encoding="utf-8")
        (directory / MERGES_FILE).write_text(self.vocabulary.to_text(), encoding="utf-8")

    def _encode_word(self, word: str) -> list[int]:
        ids = [_BYTE_IDS[byte] for byte in word.encode()]
        ids[-1] += len(_BYTE_IDS)  # the same byte, as the end of a word
        ids = _merge(ids, self.vocabulary.joined)
        if len(word) <= REMEMBERED_LENGTH:
            if len(self._remembered) >= REMEMBERED_WORDS:
                self._forget()
            self._remembered[word] = ids
        return ids

    def _forget(self) -> None:
        self._remembered = {token: [self.encoder[token]] for token in self.special_tokens}


def _merge(ids: list[int], joined: dict[tuple[int, int], int]) -> list[int]:
    """Merge pairs, the smallest result first, until none is left."""
    # A linked list in two arrays. -1 marks removed ids and both ends: ids[-1] is ids[n].
    n = len(ids)
    ids = [*ids, -1]
    previous, following = list(range(-1, n)), list(range(1, n + 1))
    heap = [
        (merged, i)
        for i in range(n - 1)
        if (merged := joined.get((ids[i], ids[i + 1]))) is not None
    ]
    heapify(heap)
    while heap:
        merged, i = heappop(heap)
        j = following[i]
        if joined.get((ids[i], ids[j])) != merged:
            continue  # one of the two was merged with its other neighbour
        k = following[j]
        ids[i], ids[j] = merged, -1
        following[i], previous[k] = k, i
        for left, right in ((previous[i], i), (i, k)):
            if (merged := joined.get((ids[left], ids[right]))) is not None:
                heappush(heap, (merged, left))
    return [i for i in ids if i >= 0]


def _check_special_tokens(
    start_and_end: tuple[str, str], tokens: tuple[str, ...], vocabulary: BytePairVocabulary
) -> None:
    if len(start_and_end) != 2:
        raise ValueError(f"special_tokens must be two, start and end, got {start_and_end!r}")
    for token in tokens:
        if not (token and token.isascii() and token.isprintable() and " " not in token):
            raise ValueError(f"special tokens must be of visible ASCII characters, got {token!r}")
        if tokens.count(token) > 1 or token in vocabulary.tokens:
            raise ValueError(f"special tokens must be new and not repeat, got {token!r}")
