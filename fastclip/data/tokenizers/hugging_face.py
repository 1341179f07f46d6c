"""Wraps tokenizers of Hugging Face; the ids equal those of open_clip's `HFTokenizer`.

They are for models that do not use OpenAI's byte pairs: SigLIP, multilingual and BERT-like models.
A directory is only read from the disk; a name is looked up in transformers' cache or on the Hub.
"""

import os
from collections.abc import Iterable
from importlib.util import find_spec

import torch
from torch import Tensor

from fastclip.data.tokenizers.arguments import (
    check_context_length,
    check_fits,
    list_ids,
    list_texts,
)
from fastclip.data.tokenizers.beside_weights import SETTINGS_FILE, keeps_case
from fastclip.data.tokenizers.cleaning import find_cleaner
from fastclip.hub import REPOSITORY
from fastclip.installation import install_command

# A directory without any of these files has no tokenizer; transformers would then ask the Hub.
TOKENIZER_FILES = (
    "tokenizer.json",
    SETTINGS_FILE,
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


class HFTokenizer:
    """Maps texts to (B, context_length) int64 ids with a tokenizer that transformers loads.

    Special tokens, padding and the side of the padding are those of the wrapped tokenizer.

    Args:
        source: a directory, or a name on the Hub.
        context_length: tokens per text, special tokens included; at least 2.
        clean: how a text is cleaned first, a name in `cleaning.CLEANERS`, or "none" for no
            cleaning, as TIPS's tokenizer needs.
        strip_sep_token: replace the separator token by 0, as some models of open_clip expect.
        cache_dir: where transformers keeps what it downloads for a name on the Hub.
        language: the language of the texts, for a tokenizer that marks it, in the tokenizer's
            spelling, such as NLLB's "deu_Latn"; None for the tokenizer's default, which is English
            for NLLB.

    Raises:
        ModuleNotFoundError: transformers is not installed, or sentencepiece, which it needs for
            vocabularies in that format.
        FileNotFoundError: `source` is neither a directory with a tokenizer nor a name that
            transformers finds.
        ValueError: `context_length` < 2, `clean` is unknown, the tokenizer has no padding token or
            no separator to strip, or it does not mark the language.

    Example:
        >>> tokenizer = fastclip.HFTokenizer("xlm-roberta-base", context_length=77)
        >>> ids = tokenizer(["ein Hund", "a dog"])  # (2, 77) int64
    """

    def __init__(
        self,
        source: str | os.PathLike,
        context_length: int = 77,
        clean: str = "whitespace",
        strip_sep_token: bool = False,
        cache_dir: str | os.PathLike | None = None,
        language: str | None = None,
    ) -> None:
        self.context_length = check_context_length(context_length)
        self.clean = clean
        self._clean = _as_it_is if clean == "none" else find_cleaner(clean)
        self.strip_sep_token = strip_sep_token
        self.tokenizer = _load(os.fspath(source), cache_dir)
        if self.tokenizer.pad_token_id is None:
            raise ValueError(f"source must have a padding token, but {str(source)!r} has none")
        if strip_sep_token and self.tokenizer.sep_token_id is None:
            raise ValueError(
                f"strip_sep_token must be False, because {str(source)!r} has no separator token"
            )
        if language is not None:
            self.set_language(language)

    @property
    def vocab_size(self) -> int:
        """How many ids there are, added tokens included."""
        return len(self.tokenizer)

    @property
    def eos_token_id(self) -> int | None:
        return self.tokenizer.eos_token_id

    @property
    def pad_token_id(self) -> int:
        return self.tokenizer.pad_token_id

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
            truncate: cut a text that does not fit, as the wrapped tokenizer does.

        Raises:
            TextTooLong: a text does not fit and `truncate` is False.
            TypeError: `texts` is not made of strings.
            ValueError: `context_length` < 2.
        """
        texts = list_texts(texts)
        length = self.context_length if context_length is None else context_length
        check_context_length(length)
        if not texts:
            return torch.zeros(0, length, dtype=torch.int64)
        rows = self.tokenizer(
            [self._clean(text) for text in texts],
            max_length=length,
            padding="max_length",
            truncation=truncate,
        ).input_ids
        for text, row in zip(texts, rows, strict=True):
            check_fits(text, len(row), length)
        ids = torch.tensor(rows, dtype=torch.int64)
        if self.strip_sep_token:
            ids[ids == self.tokenizer.sep_token_id] = 0
        return ids

    def decode(self, ids: Tensor | Iterable[int]) -> str:
        """Return the text of (T,) ids, with special tokens spelled out.

        Raises:
            TypeError: `ids` are not integers.
            ValueError: `ids` is a tensor that does not have exactly one dimension.
        """
        return self.tokenizer.decode(list_ids(ids))

    def set_language(self, language: str) -> None:
        """Mark texts from now on as being in `language`; see the argument of the class.

        Raises:
            ValueError: the tokenizer marks no languages, or not this one.
        """
        if not callable(getattr(self.tokenizer, "set_src_lang_special_tokens", None)):
            name = type(self.tokenizer).__name__
            raise ValueError(
                f"language must be None, because {name} marks no languages, got {language!r}"
            )
        if language not in self.tokenizer.all_special_tokens:
            raise ValueError(f"language must be one that the tokenizer marks, got {language!r}")
        # Each call of transformers' tokenizer begins by marking its `src_lang`.
        self.tokenizer.src_lang = language

    def save_pretrained(self, directory: str | os.PathLike) -> None:
        """Write a directory that `HFTokenizer` and transformers' AutoTokenizer can load."""
        self.tokenizer.save_pretrained(os.fspath(directory))


def _as_it_is(text: str) -> str:
    return text


def has_tokenizer(directory: str | os.PathLike) -> bool:
    """Return whether a directory has a file that transformers reads a tokenizer from."""
    return any(os.path.isfile(os.path.join(directory, name)) for name in TOKENIZER_FILES)


def has_vocabulary(directory: str | os.PathLike) -> bool:
    """Return whether a directory has a file with a tokenizer's vocabulary, not only settings."""
    names = (name for name in TOKENIZER_FILES if name != SETTINGS_FILE)
    return any(os.path.isfile(os.path.join(directory, name)) for name in names)


def _load(source: str, cache_dir: str | os.PathLike | None):
    """Load the tokenizer of transformers in a directory, or by its name."""
    is_directory = os.path.isdir(source)
    if is_directory:
        if not has_tokenizer(source):
            raise FileNotFoundError(
                f"there is no tokenizer in {source!r}: it has none of {', '.join(TOKENIZER_FILES)}"
            )
    elif not REPOSITORY.fullmatch(source):
        raise FileNotFoundError(f"source must be a directory or a name on the Hub, got {source!r}")
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The tokenizer {source!r} needs transformers: "
            f"{install_command('hub', 'transformers')}",
            name=error.name,
        ) from error
    try:
        cache = {} if cache_dir is None else {"cache_dir": cache_dir}
        tokenizer = AutoTokenizer.from_pretrained(
            source, local_files_only=is_directory, trust_remote_code=False, **cache
        )
    except OSError as error:
        raise FileNotFoundError(
            f"transformers finds no tokenizer {source!r}: {error}. Without a connection, download "
            "its files elsewhere, and give their directory instead of the name"
        ) from error
    except (ValueError, ImportError) as error:
        if find_spec("sentencepiece") is not None or not _may_be_sentence_pieces(source):
            raise
        raise ModuleNotFoundError(
            f"transformers cannot read the tokenizer {source!r}, which is one of SentencePiece, "
            "without that package: pip install sentencepiece",
            name="sentencepiece",
        ) from error
    if is_directory and _is_clips(tokenizer) and keeps_case(source):
        _keep_case(tokenizer)
    return tokenizer


def _may_be_sentence_pieces(source: str) -> bool:
    """Return whether a vocabulary may be in SentencePiece's format; for a name, it may."""
    if not os.path.isdir(source):
        return True
    here = {name for name in TOKENIZER_FILES if os.path.isfile(os.path.join(source, name))}
    return any(name.endswith(".model") for name in here) and "tokenizer.json" not in here


def _is_clips(tokenizer) -> bool:
    return type(tokenizer).__name__ == "CLIPTokenizer"


def _keep_case(tokenizer) -> None:
    """Remove lower-casing, which transformers' CLIPTokenizer does whatever its files say."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    from tokenizers import Regex, normalizers

    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
