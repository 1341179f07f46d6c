"""Questions to the model, and answers to many of them at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from fastclip.models.inference import InferenceModel
from fastclip.search.query import IMAGE, ROW, TEXT, Part, QueryError
from fastclip.search.searcher import Answer, Searcher
from fastclip.serve.apart import apart
from fastclip.serve.batching import Size

Query = tuple[Part, ...]


@dataclass(frozen=True)
class Search:
    """A query for the best results.

    Attributes:
        over: the side to search, "images" or "texts".
        query: the parts of the query; or its vector, (D,) float32, of any length but 0.
        top, alike, min_z: see `Searcher.answers`.
    """

    over: str
    query: Query | np.ndarray
    top: int
    alike: float | None = None
    min_z: float | None = None


@dataclass(frozen=True)
class Embed:
    """A question for the vectors of texts."""

    texts: tuple[str, ...]


class Embedded(NamedTuple):
    """The (n, D) float32 unit vectors of n texts, and the number of their tokens."""

    vectors: np.ndarray
    num_tokens: int


def size_of(question: Search | Embed) -> Size:
    """Return the numbers of images and texts that the model encodes for a question."""
    if isinstance(question, Embed):
        return Size(texts=len(question.texts))
    kinds = [] if isinstance(question.query, np.ndarray) else [part.kind for part in question.query]
    return Size(kinds.count(IMAGE), kinds.count(TEXT))


def answer_all(
    searchers: Mapping[str, Searcher], questions: Sequence[Search | Embed]
) -> list[Answer | Embedded | Exception]:
    """Answer questions together: one pass of the model, and one over the vectors of each side.

    Args:
        searchers: the searchers of "images", "texts" or both.
        questions: the questions.

    Returns:
        For each question its answer or its error; a `QueryError` is the question's own fault.
    """
    found: list[Answer | Embedded | Exception | None] = [None] * len(questions)
    for kind in [*searchers, None]:
        own = [n for n, question in enumerate(questions) if getattr(question, "over", None) == kind]
        if not own:
            continue
        chosen = [questions[number] for number in own]
        if kind is None:
            answers = apart(partial(_embedded, next(iter(searchers.values()))), chosen)
        else:
            answers = _searched(searchers[kind], chosen)
        for number, answer in zip(own, answers, strict=True):
            found[number] = answer
    return found


def _searched(searcher: Searcher, questions: list[Search]) -> list[Answer | Exception]:
    found: list[Answer | Exception | np.ndarray] = _vectors_of_all(searcher, questions)
    # Questions with the same options, such as the number of results, share one pass.
    groups: dict[tuple, list[int]] = {}
    for number, question in enumerate(questions):
        if not isinstance(found[number], Exception):
            options = (question.top, question.alike, question.min_z)
            groups.setdefault(options, []).append(number)
    for own in groups.values():
        asked = [(questions[number], found[number]) for number in own]
        for number, answer in zip(own, apart(partial(_results, searcher), asked), strict=True):
            found[number] = answer
    return found


def _vectors_of_all(searcher: Searcher, questions: list[Search]) -> list[np.ndarray | Exception]:
    """Return the vector of each query, or its error."""
    found: list[np.ndarray | Exception | None] = [None] * len(questions)
    in_words = []
    for number, question in enumerate(questions):
        try:
            if isinstance(question.query, np.ndarray):
                found[number] = _unit(question.query, searcher.side.dim)
            else:
                _require_rows(searcher, question.query)
                in_words.append(number)
        except QueryError as error:
            found[number] = error
    vectors = apart(partial(_vectors_of, searcher), [questions[n].query for n in in_words])
    for number, vector in zip(in_words, vectors, strict=True):
        found[number] = vector
    return found


def _require_rows(searcher: Searcher, query: Query) -> None:
    """Raise QueryError if a row does not exist, before the model encodes other queries."""
    rows = [part.value for part in query if part.kind == ROW]
    try:
        searcher.side.rows(rows)
    except IndexError as error:
        raise QueryError(str(error)) from None


def _results(searcher: Searcher, asked: list[tuple[Search, np.ndarray]]) -> list[Answer]:
    """Return the answers to questions that have the same options."""
    first = asked[0][0]
    return searcher.answers_of(
        np.array([vector for _, vector in asked], np.float32), first.top,
        alike=first.alike, min_z=first.min_z,
        queries=[_parts(question.query) for question, _ in asked],
    )  # fmt: skip


def _embedded(searcher: Searcher, questions: list[Embed]) -> list[Embedded]:
    texts = [text for question in questions for text in question.texts]
    vectors = _vectors_of(searcher, [(Part(text),) for text in texts])
    found, start = [], 0
    for question in questions:
        stop = start + len(question.texts)
        num = num_tokens(searcher.ready, question.texts)
        found.append(Embedded(vectors[start:stop], num))
        start = stop
    return found


def _vectors_of(searcher: Searcher, queries: list[Query]) -> np.ndarray:
    try:
        return searcher.vectors_of(queries)
    except QueryError:
        raise
    except ValueError as error:  # from a tokenizer, for example if a text is too long
        raise QueryError(str(error)) from error


def num_tokens(ready: InferenceModel, texts: Sequence[str]) -> int:
    """Return the number of tokens of texts, without padding if the model knows their lengths."""
    tokens = ready.tokenizer(list(texts))
    lengths_of = getattr(ready.model, "text_lengths", None)
    return tokens.numel() if lengths_of is None else int(lengths_of(tokens).sum())


def _unit(vector: np.ndarray, dim: int) -> np.ndarray:
    if vector.shape != (dim,):
        raise QueryError(f"the vector must have {dim} entries, like the vectors that are searched")
    exact = vector.astype(np.float64)
    return exact / np.linalg.norm(exact)


def _parts(query: Query | np.ndarray) -> Query:
    return () if isinstance(query, np.ndarray) else query
