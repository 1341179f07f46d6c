"""Pooling of many tokens to one vector: a learned query attends to them, and an MLP follows.

    pooled = attention(probe, tokens)
    result = pooled + mlp(norm(pooled))

Modules are named as in timm.

Source: Zhai et al. 2021, arXiv:2106.04560.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.timm_mlp import Mlp


class AttentionPoolLatent(nn.Module):
    """Pools (B, T, width) to (B, width); a (B, 1, 1, T) mask is True where a token is read."""

    def __init__(
        self, width: int, heads: int, hidden_width: int, norm_eps: float, activation: str
    ) -> None:
        super().__init__()
        self.num_heads = heads
        self.head_dim = width // heads
        self.scale = self.head_dim**-0.5
        self.latent = nn.Parameter(torch.empty(1, 1, width))
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = LayerNorm(width, norm_eps)
        self.mlp = Mlp(width, hidden_width, activation)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        query = self.q(self.latent.to(x.dtype)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        queries = query.expand(x.shape[0], -1, -1, -1)
        attended = F.scaled_dot_product_attention(queries, k, v, attn_mask)
        pooled = self.proj(attended.transpose(1, 2).flatten(2))
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]
