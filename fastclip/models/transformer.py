"""A pre-norm transformer.

    x = x + attention(ln_1(x))
    x = x + mlp(ln_2(x))

Modules are named as in OpenAI's CLIP (`resblocks.0.attn.in_proj_weight`, `...mlp.c_fc`), so that
the keys of a state dict agree with published checkpoints.

Source: Vaswani et al. 2017, arXiv:1706.03762; initialisation as in Radford et al. 2019 (GPT-2):
projections that add to the residual stream start smaller, the deeper the stack.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MLP_RATIO = 4  # hidden width of the MLP over the width of the stream


class Attention(nn.Module):
    """Multi-head self-attention on (B, T, width); causal lets a token see itself and the past."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        # (B, T, 3 * width) -> three of (B, heads, T, head_width)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class ResidualBlock(nn.Module):
    """Attention, then an MLP on each token, each added to a (B, T, width) stream."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, causal)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, MLP_RATIO * width),
                gelu=nn.GELU(),
                c_proj=nn.Linear(MLP_RATIO * width, width),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """`layers` residual blocks on (B, T, width)."""

    def __init__(self, width: int, layers: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualBlock(width, heads, causal) for _ in range(layers))
        self._initialize(width, layers)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x)
        return x

    def _initialize(self, width: int, layers: int) -> None:
        residual_std = width**-0.5 * (2 * layers) ** -0.5
        for block in self.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=residual_std)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=residual_std)
            for linear in (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj):
                nn.init.zeros_(linear.bias)
