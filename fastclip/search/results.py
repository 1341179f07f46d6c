"""Results of a search, for display and as JSON; near duplicates can be shown once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastclip.embeddings.metadata import Row, without_surrogates
from fastclip.search.calibration import LIMIT, Judgement
from fastclip.search.duplicates import ALIKE, names_of_alike


@dataclass(frozen=True)
class Result:
    """One row that was found.

    Attributes:
        rank: the place among the results; 1 is the best.
        id: the number of the row.
        similarity: the product with the query, which is the cosine for unit vectors.
        z, expected_chance_hits, p_value: see `calibration`; None if not known.
        stands_out: whether the result stands out from chance; None if that is not known.
        alike: the number of near duplicates that this result represents, itself included.
        metadata: the columns of the row, such as `image_path` and `caption`.
    """

    rank: int
    id: int
    similarity: float
    z: float | None = None
    expected_chance_hits: float | None = None
    p_value: float | None = None
    stands_out: bool | None = None
    alike: int = 1
    metadata: Row = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as values of strict JSON, with clip-retrieval's keys.

        The columns of the row are added to the result's own fields; a column with the name of a
        field is called `metadata_NAME`. Numbers that are not finite become None, and other values
        that JSON does not have become text.
        """
        names = ("rank", "id", "similarity", "z", "expected_chance_hits", "p_value")
        values = {
            name: strict_json(getattr(self, name)) for name in (*names, "stands_out", "alike")
        }
        for column, value in self.metadata.items():
            name = without_surrogates(column)
            while name in values:
                name = f"metadata_{name}"
            values[name] = strict_json(value)
        return values


def name_of(row: Row, number: int) -> str:
    """Return one name for a row: its path, or else its caption, its key or its number."""
    return str(row.get("image_path") or row.get("caption") or row.get("key") or f"row {number}")


def results_of(
    rows: np.ndarray,
    scores: np.ndarray,
    judgement: Judgement,
    metadata: Sequence[Row],
    limit: float = LIMIT,
) -> list[Result]:
    """Return the results of one query.

    Args:
        rows, scores: (k,), best first, as `search` returns them for one query.
        judgement: the calibration of these scores.
        metadata: the metadata of these rows.
        limit: see `Judgement.stands_out`.

    Example:
        >>> found = search(query[None], images, top=10)
        >>> rows, scores = found.rows[0], found.scores[0]
        >>> judgement = judge(query, scores, images.moments)
        >>> results_of(rows, scores, judgement, embeddings.metadata(rows))
    """
    none = [None] * len(rows)
    columns = [judgement.z, judgement.expected_hits, judgement.p_values]
    columns.append(judgement.stands_out(limit))
    known = zip(*(none if column is None else column.tolist() for column in columns), strict=True)
    return [
        Result(rank, row, score, *values, metadata=own)
        for rank, (row, score, values, own) in enumerate(
            zip(rows.tolist(), scores.tolist(), known, metadata, strict=True), start=1
        )
    ]


def shown_once(
    results: Sequence[Result], vectors: np.ndarray, threshold: float = ALIKE
) -> list[Result]:
    """Return the best of each group of near duplicates among results, with the size of the group.

    Args:
        results: results, best first; the returned ones get new ranks.
        vectors: (k, D) float32, the results' vectors: `images.rows([r.id for r in results])`.
        threshold: see `duplicates`.

    Raises:
        ValueError: there is not one vector per result; or see `duplicates`.
    """
    if len(vectors) != len(results):
        raise ValueError(
            f"there must be one vector per result, got {len(vectors)} for {len(results)} results"
        )
    if not results:
        return []
    names, _ = names_of_alike(vectors, threshold)
    firsts, sizes = np.unique(names, return_counts=True)
    return [
        Result(**(vars(results[first]) | {"rank": rank, "alike": size}))
        for rank, (first, size) in enumerate(zip(firsts.tolist(), sizes.tolist(), strict=True), 1)
    ]


def headline(results: Sequence[Result], judgement: Judgement) -> str:
    """Return a sentence that says whether there is a match.

    Example:
        >>> headline(results, judgement)
        '3 results stand out from chance'
    """
    if judgement.used is None:
        return judgement.why_not or "scores are not calibrated"
    count = sum(bool(result.stands_out) for result in results)
    if count == 0:
        return "nothing stands out from chance"
    return f"{count} result{'s stand' if count > 1 else ' stands'} out from chance"


def strict_json(value: Any) -> Any:
    """Convert a value to strict JSON in UTF-8.

    Numbers that are not finite become None, and other values that JSON does not have become text. A
    lone surrogate in a text or in a key becomes its escape, `\\ud800`.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {without_surrogates(str(key)): strict_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [strict_json(part) for part in value]
    return without_surrogates(str(value))
