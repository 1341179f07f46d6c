"""The tokenizer that belongs to a model's name."""

from os import PathLike
from typing import Any

from fastclip.data.tokenizers.hugging_face import HFTokenizer
from fastclip.data.tokenizers.open_clip import SimpleTokenizer
from fastclip.models.presets import has_clip_vocabulary
from fastclip.models.registry import Place, get_model_config


def get_tokenizer(
    model_name: str = "ViT-B-32",
    context_length: int | None = None,
    cache_dir: str | PathLike | None = None,
    **settings: Any,
) -> SimpleTokenizer | HFTokenizer:
    """The tokenizer of a model: OpenAI's byte pairs, or the Hugging Face one that it names.

    Texts that are too long are cut; the end token stays. `truncate=False` in the call raises.

    Args:
        model_name: see `registry.py`.
        context_length: tokens per text, instead of the model's.
        cache_dir: where what comes from the Hugging Face Hub is kept, instead of its own cache.
        settings: of the tokenizer's class.

    Raises:
        ValueError: no such model.
        FileNotFoundError: no vocabulary; the message says where it may come from.
        ModuleNotFoundError: a Hugging Face tokenizer without transformers installed.
    """
    text = get_model_config(model_name, cache_dir).text_cfg
    settings = {
        "context_length": context_length or text.context_length,
        **text.tokenizer_kwargs,
        **settings,
    }
    if has_clip_vocabulary(text):
        return SimpleTokenizer(**settings)
    place = Place.of(model_name)
    # Beside a model lies its own tokenizer, whatever name its configuration has for it.
    source = text.hf_tokenizer_name if place is None else place.path or place.repository
    if source is None:
        raise ValueError(f"{model_name!r} does not name its tokenizer: use HFTokenizer(directory)")
    return HFTokenizer(source, cache_dir=cache_dir, **settings)
