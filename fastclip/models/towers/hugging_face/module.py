"""A text tower that is an encoder of transformers: keys `transformer.*` and `proj.*`.

What is padding is told by its id, and no token sees it. In training the encoder drops activations
as its configuration says, as in open_clip.

Source: the behaviour and the names of HFTextEncoder of open_clip_torch 3.3.0. There "max_pooler"
raises; here it is the maximum over the tokens that are not padding.
"""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from fastclip.installation import install_command
from fastclip.models.encoder_tower import set_grad_checkpointing
from fastclip.models.parts.locking import lock_groups
from fastclip.models.towers.hugging_face.config import HfTextConfig


class HfTextTower(nn.Module):
    """(B, T) token ids to (B, embed_dim) features, not normalised.

    Attributes:
        config: transformers' configuration of the encoder.
        transformer: the encoder.
        proj: `nn.Identity`, `nn.Linear` or an MLP, from the encoder's width to `embed_dim`.
        output_tokens: return also the encoder's (B, T, width) tokens; with "cls_pooler" the first
            one is left out.
        in_one_dtype: all parameters have it in every precision, as transformers' modules expect.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """

    in_one_dtype = True

    def __init__(self, config: HfTextConfig, embed_dim: int) -> None:
        super().__init__()
        self.context_length = config.context_length
        self.vocab_size = config.vocab_size
        self.output_tokens = config.output_tokens
        self.output_dim = embed_dim
        self.pooler_type = config.hf_pooler_type
        self.longest_text = config.longest_text
        self._family = config.family
        self.transformer = _encoder(config)
        self.config = self.transformer.config
        self.proj = _projection(config, embed_dim)

    def forward(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, embed_dim) features of (B, T) int64 or int32 tokens; see `output_tokens`.

        Raises:
            ValueError: T is not in [1, longest_text].
            TypeError: `tokens` are not integers.
        """
        self._require_tokens(tokens)
        mask = self._mask(tokens)
        output = self.transformer(input_ids=tokens, attention_mask=mask.long())
        features = self.proj(self._pooled(output, mask))
        if not self.output_tokens:
            return features
        states = output.last_hidden_state
        return features, states[:, 1:] if self.pooler_type == "cls_pooler" else states

    def text_lengths(self, tokens: Tensor) -> Tensor:
        """Return (B,) where (B, T) texts end: features do not depend on padding behind it."""
        places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        return (places * self._mask(tokens)).amax(1).clamp(min=1)

    def lock(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze the encoder but for its last `unlocked_layers`; the projection is trained.

        Embeddings are the first layer, and each block is one. What is behind the last block, as a
        last norm or a pooler, is trained if a block is.

        Args:
            freeze_layer_norm: False trains the gains of all norms.

        Raises:
            ValueError: there are fewer layers.
        """
        before = [attrgetter(self._family.embeddings)(self.transformer)]
        blocks = attrgetter(self._family.blocks)(self.transformer)
        groups = [before, *([block] for block in blocks)]
        self.transformer.requires_grad_(unlocked_layers > 0)
        lock_groups(groups, unlocked_layers)
        if not freeze_layer_norm:
            for module in self.transformer.modules():
                if type(module).__name__.endswith("LayerNorm"):
                    module.requires_grad_(True)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only what goes into each block, and compute the rest again in the backward."""
        set_grad_checkpointing(self.transformer, enable)

    def fill_buffers(self) -> None:
        """Compute the tables that no state dict has, such as sinusoids, if they are without data.

        For a tower that was made on the device "meta", whose parameters come from a file.
        """
        for module in self.transformer.modules():
            empty = {n: b for n, b in module.named_buffers(recurse=False) if b.is_meta}
            for name, buffer in empty.items():
                setattr(module, name, torch.empty_like(buffer, device="cpu"))
            if empty:
                self.transformer._init_weights(module)  # of transformers: it fills a module's own

    def _mask(self, tokens: Tensor) -> Tensor:
        return tokens != self.config.pad_token_id

    def _pooled(self, output: Any, mask: Tensor) -> Tensor:
        states, keep = output.last_hidden_state, mask[:, :, None]
        if self.pooler_type == "mean_pooler":
            # A text of padding alone has features of 0.
            return (states * keep).sum(1) / keep.sum(1).clamp(min=1)
        if self.pooler_type == "max_pooler":
            return states.masked_fill(~keep, torch.finfo(states.dtype).min).amax(1)
        own = getattr(output, "pooler_output", None) if self.pooler_type == "cls_pooler" else None
        return states[:, 0] if own is None else own

    def _require_tokens(self, tokens: Tensor) -> None:
        if torch.jit.is_tracing():
            return
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.longest_text:
            raise ValueError(
                f"tokens must be (B, T) with T in [1, {self.longest_text}], "
                f"got {tuple(tokens.shape)}"
            )
        if tokens.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"tokens must be int64 or int32, got {tokens.dtype}")


def _encoder(config: HfTextConfig) -> nn.Module:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The text tower {config.hf_model_name!r} needs transformers: "
            f"{install_command('transformers')}",
            name=error.name,
        ) from error
    theirs = transformers.AutoConfig.for_model(**config.hf_config)
    family = config.family
    if family.builder == "M2M100Encoder":
        from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

        return M2M100Encoder(theirs)
    builder = getattr(transformers, family.builder)
    if family.is_encoder:
        return builder(theirs).encoder
    return builder(theirs, add_pooling_layer=config.hf_pooler_type == "cls_pooler")


def _projection(config: HfTextConfig, embed_dim: int) -> nn.Module:
    width = config.width
    if config.hf_proj_type is None:
        return nn.Identity()
    if config.hf_proj_type == "linear":
        return nn.Linear(width, embed_dim, bias=False)
    hidden_width = (width + embed_dim) // 2
    return nn.Sequential(
        nn.Linear(width, hidden_width, bias=False),
        nn.GELU(),
        nn.Linear(hidden_width, embed_dim, bias=False),
    )
