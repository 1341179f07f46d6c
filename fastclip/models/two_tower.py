"""Any two encoders as a contrastive model: keys `visual.*`, `text.*`, `logit_scale`.

SigLIP's models are of this kind, and so is every pair that a user puts together: a timm model, a
Hugging Face model, any `nn.Module`. `EncoderTower` reads one feature vector per sample out of what
an encoder returns and projects it into the shared space.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastclip.models.clip import build_image_tower
from fastclip.models.config import DEFAULT_LOGIT_SCALE, ClipConfig
from fastclip.models.contrastive_model import ContrastiveModel
from fastclip.models.locking import Group, lock_groups
from fastclip.models.text import TextTransformer

POOLS = ("auto", "first", "mean")


class TwoTower(ContrastiveModel):
    """Two encoders that meet in one space.

    Args:
        image_encoder: called with a batch of images.
        text_encoder: called with a batch of texts: (B, T) tokens, or a mapping of tensors, such as
            a Hugging Face tokenizer returns, which is passed by name.
        embed_dim: the dimension of the shared space, into which both are projected, linearly and
            without bias (see `EncoderTower`); None if the encoders return it already.
        init_logit_scale: natural logarithm; ln(1/0.07) as CLIP, ln(10) for SigLIP.
        init_logit_bias: None as CLIP, -10 for SigLIP.
        output_dict: whether `forward` returns a dict instead of a tuple.
        nonscalar_logit_scale: the scale and the bias have the shape (1,) instead of ().

    Raises:
        ValueError: `embed_dim` is given and the width of an encoder's output cannot be told.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        embed_dim: int | None = None,
        init_logit_scale: float = DEFAULT_LOGIT_SCALE,
        init_logit_bias: float | None = None,
        output_dict: bool = False,
        nonscalar_logit_scale: bool = False,
    ) -> None:
        super().__init__()
        if embed_dim is not None:
            image_encoder = _tower(image_encoder, embed_dim)
            text_encoder = _tower(text_encoder, embed_dim)
        self.visual = image_encoder
        self.text = text_encoder
        self._add_scale(init_logit_scale, init_logit_bias, output_dict, nonscalar_logit_scale)

    @property
    def context_length(self) -> int:
        return self.text.context_length

    @property
    def vocab_size(self) -> int:
        return self.text.vocab_size

    def lock_text_tower(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze the text tower but for its last `unlocked_layers`."""
        self.text.lock(unlocked_layers, freeze_layer_norm)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade a second forward of each block for the memory of its activations."""
        self.visual.set_grad_checkpointing(enable)
        self.text.set_grad_checkpointing(enable)

    def _text_features(self, text: Tensor | Mapping[str, Tensor]) -> Tensor:
        return self.text(text)


class CustomTextCLIP(TwoTower):
    """A built-in pair whose text tower stands under `text`, as in open_clip's SigLIP models."""

    def __init__(self, config: ClipConfig, output_dict: bool = False) -> None:
        super().__init__(
            build_image_tower(config),
            TextTransformer(config.text_cfg, config.embed_dim),
            init_logit_scale=config.init_logit_scale,
            init_logit_bias=config.init_logit_bias,
            output_dict=output_dict,
            nonscalar_logit_scale=config.nonscalar_logit_scale,
        )
        self.config = config

    def text_lengths(self, tokens: Tensor) -> Tensor:
        """See `TextTower.text_lengths`."""
        return self.text.text_lengths(tokens)


class EncoderTower(nn.Module):
    """An encoder of any kind, and a projection of what it returns.

    Args:
        encoder: called with a batch: a tensor, or a mapping of tensors passed by name. It returns
            (B, width) features, (B, T, width) tokens, or a Hugging Face output of either.
        embed_dim: of the shared space.
        width: of the encoder's features; by default its `num_features`, `output_dim` or
            `config.hidden_size`.
        pool: how tokens become one vector: "first", or "mean" over the tokens that the mapping's
            `attention_mask` keeps; "auto" takes a Hugging Face output's own (`image_embeds`,
            `text_embeds` or `pooler_output`) and has none for bare tokens.

    Raises:
        ValueError: the width cannot be told, or `pool` is unknown.
    """

    def __init__(
        self, encoder: nn.Module, embed_dim: int, width: int | None = None, pool: str = "auto"
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool must be one of {POOLS}, got {pool!r}")
        self.encoder = encoder
        self.pool = pool
        self.output_dim = embed_dim
        self.proj = nn.Linear(width or _width(encoder), embed_dim, bias=False)
        nn.init.normal_(self.proj.weight, std=self.proj.in_features**-0.5)

    def forward(self, batch: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return (B, embed_dim) features, not normalised.

        Raises:
            TypeError: the encoder returned something that holds no features as told by `pool`.
        """
        by_name = isinstance(batch, Mapping)
        output = self.encoder(**batch) if by_name else self.encoder(batch)
        mask = batch.get("attention_mask") if by_name else None
        return self.proj(self._pooled(output, mask))

    def lock(
        self,
        unlocked_groups: int = 0,
        freeze_layer_norm: bool = True,
        freeze_bn_stats: bool = False,
    ) -> None:
        """Freeze the encoder, and the projection too unless `unlocked_groups` is 1.

        Raises:
            ValueError: more is to be unlocked, or gains or statistics alone are to be treated
                apart: what is inside the encoder is not known here.
        """
        if not freeze_layer_norm or freeze_bn_stats:
            raise ValueError("gains and statistics of an encoder of your own are yours to freeze")
        groups: list[Group] = [[self.encoder], [self.proj]]
        lock_groups(groups, unlocked_groups)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Ask the encoder, by timm's or Hugging Face's method.

        Raises:
            TypeError: it has neither.
        """
        if hasattr(self.encoder, "set_grad_checkpointing"):
            self.encoder.set_grad_checkpointing(enable)
            return
        # transformers renames it in its version 6.
        for kind in ("activation_checkpointing", "gradient_checkpointing"):
            method = getattr(self.encoder, f"{kind}_{'enable' if enable else 'disable'}", None)
            if method is not None:
                method()
                return
        raise TypeError(f"{type(self.encoder).__name__} has no gradient checkpointing")

    def _pooled(self, output: Any, mask: Tensor | None) -> Tensor:
        if self.pool == "auto":
            if not isinstance(output, Tensor):
                output = _own_features(output)
            if output.ndim != 2:
                raise TypeError(
                    f"{type(self.encoder).__name__} returned {tuple(output.shape)}, not (B, width)"
                    ": choose pool='first' or pool='mean'"
                )
            return output
        tokens = output if isinstance(output, Tensor) else output.last_hidden_state
        if self.pool == "first":
            return tokens[:, 0]
        if mask is None:
            return tokens.mean(dim=1)
        weights = mask.to(tokens.dtype)
        return torch.einsum("btw,bt->bw", tokens, weights) / weights.sum(1, keepdim=True)


def _tower(encoder: nn.Module, embed_dim: int) -> nn.Module:
    return encoder if isinstance(encoder, EncoderTower) else EncoderTower(encoder, embed_dim)


def _own_features(output: Any) -> Tensor:
    for name in ("image_embeds", "text_embeds", "pooler_output"):
        features = getattr(output, name, None)
        if features is not None:
            return features
    raise TypeError(
        f"{type(output).__name__} holds no pooled features: choose pool='first' or pool='mean'"
    )


def _width(encoder: nn.Module) -> int:
    config = getattr(encoder, "config", None)
    widths = [
        getattr(encoder, "num_features", None),
        getattr(encoder, "output_dim", None),
        getattr(config, "hidden_size", None),
    ]
    for width in widths:
        if isinstance(width, int):
            return width
    raise ValueError(
        f"the width of {type(encoder).__name__}'s features cannot be told: wrap it as "
        "EncoderTower(encoder, embed_dim, width=...)"
    )
