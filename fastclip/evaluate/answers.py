"""The answer for one image: its nearest classes, or the reason why it was skipped."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from fastclip.data.sources.samples import BadSample


class Guess(NamedTuple):
    """One of the nearest classes of an image."""

    rank: int  # 1 + the number of nearer classes; classes that are equally near share a rank
    name: str
    probability: float
    cosine: float


@dataclass(frozen=True)
class Answer:
    """The nearest classes of an image, or the reason why the image was skipped.

    Attributes:
        image: its path as it was given, or "image N", counted from 0, if it has no path.
        guesses: the nearest classes, nearest first; classes that are equally near keep the order
            in which they were given.
        num_nearest: the number of classes that tie for the nearest; 1 means that there is no tie.
        skipped: why the image was skipped, in which case there are no guesses; otherwise None.
    """

    image: str
    guesses: tuple[Guess, ...] = ()
    num_nearest: int = 0
    skipped: BadSample | None = None

    @property
    def predicted(self) -> str | None:
        """The nearest class, or None if several classes tie or the image was skipped."""
        return self.guesses[0].name if self.num_nearest == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain values, for a line of JSON.

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
