"""Patch dropout: in training, an image tower sees only some of each image's patches, at random.

Training on half of the patches costs little accuracy and halves the tower's time, which allows
larger batches.

Source: Li et al. 2022 (FLIP), arXiv:2212.00794.
"""

import torch
from torch import Tensor, nn


class PatchDropout(nn.Module):
    """Keeps a fraction (1 - prob) of the patches of each image, in training only.

    Args:
        prob: the fraction that is dropped, in [0, 1); at least one patch stays.
        num_prefix: the number of leading tokens, such as a class token, that always stay.
    """

    def __init__(self, prob: float, num_prefix: int) -> None:
        super().__init__()
        self.prob = prob
        self.num_prefix = num_prefix

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, num_prefix + patches, width) tokens with fewer patches, in random order."""
        if not self.training or self.prob == 0:
            return tokens
        prefix, patches = tokens[:, : self.num_prefix], tokens[:, self.num_prefix :]
        kept = kept_patches(patches, self.prob)
        patches = patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[-1]))
        return torch.cat([prefix, patches], dim=1)

    def extra_repr(self) -> str:
        return f"prob={self.prob}"


def kept_patches(patches: Tensor, prob: float) -> Tensor:
    """Draw the (B, num_kept) indices, in random order, of the (B, num_patches, width) that stay."""
    B, num_patches, _ = patches.shape
    num_kept = max(1, int(num_patches * (1 - prob)))
    return torch.rand(B, num_patches, device=patches.device).topk(num_kept).indices
