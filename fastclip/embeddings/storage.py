"""How vectors are stored: as float32, as float16, or as int8 with a factor for each vector.

As int8, a vector x has the factor s = max |x| / 127 and the values round(x / s); times s, each is
within s / 2 of x. The largest of D entries of a unit vector is about 4 / sqrt(D): at D = 512 the
step is about 0.0014, and the cosine with a unit query has a standard error of s / sqrt(12), 4e-4.
"""

from typing import NamedTuple

import numpy as np

DTYPES = {"f32": np.float32, "f16": np.float16, "int8": np.int8}
LARGEST_INT8 = 127


class Stored(NamedTuple):
    """Vectors as they are stored.

    Attributes:
        values: (n, D) float32, float16 or int8.
        scales: (n,) float32 factors of int8 vectors; None for other types.
    """

    values: np.ndarray
    scales: np.ndarray | None = None


def to_stored(vectors: np.ndarray, store: str) -> Stored:
    """Return (n, D) float32 vectors as they are stored.

    Args:
        store: a name in `DTYPES`.

    Example:
        >>> to_stored(np.float32([[0.5, -1]]), "int8").values
        array([[  64, -127]], dtype=int8)
    """
    if store != "int8":
        return Stored(vectors.astype(DTYPES[store]))
    scales = (np.abs(vectors).max(axis=1, initial=0) / LARGEST_INT8).astype(np.float32)
    steps = np.where(scales > 0, scales, 1)[:, None]
    values = np.clip(np.rint(vectors / steps), -LARGEST_INT8, LARGEST_INT8)
    return Stored(values.astype(np.int8), scales)


def to_float32(stored: Stored) -> np.ndarray:
    """Return stored vectors as (n, D) float32; a copy, even if they are stored as float32."""
    vectors = stored.values.astype(np.float32)
    return vectors if stored.scales is None else vectors * stored.scales[:, None]
