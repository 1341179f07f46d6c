"""CoCa's text tower: features are read from a learned token, and the tokens go to a decoder.

The learned token comes after the text's last token and does not see padding. In open_clip the mask
of padding is shifted by one place, and its published weights were trained so: the first padding
token is seen, and no later one. In a text without padding the learned token sees all tokens.

Source: Yu et al. 2022, arXiv:2205.01917, section 3.2; the mask is the one of open_clip_torch 3.3.0,
without its `correct_cls_mask`.
"""

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from fastclip.models.parts.locking import Group
from fastclip.models.parts.masks import causal_mask, mask_of
from fastclip.models.parts.reading import read
from fastclip.models.parts.transformer import Transformer
from fastclip.models.towers.text.config import TextConfig
from fastclip.models.towers.text.module import TextTransformer


class ClassTokenText(TextTransformer):
    """Encodes (B, T) token ids, T at most `context_length`, as (B, embed_dim) features.

    Attributes:
        cls_emb: (width,), the learned token.
        pad_id: the id of padding.
        attn_mask: like `TextTower`'s, for one token more; padding is hidden in addition.
    """

    def __init__(self, config: TextConfig, embed_dim: int) -> None:
        super().__init__(config, embed_dim)
        width, num_places = config.width, config.context_length + 1
        self.pad_id = config.pad_id
        self.cls_emb = nn.Parameter(0.01 * torch.randn(width))
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(num_places, width))
        for block in self.transformer.resblocks:
            block.num_tokens = num_places

    def build_attention_mask(self) -> Tensor:
        """Return (context_length + 1, context_length + 1); see `TextTower.build_attention_mask`."""
        num_places = self.context_length + 1
        return torch.full((num_places, num_places), float("-inf"), device="cpu").triu(1)

    build_causal_mask = build_attention_mask

    def forward_intermediates(self, *args: Any, **settings: Any) -> NoReturn:
        """Raise an error: CoCa's text tower does not return intermediates.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "forward_intermediates is not implemented for the texts of CoCa's text tower: to read "
            "a block's tokens, register a forward hook on it in text.transformer.resblocks"
        )

    def text_features(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, embed_dim) features of (B, T) int64 or int32 tokens, not normalised.

        With `output_tokens`, return also the (B, T, width) tokens, without the learned one and
        before the last layer normalisation, as open_clip does.

        Raises:
            ValueError: T is not in [1, context_length], or the mask is for fewer tokens.
            TypeError: `tokens` are not integers.
        """
        self._require_tokens(tokens)
        x = self.token_embedding(tokens)
        if isinstance(self.transformer, Transformer):
            x = x.to(self.transformer.get_cast_dtype())
        x = torch.cat([x, self.cls_emb.to(x.dtype).expand(len(x), 1, -1)], dim=1)
        x = x + self.positional_embedding[: x.shape[1]].to(x.dtype)
        x = read(self.transformer, x, self._mask_over(tokens, x))
        features = self._project(self.ln_final(x[:, -1]))
        return (features, x[:, :-1]) if self.output_tokens else features

    def text_lengths(self, tokens: Tensor) -> Tensor:
        """Return the (B,) numbers of tokens that affect the features: T, all of them.

        The number of tokens decides the place of the learned token. See `TextTower.text_lengths`.
        """
        B, T = tokens.shape
        return torch.full((B,), T, device=tokens.device)

    def text_groups(self) -> list[Group]:
        stem, *others = super().text_groups()
        return [[*stem, self.cls_emb], *others]

    def _mask_over(self, tokens: Tensor, x: Tensor) -> Tensor:
        """The (B, 1, T + 1, T + 1) mask that is added to the logits and hides padding, too."""
        num_places = x.shape[1]
        is_padding = tokens.to(x.device) == self.pad_id
        hidden = torch.cat([is_padding.new_zeros(len(x), 1), is_padding], dim=1)[:, None, None]
        zeros = x.new_zeros(num_places, num_places)
        if self._is_causal:
            mask = causal_mask(num_places, x)
        elif self.attn_mask is None:
            mask = zeros
        else:
            own = mask_of(self.attn_mask, num_places, x.device)
            is_bool = own.dtype == torch.bool
            mask = zeros.masked_fill(own, float("-inf")) if is_bool else own.to(x.dtype)
        return mask.masked_fill(hidden, float("-inf"))

    def _require_tokens(self, tokens: Tensor) -> None:
        if torch.jit.is_tracing():
            return
        longest = len(self.positional_embedding) - 1
        if self._attn_mask is not None:
            longest = min(longest, self._attn_mask.shape[-1] - 1)
        if tokens.ndim == 2 and tokens.shape[1] > longest:
            raise ValueError(
                f"tokens must be (B, T) with T in [1, {longest}], because the learned token takes "
                f"one of the {longest + 1} places, got {tuple(tokens.shape)}"
            )
        super()._require_tokens(tokens)
