"""The text tower of OpenAI's models, which most other models have, too."""

from typing import Any

from fastclip.models.towers.text.config import OPENAI_VOCAB_SIZE, TextConfig


def openai_text(width: int, layers: int, **changes: Any) -> TextConfig:
    """Return a text tower with OpenAI's vocabulary, texts of 77 tokens and heads of 64 channels.

    Args:
        changes: other values of fields of `TextConfig`.
    """
    sizes = dict(context_length=77, vocab_size=OPENAI_VOCAB_SIZE, heads=width // 64)
    return TextConfig(width=width, layers=layers, **sizes | changes)
