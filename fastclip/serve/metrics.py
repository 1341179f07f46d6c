"""Counts and times of a server, in the format of Prometheus."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, label: str = "") -> Iterator[str]:
        at_most = list(accumulate(self.counts))
        for bound, count in zip([*self.bounds, "+Inf"], at_most, strict=True):
            yield f'{name}_bucket{{{label}{"," if label else ""}le="{bound}"}} {count}'
        own = f"{{{label}}}" if label else ""
        yield f"{name}_sum{own} {self.total:.9g}"
        yield f"{name}_count{own} {at_most[-1]}"


class Metrics:
    """The counts and times of a server; every method may be called from any thread.

    Example:
        >>> metrics = Metrics()
        >>> metrics.answered("/search", 200, seconds=0.03)
        >>> print(metrics.text(num_waiting=0))
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, _Histogram] = {}
        self._batches = _Histogram(SIZES)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answer.

        Args:
            endpoint: one of a few fixed names, never a text from a client.
            status: the HTTP status.
            seconds: the time from the request's headers to the end of the answer.
        """
        with self._lock:
            self._requests[endpoint, status] += 1
            self._seconds.setdefault(endpoint, _Histogram(SECONDS)).add(seconds)

    def batched(self, size: int) -> None:
        """Count a batch of `size` questions that were answered together."""
        with self._lock:
            self._batches.add(size)

    def text(self, num_waiting: int) -> str:
        """Return all counts in Prometheus's text format."""
        with self._lock:
            return "\n".join([*self._lines(num_waiting), ""])

    def _lines(self, num_waiting: int) -> Iterator[str]:
        name = "fastclip_requests_total"
        yield from _head(name, "counter", "Number of answers by endpoint and status.")
        for (endpoint, status), count in sorted(self._requests.items()):
            yield f'{name}{{endpoint="{endpoint}",status="{status}"}} {count}'
        name = "fastclip_request_seconds"
        yield from _head(name, "histogram", "Seconds from a request to the end of its answer.")
        for endpoint, found in sorted(self._seconds.items()):
            yield from found.lines(name, f'endpoint="{endpoint}"')
        name = "fastclip_batch_questions"
        yield from _head(name, "histogram", "Number of questions that were answered in one batch.")
        yield from self._batches.lines(name)
        name = "fastclip_waiting_questions"
        yield from _head(name, "gauge", "Number of questions that wait for the model.")
        yield f"{name} {num_waiting}"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
