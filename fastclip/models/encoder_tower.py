"""An encoder of any kind as a tower: timm's, transformers', or a module of one's own.

What an encoder returns is read as one feature vector per sample and projected, linearly and without
bias. Where attributes of the encoder tell how wide the vector is, nobody has to say it; the first
output shows whether they did.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastclip.models.contrastive_model import TowerOutput
from fastclip.models.parts.locking import Group, lock_groups

POOLS = ("auto", "first", "mean")
# Of transformers' outputs, in the order in which they are looked for.
POOLED_OUTPUTS = ("image_embeds", "text_embeds", "audio_embeds", "pooler_output")
PROJECTIONS = ("visual_projection", "text_projection", "audio_projection")


class EncoderTower(nn.Module):
    """An encoder of any kind, and a projection of what it returns.

    Args:
        encoder: called with a batch: a tensor, or a mapping of tensors passed by name. It returns
            (B, width) features, (B, T, width) tokens, or a Hugging Face output of either.
        embed_dim: of the shared space.
        width: of the features that are projected; by default what timm's models return for an
            image without data, and what others say: transformers' by their projection,
            `config.hidden_size` or the last of `config.hidden_sizes`, others by `num_features` or
            `output_dim`.
        pool: how tokens become one vector: "first", or "mean" over the tokens that the mapping's
            `attention_mask` keeps; "auto" takes a Hugging Face output's own (`image_embeds`,
            `text_embeds`, `audio_embeds` or `pooler_output`) and has none for bare tokens.

    Attributes:
        output_tokens: return the encoder's (B, T, width) tokens along with the features.

    Raises:
        ValueError: the width cannot be told, or `pool` is unknown.

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
                no tokens where `output_tokens` is set.
            ValueError: the features have another width than the projection.
        """
        by_name = isinstance(batch, Mapping)
        output = self.encoder(**batch) if by_name else self.encoder(batch)
        pooled = self._pooled(output, batch.get("attention_mask") if by_name else None)
        # In a trace a width is a tensor, and comparing it a warning; the projection raises then.
        width = getattr(self.proj, "in_features", None)  # of a head that took its place: unknown
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
        # A text without tokens, as a padded batch may end with, has features of 0.
        total = weights.sum(1, keepdim=True).clamp(min=torch.finfo(tokens.dtype).tiny)
        return torch.einsum("btw,bt->bw", tokens, weights) / total

    def _own_features(self, output: Any) -> Tensor:
        name, features = type(self.encoder).__name__, output
        if not isinstance(output, Tensor):
            found = (getattr(output, each, None) for each in POOLED_OUTPUTS)
            features = next((each for each in found if each is not None), None)
        if features is None:
            raise TypeError(
                f"{name}'s {type(output).__name__} holds no pooled features: choose pool='first' "
                "or pool='mean'"
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
    """Ask an encoder to compute activations again, by timm's or Hugging Face's method.

    Raises:
        TypeError: it has neither.
    """
    if hasattr(encoder, "set_grad_checkpointing"):
        encoder.set_grad_checkpointing(enable)
        return
    # transformers renames it in its version 6.
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
        f"the width of {type(encoder).__name__}'s features cannot be told: wrap it as "
        "EncoderTower(encoder, embed_dim, width=...)"
    )


def _returned_width(encoder: nn.Module) -> int | None:
    """What a model of timm's returns in its last dimension; None of other encoders.

    It is run as it is, on tensors without data: attributes do not tell what hooks, replaced heads
    and wrappers return.
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
    except Exception:  # tables or code that need data: its attributes are asked then
        return None
    return output.shape[-1] if isinstance(output, Tensor) and output.ndim in (2, 3) else None


def _widths(encoder: nn.Module, pool: str) -> list[object]:
    """What the encoder's attributes say, the surest first."""
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
