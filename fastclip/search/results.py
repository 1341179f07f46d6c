"""What is shown of the rows that were found, as JSON too; near duplicates are shown once."""

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
    """Attributes:
    rank: 1 of the best.
    id: the number of the row.
    similarity: the product with the query, of unit vectors the cosine.
    z, expected_chance_hits, p_value: see `calibration`; None of what is not known.
    stands_out: from chance; None if nothing can be said.
    alike: how many of what was found this result stands for, itself included.
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
        """Return the result as strict JSON has it, with clip-retrieval's keys.

        Columns stand beside the result's own fields; one that has the name of a field is called
        `metadata_NAME`. Of what JSON does not have, numbers that are not finite are None,
        and the rest is its text.
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
    """Return what a row is called where there is place for one name: its path, caption or key."""
    return str(row.get("image_path") or row.get("caption") or row.get("key") or f"row {number}")


def results_of(
    rows: np.ndarray,
    scores: np.ndarray,
    judgement: Judgement,
    metadata: Sequence[Row],
    limit: float = LIMIT,
) -> list[Result]:
    """Return the results of one query from what each step has found.

    Args:
        rows, scores: (k,), best first, as `search` has them for one query.
        judgement: of those scores.
        metadata: of those rows.
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
        results: best first; their ranks are numbered anew.
        vectors: (k, D) float32, those of the results: `images.rows([r.id for r in results])`.
        threshold: see `duplicates`.

    Raises:
        ValueError: as `duplicates`.
    """
    if len(vectors) != len(results):
        raise ValueError(f"{len(results)} results have {len(vectors)} vectors")
    if not results:
        return []
    names, _ = names_of_alike(vectors, threshold)
    firsts, sizes = np.unique(names, return_counts=True)
    return [
        Result(**(vars(results[first]) | {"rank": rank, "alike": size}))
        for rank, (first, size) in enumerate(zip(firsts.tolist(), sizes.tolist(), strict=True), 1)
    ]


def headline(results: Sequence[Result], judgement: Judgement) -> str:
    """Return the sentence that says whether there is a match.

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
    """Return a value as strict JSON in UTF-8 has it: of what that does not have, None or its text.

    A surrogate that stands alone in a text or in a key becomes its escape, `\\ud800`.
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
