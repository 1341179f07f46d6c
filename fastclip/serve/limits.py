"""Limits of single requests, and of the number that may wait."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of a server; each is the most that it allows.

    Attributes:
        body_bytes: the size of a request's body.
        seconds: the time for the header of a request to arrive, again for its body to be read, and
            again for its answer.
        waiting: the number of questions that wait for the model, and of images that wait to be
            shown; further clients get the status 503 and may try again.
        batch: the number of questions that are answered together.
        batch_images, batch_texts: the numbers of images and texts that the model encodes in a
            batch, in addition to those of its oldest question.
        gather_seconds: the time that the first question of a batch waits for others.
        results: the number of results of a question.
        parts: the number of parts of a question.
        texts: the number of texts of a request for vectors.
        image_bytes: the size of an image file that is shown.
        connections: the number of open connections.
    """

    body_bytes: int = 2**24
    seconds: float = 30.0
    waiting: int = 128
    batch: int = 64
    batch_images: int = 32
    batch_texts: int = 256
    gather_seconds: float = 0.005
    results: int = 3000
    parts: int = 32
    texts: int = 512
    image_bytes: int = 2**26
    connections: int = 256
