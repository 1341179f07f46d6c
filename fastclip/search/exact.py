"""Exact search: find the rows with the greatest products with each query, block by block.

A matrix product in float32 finds a few candidates: a sum of D terms in float32 is wrong by at most
D 2^-24 |q| |x|, so that a row that is further below the last of the best rows cannot be among them.
Candidates are scored again in float64, and compared as float32. Equal rows then have equal scores
wherever they are, which a matrix product does not guarantee, and the order does not depend on
blocks, threads or the library that multiplies.

numpy computes the product: it takes read-only mapped files without a copy, and no setting of torch
makes it less exact.
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
CACHED_BYTES = 2**20  # of rows that stay in a core's cache while they are read twice
UNIT = 2.0**-24  # half the distance of 1 to the next float32


def search(
    queries: np.ndarray, vectors: Vectors, top: int, *, block_rows: int | None = None
) -> Found:
    """Return the rows with the greatest products with each query.

    In addition to mapped files, memory holds one block as float32, if the vectors are stored in
    another type; up to 16 MiB of products of a block with queries; and the candidates.

    Args:
        queries: (Q, D) float32, finite.
        vectors: a side of opened embeddings, or arrays (see `files_of`).
        top: how many rows to find, at least 1.
        block_rows: how many rows are processed at a time; by default 16 MiB of float32.

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
                # The errors of two sums of D terms, of the rounding of a score, and of the lengths.
                factor = 2.1 * (queries.shape[1] + 2) * UNIT * np.nanmax(lengths_of_rows)
                slack = factor * lengths
            near[:, unusable] = -np.inf
            own, rows = _candidates(near, best.last[part], slack[part], best.top)
            scores = scores_of_pairs(queries[part], block, own, rows)
            best.add(own + start, scores, rows + first)
    return best.found(num_rows(files) - num_unusable, num_unusable)


def _products(queries: np.ndarray, block: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Return (Q, n) products in float32, and fill `lengths` with the lengths of rows if given.

    With few queries most of the time goes into reading the rows; products and lengths are then
    computed on pieces that fit into the cache of a core.
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
    """Return indices of queries and of rows of a block: all pairs that may be among the best.

    Args:
        near: (Q, n) products in float32, -inf for rows that cannot be candidates.
        last: (Q,) the lowest of the best scores so far.
        slack: (Q,) by how much a product may be too low.
        top: the number of rows to find for each query.
    """
    least = last - slack
    is_candidate = near >= least[:, None]
    if is_candidate.sum() > top * len(near) and near.shape[1] > top:
        # Much of the block beats the last so far, so take only the best of the block.
        place = near.shape[1] - top
        own_last = np.partition(near, place, axis=1)[:, place]
        is_candidate = near >= np.maximum(least, own_last - slack)[:, None]
    own, rows = np.nonzero(is_candidate & (near > -np.inf))
    return own, rows
