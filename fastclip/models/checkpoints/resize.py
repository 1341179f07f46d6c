"""Resizing position embeddings for another image size or another text length.

    images     the grid is interpolated bicubically (TIPS: bilinearly) with anti-aliasing; the
               position of a class token is kept
    texts      the positions are interpolated linearly along the text

Source: Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.2. The filters are open_clip's, so a
resized model agrees with one that open_clip has resized.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.towers.image_config import Positions

TEXT_POSITIONS = ("positional_embedding", "text.positional_embedding")


def resize_positions(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return `tensors` with position embeddings of the size that `model` has.

    Raises:
        CheckpointError: the width or another dimension differs, or the stored grid is not square.
    """
    own = model.state_dict()
    resized = dict(tensors)
    of_images = _image_positions(model)
    for name in (*of_images, *TEXT_POSITIONS):
        if name in tensors and name in own and tensors[name].shape != own[name].shape:
            before, now = tuple(tensors[name].shape), tuple(own[name].shape)
            if len(before) != len(now) or before[:-2] != now[:-2] or 0 in before:
                raise CheckpointError(
                    f"{name} has shape {before} in the weights and {now} in the model: only the "
                    "number of positions can be resized"
                )
            if before[-1] != now[-1]:
                raise CheckpointError(
                    f"{name} has width {before[-1]} in the weights and {now[-1]} in the model: "
                    "only the number of positions can be resized"
                )
            if name in of_images:
                grid_size = model.visual.grid_size
                resized[name] = _resize_grid(tensors[name], grid_size, of_images[name])
            else:
                resized[name] = _resize_line(tensors[name], len(own[name]))
    return resized


def _image_positions(model: nn.Module) -> dict[str, Positions]:
    """Return the image tower's positions by name in the model; empty if it has no grid of them."""
    positions = getattr(getattr(model, "visual", None), "positions", None)
    return {} if positions is None else {f"visual.{positions.name}": positions}


def _resize_grid(positions: Tensor, grid_size: tuple[int, int], what: Positions) -> Tensor:
    """Resize (num_before + side^2, width) positions, maybe with a leading dimension of size 1.

    The result has (num_before + rows * columns, width) positions and the same leading dimension.
    """
    leading = positions.shape[:-2]
    positions = positions.reshape(positions.shape[-2:])
    prefix, grid = positions[: what.num_before], positions[what.num_before :]
    side = math.isqrt(len(grid))
    if side < 1 or side * side != len(grid):
        raise CheckpointError(
            f"a grid of {len(grid)} positions is not square: only square grids can be resized"
        )
    image = grid.T.reshape(1, -1, side, side).float()
    image = F.interpolate(image, grid_size, mode=what.interpolation, antialias=True)
    resized = torch.cat([prefix, image[0].flatten(1).T.to(positions.dtype)])
    return resized.reshape(*leading, *resized.shape)


def _resize_line(positions: Tensor, length: int) -> Tensor:
    """Resize (T, width) positions to (length, width)."""
    line = F.interpolate(positions.T[None].float(), length, mode="linear")
    return line[0].T.to(positions.dtype).contiguous()
