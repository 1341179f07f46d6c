"""Whether one of two models is better, from their answers to the same questions.

Questions that both answer alike say nothing of it. Of the others, were the models equally good,
each would be won by either with probability 1/2, so that the number that one wins is binomial.
Answers to captions of one image are no independent questions: images are, see `sign_flips.py`.

Source: Q. McNemar 1947, "Note on the sampling error of the difference between correlated
proportions or percentages", Psychometrika 12; exact, with the binomial distribution itself.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fastclip.evaluate.scores.arguments import checked_numbers
from fastclip.evaluate.scores.rate import Rate
from fastclip.evaluate.scores.sign_flips import sign_flip_p_value

MCNEMAR, SIGN_FLIPS = "mcnemar-exact", "sign-flips-by-image-exact"


@dataclass(frozen=True)
class Comparison:
    """How often each of two models was right, on the same images.

    Attributes:
        both, only_a, only_b, neither: questions that both answered right, one of them, or none.
        p_value: the probability that models that are equally good differ by as much, in either
            direction: McNemar's test, exact; or of questions of which several are about one image,
            the exact test by sign flips of images.
        images: how many there are, where there are several questions about one; else None.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float
    images: int | None = None

    @property
    def test(self) -> str:
        """What the test is called in JSON."""
        return MCNEMAR if self.images is None else SIGN_FLIPS

    @property
    def n(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def rate_a(self) -> Rate:
        return Rate(self.both + self.only_a, self.n)

    @property
    def rate_b(self) -> Rate:
        return Rate(self.both + self.only_b, self.n)

    def to_dict(self) -> dict[str, Any]:
        """Return what the attributes say, `n`, both rates, and that of b less that of a."""
        return {
            "n": self.n,
            "a": self.rate_a.value,
            "b": self.rate_b.value,
            "difference": (self.only_b - self.only_a) / self.n,
            "test": self.test,
            **asdict(self),
        }


def compare(
    correct_a: Tensor | Sequence[bool],
    correct_b: Tensor | Sequence[bool],
    image_of: Tensor | Sequence[int] | None = None,
) -> Comparison:
    """Compare two models by which of the same images each has right, with McNemar's exact test.

    Of captions, several of which may be of one image, it is images that are independent, and the
    test is that of `sign_flips.py`.

    Args:
        correct_a: (N,) truth values, N >= 1, such as `correct` of the result of `zero_shot` or of
            `linear_probe`; 0 and 1 serve as well.
        correct_b: the same of another model, image by image.
        image_of: (N,) numbers from 0: the image that each answer is about, if they are of captions.

    Raises:
        TypeError: `image_of` is no integers.
        ValueError: the three are not (N,) alike, or hold anything but truth values and numbers.

    Example:
        >>> a, b = [True, True, False, True], [True, False, False, False]
        >>> found = fastclip.evaluate.compare(a, b)
        >>> found.only_a, found.only_b, found.p_value
        (2, 0, 0.5)
    """
    a, b = _truth("correct_a", correct_a), _truth("correct_b", correct_b)
    if len(a) != len(b):
        raise ValueError(
            f"correct_a and correct_b must be of the same images, got {len(a)} and {len(b)}"
        )
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    counts = int((a & b).sum()), only_a, only_b, int((~a & ~b).sum())
    if image_of is not None:
        numbers = checked_numbers("image_of", image_of, len(a), 2**62)
        images, number = numbers.unique(return_inverse=True)
        if len(images) < len(a):
            differences = torch.zeros(len(images), dtype=torch.int64).index_add(
                0, number, b.long() - a.long()
            )
            return Comparison(*counts, sign_flip_p_value(differences.numpy()), len(images))
    return Comparison(*counts, _two_sided(only_a, only_b))


def _truth(name: str, values: Tensor | Sequence[bool]) -> Tensor:
    found = torch.as_tensor(values).cpu()
    if found.ndim != 1 or len(found) == 0 or not ((found == 0) | (found == 1)).all():
        raise ValueError(f"{name} must be (N,) truth values, N >= 1, got {tuple(found.shape)}")
    return found.bool()


def _two_sided(a: int, b: int) -> float:
    """Twice the probability of at most min(a, b) heads among a + b tosses, 1 at most.

    The terms are summed from the largest down, each a multiple of the one before.
    """
    num, fewer = a + b, min(a, b)
    log_largest = (
        math.lgamma(num + 1) - math.lgamma(fewer + 1) - math.lgamma(num - fewer + 1)
        - num * math.log(2)
    )  # fmt: skip
    total = term = 1.0
    for i in range(fewer, 0, -1):
        term *= i / (num - i + 1)
        if term < total * 1e-17:
            break
        total += term
    return min(1.0, 2 * math.exp(log_largest) * total)
