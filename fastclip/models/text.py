"""The text tower: a transformer read out at one token.

CLIP's is causal and read at the end token, the largest id of a text (see the tokenizers): it has
seen the whole text and none of the padding behind it, so that padding needs no mask of its own.
SigLIP's sees everything, padding included, and is read at the last token.

Source: Radford et al. 2021, arXiv:2103.00020, section 2.4; Zhai et al. 2023, arXiv:2303.15343.
"""

import torch
from torch import Tensor, nn

from fastclip.models.config import TextConfig
from fastclip.models.layer_norm import LayerNorm
from fastclip.models.locking import Group, lock_groups
from fastclip.models.transformer import Transformer


class TextTower(nn.Module):
    """The text tower's parameters and what is computed from them."""

    def __init__(self, config: TextConfig, embed_dim: int) -> None:
        super().__init__()
        width = config.width
        self.context_length = config.context_length
        self.vocab_size = config.vocab_size
        self.text_pool_type = config.pool_type
        self.text_eos_id = config.eos_id
        self.text_is_causal = not config.no_causal_mask
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, width))
        self.transformer = Transformer(
            width, config.layers, config.heads, causal=self.text_is_causal,
            mlp_ratio=config.mlp_ratio, activation=config.activation, norm_eps=config.norm_eps,
            ls_init_value=config.ls_init_value,
        )  # fmt: skip
        self.ln_final = LayerNorm(width, config.norm_eps)
        self.text_projection = _projection(config, embed_dim)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def text_features(self, tokens: Tensor) -> Tensor:
        """Return (B, embed_dim) features of (B, T) int64 or int32 tokens, not normalised.

        Raises:
            ValueError: T is not in [1, context_length].
            TypeError: `tokens` are not integers.
        """
        self._require_tokens(tokens)
        x = self.token_embedding(tokens).to(self.transformer.resblocks[0].mlp.c_fc.weight.dtype)
        x = x + self.positional_embedding[: tokens.shape[1]].to(x.dtype)
        x = self.ln_final(self.transformer(x, read_at=self._read_at(tokens)))
        if self.text_projection is None:
            return x
        if isinstance(self.text_projection, nn.Linear):
            return self.text_projection(x)
        return x @ self.text_projection.to(x.dtype)

    def text_lengths(self, tokens: Tensor) -> Tensor:
        """Return (B,) how many tokens of (B, T) texts have a part in their features.

        In a causal tower those up to the one that is read: texts may be cut behind it.
        """
        if self.text_is_causal:
            return self._read_at(tokens) + 1
        return torch.full((len(tokens),), tokens.shape[1], device=tokens.device)

    def text_groups(self) -> list[Group]:
        """The tower's layers from the tokens to the features."""
        *blocks, last = self.transformer.resblocks
        top = [] if self.text_projection is None else [[self.text_projection]]
        stem = [self.token_embedding, self.positional_embedding]
        return [stem, *([block] for block in blocks), [last, self.ln_final], *top]

    def lock_text_groups(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze all but the last `unlocked_layers` of `text_groups()`.

        Raises:
            ValueError: there are fewer, or `freeze_layer_norm` is False: gains are frozen with the
                layers that they belong to.
        """
        if not freeze_layer_norm:
            raise ValueError("freeze_layer_norm=False is not supported: gains follow their layers")
        lock_groups(self.text_groups(), unlocked_layers)

    def _read_at(self, tokens: Tensor) -> Tensor:
        B, T = tokens.shape
        if self.text_pool_type == "argmax":
            return tokens.argmax(-1)
        if self.text_pool_type == "eos":
            return (tokens == self.text_eos_id).int().argmax(-1)
        position = 0 if self.text_pool_type == "first" else T - 1
        return torch.full((B,), position, device=tokens.device)

    def _require_tokens(self, tokens: Tensor) -> None:
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.context_length:
            raise ValueError(
                f"tokens must be (B, T) with T in [1, {self.context_length}], "
                f"got {tuple(tokens.shape)}"
            )
        if tokens.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"tokens must be int64 or int32, got {tokens.dtype}")


class TextTransformer(TextTower):
    """(B, T) token ids, T at most `context_length`, to (B, embed_dim) features."""

    def forward(self, tokens: Tensor) -> Tensor:
        return self.text_features(tokens)

    def lock(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        self.lock_text_groups(unlocked_layers, freeze_layer_norm)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.transformer.grad_checkpointing = enable


def _projection(config: TextConfig, embed_dim: int) -> nn.Parameter | nn.Linear | None:
    if config.proj_type == "none":
        return None
    std = config.width**-0.5
    if not config.proj_bias:
        return nn.Parameter(std * torch.randn(config.width, embed_dim))
    linear = nn.Linear(config.width, embed_dim)
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    return linear
