"""Checks the ids of queries, documents and hard negatives, by name."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from fastclip.ops.side_ids import SideIds, check_all_ids, side_ids


class RankingIds(NamedTuple):
    """The ids of `fastclip.multiple_negatives_loss`; None where there are none."""

    of_pairs: SideIds | None  # queries and their documents
    hard_negatives: tuple[Tensor | None, ...]

    @property
    def of_queries(self) -> Tensor | None:
        return None if self.of_pairs is None else self.of_pairs.rows

    @property
    def of_documents(self) -> Tensor | None:
        return None if self.of_pairs is None else self.of_pairs.cols

    @property
    def swapped(self) -> SideIds | None:
        """The ids of documents as rows and of queries as columns."""
        return between(self.of_documents, self.of_queries)

    def own_are_same(self, i: int) -> Tensor | None:
        """Return which queries have the id of their row of hard_negatives[i], (B,) bool."""
        ids = between(self.of_queries, self.hard_negatives[i])
        return None if ids is None else ids.rows == ids.cols


def between(rows: Tensor | None, cols: Tensor | None) -> SideIds | None:
    """Return the ids of a rectangle's rows and columns, or None unless both have ids."""
    return None if rows is None or cols is None else SideIds(rows, cols)


def ranking_ids(
    queries: Tensor,
    hard_negatives: Sequence[Tensor],
    ids: Tensor | None,
    query_ids: Tensor | None,
    document_ids: Tensor | None,
    hard_negative_ids: Sequence[Tensor] | None,
) -> RankingIds:
    """Return the ids, checked.

    Raises:
        TypeError, ValueError: as `side_ids`; `hard_negative_ids` is not a sequence, is given
            without the ids of queries, or has not as many entries as there are hard negatives.
    """
    of_pairs = side_ids(queries, ids, query_ids=query_ids, document_ids=document_ids)
    if hard_negative_ids is None:
        return RankingIds(of_pairs, (None,) * len(hard_negatives))
    if not isinstance(hard_negative_ids, Sequence):
        kind = type(hard_negative_ids).__name__
        raise TypeError(f"hard_negative_ids must be a sequence of tensors (B,), got one {kind}")
    if of_pairs is None:
        raise ValueError(
            "hard_negative_ids are compared with the ids of queries: give ids, or query_ids and "
            "document_ids"
        )
    if len(hard_negative_ids) != len(hard_negatives):
        raise ValueError(
            f"hard_negative_ids must be as many as hard_negatives, {len(hard_negatives)}, "
            f"got {len(hard_negative_ids)}"
        )
    named = {"the queries' ids": (of_pairs.rows, queries)}
    for i, (x, features) in enumerate(zip(hard_negative_ids, hard_negatives, strict=True)):
        named[f"hard_negative_ids[{i}]"] = x, features
    check_all_ids(named)
    return RankingIds(of_pairs, tuple(hard_negative_ids))
