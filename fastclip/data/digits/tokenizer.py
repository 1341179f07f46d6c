"""A tokenizer whose vocabulary is the words of the captions that it learned from.

A text becomes `<start> word ... word <end> <pad> ...`. Ids are ordered as in OpenAI's tokenizer:
padding is 0 and the end token is the largest id, so that its position is `tokens.argmax(-1)`.
Text is lower-cased; punctuation separates words and is dropped.
"""

import re
from collections.abc import Iterable

import torch
from torch import Tensor

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<start>", "<end>"
WORD = re.compile(r"\w+")


class WordTokenizer:
    """Maps texts to (B, context_length) int64 token ids.

    Args:
        words: the vocabulary, without special tokens; their order decides the ids.
        context_length: tokens per text, start and end included; at least 2.

    Raises:
        ValueError: a word is repeated or is not a single lower-case word, or `context_length` < 2.
    """

    def __init__(self, words: Iterable[str], context_length: int) -> None:
        self.words = list(words)
        self.context_length = context_length
        if context_length < 2:
            raise ValueError(f"context_length must be at least 2, got {context_length}")
        if len(set(self.words)) != len(self.words):
            raise ValueError("words must not repeat")
        for word in self.words:
            if _split(word) != [word]:
                raise ValueError(f"words must be single lower-case words, got {word!r}")
        self.tokens = [PAD, UNKNOWN, *self.words, START, END]
        self._ids = {token: i for i, token in enumerate(self.tokens)}

    @classmethod
    def learn(cls, captions: Iterable[str], context_length: int | None = None) -> "WordTokenizer":
        """Make a tokenizer of the words of `captions`, by default as long as the longest caption.

        Raises:
            ValueError: there is no word in `captions`.
        """
        texts = [_split(caption) for caption in captions]
        words = sorted({word for text in texts for word in text})
        if not words:
            raise ValueError("captions must hold at least one word")
        return cls(words, context_length or max(map(len, texts)) + 2)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def __call__(self, texts: str | Iterable[str], truncate: bool = False) -> Tensor:
        """Return (B, context_length) int64; a single text gives B = 1.

        Words outside the vocabulary become `<unk>`.

        Raises:
            ValueError: a text does not fit and `truncate` is False. A truncated text keeps its end
                token.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = [self._encode(text, truncate) for text in texts]
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, self.context_length)

    def decode(self, tokens: Tensor) -> str:
        """Turn the (context_length,) ids of one text back into its words."""
        special = {PAD, START, END}
        return " ".join(w for w in (self.tokens[i] for i in tokens.tolist()) if w not in special)

    def to_dict(self) -> dict:
        """Return the arguments that rebuild this tokenizer, in plain types for a checkpoint."""
        return {"words": self.words, "context_length": self.context_length}

    def _encode(self, text: str, truncate: bool) -> list[int]:
        unknown = self._ids[UNKNOWN]
        ids = [self._ids.get(word, unknown) for word in _split(text)]
        room = self.context_length - 2
        if len(ids) > room:
            if not truncate:
                raise ValueError(
                    f"text has {len(ids)} words, but context_length {self.context_length} "
                    f"holds only {room}: {text!r}"
                )
            ids = ids[:room]
        padding = [self._ids[PAD]] * (room - len(ids))
        return [self._ids[START], *ids, self._ids[END], *padding]


def _split(text: str) -> list[str]:
    return WORD.findall(text.lower())
