"""Test whether one of two models is better, from their answers to the same questions.

Questions that both models answer right, or both wrong, do not matter. If the models were equally
good, each model would win each of the other questions with probability 1/2, so that the number of
questions that one model wins is binomial. Captions of the same image are not independent questions,
but images are; see `sign_flips.py`.

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
    """How often each of two models was right on the same images.

    Attributes:
        both, only_a, only_b, neither: the numbers of questions that both models answered right,
            only one of them, or neither.
        p_value: the probability that two equally good models differ by at least as much, in either
            direction. The test is McNemar's exact test, or, if several questions are about the
            same image, the exact sign-flip test over images.
        images: the number of images if several questions are about the same image; else None.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float
    images: int | None = None

    @property
    def test(self) -> str:
        """The name of the test in JSON."""
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
        """Return the attributes, `n`, both rates `a` and `b`, and the `difference` b - a."""
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
    """Compare two models by the images that each has right, with McNemar's exact test.

    Captions of the same image are not independent, but images are. If several answers are about the
    same image, the test is the sign-flip test of `sign_flips.py`.

    Args:
        correct_a: (N,) bools, N >= 1, such as `correct` of the result of `zero_shot` or of
            `linear_probe`; 0 and 1 are accepted as well.
        correct_b: (N,) bools of another model for the same images, in the same order.
        image_of: (N,) integers from 0: the image of each answer, if the answers are about captions.

    Raises:
        TypeError: `image_of` has values that are not integers.
        ValueError: the three are not all (N,), or have values that are out of range.

    Example:
        >>> a, b = [True, True, False, True], [True, False, False, False]
        >>> found = fastclip.evaluate.compare(a, b)
        >>> found.only_a, found.only_b, found.p_value
        (2, 0, 0.5)
    """
    a, b = _truth("correct_a", correct_a), _truth("correct_b", correct_b)
    if len(a) != len(b):
        raise ValueError(
            "correct_a and correct_b must be about the same images, got "
            f"{len(a)} and {len(b)} answers"
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
        raise ValueError(
            f"{name} must be (N,) bools, or 0 and 1, N >= 1, got shape {tuple(found.shape)}"
        )
    return found.bool()


def _two_sided(a: int, b: int) -> float:
    """Return twice the probability of at most min(a, b) heads in a + b tosses, but at most 1.

    The terms are summed from the largest down; each is a multiple of the previous term.
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
