"""Using any encoder as a tower: a timm model, a transformers model, or a module of your own.

The encoder's output is read as one feature vector per sample and projected, linearly and without
bias. The width of the vector is taken from attributes of the encoder if they have it; the first
output shows whether it was right.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastclip.models.contrastive_model import TowerOutput
from fastclip.models.parts.locking import Group, lock_groups

POOLS = ("auto", "first", "mean")
# Fields of transformers' outputs, in the order in which they are looked for.
POOLED_OUTPUTS = ("image_embeds", "text_embeds", "audio_embeds", "pooler_output")
PROJECTIONS = ("visual_projection", "text_projection", "audio_projection")


class EncoderTower(nn.Module):
    """An encoder of any kind, followed by a projection of its features.

    Args:
        encoder: called with a batch: a tensor, or a mapping of tensors passed by name. It returns
            (B, width) features, (B, T, width) tokens, or a Hugging Face output of either.
        embed_dim: the dimension of the shared space.
        width: the width of the features that are projected. By default, a timm model is run on an
            image without data to find it; a transformers model has it in its projection, in
            `config.hidden_size` or in the last of `config.hidden_sizes`; other encoders in
            `num_features` or `output_dim`.
        pool: how tokens become one vector: "first", or "mean" over the tokens that the mapping's
            `attention_mask` keeps. "auto" takes the pooled features in a Hugging Face output
            (`image_embeds`, `text_embeds`, `audio_embeds` or `pooler_output`); it cannot pool bare
            tokens.

    Attributes:
        output_tokens: return the encoder's (B, T, width) tokens along with the features.

    Raises:
        ValueError: the width cannot be determined, or `pool` is unknown.

    Example:
        >>> tower = EncoderTower(timm.create_model("mobilenetv4_conv_small", num_classes=0), 512)
        >>> features = tower(torch.randn(2, 3, 224, 224))  # (2, 512)
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
        self.output_tokens = False
        self.proj = nn.Linear(width or _width(encoder, pool), embed_dim, bias=False)
        nn.init.normal_(self.proj.weight, std=self.proj.in_features**-0.5)

    def forward(self, batch: Tensor | Mapping[str, Tensor]) -> TowerOutput:
        """Return (B, embed_dim) features, not normalised; with `output_tokens`, the tokens too.

        Raises:
            TypeError: the encoder returned something in which `pool` finds no features, or that has
                no tokens although `output_tokens` is set.
            ValueError: the features have another width than the projection.
        """
        by_name = isinstance(batch, Mapping)
        output = self.encoder(**batch) if by_name else self.encoder(batch)
        pooled = self._pooled(output, batch.get("attention_mask") if by_name else None)
        # In a trace the width is a tensor, and comparing it warns; then the projection raises.
        width = getattr(self.proj, "in_features", None)  # None if another module took its place
        if not torch.jit.is_tracing() and width is not None and pooled.shape[-1] != width:
            name, found = type(self.encoder).__name__, pooled.shape[-1]
            raise ValueError(
                f"the features of {name} have width {found}, and the projection is made for width "
                f"{width}: wrap the encoder as "
                f"EncoderTower(encoder, embed_dim={self.output_dim}, width={found})"
            )
        features = self.proj(pooled)
        return (features, self._tokens(output)) if self.output_tokens else features

    def lock(
        self,
        unlocked_groups: int = 0,
        freeze_layer_norm: bool = True,
        freeze_bn_stats: bool = False,
    ) -> None:
        """Freeze the encoder, and the projection too unless `unlocked_groups` is 1.

        Raises:
            ValueError: `unlocked_groups` is larger, or gains or statistics should be treated
                differently from other parameters: the inside of the encoder is not known here.
        """
        if not freeze_layer_norm or freeze_bn_stats:
            raise ValueError(
                "freeze_layer_norm=False and freeze_bn_stats=True are not possible for an encoder "
                "of your own: freeze its gains and statistics yourself"
            )
        groups: list[Group] = [[self.encoder], [self.proj]]
        lock_groups(groups, unlocked_groups)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turn activation checkpointing on or off in the encoder, by timm's or Hugging Face's way.

        Raises:
            TypeError: the encoder has neither method.
        """
        set_grad_checkpointing(self.encoder, enable)

    def _pooled(self, output: Any, mask: Tensor | None) -> Tensor:
        if self.pool == "auto":
            return self._own_features(output)
        tokens = self._tokens(output)
        if self.pool == "first":
            return tokens[:, 0]
        if mask is None:
            return tokens.mean(dim=1)
        weights = mask.to(tokens.dtype)
        # A text without tokens, which may fill up a padded batch, has features of 0.
        total = weights.sum(1, keepdim=True).clamp(min=torch.finfo(tokens.dtype).tiny)
        return torch.einsum("btw,bt->bw", tokens, weights) / total

    def _own_features(self, output: Any) -> Tensor:
        name, features = type(self.encoder).__name__, output
        if not isinstance(output, Tensor):
            found = (getattr(output, each, None) for each in POOLED_OUTPUTS)
            features = next((each for each in found if each is not None), None)
        if features is None:
            raise TypeError(
                f"the {type(output).__name__} that {name} returned holds no pooled features: "
                "choose pool='first' or pool='mean'"
            )
        if features.ndim == 4 and features.shape[2:] == (1, 1):
            features = features.flatten(1)  # transformers' convolutional models
        if features.ndim != 2:
            raise TypeError(
                f"{name} returned {tuple(features.shape)}, not (B, width): choose pool='first' or "
                "pool='mean'"
            )
        return features

    def _tokens(self, output: Any) -> Tensor:
        tokens = (
            output if isinstance(output, Tensor) else getattr(output, "last_hidden_state", None)
        )
        if tokens is None or tokens.ndim != 3:
            found = type(output).__name__ if tokens is None else tuple(tokens.shape)
            raise TypeError(
                f"{type(self.encoder).__name__} returned {found}, which holds no (B, T, width) "
                "tokens"
            )
        return tokens


def set_grad_checkpointing(encoder: nn.Module, enable: bool) -> None:
    """Turn activation checkpointing of an encoder on or off, by timm's or Hugging Face's method.

    Raises:
        TypeError: the encoder has neither method.
    """
    if hasattr(encoder, "set_grad_checkpointing"):
        encoder.set_grad_checkpointing(enable)
        return
    # transformers 6 renames the method.
    for kind in ("activation_checkpointing", "gradient_checkpointing"):
        method = getattr(encoder, f"{kind}_{'enable' if enable else 'disable'}", None)
        if method is not None:
            method()
            return
    raise TypeError(f"{type(encoder).__name__} has no gradient checkpointing")


def _width(encoder: nn.Module, pool: str) -> int:
    for width in (_returned_width(encoder), *_widths(encoder, pool)):
        if isinstance(width, int):
            return width
    raise ValueError(
        f"the width of {type(encoder).__name__}'s features cannot be determined: wrap it as "
        "EncoderTower(encoder, embed_dim, width=...)"
    )


def _returned_width(encoder: nn.Module) -> int | None:
    """Return the width of a timm model's output; None for other encoders.

    The model is run on tensors without data, because its attributes do not show the effect of
    hooks, replaced heads and wrappers.
    """
    cfg = getattr(encoder, "default_cfg", None)
    shape = cfg.get("input_size") if isinstance(cfg, Mapping) else None
    if shape is None or not hasattr(encoder, "get_classifier"):
        return None
    own = getattr(getattr(encoder, "patch_embed", None), "img_size", None) or shape[-2:]
    tensors = dict(encoder.named_parameters()) | dict(encoder.named_buffers())
    without_data = {name: value.detach().to("meta") for name, value in tensors.items()}
    dtype = next((p.dtype for p in encoder.parameters()), torch.float32)
    images = torch.empty(2, shape[0], *own, device="meta", dtype=dtype)
    try:
        with torch.no_grad():
            output = torch.func.functional_call(encoder, without_data, (images,))
    except Exception:  # its code needs data: the caller then looks at its attributes
        return None
    return output.shape[-1] if isinstance(output, Tensor) and output.ndim in (2, 3) else None


def _widths(encoder: nn.Module, pool: str) -> list[object]:
    """Return the widths that the encoder's attributes state, the most reliable first."""
    config = getattr(encoder, "config", None)
    said: list[object] = []
    if pool == "auto":
        if hasattr(encoder, "get_classifier"):  # timm's
            said.append(getattr(encoder, "num_classes", None) or None)
            said.append(getattr(encoder, "head_hidden_size", None))
        projections = (getattr(encoder, name, None) for name in PROJECTIONS)
        said += [p.out_features for p in projections if isinstance(p, nn.Linear)]
    said += [getattr(encoder, "num_features", None), getattr(encoder, "output_dim", None)]
    said.append(getattr(config, "hidden_size", None))
    stages = getattr(config, "hidden_sizes", None)
    said.append(stages[-1] if stages else None)
    return said
