"""Whether a decoder can write the tokens that it is asked for.

A text tower of transformers reads the vocabulary of its own tokenizer, and open_clip's decoder
beside it writes as many tokens as `text_cfg` says: of `coca_roberta-ViT-B-32` 49,408 of the 50,265.
Features of images and texts do not depend on it. A label behind the last token that is written has
no logit.
"""

from typing import Any

import torch
from torch import Tensor, nn


def require_written(name: str, tokens: Tensor, num_written: int, num_read: int) -> None:
    """Raise unless tokens are among those that a decoder writes; a trace is not looked at.

    Args:
        name: of the argument, for the message.
        tokens: any shape, integers.
        num_written, num_read: tokens of the decoder, and of the text tower.

    Raises:
        ValueError: one is not.
    """
    if torch.jit.is_tracing() or tokens.numel() == 0:
        return
    largest = int(tokens.max())
    if largest >= num_written:
        raise ValueError(
            f"{name}: the decoder writes the tokens below {num_written:,}, and {largest:,} is none "
            f"of them, of the {num_read:,} that the text tower reads. encode_image and encode_text "
            "need no decoder"
        )


def require_tokenizer(model: nn.Module, tokenizer: Any, name: str) -> None:
    """Raise if a model writes captions, and a tokenizer has tokens that it cannot write.

    Args:
        tokenizer: one without a `vocab_size` passes.
        name: of the model, for the message.

    Raises:
        ValueError: see above; the message has both numbers.
    """
    num_tokens = getattr(tokenizer, "vocab_size", None)
    if not getattr(model, "writes_captions", False) or num_tokens is None:
        return
    num_written = model.text_decoder.vocab_size
    if num_tokens > num_written:
        raise ValueError(
            f"{name}: its tokenizer has {num_tokens:,} tokens, and its decoder of captions writes "
            f"the first {num_written:,}: captions with the others cannot be learned. Give a "
            "configuration whose text_cfg has the vocab_size of the tokenizer, or a model without "
            "multimodal_cfg"
        )
