"""Exact search: the rows with the greatest products with each query, block after block.

A product of matrices in float32 finds the candidates, which are few: with a sum of D terms in
float32 no product is wrong by more than D 2^-24 |q| |x|, so that who is further below the last of
the best is none. Candidates are scored again, in float64, and compared as float32. Equal rows then
have equal scores wherever they stand, which a product of matrices does not give, and the order does
not depend on blocks, threads or the library that multiplies.

The product is numpy's: it takes files that are mapped for reading as they are, without a copy, and
no setting of torch makes it less exact.
"""

import numpy as np

from fastclip.search.best import Best, Found, checked_queries, scores_of_pairs
from fastclip.search.corpus import (
    BLOCK_BYTES,
    Vectors,
    blocks_of,
    dim_of,
    files_of,
    lengths_of,
    num_rows,
    rows_of_block,
)

FEW_QUERIES = 8
CACHED_BYTES = 2**20  # of rows that a core keeps while it looks at them twice
UNIT = 2.0**-24  # half the distance of 1 to the next float32


def search(
    queries: np.ndarray, vectors: Vectors, top: int, *, block_rows: int | None = None
) -> Found:
    """Return the rows with the greatest products with each query.

    Beside a mapped file, memory holds a block of it as float32, only if it is stored otherwise;
    the products of a block with as many queries at a time as take 16 MiB; and the candidates.

    Args:
        queries: (Q, D) float32, finite.
        vectors: see `files_of`: a side of opened embeddings, or arrays.
        top: how many rows to find, at least 1.
        block_rows: how many rows are looked at at a time; by default 16 MiB of float32.

    Raises:
        ValueError: shapes do not fit, a query is not finite or longer than 2^60, or a number is
            below 1.

    Example:
        >>> images = open_embeddings("embeddings").images
        >>> found = search(images.rows([5]), images, top=3)
        >>> found.rows  # an image is its own best match
        array([[ 5, 71, 12]])
    """
    files = files_of(vectors)
    queries, lengths = checked_queries(queries, dim_of(files), top)
    size = rows_of_block(files, block_rows)
    best = Best(len(queries), min(top, num_rows(files)))
    step = max(1, BLOCK_BYTES // (4 * size))
    num_unusable = 0
    for first, block in blocks_of(files, size):
        lengths_of_rows = np.empty(len(block), np.float32)
        for start in range(0, max(1, len(queries)), step):
            part = slice(start, start + step)
            near = _products(queries[part], block, lengths_of_rows if start == 0 else None)
            if start == 0:
                unusable = np.flatnonzero(np.isnan(lengths_of_rows))
                num_unusable += len(unusable)
                if len(unusable) == len(block):
                    break
                # Two sums of D terms and the rounding of a score, and as much as lengths may be
                # wrong by.
                factor = 2.1 * (queries.shape[1] + 2) * UNIT * np.nanmax(lengths_of_rows)
                slack = factor * lengths
            near[:, unusable] = -np.inf
            own, rows = _candidates(near, best.last[part], slack[part], best.top)
            scores = scores_of_pairs(queries[part], block, own, rows)
            best.add(own + start, scores, rows + first)
    return best.found(num_rows(files) - num_unusable, num_unusable)


def _products(queries: np.ndarray, block: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """(Q, n) products in float32; writes the lengths of the rows, unless that is None.

    With few queries the time is that of reading the rows: both are then computed of rows that are
    in the cache of a core.
    """
    is_read_once = len(queries) <= FEW_QUERIES
    size = max(1, CACHED_BYTES // (4 * block.shape[1])) if is_read_once else len(block)
    near = np.empty((len(queries), len(block)), np.float32)
    for start in range(0, len(block), size):
        part = slice(start, start + size)
        with np.errstate(invalid="ignore", over="ignore"):
            near[:, part] = queries @ block[part].T
        if lengths is not None:
            lengths[part] = lengths_of(block[part])
    return near


def _candidates(
    near: np.ndarray, last: np.ndarray, slack: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of queries and of rows of a block: all that may be among the best of their query.

    Args:
        near: (Q, n) products in float32, -inf of what is no candidate.
        last: (Q,) the least scores of the best so far.
        slack: (Q,) by how much a product may be too low.
    """
    least = last - slack
    is_candidate = near >= least[:, None]
    if is_candidate.sum() > top * len(near) and near.shape[1] > top:
        # Better than the last so far is much of the block: then only the best of the block.
        place = near.shape[1] - top
        own_last = np.partition(near, place, axis=1)[:, place]
        is_candidate = near >= np.maximum(least, own_last - slack)[:, None]
    own, rows = np.nonzero(is_candidate & (near > -np.inf))
    return own, rows
