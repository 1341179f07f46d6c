"""Choose the FAISS index for a number of vectors, as a key of its `index_factory`.

The rule and its bounds are autofaiss's: few vectors are compared one by one; a graph (HNSW) is
taken if memory allows; then lists (IVF) of whole vectors; then lists of compressed ones (PQ).
Scoring the candidates exactly restores the order that compression loses. "np" leaves out an
ordering of codes that takes most of the training time and serves another kind of search.
"""

import math

COMPARED_ONE_BY_ONE, TOO_FEW_FOR_LISTS, WHOLE_IN_LISTS = 1_000, 10_000, 1_000_000
MEMORY = 4 * 2**30
POINTS_PER_LIST = 39  # with fewer, FAISS warns that lists are badly trained
EDGES = range(32, 7, -1)  # neighbours of a vector in a graph
CODES = (128, 64, 32, 16, 8, 4, 2, 1)  # bytes of a compressed vector
ID = 8  # bytes of a row's number in a list


def auto_key(num: int, dim: int, memory: int = MEMORY) -> str:
    """Return the key of the index that suits `num` vectors of `dim` entries.

    Args:
        num: the number of vectors.
        dim: their width.
        memory: how many bytes the index may take.

    Raises:
        ValueError: no index of these vectors fits into `memory`.

    Example:
        >>> auto_key(500_000, 512), auto_key(100_000_000, 512)
        ('HNSW32', 'OPQ32_512,IVF32768_HNSW32,PQ32x8np')
    """
    if num < COMPARED_ONE_BY_ONE:
        return "Flat"
    if num < TOO_FEW_FOR_LISTS:
        return "HNSW15"
    for edges in EDGES:
        if num * (4 * dim + 8 * edges) <= memory:
            return f"HNSW{edges}"
    lists = num_lists(num)
    if num < WHOLE_IN_LISTS and num * (4 * dim + ID) <= memory:
        return f"IVF{lists},Flat"
    for code in CODES:
        if code <= max(1, dim // 4) and num * (code + ID) <= memory:
            return f"OPQ{code}_{dim // code * code},IVF{lists}_HNSW32,PQ{code}x8np"
    raise ValueError(
        f"an index of {num:,} vectors takes at least {num * (1 + ID):,} bytes, but memory is "
        f"{memory:,} bytes"
    )


def num_lists(num: int) -> int:
    """Return a power of two near 4 sqrt(num), such that each list has enough training points."""
    wanted = round(math.log2(4 * math.sqrt(num)))
    most = int(math.log2(num / POINTS_PER_LIST))
    return 2 ** min(wanted, most)
