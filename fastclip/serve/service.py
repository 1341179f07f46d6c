"""A folder of embeddings with its model, as the endpoints of a server share it."""

from collections.abc import Mapping
from typing import Any

from fastclip.embeddings.metadata import without_surrogates
from fastclip.embeddings.reader import Embeddings
from fastclip.models.inference import InferenceModel
from fastclip.search.corpus import CALLED
from fastclip.search.query import QueryError
from fastclip.search.results import Result
from fastclip.search.searcher import Searcher, open_searcher
from fastclip.serve.batching import Batcher, Busy, TooSlow
from fastclip.serve.limits import Limits
from fastclip.serve.metrics import Metrics
from fastclip.serve.questions import answer_all, size_of
from fastclip.serve.reading import Readers
from fastclip.serve.refusal import Refusal


class Service:
    """Answers the questions of all endpoints.

    Attributes:
        name: the name of the index, and of the model, for clients.
        searchers: the searchers of "images", "texts" or both; the first is the default.
        embeddings: the embeddings that are searched.
        limits: limits of size and time.
        metrics: the counts of the server.
        readers: threads that read images and metadata.

    Example:
        >>> service = open_service(open_embeddings("embeddings"), open_model("logs/my-run"))
        >>> app = make_app(service)
    """

    def __init__(
        self, name: str, searchers: Mapping[str, Searcher], limits: Limits | None = None
    ) -> None:
        self.name, self.searchers = name, dict(searchers)
        self.limits, self.metrics = limits or Limits(), Metrics()
        self.embeddings = next(iter(searchers.values())).embeddings
        self.readers = Readers(self.limits)
        self._batcher = Batcher(
            lambda questions: answer_all(self.searchers, questions), self.limits,
            self.metrics.batched, size_of,
        )  # fmt: skip

    @property
    def over(self) -> str:
        """The side that is searched by default, "images" or "texts"."""
        return next(iter(self.searchers))

    @property
    def ready(self) -> InferenceModel:
        """The model that encodes queries."""
        return self.searchers[self.over].ready

    @property
    def num_waiting(self) -> int:
        """The number of questions that wait for the model."""
        return self._batcher.num_waiting

    async def ask(self, question: Any) -> Any:
        """Return the answer to a question; see `questions.py`.

        Raises:
            Refusal: the question is wrong, or the server is too busy or too slow.
        """
        try:
            return await self._batcher.ask(question)
        except Busy as error:
            raise Refusal(503, str(error)) from None
        except TooSlow as error:
            raise Refusal(504, str(error)) from None
        except QueryError as error:
            raise Refusal(400, str(error)) from None

    def has_image(self, result: Result) -> bool:
        """Return whether the row of a result names an image file, which may no longer exist."""
        try:
            return bool(self.embeddings.image_of(result.id, result.metadata))
        except ValueError:
            return False

    def close(self) -> None:
        """Answer the waiting questions, and end the threads."""
        self._batcher.close()
        self.readers.close()


def open_service(
    embeddings: Embeddings,
    ready: InferenceModel,
    *,
    name: str | None = None,
    over: str | None = None,
    limits: Limits | None = None,
) -> Service:
    """Open all sides of embeddings for queries, with their mean and covariance.

    Args:
        embeddings: the embeddings to serve.
        ready: the model that made the vectors.
        name: the name for clients; by default the name of the folder.
        over: "images" or "texts", the side that is searched if a query names none; by default
            images, or texts if there are no images.
        limits: limits of size and time.

    Raises:
        ModuleNotFoundError, StaleIndex, ValueError: see `open_searcher`.
    """
    first = open_searcher(embeddings, ready, over)
    searchers = {CALLED[first.side.name]: first}
    for other, side in (("images", embeddings.images), ("texts", embeddings.texts)):
        if other not in searchers and side is not None:
            searchers[other] = open_searcher(embeddings, ready, other)
    for searcher in searchers.values():
        _ = searcher.side.moments  # read now instead of during the first query
    name = name or embeddings.folder.resolve().name or "embeddings"
    return Service(without_surrogates(name), searchers, limits)
