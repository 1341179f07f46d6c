"""What is said of an image: its nearest classes, or why it was skipped."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from fastclip.data.sources.samples import BadSample


class Guess(NamedTuple):
    """A class of an image."""

    rank: int  # 1 + the number of classes that are nearer: classes as near have one rank
    name: str
    probability: float
    cosine: float


@dataclass(frozen=True)
class Answer:
    """What an image was found to be, or why it was skipped.

    Attributes:
        image: its path as it was given, or "image N" of the N-th, from 0, that has none.
        guesses: the nearest classes, nearest first; classes as near are in the order in which they
            were given.
        num_nearest: how many classes are as near as the nearest: 1, or there is nothing to choose.
        skipped: the reason; then there are no guesses.
    """

    image: str
    guesses: tuple[Guess, ...] = ()
    num_nearest: int = 0
    skipped: BadSample | None = None

    @property
    def predicted(self) -> str | None:
        """The nearest class, or None where several are as near or the image was skipped."""
        return self.guesses[0].name if self.num_nearest == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a line of JSON.

        Example:
            >>> Answer("a.jpg", (Guess(1, "cat", 0.9, 0.3),), 1).to_dict()
            {'image': 'a.jpg', 'predicted': 'cat', 'num_nearest': 1,
            'classes': [{'rank': 1, 'class': 'cat', 'probability': 0.9, 'cosine': 0.3}]}
        """
        if self.skipped is not None:
            _, reason, detail, _ = self.skipped
            return {"image": self.image, "skipped": reason, "detail": detail}
        return {
            "image": self.image, "predicted": self.predicted, "num_nearest": self.num_nearest,
            "classes": [
                {"rank": rank, "class": name, "probability": probability, "cosine": cosine}
                for rank, name, probability, cosine in self.guesses
            ],
        }  # fmt: skip
