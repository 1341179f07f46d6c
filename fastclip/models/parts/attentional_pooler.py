"""Learned queries that read a tower's tokens: the pooling of CoCa's image tower.

    pooled = attention(ln_q(queries), keys and values of ln_k(tokens))

Source: Lee et al. 2019 (Set Transformer), arXiv:1810.00825; Yu et al. 2022 (CoCa),
arXiv:2205.01917, section 3.2.
"""

import torch
from torch import Tensor, nn

from fastclip.models.parts.layer_norm import LayerNorm


class AttentionalPooler(nn.Module):
    """Reads (B, T, token_width) tokens with learned queries, into (B, num_queries, width).

    Args:
        width: channels of the queries and of the result.
        token_width: channels of the tokens.
        heads: the number of attention heads, which divides `width`.
        num_queries: the number of learned queries.
        norm_eps: the epsilon of both norms.
    """

    def __init__(
        self, width: int, token_width: int, heads: int, num_queries: int, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(num_queries, width))
        self.attn = nn.MultiheadAttention(
            width, heads, kdim=token_width, vdim=token_width, batch_first=True
        )
        self.ln_q = LayerNorm(width, norm_eps)
        self.ln_k = LayerNorm(token_width, norm_eps)

    def forward(self, tokens: Tensor) -> Tensor:
        queries = self.ln_q(self.query.to(tokens.dtype)).expand(len(tokens), -1, -1)
        tokens = self.ln_k(tokens)
        return self.attn(queries, tokens, tokens, need_weights=False)[0]
