"""A folder of embeddings and its model, opened to be asked: by the commands and by the server."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.side import Side
from fastclip.models.inference import InferenceModel
from fastclip.search.approximate.faiss_index import FaissIndex, has_index, open_index
from fastclip.search.approximate.search import approximate_search
from fastclip.search.best import Found
from fastclip.search.calibration import CaptionNull, Judgement, judge
from fastclip.search.corpus import Vectors, side_of
from fastclip.search.encoding import vectors_of_images, vectors_of_texts
from fastclip.search.exact import search
from fastclip.search.fingerprint import StaleIndex
from fastclip.search.prepared import Prepared, open_prepared
from fastclip.search.query import IMAGE, ROW, TEXT, Part, QueryError, combined
from fastclip.search.results import Result, headline, results_of, shown_once

OVER = {"images": "img", "texts": "text"}
MORE = 4  # times as many are looked at where near duplicates are shown once
MOST_ALIKE = 10_000  # results that are compared with each other for that


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found for one query.

    Attributes:
        results: best first.
        headline: one sentence: how many results stand out from chance, or why that is not known.
        judged_by: "captions", "normal", or None of scores that are not calibrated.
    """

    results: list[Result]
    headline: str
    judged_by: str | None


@dataclass(frozen=True, eq=False)
class Searcher:
    """Answers queries about one side of embeddings.

    Attributes:
        embeddings: what is searched.
        side: its vectors of images, or of texts.
        ready: the model that encodes queries; None if only rows are asked for.
        prepared: what `fastclip index` has computed; None if it has not run.
        approximate: an index of FAISS that proposes candidates; None of exact search.

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
        """What is searched: the vectors, or what they were converted to."""
        has_own = self.prepared is not None and self.prepared.vectors is not None
        return self.prepared.vectors if has_own else self.side

    def vectors_of(self, queries: Sequence[Sequence[Part]]) -> np.ndarray:
        """Return the (Q, D) unit vectors of queries; texts and images are encoded together.

        Raises:
            QueryError: a query is empty, an image cannot be read, there is no such row, a query
                cancels, or there is no model to encode it.
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
        """Return the best results of each query, of which the vectors are read once for all.

        Args:
            top: how many results, at least 1.
            alike: the cosine from which on two are near duplicates, of which the best is shown.
            min_z: leave out results of a lower z.

        Raises:
            QueryError: see `vectors_of`; or `min_z` is given and scores cannot be calibrated.
            ValueError: a number is out of its range.
        """
        return self.answers_of(
            self.vectors_of(queries), top, alike=alike, min_z=min_z,
            of_texts=[all(part.kind == TEXT for part in query) for query in queries],
        )  # fmt: skip

    def answers_of(
        self, queries: np.ndarray, top: int = 10, *,
        alike: float | None = None, min_z: float | None = None,
        of_texts: Sequence[bool] | None = None,
    ) -> list[Answer]:  # fmt: skip
        """Return the best results of (Q, D) float32 vectors; see `answers`.

        Args:
            of_texts: which queries are of texts alone, and so comparable with captions; by default
                none.
        """
        of_texts = [False] * len(queries) if of_texts is None else of_texts
        wanted = top if alike is None else MORE * top
        found = self._search(queries, wanted)
        answers = []
        for query, rows, scores, is_of_texts in zip(
            queries, found.rows, found.scores, of_texts, strict=True
        ):
            captions = self.prepared.captions if self.prepared and is_of_texts else None
            judgement, results = self._judged(query, rows, scores, captions)
            if alike is not None:
                once = self._once(results, alike)
                while len(once) < top and len(results) < min(len(self.side), MOST_ALIKE):
                    more = self._search(query[None], MORE * len(results))
                    if len(more.rows[0]) == len(results):
                        break  # all others are unusable
                    judgement, results = self._judged(query, more.rows[0], more.scores[0], captions)
                    once = self._once(results, alike)
                results = once
            answers.append(self._answer(results[:top], judgement, min_z))
        return answers

    def _search(self, queries: np.ndarray, top: int) -> Found:
        if self.approximate is None:
            return search(queries, self.vectors, top)
        return approximate_search(queries, self.vectors, self.approximate, top)

    def _judged(
        self, query: np.ndarray, rows: np.ndarray, scores: np.ndarray, captions: CaptionNull | None
    ) -> tuple[Judgement, list[Result]]:
        judgement = judge(query, scores, self.side.moments, captions)
        return judgement, results_of(rows, scores, judgement, [{}] * len(rows))

    def _once(self, results: list[Result], alike: float) -> list[Result]:
        return shown_once(results, self.side.rows([result.id for result in results]), alike)

    def _answer(self, results: list[Result], judgement: Judgement, min_z: float | None) -> Answer:
        if min_z is not None:
            if judgement.z is None:
                raise QueryError(f"a least z cannot be applied: {judgement.why_not}")
            results = [result for result in results if result.z >= min_z]
        rows = self.embeddings.metadata([result.id for result in results])
        told = [replace(result, metadata=row) for result, row in zip(results, rows, strict=True)]
        return Answer(told, headline(told, judgement), judgement.used)

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
                f"vectors of {self.ready.name} have {vectors.shape[1]} entries, and those that are "
                f"searched have {self.side.dim}"
            )
        return vectors


def is_like_a_caption(query: Sequence[Part]) -> bool:
    """Whether a query may be compared with captions: it is one text, which is added."""
    return len(query) == 1 and query[0].kind == TEXT and query[0].weight > 0


def open_searcher(
    embeddings: Embeddings,
    ready: InferenceModel | None = None,
    over: str | None = None,
    *,
    exact: bool = False,
) -> Searcher:
    """Open the side of embeddings that is to be searched, with what `fastclip index` has computed.

    Args:
        ready: the model that made the vectors.
        over: "images" or "texts"; by default images, or texts if there are no images.
        exact: look at all vectors, also if there is an approximate index.

    Raises:
        ModuleNotFoundError: there is an index of FAISS, and FAISS is not installed.
        StaleIndex: what was computed is of other vectors, or captions are of another model.
        ValueError: there is no such side, or the vectors are of another model.
    """
    side = chosen_side(embeddings, over)
    known = embeddings.manifest and embeddings.manifest.model
    if ready is not None and known and (objection := known.objection_to(ready)):
        raise ValueError(f"{embeddings.folder} cannot be searched with {ready.name}: {objection}")
    prepared = open_prepared(embeddings, side)
    if prepared is not None and ready is not None and (objection := prepared.objection_to(ready)):
        raise StaleIndex(f"{objection}: run `fastclip index` again")
    approximate = None
    if not exact and has_index(embeddings, side.name):
        approximate = open_index(embeddings, side.name)
    if prepared is not None and prepared.moments is not None:
        side = replace(side, known_moments=prepared.moments)
    return Searcher(embeddings, side, ready, prepared, approximate)


def chosen_side(embeddings: Embeddings, over: str | None = None) -> Side:
    """Return the vectors of "images" or "texts"; by default images, or texts if there are none.

    Raises:
        ValueError: there is no such side, or no vector at all.
    """
    if over is not None and over not in OVER:
        raise ValueError(f"over must be one of {tuple(OVER)}, got {over!r}")
    if over is None:
        over = "texts" if embeddings.images is None else "images"
    return side_of(embeddings, OVER[over])
