"""The `mlp_ratio` of a configuration, found from the hidden width of an MLP."""

import math


def mlp_ratio(hidden_width: int, width: int) -> float:
    """Return the shortest decimal whose product with `width`, rounded down, is `hidden_width`.

    Raises:
        ValueError: there is no such number of at most 15 decimals.
    """
    for digits in range(16):
        ratio = math.ceil(hidden_width / width * 10**digits) / 10**digits
        if int(width * ratio) == hidden_width:
            return ratio
    raise ValueError(f"no mlp_ratio gives an MLP of hidden width {hidden_width} at width {width}")
