"""What the model is asked, and the answers to many such questions at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastclip.models.inference import InferenceModel
from fastclip.search.query import IMAGE, TEXT, Part, QueryError
from fastclip.search.searcher import Answer, Searcher
from fastclip.serve.batching import Size

Query = tuple[Part, ...]


@dataclass(frozen=True)
class Search:
    """One query, of whose best results so many are wanted.

    Attributes:
        over: "images" or "texts": what is searched.
        query: its parts; or its vector, (D,) float32, of any length but 0.
        top, alike, min_z: see `Searcher.answers`.
    """

    over: str
    query: Query | np.ndarray
    top: int
    alike: float | None = None
    min_z: float | None = None


@dataclass(frozen=True)
class Embed:
    """Texts whose vectors are wanted."""

    texts: tuple[str, ...]


class Embedded(NamedTuple):
    """The (n, D) float32 unit vectors of n texts, and how many tokens those have."""

    vectors: np.ndarray
    num_tokens: int


def size_of(question: Search | Embed) -> Size:
    """Return how many images and texts the model encodes for a question."""
    if isinstance(question, Embed):
        return Size(texts=len(question.texts))
    kinds = [] if isinstance(question.query, np.ndarray) else [part.kind for part in question.query]
    return Size(kinds.count(IMAGE), kinds.count(TEXT))


def answer_all(
    searchers: Mapping[str, Searcher], questions: Sequence[Search | Embed]
) -> list[Answer | Embedded | QueryError]:
    """Answer questions together: one pass of the model and one over the vectors of each side.

    Returns:
        Of each question its answer, or the `QueryError` that it has.
    """
    found: list[Answer | Embedded | QueryError | None] = [None] * len(questions)
    for kind in [*searchers, None]:
        own = [n for n, question in enumerate(questions) if getattr(question, "over", None) == kind]
        if not own:
            continue
        chosen = [questions[number] for number in own]
        if kind is None:
            answers = _together(_embedded, next(iter(searchers.values())), chosen)
        else:
            answers = _together(_searched, searchers[kind], chosen)
        for number, answer in zip(own, answers, strict=True):
            found[number] = answer
    return found


def _together(
    answer: Callable[[Searcher, list], list], searcher: Searcher, questions: list
) -> list:
    """Answers to all; if a question is at fault, each is asked alone, so that it has the error."""
    try:
        return answer(searcher, questions)
    except QueryError as error:
        if len(questions) == 1:
            return [error]
    return [_together(answer, searcher, [question])[0] for question in questions]


def _searched(searcher: Searcher, questions: list[Search]) -> list[Answer]:
    queries = [question.query for question in questions]
    vectors = np.empty((len(queries), searcher.side.dim), np.float32)
    in_words = [n for n, query in enumerate(queries) if not isinstance(query, np.ndarray)]
    vectors[in_words] = _vectors_of(searcher, [queries[number] for number in in_words])
    for number, query in enumerate(queries):
        if isinstance(query, np.ndarray):
            vectors[number] = _unit(query, searcher.side.dim)
    answers: list[Answer | None] = [None] * len(queries)
    # Those that want as many results, for example, are searched for in one pass.
    wanted = [(question.top, question.alike, question.min_z) for question in questions]
    for top, alike, min_z in dict.fromkeys(wanted):
        own = [number for number, own in enumerate(wanted) if own == (top, alike, min_z)]
        found = searcher.answers_of(
            vectors[own], top, alike=alike, min_z=min_z,
            of_texts=[_is_of_texts(queries[number]) for number in own],
        )  # fmt: skip
        for number, answer in zip(own, found, strict=True):
            answers[number] = answer
    return answers


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
    except ValueError as error:  # of a tokenizer that refuses a text, as too long
        raise QueryError(str(error)) from error


def num_tokens(ready: InferenceModel, texts: Sequence[str]) -> int:
    """Return how many tokens texts have, up to their ends if the model knows where those are."""
    tokens = ready.tokenizer(list(texts))
    lengths_of = getattr(ready.model, "text_lengths", None)
    return tokens.numel() if lengths_of is None else int(lengths_of(tokens).sum())


def _unit(vector: np.ndarray, dim: int) -> np.ndarray:
    if vector.shape != (dim,):
        raise QueryError(f"the vector must have {dim} entries, as those that are searched")
    exact = vector.astype(np.float64)
    return exact / np.linalg.norm(exact)


def _is_of_texts(query: Query | np.ndarray) -> bool:
    return not isinstance(query, np.ndarray) and all(part.kind == TEXT for part in query)
