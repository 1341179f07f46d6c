"""Multi-head attention that is called like `nn.MultiheadAttention`.

    attention(x) = out_proj(concat over heads of softmax(Q K^T / sqrt(head_width) + mask) V)

The towers of OpenAI's CLIP and of open_clip have `nn.MultiheadAttention` in their blocks, and other
code calls it, replaces it, or reads its parameters. `Attention` is a subclass of it, which computes
what a tower needs (no attention weights, no padding mask) itself: with one matrix product for the
queries, keys and values of the same tokens, or with fewer queries than keys.

Source: Vaswani et al. 2017, arXiv:1706.03762.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy


class Attention(nn.MultiheadAttention):
    """Attention of `heads` heads on (B, T, width), or (T, B, width) where `batch_first` is False.

    A transformer initialises the matrices; this class only sets the biases, to 0.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, batch_first=True)

    def _reset_parameters(self) -> None:
        nn.init.zeros_(self.in_proj_bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what `query` reads from the tokens `key` and `value`, and the weights if needed.

        Args and errors are PyTorch's: `attn_mask` is (L, S) or (B * heads, L, S), either True where
        nothing is read or a float that is added to the logits. If no weights are needed, the mask
        may also have four dimensions that broadcast to (B, heads, L, S), and `is_causal` without a
        mask hides later tokens from each token. If a mask is given, `is_causal` is ignored.
        """
        is_batch = isinstance(query, Proxy) or query.ndim == 3
        is_plain = self.bias_k is None and not self.add_zero_attn and key is value and is_batch
        if need_weights or key_padding_mask is not None or not is_plain:
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask,
                average_attn_weights, is_causal,
            )  # fmt: skip
        if query is key:
            q, k, v = self._heads(F.linear(query, self.in_proj_weight, self.in_proj_bias), 3)
        else:
            width = self.embed_dim
            q_weight, kv_weight = self.in_proj_weight.split((width, 2 * width))
            q_bias, kv_bias = self.in_proj_bias.split((width, 2 * width))
            (q,) = self._heads(F.linear(query, q_weight, q_bias), 1)
            k, v = self._heads(F.linear(key, kv_weight, kv_bias), 2)
        if attn_mask is not None:
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.unflatten(0, (-1, self.num_heads))
            attn_mask = ~attn_mask if attn_mask.dtype == torch.bool else attn_mask.to(q.dtype)
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=attn_mask, dropout_p=self.dropout if self.training else 0.0,
            is_causal=is_causal and attn_mask is None,
        )  # fmt: skip
        attended = (
            attended.permute(0, 2, 1, 3) if self.batch_first else attended.permute(2, 0, 1, 3)
        )
        return self.out_proj(attended.flatten(2)), None

    def _heads(self, projected: Tensor, num_parts: int) -> tuple[Tensor, ...]:
        """Split (B, T, parts * width), or (T, B, ...), into parts of (B, heads, T, head_width)."""
        parts = projected.unflatten(-1, (num_parts, self.num_heads, -1))
        order = (2, 0, 3, 1, 4) if self.batch_first else (2, 1, 3, 0, 4)
        return parts.permute(order).unbind(0)
