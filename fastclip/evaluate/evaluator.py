"""Evaluation while training: retrieval among validation pairs, zero-shot classification.

Both stream: each rank encodes its share, and neither N x N nor N x C numbers exist at once. Metrics
have open_clip's names.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from fastclip.data.loading.loader import PairLoader
from fastclip.distributed.processes import Processes
from fastclip.evaluate.classification import class_features
from fastclip.evaluate.ranking import digests, distinct, recall_at, retrieval
from fastclip.evaluate.zero_shot_task import ZeroShotTask
from fastclip.functional import clip_loss
from fastclip.models.padding import without_padding

MAX_NAMED = 5  # classes in a message
RECALLS = (1, 5, 10)
TOPS = (1, 5)

# Of a rank's pairs: features of batches, and digests of the pixels and the tokens of each pair.
Share = tuple[list[tuple[Tensor, Tensor]], list[tuple[bytes, bytes]]]


class Evaluator:
    """Evaluates models that are in evaluation mode, all ranks together.

    Args:
        prepare: from uint8 pixels on the host to what the model takes.
        autocast: makes the context in which the model runs.
        tokenizer: of prompts.
        chunk: prompts that are encoded at once.
        warn: called, on the first rank, with what is wrong with the data of an evaluation.
        obey: does what a rank does by itself and returns the result; may raise, on all ranks, what
            ends an evaluation.
    """

    def __init__(
        self,
        processes: Processes,
        prepare: Callable[[Tensor], Tensor],
        autocast: Callable[[], AbstractContextManager],
        tokenizer: Callable[[list[str]], Tensor],
        chunk: int,
        warn: Callable[[str], None] = warnings.warn,
        obey: Callable[[Callable[[], Any]], Any] = lambda work: work(),
    ) -> None:
        self.processes = processes
        self.prepare = prepare
        self.autocast = autocast
        self.tokenizer = tokenizer
        self.chunk = chunk
        self.warn = warn
        self.obey = obey

    @torch.no_grad()
    def retrieval(self, model: nn.Module, loader: PairLoader) -> dict[str, float]:
        """Rank every image's texts among all, and the reverse.

        Pairs whose images have the same pixels, as the model is given them, have one image; pairs
        with the same tokens have one text. So several captions of an image count as they should
        (see `fastclip.evaluate.ranking`), whatever kind of data the pairs come from.

        Args:
            loader: this rank's share of the pairs, one epoch of it.

        Returns:
            Metrics, on the first rank; an empty dict on others. `num_samples` counts pairs,
            `num_images` and `num_texts` what of them is distinct.
        """
        shares = self.processes.gather(self.obey(lambda: self._encoded(model, loader)))
        return self.obey(lambda: {} if shares is None else _retrieval_metrics(model, shares))

    @torch.no_grad()
    def zero_shot(
        self, model: nn.Module, task: ZeroShotTask, loader: PairLoader
    ) -> dict[str, float]:
        """Classify the images of a task by the nearest class; a tie counts against us.

        Of classes with one name, which no model can tell apart, the first is what is predicted, as
        an argmax over all classes does. Classes without an image that could be read are named in a
        warning.

        Args:
            loader: this rank's share of them, one epoch of it, with (B, 1) labels for tokens.

        Returns:
            Metrics, on the first rank; an empty dict on others.
        """
        names = list(dict.fromkeys(task.class_names))
        classes = self._classes(model, names, task.templates)
        shares = self.processes.gather(
            self.obey(lambda: self._classified(model, task, loader, classes))
        )
        if shares is None:
            return {}
        num_of_class = sum(share[1] for share in shares)
        num = int(num_of_class.sum())
        missing = [task.source.classes[i] for i in (num_of_class == 0).nonzero().flatten().tolist()]
        if missing:
            self.warn(f"{task.name}: no image could be read of the classes {_named(missing)}")
        if num == 0:
            return {}
        rates = (sum(share[0] for share in shares).double() / num).tolist()
        return {f"{task.name}-top{k}": rate for k, rate in zip(TOPS, rates, strict=True)}

    def _encoded(self, model: nn.Module, loader: PairLoader) -> Share:
        """This rank's pairs: features of both sides, and what tells images and texts apart."""
        features, ids = [], []
        for images, tokens, _ in loader:
            ids += zip(digests(images), digests(tokens), strict=True)
            with self.autocast():
                texts = without_padding(model, tokens).to(self.processes.device)
                found = model(self.prepare(images), texts)
            features.append(tuple(side.float().cpu() for side in found[:2]))
        return features, ids

    def _classified(
        self, model: nn.Module, task: ZeroShotTask, loader: PairLoader, classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of this rank's images, how many are right within each of `TOPS`, and of each class."""
        name_of = distinct(task.class_names)
        num_of_name, later = name_of.bincount(), _later_equals(name_of)
        within = torch.zeros(len(TOPS), dtype=torch.int64)
        num_of_class = torch.zeros(len(task.class_names), dtype=torch.int64)
        for images, labels, _ in loader:
            with self.autocast():
                features = model(self.prepare(images))[0]
            scores = features.float() @ classes.T
            own = scores.gather(1, name_of[labels].to(scores.device))
            counts = num_of_name.to(scores.device)
            # nan is no hit
            places = (~(scores < own) * counts).sum(1).cpu() - later[labels.flatten()]
            within += torch.tensor([int((places <= k).sum()) for k in TOPS])
            num_of_class += labels.flatten().bincount(minlength=len(num_of_class))
        return within, num_of_class

    def _classes(
        self, model: nn.Module, all_names: Sequence[str], templates: Sequence[str]
    ) -> Tensor:
        """(C, D) features of C names, on the device; each rank encodes its share of them."""
        rank, world_size = self.processes.rank, self.processes.world_size
        num = -(-len(all_names) // world_size)
        names = all_names[rank * num : (rank + 1) * num]
        encode = self._encoder_of_texts(model)
        own = self.obey(lambda: class_features(encode, names, templates).cpu() if names else None)
        parts = self.processes.broadcast(self.processes.gather(own))
        return torch.cat([part for part in parts if part is not None]).to(self.processes.device)

    def _encoder_of_texts(self, model: nn.Module) -> Callable[[list[str]], Tensor]:
        def encode(texts: list[str]) -> Tensor:
            features = []
            for part in self.tokenizer(texts).split(self.chunk):
                with self.autocast():
                    part = without_padding(model, part).to(self.processes.device)
                    found = model(text=part)[1]
                features.append(found.float())
            return torch.cat(features)

        return encode


def _retrieval_metrics(model: nn.Module, shares: Sequence[Share]) -> dict[str, float]:
    pairs = [pair for share, _ in shares for pair in share]
    if not pairs:
        return {"num_samples": 0}
    image_features, text_features = (torch.cat([p[side] for p in pairs]) for side in (0, 1))
    image_ids, text_ids = zip(*(pair for _, share in shares for pair in share), strict=True)
    ranks = retrieval(image_features, text_features, image_ids=image_ids, text_ids=text_ids)
    metrics: dict[str, float] = {}
    for direction, found in ranks._asdict().items():
        metrics[f"{direction}_mean_rank"] = found.double().mean().item()
        metrics[f"{direction}_median_rank"] = found.double().quantile(0.5).floor().item()
        for k in RECALLS:
            metrics[f"{direction}_R@{k}"] = recall_at(k, found)
    scale = model.logit_scale.detach().exp().float().cpu()
    metrics["clip_val_loss"] = clip_loss(image_features, text_features, scale).item()
    metrics["num_samples"] = len(image_features)
    metrics["num_images"], metrics["num_texts"] = len(set(image_ids)), len(set(text_ids))
    return metrics


def repeats(metrics: dict[str, float]) -> str | None:
    """Say how many images or texts of `Evaluator.retrieval` several pairs have; None if none."""
    num_pairs, num_images, num_texts = (
        metrics.get(f"num_{name}", 0) for name in ("samples", "images", "texts")
    )
    if num_images == num_texts == num_pairs or not metrics.get("num_images"):
        return None
    return (
        f"{num_pairs:,} pairs have {num_images:,} images and {num_texts:,} texts: any text of an "
        "image counts as found, and any image of a text"
    )


def _later_equals(numbers: Tensor) -> Tensor:
    """For each of (N,) numbers, how many equal ones come later."""
    seen: Counter[int] = Counter()
    found = []
    for number in reversed(numbers.tolist()):
        found.append(seen[number])
        seen[number] += 1
    return torch.tensor(found[::-1])


def _named(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - MAX_NAMED} more" if len(classes) > MAX_NAMED else ""
    return ", ".join(map(repr, classes[:MAX_NAMED])) + more
