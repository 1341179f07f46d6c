"""Places of an image's patches: tokens as maps, and the row and the column of each."""

import torch
from torch import Tensor

OUTPUT_FORMATS = ("NCHW", "NLC")


def as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, rows * columns, width) tokens as (B, width, rows, columns), contiguous.

    Raises:
        ValueError: there are fewer tokens than places.
    """
    require_whole(tokens, grid)
    return tokens.unflatten(1, grid).permute(0, 3, 1, 2).contiguous()


def as_tokens(feature_map: Tensor) -> Tensor:
    """(B, width, rows, columns) to (B, rows * columns, width)."""
    return feature_map.flatten(2).transpose(1, 2)


def positions_of(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """The (rows * columns, 2) int64 row and column of each of (B, rows * columns, width) tokens.

    Raises:
        ValueError: there are fewer tokens than places.
    """
    require_whole(tokens, grid)
    rows, columns = (torch.arange(side, device=tokens.device) for side in grid)
    return torch.cartesian_prod(rows, columns)


def require_whole(tokens: Tensor, grid: tuple[int, int]) -> None:
    if tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(
            f"{tokens.shape[1]} tokens are not the {grid[0]} x {grid[1]} patches of the image: "
            "patch dropout leaves some out in training, and where is not known; call eval() first"
        )


def require_format(output_fmt: str) -> None:
    if output_fmt not in OUTPUT_FORMATS:
        raise ValueError(f"output_fmt must be one of {OUTPUT_FORMATS}, got {output_fmt!r}")
