"""Answer queries about a folder of embeddings with its model, for the commands and the server."""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.side import Side
from fastclip.models.inference import InferenceModel
from fastclip.search.approximate.faiss_index import FaissIndex, has_index, open_index
from fastclip.search.approximate.search import approximate_search
from fastclip.search.best import Found
from fastclip.search.calibration import CaptionNull, Judgement, judge
from fastclip.search.corpus import CALLED, Vectors, side_of
from fastclip.search.encoding import vectors_of_images, vectors_of_texts
from fastclip.search.exact import search
from fastclip.search.fingerprint import StaleIndex
from fastclip.search.prepared import Prepared, open_prepared
from fastclip.search.query import IMAGE, ROW, TEXT, Part, QueryError, combined
from fastclip.search.results import Result, headline, results_of, shown_once

OVER = {called: side for side, called in CALLED.items()}
MORE = 4  # times as many rows are searched for if near duplicates are shown once
TOO_MANY = "the best {:,} rows are near duplicates of these; no more rows were compared"
MOST_ALIKE = 10_000  # rows that are compared with each other to find near duplicates


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer to one query.

    Attributes:
        results: the results, best first.
        headline: one sentence: how many results stand out from chance, or why that is not known.
        judged_by: "captions" or "normal", the method of calibration; None if the scores are not
            calibrated.
        note: why there are fewer results than requested although there are more rows, or None.
    """

    results: list[Result]
    headline: str
    judged_by: str | None
    note: str | None = None


@dataclass(frozen=True, eq=False)
class Searcher:
    """Answers queries about one side of embeddings.

    Attributes:
        embeddings: the embeddings that are searched.
        side: the vectors of their images, or of their texts.
        ready: the model that encodes queries; None if all parts of queries are rows.
        prepared: what `fastclip index` has computed; None if it has not run.
        approximate: a FAISS index that proposes candidates; None for exact search.

    Example:
        >>> searcher = open_searcher(open_embeddings("embeddings"), open_model("logs/my-run"))
        >>> answer = searcher.answer([Part("a red car"), Part("a person", -0.5)], top=3)
        >>> answer.headline, answer.results[0].metadata["image_path"]
        ('2 results stand out from chance', 'cars/7.jpg')
    """

    embeddings: Embeddings
    side: Side
    ready: InferenceModel | None = None
    prepared: Prepared | None = None
    approximate: FaissIndex | None = None

    @functools.cached_property
    def vectors(self) -> Vectors:
        """The vectors that are searched: the side's own, or their copy in float32."""
        has_own = self.prepared is not None and self.prepared.vectors is not None
        return self.prepared.vectors if has_own else self.side

    def vectors_of(self, queries: Sequence[Sequence[Part]]) -> np.ndarray:
        """Return the (Q, D) unit vectors of queries, encoding the texts and images of all together.

        Raises:
            QueryError: a query is empty, an image cannot be read, there is no such row, the parts
                of a query cancel each other, or there is no model to encode it.
        """
        parts = [part for query in queries for part in query]
        found = np.zeros((len(parts), self.side.dim), np.float32)
        for kind in (TEXT, IMAGE, ROW):
            own = [number for number, part in enumerate(parts) if part.kind == kind]
            if own:
                found[own] = self._encode(kind, [parts[number].value for number in own])
        vectors = np.empty((len(queries), self.side.dim), np.float32)
        start = 0
        for number, query in enumerate(queries):
            vectors[number] = combined(found[start : start + len(query)], query)
            start += len(query)
        return vectors

    def answer(
        self, query: Sequence[Part], top: int = 10, *,
        alike: float | None = None, min_z: float | None = None,
    ) -> Answer:  # fmt: skip
        """Return the best results of one query; see `answers`."""
        return self.answers([query], top, alike=alike, min_z=min_z)[0]

    def answers(
        self, queries: Sequence[Sequence[Part]], top: int = 10, *,
        alike: float | None = None, min_z: float | None = None,
    ) -> list[Answer]:  # fmt: skip
        """Return the best results of each query; the vectors are read once for all queries.

        Rows that are parts of a query are not among its results.

        Args:
            queries: the parts of each query.
            top: how many results to return, at least 1.
            alike: the cosine from which two results are near duplicates; only the best of a group
                of near duplicates is returned. None returns all.
            min_z: leave out results with a lower z.

        Raises:
            QueryError: see `vectors_of`; or `min_z` is given but scores cannot be calibrated.
            ValueError: a number is out of range.
        """
        return self.answers_of(
            self.vectors_of(queries), top, alike=alike, min_z=min_z,
            queries=queries,
        )  # fmt: skip

    def answers_of(
        self, vectors: np.ndarray, top: int = 10, *,
        alike: float | None = None, min_z: float | None = None,
        queries: Sequence[Sequence[Part]] | None = None,
    ) -> list[Answer]:  # fmt: skip
        """Return the best results of (Q, D) float32 vectors; see `answers`.

        Args:
            vectors: (Q, D) float32, the vectors of the queries.
            top, alike, min_z: see `answers`.
            queries: the parts of each query, () for a vector whose parts are not known; by default
                no parts are known.
        """
        if alike is not None and top > MOST_ALIKE:
            raise ValueError(
                f"top must be at most {MOST_ALIKE:,} if near duplicates are shown once, got {top:,}"
            )
        queries = [()] * len(vectors) if queries is None else queries
        wanted = top + max(map(len, map(rows_of, queries)), default=0)
        found = self._search(vectors, wanted if alike is None else min(MORE * wanted, MOST_ALIKE))
        answers = []
        for vector, rows, scores, query in zip(
            vectors, found.rows, found.scores, queries, strict=True
        ):
            captions = self.prepared and is_like_a_caption(query) and self.prepared.captions
            judged = functools.partial(self._judged, vector, captions or None, rows_of(query))
            judgement, results, note = *judged(rows, scores), None
            if alike is not None:
                judgement, results, note = self._distinct(vector, judged, rows, scores, top, alike)
            answers.append(self._answer(results[:top], judgement, min_z, note))
        return answers

    def _search(self, queries: np.ndarray, top: int) -> Found:
        if self.approximate is None:
            return search(queries, self.vectors, top)
        return approximate_search(queries, self.vectors, self.approximate, top)

    def _judged(
        self, query: np.ndarray, captions: CaptionNull | None, own: Collection[int],
        rows: np.ndarray, scores: np.ndarray,
    ) -> tuple[Judgement, list[Result]]:  # fmt: skip
        others = ~np.isin(rows, list(own))
        rows, scores = rows[others], scores[others]
        judgement = judge(query, scores, self.side.moments, captions)
        return judgement, results_of(rows, scores, judgement, [{}] * len(rows))

    def _distinct(
        self, query: np.ndarray, judged: Callable[..., tuple[Judgement, list[Result]]],
        rows: np.ndarray, scores: np.ndarray, top: int, alike: float,
    ) -> tuple[Judgement, list[Result], str | None]:  # fmt: skip
        """Search for more and more rows until enough results are not near duplicates."""
        while True:
            judgement, results = judged(rows, scores)
            vectors = self.side.rows([result.id for result in results])
            once = shown_once(results, vectors, alike)
            if len(once) >= top or len(rows) in (0, len(self.side)):
                return judgement, once, None
            if len(rows) >= MOST_ALIKE:
                return judgement, once, TOO_MANY.format(len(rows))
            more = self._search(query[None], min(MORE * len(rows), MOST_ALIKE))
            if len(more.rows[0]) == len(rows):  # all others are unusable
                return judgement, once, None
            rows, scores = more.rows[0], more.scores[0]

    def _answer(
        self, results: list[Result], judgement: Judgement, min_z: float | None, note: str | None
    ) -> Answer:
        if min_z is not None:
            if judgement.z is None:
                raise QueryError(f"a minimum z cannot be applied, because {judgement.why_not}")
            results = [result for result in results if result.z >= min_z]
        rows = self.embeddings.metadata([result.id for result in results])
        told = [replace(result, metadata=row) for result, row in zip(results, rows, strict=True)]
        return Answer(told, headline(told, judgement), judgement.used, note)

    def _encode(self, kind: str, values: Sequence[str | bytes | int]) -> np.ndarray:
        if kind == ROW:
            try:
                return self.side.rows(values)
            except IndexError as error:
                raise QueryError(str(error)) from None
        if self.ready is None:
            raise QueryError(f"a query with {kind}s needs the model that made the vectors")
        encode = vectors_of_texts if kind == TEXT else vectors_of_images
        vectors = encode(self.ready, values)
        if vectors.shape[1] != self.side.dim:
            raise QueryError(
                f"vectors of {self.ready.name} have {vectors.shape[1]} entries, but the vectors "
                f"that are searched have {self.side.dim}; give the model that made them"
            )
        return vectors


def rows_of(query: Sequence[Part]) -> set[int]:
    """Return the rows that are parts of a query."""
    return {part.value for part in query if part.kind == ROW}


def is_like_a_caption(query: Sequence[Part]) -> bool:
    """Return whether a query can be compared with captions, because it is a single, added text.

    A sum of two texts, or the opposite of one, lies elsewhere in the space of text vectors, so that
    its best match is not comparable with the best matches of captions.
    """
    return len(query) == 1 and query[0].kind == TEXT and query[0].weight > 0


def open_searcher(
    embeddings: Embeddings,
    ready: InferenceModel | None = None,
    over: str | None = None,
    *,
    exact: bool = False,
) -> Searcher:
    """Open one side of embeddings for search, along with what `fastclip index` has computed.

    Args:
        embeddings: the embeddings to search.
        ready: the model that made the vectors; None if all parts of queries will be rows.
        over: "images" or "texts"; by default images, or texts if there are no images.
        exact: search all vectors even if there is an approximate index.

    Raises:
        ModuleNotFoundError: there is a FAISS index, but FAISS is not installed.
        StaleIndex: the index belongs to other vectors, or its captions to another model.
        ValueError: there is no such side, or another model made the vectors.

    Example:
        >>> searcher = open_searcher(open_embeddings("embeddings"), open_model("logs/my-run"))
        >>> searcher.answer(parse_words(["a", "red", "car"]), top=3).headline
        '2 results stand out from chance'
    """
    side = chosen_side(embeddings, over)
    known = embeddings.manifest and embeddings.manifest.model
    if ready is not None and known and (objection := known.objection_to(ready)):
        raise ValueError(f"{embeddings.folder} cannot be searched with {ready.name}: {objection}")
    prepared = open_prepared(embeddings, side)
    if prepared is not None and ready is not None and (objection := prepared.objection_to(ready)):
        raise StaleIndex(f"{objection}; run `fastclip index` again")
    approximate = None
    if not exact and has_index(embeddings, side.name):
        approximate = open_index(embeddings, side.name)
    if prepared is not None and prepared.moments is not None:
        side = replace(side, known_moments=prepared.moments)
    return Searcher(embeddings, side, ready, prepared, approximate)


def chosen_side(embeddings: Embeddings, over: str | None = None) -> Side:
    """Return the vectors of "images" or "texts"; by default images, or texts if there are none.

    Raises:
        ValueError: there is no such side, or it has no vectors.
    """
    if over is not None and over not in OVER:
        raise ValueError(f"over must be one of {tuple(OVER)}, got {over!r}")
    if over is None:
        over = "texts" if embeddings.images is None else "images"
    return side_of(embeddings, OVER[over])
