"""Checking that a decoder can write all tokens that it must predict.

A text tower of transformers reads the vocabulary of its own tokenizer, but open_clip's decoder
writes only as many tokens as `text_cfg` says: in `coca_roberta-ViT-B-32`, 49,408 of 50,265. The
other tokens have no logit, so they cannot be labels. Features of images and texts do not depend on
this.
"""

from typing import Any

import torch
from torch import Tensor, nn


def require_written(name: str, tokens: Tensor, num_written: int, num_read: int) -> None:
    """Raise unless a decoder can write all of `tokens`; nothing is checked in a trace.

    Args:
        name: the name of the argument, for the message.
        tokens: integers of any shape.
        num_written, num_read: how many tokens the decoder writes and the text tower reads.

    Raises:
        ValueError: the decoder cannot write one of the tokens.
    """
    if torch.jit.is_tracing() or tokens.numel() == 0:
        return
    largest = int(tokens.max())
    if largest >= num_written:
        raise ValueError(
            f"{name}: the decoder writes the tokens below {num_written:,}, and {largest:,} is none "
            f"of them, although it is one of the {num_read:,} that the text tower reads. "
            "encode_image and encode_text work without the decoder"
        )


def require_tokenizer(model: nn.Module, tokenizer: Any, name: str) -> None:
    """Raise if a model writes captions and cannot write all tokens of its tokenizer.

    Args:
        tokenizer: the tokenizer; one without a `vocab_size` passes.
        name: the name of the model, for the message.

    Raises:
        ValueError: the tokenizer has more tokens than the decoder writes; the message has both
            numbers.
    """
    num_tokens = getattr(tokenizer, "vocab_size", None)
    if not getattr(model, "writes_captions", False) or num_tokens is None:
        return
    num_written = model.text_decoder.vocab_size
    if num_tokens > num_written:
        raise ValueError(
            f"{name}: its tokenizer has {num_tokens:,} tokens, and its decoder of captions writes "
            f"the first {num_written:,}: captions with other tokens cannot be learned. Give a "
            "configuration whose text_cfg has the vocab_size of the tokenizer, or a model without "
            "multimodal_cfg"
        )
