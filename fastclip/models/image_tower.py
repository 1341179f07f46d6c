"""What all image towers share: the images they take, and which of their layers are trained."""

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from fastclip.models.locking import Group, lock_groups


class ImageTower(nn.Module):
    """Base of the towers that map (B, channels, height, width) images to (B, output_dim).

    Attributes:
        output_tokens: return (features, tokens), where the tower has tokens.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        output_dim: int,
        output_tokens: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = image_size  # height, width
        self.channels = channels
        self.output_dim = output_dim
        self.output_tokens = output_tokens

    @property
    def input_resolution(self) -> int | tuple[int, int]:
        """OpenAI's name of the side of square images; (height, width) of others."""
        height, width = self.image_size
        return height if height == width else (height, width)

    def groups(self) -> list[Group]:
        """The tower's layers from the pixels to the features, in open_clip's groups."""
        raise NotImplementedError

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only what goes into each layer, and compute the rest again in the backward."""
        raise NotImplementedError

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze all but the last `unlocked_groups` of `groups()`.

        Args:
            freeze_bn_stats: stop the running statistics of batch normalisation; a tower without
                any ignores it.

        Raises:
            ValueError: there are fewer groups.
        """
        lock_groups(self.groups(), unlocked_groups)

    def has_own_positions(self) -> bool:
        """Whether the tower has the positions of `image_size`, not resized or taken away."""
        raise NotImplementedError

    def require_images(self, images: Tensor) -> None:
        if torch.jit.is_tracing() or isinstance(images, Proxy):
            return  # what is recorded keeps no check
        expected = (self.channels, *self.image_size)
        fits = images.ndim == 4 and (
            images.shape[1:] == expected
            if self.has_own_positions()
            else images.shape[1] == self.channels
        )
        if not fits:
            raise ValueError(f"images must be (B, {', '.join(map(str, expected))}), "
                             f"got {tuple(images.shape)}")  # fmt: skip
        if not images.is_floating_point():
            raise TypeError(
                f"images must be floating-point, got {images.dtype}: standardize pixels first"
            )
