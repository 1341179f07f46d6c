"""What all image towers share: the images they take, and which of their layers are trained."""

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
        positions: those of its configuration.
        grid_size: rows and columns of its patches.
        output_tokens: return (features, tokens), where the tower has tokens.
        in_one_dtype: its layers do not convert between dtypes, so that gains are in that of the
            matrices.
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

    def patch_tokens(
        self,
        images: Tensor,
        layer: int | None = None,
        norm: bool | None = None,
        positions: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return what the tower knows of each patch, before it is pooled to one feature per image.

        For what reads an image place by place: a captioner, a language model, a segmentation.
        The tokens are not projected, and gradients flow through them. By default they are those
        that the tower's own readout sees. In training, patch dropout leaves fewer of them.

        Args:
            images: (B, channels, height, width), floating-point.
            layer: which layer's output is read, counted from 0 or, if negative, from the end, as
                in `forward_intermediates`; what comes behind it is not computed. Language models
                read the last but one: `layer=-2, norm=False` is `hidden_states[-2][:, 1:]` of
                transformers' CLIPVisionModel, and `layer=i` its `hidden_states[i + 1]`.
            norm: whether the tokens go through the tower's last normalisation; None for whether
                the readout's do.
            positions: return also where the patches are.

        Returns:
            (B, rows * columns, width) tokens in the dtype of the tower's matrices, row by row of
            its `grid_size`; with `positions` also (rows * columns, 2) int64, the row and the column
            of each. A layer of a ResNet has the rows and columns of its feature map.

        Raises:
            ValueError: `images` is not (B, channels, *image_size), there is no such layer, the
                tower has no last normalisation, or `positions` are asked for of what patch dropout
                left.
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
        """Return what layers of the tower make of images, as open_clip's method of that name.

        Args:
            x: (B, channels, height, width) images, floating-point.
            indices: a number n for the last n layers, or the numbers of layers, counted from 0 or,
                if negative, from the end; None for all. Layers are blocks, of a ResNet the stem
                and the four stages.
            stop_early: leave out the layers behind the last that is asked for. Features are then
                read out of that layer, as open_clip's are.
            normalize_intermediates: put the intermediates through the tower's last normalisation.
            intermediates_only: return no features.
            output_fmt: "NCHW" for maps, "NLC" for tokens.
            output_extra_tokens: return also the tokens that are of no patch, if the tower has any.

        Returns:
            a dict of

            - `image_intermediates`: for each layer, in the order of the layers, (B, width, rows,
              columns) or (B, rows * columns, width);
            - `image_intermediates_prefix`, with `output_extra_tokens` and of a tower with a class
              token: for each layer (B, 1, width);
            - `image_features`, unless `intermediates_only`: (B, output_dim), not normalised.

        Raises:
            ValueError: `x` is not (B, channels, *image_size), there is no such layer or format,
                patch dropout left too few tokens for a map, or the tower has no last normalisation
                or cannot be read out where it was stopped.
            TypeError: `x` is not floating-point, or what took the transformer's place does not
                tell what its layers return.

        Example:
            found = model.visual.forward_intermediates(images, indices=[5, -2])
            middle, last_but_one = found["image_intermediates"]
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward_intermediates")

    def become_sequence_first(self) -> None:
        """Take OpenAI's layout inside from now on, (T, B, width), if the tower has both."""

    def has_own_positions(self) -> bool:
        """Whether the tower has the positions of `image_size`, not resized or taken away."""
        if self.positions is None:
            return True
        table = self
        for part in self.positions.name.split("."):
            table = getattr(table, part, None)
        num_places = self.positions.num_before + math.prod(self.grid_size)
        return table is not None and table.shape[-2] == num_places

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
