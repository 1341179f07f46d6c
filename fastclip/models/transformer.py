"""A pre-norm transformer.

    x = x + attention(ln_1(x))
    x = x + mlp(ln_2(x))

A tower that is read out at one token per sequence needs the last block's result at that token only:
keys and values of all tokens, but one query, one output projection and one MLP. `read_at` says
which token; the result is the same, and at 50 tokens nine tenths of the last block are saved.

Modules are named as in OpenAI's CLIP (`resblocks.0.attn.in_proj_weight`, `...mlp.c_fc`), so that
the keys of a state dict agree with published checkpoints.

Source: Vaswani et al. 2017, arXiv:1706.03762; initialisation as in Radford et al. 2019 (GPT-2):
projections that add to the residual stream start smaller, the deeper the stack. LayerScale: Touvron
et al. 2021, arXiv:2103.17239.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastclip.models.activations import make_activation
from fastclip.models.layer_norm import LayerNorm


class Attention(nn.Module):
    """Multi-head self-attention on (B, T, width); causal lets a token see itself and the past."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, read_at: Tensor | None = None) -> Tensor:
        """(B, T, width) to the same or, at the (B,) positions `read_at`, to (B, 1, width)."""
        if read_at is None:
            qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
            q, k, v = self._heads(qkv, 3)
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            width = x.shape[-1]
            query = take(x, read_at)
            q_weight, kv_weight = self.in_proj_weight.split((width, 2 * width))
            q_bias, kv_bias = self.in_proj_bias.split((width, 2 * width))
            (q,) = self._heads(F.linear(query, q_weight, q_bias), 1)
            k, v = self._heads(F.linear(x, kv_weight, kv_bias), 2)
            mask = None
            if self.causal:
                positions = torch.arange(x.shape[1], device=x.device)
                mask = (positions <= read_at[:, None])[:, None, None]  # (B, 1, 1, T)
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _heads(self, projected: Tensor, num_parts: int) -> Tensor:
        """(B, T, parts * width) to (parts, B, heads, T, head_width)."""
        return projected.unflatten(-1, (num_parts, self.heads, -1)).permute(2, 0, 3, 1, 4)


class LayerScale(nn.Module):
    """A learned gain per channel on what a block adds to its stream."""

    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class ResidualBlock(nn.Module):
    """Attention, then an MLP on each token, each added to a (B, T, width) stream."""

    def __init__(
        self,
        width: int,
        heads: int,
        causal: bool,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        norm_eps: float = 1e-5,
        ls_init_value: float | None = None,
    ) -> None:
        super().__init__()
        hidden_width = int(width * mlp_ratio)
        self.ln_1 = LayerNorm(width, norm_eps)
        self.attn = Attention(width, heads, causal)
        self.ls_1 = _layer_scale(width, ls_init_value)
        self.ln_2 = LayerNorm(width, norm_eps)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, hidden_width),
                gelu=make_activation(activation),
                c_proj=nn.Linear(hidden_width, width),
            )
        )
        self.ls_2 = _layer_scale(width, ls_init_value)

    def forward(self, x: Tensor, read_at: Tensor | None = None) -> Tensor:
        """(B, T, width) to the same or, at the (B,) positions `read_at`, to (B, 1, width)."""
        attended = self.ls_1(self.attn(self.ln_1(x), read_at))
        x = (x if read_at is None else take(x, read_at)) + attended
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    """`layers` residual blocks on (B, T, width).

    `grad_checkpointing`: blocks keep their inputs alone and are run again in the backward.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        causal: bool = False,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        norm_eps: float = 1e-5,
        ls_init_value: float | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.grad_checkpointing = False
        self.resblocks = nn.ModuleList(
            ResidualBlock(width, heads, causal, mlp_ratio, activation, norm_eps, ls_init_value)
            for _ in range(layers)
        )
        self._initialize(width, layers)

    def forward(self, x: Tensor, read_at: Tensor | None = None) -> Tensor:
        """Return (B, T, width), or the (B, width) at the (B,) int64 positions `read_at`."""
        for block in self.resblocks[:-1]:
            x = self._run(block, x, None)
        x = self._run(self.resblocks[-1], x, read_at)
        return x if read_at is None else x[:, 0]

    def _run(self, block: ResidualBlock, x: Tensor, read_at: Tensor | None) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, read_at, use_reentrant=False)
        return block(x, read_at)

    def _initialize(self, width: int, layers: int) -> None:
        residual_std = width**-0.5 * (2 * layers) ** -0.5
        for block in self.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=residual_std)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=residual_std)
            for linear in (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj):
                nn.init.zeros_(linear.bias)


def take(x: Tensor, positions: Tensor) -> Tensor:
    """The tokens of (B, T, width) at (B,) positions, as (B, 1, width)."""
    return x.gather(1, positions[:, None, None].expand(-1, 1, x.shape[-1]))


def _layer_scale(width: int, initial: float | None) -> nn.Module:
    return nn.Identity() if initial is None else LayerScale(width, initial)
