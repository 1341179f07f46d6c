"""The text tower: a causal transformer read out at the end token.

The end token is the largest id of a text (see the tokenizer), and with a causal mask it has seen
the whole text and none of the padding behind it: padding needs no mask of its own.

Source: Radford et al. 2021, arXiv:2103.00020, section 2.4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastclip.models.config import TextConfig
from fastclip.models.transformer import Transformer


class TextTransformer(nn.Module):
    """(B, context_length) token ids to (B, embed_dim) features."""

    def __init__(self, config: TextConfig, embed_dim: int) -> None:
        super().__init__()
        self.context_length = config.context_length
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(
            0.01 * torch.randn(config.context_length, config.width)
        )
        self.transformer = Transformer(config.width, config.layers, config.heads, causal=True)
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(
            config.width**-0.5 * torch.randn(config.width, embed_dim)
        )
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Return (B, embed_dim) features of (B, T) int64 tokens, unit rows if `normalize`.

        Raises:
            ValueError: `tokens` is not (B, T) with T in [1, context_length].
        """
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.context_length:
            raise ValueError(
                f"tokens must be (B, T) with T in [1, {self.context_length}], "
                f"got {tuple(tokens.shape)}"
            )
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        x = self.ln_final(self.transformer(x))
        at_end = x[torch.arange(len(x), device=x.device), tokens.argmax(-1)]
        features = at_end @ self.text_projection
        return F.normalize(features, dim=-1) if normalize else features
