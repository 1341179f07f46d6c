"""A folder of embeddings that is served: what its endpoints share."""

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
    """Attributes:
    name: what clients call the index, and the model.
    searchers: "images", "texts" or both, and what answers queries about them; first what is
        searched by default.
    embeddings: what is searched.
    limits, metrics, readers: see there.

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
        """Which side is searched by default."""
        return next(iter(self.searchers))

    @property
    def ready(self) -> InferenceModel:
        """The model that encodes queries."""
        return self.searchers[self.over].ready

    @property
    def num_waiting(self) -> int:
        """How many questions wait for the model."""
        return self._batcher.num_waiting

    async def ask(self, question: Any) -> Any:
        """Return the answer to a question, see `questions.py`.

        Raises:
            Refusal: the question is at fault, or it cannot be answered now.
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
        """Whether the row of a result says where its image is, which may be gone from there."""
        try:
            return bool(self.embeddings.image_of(result.id, result.metadata))
        except ValueError:
            return False

    def close(self) -> None:
        """Answer what waits, and end the threads."""
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
        ready: the model that made the vectors.
        name: what clients call it; by default the name of the folder.
        over: "images" or "texts": what is searched if a query does not say; by default images, if
            there are any.

    Raises:
        ValueError: as `open_searcher`.
    """
    first = open_searcher(embeddings, ready, over)
    searchers = {CALLED[first.side.name]: first}
    for other, side in (("images", embeddings.images), ("texts", embeddings.texts)):
        if other not in searchers and side is not None:
            searchers[other] = open_searcher(embeddings, ready, other)
    for searcher in searchers.values():
        _ = searcher.side.moments  # read now, not in the first query
    name = name or embeddings.folder.resolve().name or "embeddings"
    return Service(without_surrogates(name), searchers, limits)
