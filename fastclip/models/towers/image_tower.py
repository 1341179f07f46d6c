"""The base of image towers' modules: which images they take, and which of their layers train."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from fastclip.models.parts.layers import Indices, Intermediates
from fastclip.models.parts.locking import Group, lock_groups
from fastclip.models.towers.image_config import Positions


class ImageTower(nn.Module):
    """Base of the towers that map (B, channels, height, width) images to (B, output_dim).

    Attributes:
        positions: the learned embeddings of the places, as in the configuration.
        grid_size: rows and columns of its patches.
        output_tokens: whether a call returns (features, tokens), where the tower has tokens.
        in_one_dtype: whether its layers need all parameters in one dtype, so that gains have the
            dtype of the matrices.
    """

    positions: Positions | None = None
    grid_size: tuple[int, int]
    in_one_dtype: ClassVar[bool] = False

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
        """The side of square images, or (height, width) of others; the name is OpenAI's."""
        height, width = self.image_size
        return height if height == width else (height, width)

    def groups(self) -> list[Group]:
        """Return the tower's layers from the pixels to the features, grouped as in open_clip."""
        raise NotImplementedError

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only each layer's input, and compute the rest again in the backward pass."""
        raise NotImplementedError

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze all but the last `unlocked_groups` of `groups()`.

        Args:
            unlocked_groups: how many groups are trained.
            freeze_bn_stats: whether to stop the running statistics of batch normalisation; a tower
                without batch normalisation ignores it.

        Raises:
            ValueError: the tower has fewer groups.
        """
        lock_groups(self.groups(), unlocked_groups)

    def patch_tokens(
        self,
        images: Tensor,
        layer: int | None = None,
        norm: bool | None = None,
        positions: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return a token for each patch, before the tower pools them to one feature per image.

        A captioner, a language model or a segmentation reads an image place by place from them. The
        tokens are not projected, and gradients flow through them. By default they are the tokens
        that the tower's own readout sees. In training, patch dropout leaves fewer of them.

        Args:
            images: (B, channels, height, width), floating-point.
            layer: the layer whose output is returned, counted from 0 or, if negative, from the end,
                as in `forward_intermediates`; later layers are not computed. Language models read
                the last layer but one: `layer=-2, norm=False` is `hidden_states[-2][:, 1:]` of
                transformers' CLIPVisionModel, and `layer=i` its `hidden_states[i + 1]`.
            norm: whether the tokens go through the tower's last normalisation; None does what the
                tower's own readout does.
            positions: whether to return the places of the patches, too.

        Returns:
            (B, rows * columns, width) tokens in the dtype of the tower's matrices, row by row of
            its `grid_size`; with `positions` also (rows * columns, 2) int64, the row and the column
            of each. A layer of a ResNet has the rows and columns of its feature map.

        Raises:
            ValueError: `images` is not (B, channels, *image_size), there is no such layer, the
                tower has no last normalisation, or `positions` is set and patch dropout left out
                patches.
            TypeError: `images` is not floating-point.

        Example:
            tokens = model.visual.patch_tokens(images)
            maps = tokens.unflatten(1, model.visual.grid_size)  # (B, rows, columns, width)
            for_llm, places = model.visual.patch_tokens(images, -2, norm=False, positions=True)
        """
        raise NotImplementedError(f"{type(self).__name__} has no patch_tokens")

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Indices = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: str = "NCHW",
        output_extra_tokens: bool = False,
    ) -> Intermediates:
        """Return the outputs of the tower's layers, like open_clip's method of the same name.

        Args:
            x: (B, channels, height, width) images, floating-point.
            indices: a number n for the last n layers, or the numbers of layers, counted from 0 or,
                if negative, from the end; None for all. The layers are the tower's blocks; in a
                ResNet, they are the stem and the four stages.
            stop_early: whether to skip the layers after the last one that is asked for. Features
                are then read out of that layer, as in open_clip.
            normalize_intermediates: whether the intermediates go through the tower's last
                normalisation.
            intermediates_only: whether to return no features.
            output_fmt: "NCHW" for maps, "NLC" for tokens.
            output_extra_tokens: whether to return the tokens that belong to no patch, too, if the
                tower has any.

        Returns:
            a dict of

            - `image_intermediates`: for each layer, in the order of the layers, (B, width, rows,
              columns) or (B, rows * columns, width);
            - `image_intermediates_prefix`, with `output_extra_tokens` and in a tower with class
              tokens: for each layer (B, number of class tokens, width);
            - `image_features`, unless `intermediates_only`: (B, output_dim), not normalised.

        Raises:
            ValueError: `x` is not (B, channels, *image_size), there is no such layer or format,
                patch dropout left too few tokens for a map, the tower has no last normalisation, or
                its features cannot be read out of the layer where it stopped.
            TypeError: `x` is not floating-point, or a module that replaced the transformer does not
                show what its layers return.

        Example:
            found = model.visual.forward_intermediates(images, indices=[5, -2])
            middle, last_but_one = found["image_intermediates"]
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward_intermediates")

    def become_sequence_first(self) -> None:
        """Switch the tower's inside to OpenAI's layout, (T, B, width), if the tower has both."""

    def has_own_positions(self) -> bool:
        """Return whether the tower still has the positions of `image_size`.

        Code that works on the tower may have resized or removed them.
        """
        if self.positions is None:
            return True
        table = self
        for part in self.positions.name.split("."):
            table = getattr(table, part, None)
        num_places = self.positions.num_before + math.prod(self.grid_size)
        return table is not None and table.shape[-2] == num_places

    def require_images(self, images: Tensor) -> None:
        if torch.jit.is_tracing() or isinstance(images, Proxy):
            return  # a recorded graph keeps no checks
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
                f"images must be floating-point, got {images.dtype}: standardize the pixels first"
            )
