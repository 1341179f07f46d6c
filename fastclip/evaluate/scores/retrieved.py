"""Recalls and ranks of retrieval with confidence intervals, under other projects' names."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastclip.evaluate.metrics import rank_metrics, recall_names
from fastclip.evaluate.scores.bootstrap import RESAMPLES, SEED, bootstrap_rates
from fastclip.evaluate.scores.rate import Interval, Rate


@dataclass(frozen=True, eq=False)
class Direction:
    """The ranks of one direction of retrieval.

    Attributes:
        name: "image_to_text" or "text_to_image".
        ranks: (Q,) int64 on the host; 1 is best.
        is_lost: (Q,) bool on the host: whether the features of the query, or of an item that
            belongs to it, are not finite. Such a query has a rank one above the number of items,
            and is not a hit at any K.
        ties: (Q,) int64 on the host: by how much each rank is larger because ties count against
            the model.
        image_of: (Q,) int64 on the host: the image that each query is, or belongs to.
    """

    name: str
    ranks: Tensor
    is_lost: Tensor
    ties: Tensor
    image_of: Tensor

    def is_hit(self, k: int) -> Tensor:
        """Return (Q,) bool: whether each query has an item of its own among the first `k`."""
        return (self.ranks <= k) & ~self.is_lost

    def rate(self, k: int) -> Rate:
        """Return R@K as counts of hits and queries."""
        by_ties = (self.ranks > k) & (self.ranks - self.ties <= k) & ~self.is_lost
        return Rate(int(self.is_hit(k).sum()), len(self.ranks), int(by_ties.sum()))


@dataclass(frozen=True, eq=False)
class Retrieved:
    """Recalls and ranks of both directions.

    Attributes:
        image_to_text: the ranks of every image that has a text, in the order of the images.
        text_to_image: the ranks of every text.
        recall_at: the values of K for R@K.
        num_images: the number of images, including images without a text.
        images_without_text: the number of images without a text, which are not queries.
        non_finite_images, non_finite_texts: how many had features that were not finite.
    """

    image_to_text: Direction
    text_to_image: Direction
    recall_at: tuple[int, ...]
    num_images: int
    images_without_text: int
    non_finite_images: int
    non_finite_texts: int

    @property
    def directions(self) -> tuple[Direction, Direction]:
        return self.image_to_text, self.text_to_image

    @property
    def rates(self) -> dict[str, Rate]:
        """Each R@K as counts, under CLIP_benchmark's name and under open_clip's."""
        return {
            name: direction.rate(k)
            for direction in self.directions
            for k in self.recall_at
            for name in recall_names(direction.name, k)
        }

    @property
    def metrics(self) -> dict[str, float]:
        """Recalls in [0, 1] under both names, and open_clip's mean and median ranks.

        For example, open_clip's `image_to_text_R@5` is CLIP_benchmark's `text_retrieval_recall@5`.
        """
        found = {name: rate.value for name, rate in self.rates.items()}
        for direction in self.directions:
            found |= rank_metrics(direction.name, direction.ranks, recalls=())
        return found

    def intervals(self, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Interval]:
        """Return 95 % confidence intervals of the recalls, by a bootstrap over images.

        Each draw takes images along with all their texts, because texts of the same image are not
        independent; Wilson's interval over texts, which `rates` has, is too narrow for
        `text_to_image`. If all draws agree, as they do if every query is a hit, the interval is
        Wilson's with one answer per image.

        Args:
            resamples: the number of draws.
            seed: the seed of the draws.
        """
        hits, answers, names = [], [], []
        for direction in self.directions:
            num = direction.image_of.bincount(minlength=self.num_images)
            for k in self.recall_at:
                found = direction.image_of[direction.is_hit(k)]
                hits.append(found.bincount(minlength=self.num_images))
                answers.append(num)
                names.append(recall_names(direction.name, k))
        has_text = answers[0] > 0
        intervals = bootstrap_rates(
            torch.stack(hits, 1)[has_text], torch.stack(answers, 1)[has_text], resamples, seed
        )
        return {
            name: interval for both, interval in zip(names, intervals, strict=True) for name in both
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the results, except those of single images and texts, as values of strict JSON.

        Returns:
            `metrics`; `intervals` of the recalls, by a bootstrap over images; `counts` (hits,
            queries, ties, and Wilson's interval over queries); `num_images`, `num_texts`,
            `images_without_text`, `non_finite_images` and `non_finite_texts`; `ties`, by direction
            the number of queries whose rank the rule for ties makes worse; and `bootstrap`, the
            settings of the bootstrap.
        """
        return {
            "metrics": self.metrics,
            "intervals": {name: found._asdict() for name, found in self.intervals().items()},
            "counts": {name: rate.to_dict() for name, rate in self.rates.items()},
            "num_images": self.num_images,
            "num_texts": len(self.text_to_image.ranks),
            "images_without_text": self.images_without_text,
            "non_finite_images": self.non_finite_images,
            "non_finite_texts": self.non_finite_texts,
            "ties": {found.name: int((found.ties > 0).sum()) for found in self.directions},
            "bootstrap": {"of": "images", "resamples": RESAMPLES, "seed": SEED},
        }
