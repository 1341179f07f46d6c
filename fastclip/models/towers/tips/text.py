"""TIPS's text tower: a transformer without a causal mask, whose features are its tokens' mean.

    tokens    sqrt(width) * embedding + sinusoids of the place
    features  mean over the tokens that are not padding, after the last norm

No token sees padding. A text that is only padding has features of 0.

Source: Maninis et al. 2025 (TIPS), arXiv:2410.16512; Vaswani et al. 2017, arXiv:1706.03762 (the
sinusoids, sines first as in tensor2tensor).
"""

import math

import torch
from torch import Tensor, nn

from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.layers import Indices, Intermediates
from fastclip.models.parts.locking import Group, lock_groups
from fastclip.models.parts.reading import read, read_layers
from fastclip.models.parts.transformer import Transformer
from fastclip.models.towers.tips.text_config import TipsTextConfig

LONGEST_WAVE = 10_000


class TipsTextTransformer(nn.Module):
    """Encodes (B, T) token ids, T at most `context_length`, as (B, width) features.

    Attributes:
        pad_id: the id of padding.
        output_tokens: whether a call returns the tokens along with the features.
    """

    def __init__(self, config: TipsTextConfig) -> None:
        super().__init__()
        width = config.width
        self.context_length = config.context_length
        self.vocab_size = config.vocab_size
        self.pad_id = config.pad_id
        self.output_tokens = config.output_tokens
        self.output_dim = width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.transformer = Transformer(
            width, config.layers, config.heads, mlp_ratio=config.mlp_ratio, activation="relu",
            norm_eps=config.norm_eps, num_tokens=config.context_length,
        )  # fmt: skip
        self.ln_final = LayerNorm(width, config.norm_eps)
        nn.init.normal_(self.token_embedding.weight, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, width) features of (B, T) int64 or int32 tokens, not normalised.

        With `output_tokens`, return also the (B, T, width) tokens after the last norm.

        Raises:
            ValueError: T is not in [1, context_length].
            TypeError: `tokens` are not integers.
        """
        self._require_tokens(tokens)
        x = self.ln_final(read(self.transformer, self._embedded(tokens), self._hidden(tokens)))
        features = self._mean(x, tokens)
        return (features, x) if self.output_tokens else features

    def forward_intermediates(
        self,
        text: Tensor,
        indices: Indices = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: str = "NLC",
        output_extra_tokens: bool = False,
    ) -> Intermediates:
        """Return the outputs of blocks; see `TextTower.text_intermediates`."""
        if output_fmt != "NLC":
            raise ValueError(f"output_fmt of texts must be 'NLC', got {output_fmt!r}")
        self._require_tokens(text)
        x, layers = read_layers(
            self.transformer, self._embedded(text), self._hidden(text), indices, stop_early
        )
        if normalize_intermediates:
            layers = [self.ln_final(each) for each in layers]
        output: Intermediates = {"text_intermediates": layers}
        if not intermediates_only:
            output["text_features"] = self._mean(self.ln_final(x), text)
        return output

    def text_lengths(self, tokens: Tensor) -> Tensor:
        """Return the (B,) lengths of (B, T) texts; the features do not depend on later padding."""
        places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        return (places * (tokens != self.pad_id)).amax(1).clamp(min=1)

    def lock(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze all but the last `unlocked_layers`; the embeddings and each block are one layer.

        Raises:
            ValueError: there are fewer layers, or `freeze_layer_norm` is False; norms are always
                frozen with the layers that they belong to.
        """
        if not freeze_layer_norm:
            raise ValueError(
                "freeze_layer_norm must be True for this text tower, whose norms are frozen with "
                "their layers, got False"
            )
        *blocks, last = self.transformer.resblocks
        groups: list[Group] = [[self.token_embedding], *([block] for block in blocks)]
        lock_groups([*groups, [last, self.ln_final]], unlocked_layers)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only each block's input, and compute the rest again in the backward pass."""
        self.transformer.grad_checkpointing = enable

    def _embedded(self, tokens: Tensor) -> Tensor:
        """The (B, T, width) tokens that go into the transformer."""
        x = self.token_embedding(tokens) * math.sqrt(self.output_dim)
        x = x + sinusoids(tokens.shape[1], self.output_dim, tokens.device).to(x.dtype)
        if isinstance(self.transformer, Transformer):
            x = x.to(self.transformer.get_cast_dtype())
        return x

    def _hidden(self, tokens: Tensor) -> Tensor:
        """The (B, 1, 1, T) mask, True for padding, except in a text that is only padding."""
        is_padding = tokens == self.pad_id
        return (is_padding & ~is_padding.all(1, keepdim=True))[:, None, None]

    def _mean(self, x: Tensor, tokens: Tensor) -> Tensor:
        keep = (tokens != self.pad_id)[:, :, None]
        return (x * keep).sum(1) / keep.sum(1).clamp(min=1)

    def _require_tokens(self, tokens: Tensor) -> None:
        if torch.jit.is_tracing():  # as in `ImageTower.require_images`
            return
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.context_length:
            raise ValueError(
                f"tokens must be (B, T) with T in [1, {self.context_length}], "
                f"got {tuple(tokens.shape)}"
            )
        if tokens.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"tokens must be int64 or int32, got {tokens.dtype}")


def sinusoids(num_places: int, width: int, device: torch.device) -> Tensor:
    """Return (num_places, width) float32: sines, then cosines; waves 2 pi to 10,000 * 2 pi long."""
    half = width // 2
    slowdown = math.log(LONGEST_WAVE) / (half - 1)
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=device) * -slowdown)
    places = torch.arange(num_places, dtype=torch.float32, device=device)
    angles = places[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=1)
