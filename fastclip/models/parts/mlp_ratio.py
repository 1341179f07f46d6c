"""From the hidden width of an MLP back to the ratio that a configuration holds."""

import math


def mlp_ratio(hidden_width: int, width: int) -> float:
    """The shortest decimal whose product with `width`, rounded down, is `hidden_width`.

    Raises:
        ValueError: there is none.
    """
    for digits in range(16):
        ratio = math.ceil(hidden_width / width * 10**digits) / 10**digits
        if int(width * ratio) == hidden_width:
            return ratio
    raise ValueError(f"no MLP of a model makes {hidden_width} of {width}")
