"""The base of the configurations of image towers that cut an image into patches."""

from fastclip.data.limits import MOST_LAYERS
from fastclip.models.parts.activations import require_activation
from fastclip.models.towers.config_checks import (
    require_blocks,
    require_flags,
    require_fractions,
    require_patches,
    require_sizes,
)
from fastclip.models.towers.image_config import ImageTowerConfig


class PatchTowerConfig(ImageTowerConfig):
    """Base of the configurations of vision transformers, with a token for each square patch.

    Attributes:
        patch_size: the side of a patch in pixels.
        mlp_ratio: the hidden width of an MLP divided by `width`.
        patch_dropout: the fraction of patches that is dropped in training.
        norm_eps: the epsilon of the blocks' norms.
        output_tokens: whether the tower returns the tokens of its patches along with its features.
    """

    patch_size: int
    mlp_ratio: float
    patch_dropout: float
    norm_eps: float
    output_tokens: bool

    @property
    def grid_size(self) -> tuple[int, int]:
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    def check_patches_and_blocks(self, whole: bool) -> None:
        """Check the tower's sizes and its blocks' settings, and make `image_size` a pair.

        Args:
            whole: whether the image must be a whole number of patches.

        Raises:
            ValueError: a value is out of its range.
        """
        require_sizes(patch_size=self.patch_size, width=self.width)
        require_sizes(MOST_LAYERS, layers=self.layers)
        size = require_patches(self.image_size, self.patch_size, whole)
        object.__setattr__(self, "image_size", size)
        require_blocks(self.width, self.mlp_ratio, self.norm_eps)
        require_activation(self.activation)
        require_fractions(patch_dropout=self.patch_dropout)
        require_flags(output_tokens=self.output_tokens)
