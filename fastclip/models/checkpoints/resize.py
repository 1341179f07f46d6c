"""Position embeddings for another image size or another text length.

    images     the grid is interpolated, bicubic and anti-aliased; a class token's stays
    texts      linearly along the text

Source: Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.2; the same filters as open_clip's, so
that a resized model agrees with one that open_clip has resized.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.towers.image_tower import ImageTower
from fastclip.models.towers.table import IMAGE_TOWERS

TEXT_POSITIONS = ("positional_embedding", "text.positional_embedding")


def resize_positions(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return `tensors` with the position embeddings of the size that `model` has.

    Raises:
        CheckpointError: the width differs, or the stored grid is not square.
    """
    own = model.state_dict()
    resized = dict(tensors)
    num_before = _image_positions(model)
    for name in (*num_before, *TEXT_POSITIONS):
        if name in tensors and name in own and tensors[name].shape != own[name].shape:
            before, now = tuple(tensors[name].shape), tuple(own[name].shape)
            if len(before) != len(now) or before[:-2] != now[:-2] or 0 in before:
                raise CheckpointError(f"{name} has shape {before}, the model {now}")
            if before[-1] != now[-1]:
                raise CheckpointError(f"{name} has width {before[-1]}, the model {now[-1]}")
            if name in num_before:
                grid_size = model.visual.grid_size
                resized[name] = _resize_grid(tensors[name], grid_size, num_before[name])
            else:
                resized[name] = _resize_line(tensors[name], len(own[name]))
    return resized


def _image_positions(model: nn.Module) -> dict[str, int]:
    """By name, the tokens before the grid; of every tower where the model says not of which."""
    config, tower = getattr(model, "config", None), getattr(model, "visual", None)
    towers = IMAGE_TOWERS if config is None else [type(config.vision_cfg)]
    if isinstance(tower, ImageTower):
        towers = [tower]
    known = [tower.positions for tower in towers if tower.positions is not None]
    return {f"visual.{positions.name}": positions.num_before for positions in known}


def _resize_grid(positions: Tensor, grid_size: tuple[int, int], num_prefix: int) -> Tensor:
    """(prefix + side^2, width), maybe with a leading 1, to (prefix + rows * columns, width)."""
    leading = positions.shape[:-2]
    positions = positions.reshape(positions.shape[-2:])
    prefix, grid = positions[:num_prefix], positions[num_prefix:]
    side = math.isqrt(len(grid))
    if side < 1 or side * side != len(grid):
        raise CheckpointError(f"a grid of {len(grid)} positions is not square: cannot be resized")
    image = grid.T.reshape(1, -1, side, side).float()
    image = F.interpolate(image, grid_size, mode="bicubic", antialias=True)
    resized = torch.cat([prefix, image[0].flatten(1).T.to(positions.dtype)])
    return resized.reshape(*leading, *resized.shape)


def _resize_line(positions: Tensor, length: int) -> Tensor:
    """(T, width) to (length, width)."""
    line = F.interpolate(positions.T[None].float(), length, mode="linear")
    return line[0].T.to(positions.dtype).contiguous()
