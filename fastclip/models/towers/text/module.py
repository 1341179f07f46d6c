"""The text tower of CLIP and SigLIP: a transformer whose features are read from one token.

CLIP's text tower is causal, and its features are read from the end token, which has the largest id
in a text (see the tokenizers). The end token sees the whole text and none of the padding after it,
so that padding needs no mask. In SigLIP's text tower every token sees all tokens, including
padding, and the features are read from the last token.

Source: Radford et al. 2021, arXiv:2103.00020, section 2.4; Zhai et al. 2023, arXiv:2303.15343.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.layers import Indices, Intermediates
from fastclip.models.parts.locking import Group, lock_groups
from fastclip.models.parts.masks import ReadAt, mask_of, moved_by
from fastclip.models.parts.reading import is_observed, read, read_layers
from fastclip.models.parts.transformer import Transformer, take
from fastclip.models.towers.text.config import TextConfig


class TextTower(nn.Module):
    """The text tower's parameters, and its features; `CLIP` inherits it for its own text tower.

    Attributes:
        attn_mask: (context_length, context_length), 0 or -inf, added to the logits of attention;
            None in a tower that is not causal. The tower uses whatever mask is assigned or written
            into it. The mask is made when it is first read, moves with the tower, and is no buffer:
            DistributedDataParallel would broadcast a buffer in every forward.
        output_tokens: whether the tokens are returned along with the features.
        text_projection: (width, embed_dim), an `nn.Linear`, or None for features of width `width`.
    """

    def __init__(self, config: TextConfig, embed_dim: int) -> None:
        super().__init__()
        width = config.width
        self.output_tokens = config.output_tokens
        self.context_length = config.context_length
        self.vocab_size = config.vocab_size
        self.text_pool_type = config.pool_type
        self.text_eos_id = config.eos_id
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, width))
        self.transformer = Transformer(
            width, config.layers, config.heads, causal=not config.no_causal_mask,
            mlp_ratio=config.mlp_ratio, activation=config.activation, norm_eps=config.norm_eps,
            ls_init_value=config.ls_init_value, num_tokens=config.context_length,
        )  # fmt: skip
        self._keep_mask(is_causal=not config.no_causal_mask)
        self.ln_final = LayerNorm(width, config.norm_eps)
        self.text_projection = _projection(config, embed_dim)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    @property
    def attn_mask(self) -> Tensor | None:
        if self._is_causal:  # from now on the caller may write into the mask, or train with it
            with torch.inference_mode(False):
                self.attn_mask = self.build_attention_mask().to(self.positional_embedding)
        return self._attn_mask

    @attn_mask.setter
    def attn_mask(self, attn_mask: Tensor | None) -> None:
        self._attn_mask, self._is_causal = attn_mask, False

    def build_attention_mask(self) -> Tensor:
        """Return the causal mask, (context_length, context_length) float32.

        It is 0 where a token is seen and else -inf. A token sees itself and earlier tokens.
        """
        # On the CPU even in a context of another device: loaded weights hold no mask to fill it.
        mask = torch.full((self.context_length,) * 2, float("-inf"), device="cpu")
        return mask.triu(1)

    build_causal_mask = build_attention_mask  # open_clip's name; the other one is OpenAI's

    def text_features(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, embed_dim) features of (B, T) int64 or int32 tokens, not normalised.

        With `output_tokens`, return also the (B, T, width) tokens after the last layer
        normalisation, as open_clip does.

        Raises:
            ValueError: T is not in [1, context_length], or the mask is for fewer tokens.
            TypeError: `tokens` are not integers.
        """
        self._require_tokens(tokens)
        x = self._embedded(tokens)
        mask, read_at = self._mask_for(x), self._read_at(tokens)
        if not self.output_tokens and not is_observed(x, self.transformer, self.ln_final):
            x = read(self.transformer, x, mask, read_at, self._is_causal)
            return self._project(self.ln_final(x))
        x = self.ln_final(read(self.transformer, x, mask, is_causal=self._is_causal))
        features = self._project(take(x, read_at)[:, 0])
        return (features, x) if self.output_tokens else features

    def text_intermediates(
        self,
        text: Tensor,
        indices: Indices = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: str = "NLC",
        output_extra_tokens: bool = False,
    ) -> Intermediates:
        """Return the outputs of blocks, like `forward_intermediates` of open_clip's text towers.

        Args:
            text: (B, T) int64 or int32 tokens.
            indices: a number n for the last n blocks, or the numbers of blocks, counted from 0 or,
                if negative, from the end; None for all.
            stop_early: whether to skip the blocks after the last one that is asked for. Features
                are then read out of that block, as in open_clip.
            normalize_intermediates: whether the intermediates go through the last layer
                normalisation.
            intermediates_only: whether to return no features.
            output_fmt: "NLC", the only format of texts.
            output_extra_tokens: changes nothing, because there are no tokens besides the text's.

        Returns:
            a dict of `text_intermediates`, (B, T, width) for each block, in the order of the
            blocks, and, unless `intermediates_only`, `text_features`, (B, embed_dim), not
            normalised.

        Raises:
            ValueError: there is no such block or format; see also `text_features`.
            TypeError: `text` are not integers, or a module that replaced the transformer does not
                show what its blocks return.
        """
        if output_fmt != "NLC":
            raise ValueError(f"output_fmt of texts must be 'NLC', got {output_fmt!r}")
        self._require_tokens(text)
        x = self._embedded(text)
        x, layers = read_layers(
            self.transformer, x, self._mask_for(x), indices, stop_early, self._is_causal
        )
        if normalize_intermediates:
            layers = [self.ln_final(each) for each in layers]
        output: Intermediates = {"text_intermediates": layers}
        if not intermediates_only:
            pooled = take(self.ln_final(x), self._read_at(text))[:, 0]
            output["text_features"] = self._project(pooled)
        return output

    def text_lengths(self, tokens: Tensor) -> Tensor:
        """Return the (B,) numbers of leading tokens of (B, T) texts that affect their features.

        In a causal tower these are the tokens up to the one that is read, and texts may be cut
        after it; in another tower they are all T tokens.
        """
        B, T = tokens.shape
        read_at = self._read_at(tokens) if self._hides_the_future() else T - 1
        if isinstance(read_at, int):
            return torch.full((B,), read_at % T + 1, device=tokens.device)
        return read_at + 1

    def text_groups(self) -> list[Group]:
        """Return the tower's layers from the tokens to the features, in groups."""
        *blocks, last = self.transformer.resblocks
        top = [] if self.text_projection is None else [[self.text_projection]]
        stem = [self.token_embedding, self.positional_embedding]
        return [stem, *([block] for block in blocks), [last, self.ln_final], *top]

    def lock_text_groups(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze all but the last `unlocked_layers` of `text_groups()`.

        Raises:
            ValueError: there are fewer groups, or `freeze_layer_norm` is False; norms are always
                frozen with the layers that they belong to.
        """
        if not freeze_layer_norm:
            raise ValueError(
                "freeze_layer_norm must be True for this text tower, whose norms are frozen with "
                "their layers, got False"
            )
        lock_groups(self.text_groups(), unlocked_layers)

    def _embedded(self, tokens: Tensor) -> Tensor:
        """The (B, T, width) tokens that go into the transformer."""
        x = self.token_embedding(tokens)
        if isinstance(self.transformer, Transformer):
            x = x.to(self.transformer.get_cast_dtype())
        return x + self.positional_embedding[: tokens.shape[1]].to(x.dtype)

    def _keep_mask(self, is_causal: bool) -> None:
        self._attn_mask: Tensor | None = None
        self._is_causal = is_causal  # the mask is causal, and no other code has read or set it

    def _apply(self, fn: Callable, recurse: bool = True) -> "TextTower":
        super()._apply(fn, recurse)
        if self._attn_mask is not None:
            self._attn_mask = moved_by(fn, self._attn_mask)
        return self

    def _hides_the_future(self) -> bool:
        """Whether no token sees later tokens, with the mask that the tower has now."""
        if self._is_causal:
            return True
        if self.attn_mask is None:
            return False
        T = self.attn_mask.shape[-1]
        return int(self.attn_mask.triu(1).isneginf().sum()) == T * (T - 1) // 2

    def _mask_for(self, x: Tensor) -> Tensor | None:
        """The mask of (B, T, width) tokens; None for the causal mask, or for no mask."""
        if self._is_causal:
            return None
        num_tokens = x.shape[1]
        if self.attn_mask is not None:
            return mask_of(self.attn_mask, num_tokens, x.device)
        # The mask was taken away from a causal tower, whose blocks need one: it hides nothing.
        if any(
            getattr(block, "causal", False) for block in getattr(self.transformer, "resblocks", ())
        ):
            return x.new_zeros(num_tokens, num_tokens)
        return None

    def _project(self, x: Tensor) -> Tensor:
        if self.text_projection is None:
            return x
        if isinstance(self.text_projection, nn.Module):
            return self.text_projection(x)
        return x @ self.text_projection.to(x.dtype)

    def _read_at(self, tokens: Tensor) -> ReadAt:
        if self.text_pool_type == "argmax":
            return tokens.argmax(-1)
        if self.text_pool_type == "eos":
            return (tokens == self.text_eos_id).int().argmax(-1)
        return 0 if self.text_pool_type == "first" else -1

    def _require_tokens(self, tokens: Tensor) -> None:
        if torch.jit.is_tracing():  # as in `ImageTower.require_images`
            return
        longest = self.positional_embedding.shape[0]  # not `context_length`: positions are resized
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= longest:
            raise ValueError(
                f"tokens must be (B, T) with T in [1, {longest}], got {tuple(tokens.shape)}"
            )
        if self._attn_mask is not None and self._attn_mask.shape[-1] < tokens.shape[1]:
            raise ValueError(
                f"attn_mask must be for at least the {tokens.shape[1]} tokens of the texts, "
                f"got {tuple(self._attn_mask.shape)}"
            )
        if tokens.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"tokens must be int64 or int32, got {tokens.dtype}")


class TextTransformer(TextTower):
    """Encodes (B, T) token ids, T at most `context_length`, as (B, embed_dim) features."""

    def forward(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """See `TextTower.text_features`."""
        return self.text_features(tokens)

    forward_intermediates = TextTower.text_intermediates

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
