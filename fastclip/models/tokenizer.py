"""The tokenizer that belongs to a model's name."""

from os import PathLike
from pathlib import Path
from typing import Any

from fastclip.data.tokenizers.beside_weights import (
    is_openai_vocabulary,
    keeps_case,
    longest_text,
)
from fastclip.data.tokenizers.hugging_face import HFTokenizer, has_tokenizer, has_vocabulary
from fastclip.data.tokenizers.open_clip import SimpleTokenizer
from fastclip.data.tokenizers.openai_vocabulary import find_vocabulary
from fastclip.models.checkpoints.stored_model import OPEN_CLIP_CONFIG, read_config
from fastclip.models.presets import OPENAI_VOCAB_SIZE, has_clip_vocabulary
from fastclip.models.registry import Place, get_model_config
from fastclip.models.towers.text_config import TextTowerConfig


def get_tokenizer(
    model_name: str = "ViT-B-32",
    context_length: int | None = None,
    cache_dir: str | PathLike | None = None,
    **settings: Any,
) -> SimpleTokenizer | HFTokenizer:
    """Return the tokenizer of a model: OpenAI's byte pairs, or the Hugging Face one that it names.

    A directory or repository has its tokenizer next to its weights. OpenAI's vocabulary is looked
    for on this machine, and fetched once if it is not there.

    Texts that are too long are cut, and keep the end token; with `truncate=False` in the call the
    tokenizer raises instead.

    Args:
        model_name: see `registry.py`.
        context_length: tokens per text, instead of the model's.
        cache_dir: where published files are kept.
        settings: arguments of the tokenizer's class. `vocabulary` makes it a `SimpleTokenizer`;
            with "bytes", every byte of a text is a token (514 ids), and no file is needed.

    Raises:
        ValueError: there is no such model.
        FileNotFoundError: a directory has no tokenizer, or OpenAI's vocabulary is not on this
            machine and could not be fetched; the message says where to get it.
        ModuleNotFoundError: a Hugging Face tokenizer is needed and transformers is not installed.

    Example:
        >>> tokens = fastclip.get_tokenizer("ViT-B-32")(["a photo of a cat", "a dog"])
        >>> tokens.shape, tokens.dtype
        (torch.Size([2, 77]), torch.int64)
    """
    place = Place.of(model_name)
    if place is not None:
        return _of_place(place, context_length, cache_dir, settings)
    text = get_model_config(model_name).text_cfg
    return tokenizer_of_text(model_name, text, context_length, cache_dir, **settings)


def tokenizer_of_text(
    name: str,
    text: TextTowerConfig,
    context_length: int | None = None,
    cache_dir: str | PathLike | None = None,
    **settings: Any,
) -> SimpleTokenizer | HFTokenizer:
    """Return the tokenizer that the configuration of a text tower names; see `get_tokenizer`.

    Args:
        name: the name of the model with this configuration, for messages.
        text: the configuration of the text tower.

    Raises:
        ValueError: it names no tokenizer, or one with more tokens than the tower has.
    """
    settings = _settings(text, context_length, settings)
    if has_clip_vocabulary(text) or "vocabulary" in settings:
        tokenizer = _byte_pairs(cache_dir, settings)
        is_named = "vocabulary" in text.tokenizer_kwargs  # else it is OpenAI's, or the caller's
        if is_named and tokenizer.vocab_size > text.vocab_size:
            raise ValueError(
                f"{name!r} has vocab_size {text.vocab_size:,} in text_cfg, fewer than the "
                f"{tokenizer.vocab_size:,} tokens of its tokenizer"
            )
        return tokenizer
    if text.hf_tokenizer_name is None:
        raise ValueError(
            f"{name!r} does not name its tokenizer: use HFTokenizer(directory), or name one in "
            'text_cfg with "hf_tokenizer_name" or "tokenizer_kwargs": {"vocabulary": "bytes"}'
        )
    return HFTokenizer(text.hf_tokenizer_name, cache_dir=cache_dir, **settings)


def _of_place(
    place: Place,
    context_length: int | None,
    cache_dir: str | PathLike | None,
    settings: dict[str, Any],
) -> SimpleTokenizer | HFTokenizer:
    directory = place.directory(cache_dir, config_only=True)
    text = read_config(directory).text_cfg
    is_open_clip = (directory / OPEN_CLIP_CONFIG).is_file()
    if not is_open_clip and context_length is None:
        # transformers' files have two lengths: the number of positions, and where a text is cut.
        context_length = min(text.context_length, longest_text(directory) or text.context_length)
    settings = _settings(text, context_length, settings)
    is_openai = has_clip_vocabulary(text) and is_openai_vocabulary(directory)
    if is_openai:
        settings = {"vocabulary": directory, **settings}
        if not is_open_clip and keeps_case(directory):
            settings = {"clean": "whitespace", **settings}
    # A configuration of open_clip's that names no tokenizer means OpenAI's.
    is_silent = is_open_clip and has_clip_vocabulary(text) and not has_vocabulary(directory)
    if is_openai or is_silent or "vocabulary" in settings:
        return _byte_pairs(cache_dir, settings)
    if place.path is not None and not has_tokenizer(place.path):
        raise FileNotFoundError(_no_tokenizer(place.path, text))
    return HFTokenizer(place.path or place.repository, cache_dir=cache_dir, **settings)


def _no_tokenizer(directory: Path, text: TextTowerConfig) -> str:
    if text.vocab_size != OPENAI_VOCAB_SIZE:
        return f"{directory} has no tokenizer: copy the files of the model's own tokenizer there"
    return (
        f"{directory} has no tokenizer: its {text.vocab_size:,} tokens may be OpenAI's, or of "
        "another vocabulary. Copy the tokenizer's files there; for OpenAI's tokenizer, write them "
        "with "
        f"fastclip.SimpleTokenizer(context_length={text.context_length})"
        f".save_pretrained({str(directory)!r})"
    )


def _byte_pairs(cache_dir: str | PathLike | None, settings: dict[str, Any]) -> SimpleTokenizer:
    vocabulary = find_vocabulary(settings.get("vocabulary"), cache_dir=cache_dir)
    return SimpleTokenizer(**settings | {"vocabulary": vocabulary})


def _settings(
    text: TextTowerConfig, context_length: int | None, settings: dict[str, Any]
) -> dict[str, Any]:
    length = text.context_length if context_length is None else context_length
    return {"context_length": length, **text.tokenizer_kwargs, **settings}
