"""What one request may take, and how many may wait."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Attributes:
    body_bytes: of a request.
    seconds: in which the header of a request comes, again in which its body is read, and again in
        which it is answered.
    waiting: questions that wait for the model, and images that wait to be shown; who comes when
        there are so many is asked to come again.
    batch: questions that are answered together.
    batch_images, batch_texts: that the model encodes together with those of the oldest question.
    gather_seconds: how long the first of them waits for others.
    results: of one question.
    parts: of one question.
    texts: whose vectors one request asks for.
    image_bytes: of a file that is shown.
    connections: that are open at a time.
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
