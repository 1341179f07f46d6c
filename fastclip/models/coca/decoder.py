"""CoCa's decoder, which predicts a text's next tokens from the tokens of the image and the text.

    text = text + causal attention over text, and an MLP
    text = text + attention over image, and an MLP

These two steps are repeated in every layer; then a matrix makes the logits of the vocabulary.

Source: Yu et al. 2022 (CoCa), arXiv:2205.01917, section 3.2; open_clip alternates the two.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastclip.models.coca.config import MLP_RATIO, MultimodalConfig
from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.masks import causal_mask
from fastclip.models.parts.transformer import ResidualBlock, Transformer, initialize, take
from fastclip.ops.token_losses import token_losses


class CrossBlock(ResidualBlock):
    """A block whose (B, T, width) tokens attend to other tokens, (B, S, width)."""

    def __init__(
        self, width: int, heads: int, activation: str, ls_init_value: float | None
    ) -> None:
        super().__init__(
            width, heads, causal=False, mlp_ratio=MLP_RATIO, activation=activation,
            ls_init_value=ls_init_value,
        )  # fmt: skip
        self.ln_1_kv = LayerNorm(width)

    def forward(
        self,
        q_x: Tensor,
        k_x: Tensor,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """Return (B, T, width) tokens.

        Args:
            q_x: (B, T, width), the tokens that attend.
            k_x: (B, S, width), the tokens that keys are made of.
            v_x: (B, S, width), the tokens that values are made of; by default `k_x`.
            attn_mask: (T, S), added to the logits of attention, or None.
        """
        keys = self.ln_1_kv(k_x)
        values = keys if v_x is None or v_x is k_x else self.ln_1_kv(v_x)
        x = q_x + self.ls_1(self.attention(self.ln_1(q_x), keys, values, attn_mask))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class MultimodalTransformer(Transformer):
    """Predicts the next tokens from (B, S, width) image tokens and (B, T, width) text tokens.

    Attributes:
        cross_attn: the blocks that read the image, each after one of `resblocks`.
        text_projection: (width, vocab_size), the matrix of the vocabulary.
        context_length: the length of the texts that the decoder was made for.
        vocab_size: how many tokens the decoder can write.
    """

    def __init__(self, config: MultimodalConfig, vocab_size: int) -> None:
        width, layers = config.width, config.layers
        super().__init__(
            width, layers, config.heads, causal=True, mlp_ratio=MLP_RATIO,
            activation=config.activation, ls_init_value=config.ls_init_value,
        )  # fmt: skip
        self.context_length = config.context_length
        self.vocab_size = vocab_size
        self.cross_attn = nn.ModuleList(
            CrossBlock(width, config.heads, config.activation, config.ls_init_value)
            for _ in range(layers)
        )
        initialize(self.cross_attn, width, layers)
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, vocab_size))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the inputs of each block, and compute the rest again in the backward."""
        self.grad_checkpointing = enable

    def forward(
        self,
        image_embs: Tensor,
        text_embs: Tensor,
        labels: Tensor | None = None,
        ignored: int = 0,
        attn_mask: Tensor | None = None,
        texts_per_image: int = 1,
    ) -> Tensor:
        """Return (B, T, vocab_size) logits of the token that follows each token of the text.

        Args:
            image_embs, text_embs: (B, S, width) and (B, T, width) tokens of the towers.
            labels: (B, T) int64, the right next tokens. If given, the result is their (B, T)
                cross-entropies in float32, and the logits of all tokens are never held at once.
            ignored: the label of padding, whose cross-entropy is 0.
            attn_mask: (T, T), or (B, 1, T, T) for a mask per text, added to the logits of the
                texts' self-attention; by default the causal mask.
            texts_per_image: with k, every argument and result about texts has k * B rows: one text
                of each image, then the next one of each. Keys and values of images are made once.
        """
        hidden = self._hidden(image_embs, text_embs, attn_mask, texts_per_image)
        if labels is not None:
            return token_losses(hidden, self.text_projection, labels, ignored)
        return self._logits(hidden)

    def next_logits(
        self, image_embs: Tensor, text_embs: Tensor, read_at: Tensor | int = -1
    ) -> Tensor:
        """Return the (B, vocab_size) logits of the token that follows one token of each text.

        Args:
            read_at: the position of that token: (B,) int64, or one number for all texts; by default
                the last position.
        """
        return self._logits(take(self._hidden(image_embs, text_embs), read_at)[:, 0])

    def _logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.text_projection.to(hidden.dtype)

    def _hidden(
        self,
        image_embs: Tensor,
        text_embs: Tensor,
        attn_mask: Tensor | None = None,
        times: int = 1,
    ) -> Tensor:
        dtype = self.get_cast_dtype()
        image, text = image_embs.to(dtype), text_embs.to(dtype)
        is_causal = attn_mask is None
        mask = causal_mask(text.shape[1], text) if is_causal else attn_mask
        for block, cross in zip(self.resblocks, self.cross_attn, strict=True):
            text = self._run(block, text, mask, None, True, is_causal)
            # Tokens attend to the image independently: the texts of one image become one row.
            if times > 1:
                text = text.unflatten(0, (times, -1)).transpose(0, 1).flatten(1, 2)
            if self.grad_checkpointing and torch.is_grad_enabled():
                text = checkpoint(cross, text, image, image, use_reentrant=False)
            else:
                text = cross(text, k_x=image, v_x=image)
            if times > 1:
                text = text.unflatten(1, (times, -1)).transpose(0, 1).flatten(0, 1)
        return self.ln_final(text)
