"""Conversion between tokens and maps of an image's patches, and the places of the patches."""

import torch
from torch import Tensor

OUTPUT_FORMATS = ("NCHW", "NLC")


def as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Turn (B, rows * columns, width) tokens into a contiguous (B, width, rows, columns) map.

    Raises:
        ValueError: there are fewer tokens than places.
    """
    require_whole(tokens, grid)
    return tokens.unflatten(1, grid).permute(0, 3, 1, 2).contiguous()


def as_tokens(feature_map: Tensor) -> Tensor:
    """Turn a (B, width, rows, columns) map into (B, rows * columns, width) tokens."""
    return feature_map.flatten(2).transpose(1, 2)


def positions_of(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the (rows * columns, 2) int64 rows and columns of (B, rows * columns, width) tokens.

    Raises:
        ValueError: there are fewer tokens than places.
    """
    require_whole(tokens, grid)
    rows, columns = (torch.arange(side, device=tokens.device) for side in grid)
    return torch.cartesian_prod(rows, columns)


def require_whole(tokens: Tensor, grid: tuple[int, int]) -> None:
    if tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(
            f"{tokens.shape[1]} tokens cannot be placed on the {grid[0]} x {grid[1]} patches of "
            "the image: patch dropout left some patches out in training, and the places of the "
            "others are not known; call eval() first"
        )


def require_format(output_fmt: str) -> None:
    if output_fmt not in OUTPUT_FORMATS:
        raise ValueError(f"output_fmt must be one of {OUTPUT_FORMATS}, got {output_fmt!r}")
