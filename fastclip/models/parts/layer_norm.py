"""Layer normalisation that computes in its weights' dtype and returns its input's dtype.

A model whose matrices are float16 or bfloat16 keeps its gains in float32 (see `precision.py`). The
normalisation is then computed in float32, too, as in OpenAI's code.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        normalized = F.layer_norm(
            x.to(self.weight.dtype), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return normalized.to(x.dtype)
