"""Evaluation while training: retrieval among validation pairs, and zero-shot classification.

All processes of a job evaluate together: each encodes its part, and the first rank computes the
metrics. Neither an N x N nor an N x C tensor is ever formed.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastclip.data.loading.loader import PairLoader
from fastclip.distributed.processes import Processes
from fastclip.embeddings.encode import Encoder
from fastclip.evaluate.classification import class_features, places
from fastclip.evaluate.items import digests, distinct
from fastclip.evaluate.metrics import retrieval_metrics, top_metrics
from fastclip.evaluate.zero_shot_task import ZeroShotTask

MAX_NAMED = 5  # classes in a message


class Pairs(NamedTuple):
    """The features and ids of the pairs of one process, on the host, as ranking needs them."""

    image_features: list[Tensor]  # (B, D) for each batch
    text_features: list[Tensor]
    image_ids: list[bytes]  # one for each pair
    text_ids: list[bytes]


class Evaluator:
    """Evaluates models that are in evaluation mode, with all processes of a job together.

    Args:
        processes: the processes of the job, of which the evaluator uses `rank`, `world_size`,
            `device`, `gather` and `broadcast`.
        prepare: from uint8 pixels on the host to the input of the model.
        autocast: returns the context in which the model runs.
        tokenizer: tokenizes prompts.
        chunk: prompts that are encoded at once.
        warn: called on the first rank with a message about the data of an evaluation.
        obey: calls a function that does one rank's own work, and returns its result; it may raise
            an error on all ranks to end an evaluation.
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

    def retrieval(self, model: nn.Module, loader: PairLoader) -> dict[str, float]:
        """Rank every image's texts among all texts, and every text's images among all images.

        Pairs whose images have the same pixels, as they enter the model, share one image; pairs
        with the same tokens share one text. An image with several captions is therefore ranked
        correctly (see `fastclip.evaluate.ranking`), whatever kind of data the pairs come from.

        `fastclip eval` is stricter: it treats equal captions as different texts, each with its own
        image, so that its recalls equal CLIP_benchmark's. Training data may have one caption for
        many images, and no model can know which of them is meant, so here any of them counts. If
        no caption occurs twice, the two agree.

        Args:
            loader: one epoch of this rank's part of the pairs.

        Returns:
            On the first rank, the metrics (see `retrieval_metrics`), or `num_samples` of 0 alone if
            no pair could be read; on other ranks an empty dict.
        """
        encoder = self._encoder(model)
        parts = self.processes.gather(self.obey(lambda: _collect(encoder, loader)))
        return self.obey(lambda: {} if parts is None else _metrics_of(model, parts))

    def zero_shot(
        self, model: nn.Module, task: ZeroShotTask, loader: PairLoader
    ) -> dict[str, float]:
        """Classify the images of a task by the nearest class; a tie counts against the model.

        Of classes with the same name, which no model can distinguish, the first is predicted (see
        `fastclip.evaluate.classification.places`). A warning names the classes of which no image
        could be read.

        Args:
            loader: one epoch of this rank's part of the images, with (B, 1) labels for tokens.

        Returns:
            On the first rank, the metrics, or an empty dict if no image could be read; on other
            ranks an empty dict.
        """
        encoder = self._encoder(model)
        classes = self._classes(encoder, task)
        parts = self.processes.gather(
            self.obey(lambda: _classified(encoder, task, loader, classes))
        )
        if parts is None:
            return {}
        found, labels = (torch.cat(list(chain(*lists))) for lists in zip(*parts, strict=True))
        num_of_class = labels.bincount(minlength=len(task.class_names))
        missing = [task.source.classes[i] for i in (num_of_class == 0).nonzero().flatten().tolist()]
        if missing:
            self.warn(f"{task.name}: no image of these classes could be read: {_named(missing)}")
        if len(found) == 0:
            return {}
        return {f"{task.name}-{name}": rate for name, rate in top_metrics(found).items()}

    def _encoder(self, model: nn.Module) -> Encoder:
        return Encoder(model, self.prepare, self.autocast, self.processes.device)

    def _classes(self, encoder: Encoder, task: ZeroShotTask) -> Tensor:
        """Return (C, D) features on the device; each rank encodes a part of the distinct names."""
        rank, world_size = self.processes.rank, self.processes.world_size
        all_names = list(dict.fromkeys(task.class_names))
        num = -(-len(all_names) // world_size)
        names = all_names[rank * num : (rank + 1) * num]

        def encode(texts: list[str]) -> Tensor:
            found = encoder.texts(texts, self.tokenizer, self.chunk)
            return torch.cat([part.text_features for part in found])

        own = self.obey(
            lambda: class_features(encode, names, task.templates).cpu() if names else None
        )
        parts = self.processes.broadcast(self.processes.gather(own))
        of_names = torch.cat([part for part in parts if part is not None])
        return of_names[distinct(task.class_names)].to(self.processes.device)


def _collect(encoder: Encoder, loader: PairLoader) -> Pairs:
    pairs = Pairs([], [], [], [])
    for found in encoder.pairs(loader):
        pairs.image_features.append(found.image_features.cpu())
        pairs.text_features.append(found.text_features.cpu())
        pairs.image_ids.extend(digests(found.images))
        pairs.text_ids.extend(digests(found.tokens))
    return pairs


def _classified(
    encoder: Encoder, task: ZeroShotTask, loader: PairLoader, classes: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Return places of the right classes, and the right classes, a tensor per batch on the host."""
    found, labels = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)]
    for batch in encoder.images(loader):
        own = batch.tokens.flatten()
        found.append(places(batch.image_features, classes, own, task.class_names).cpu())
        labels.append(own)
    return found, labels


def _metrics_of(model: nn.Module, parts: Sequence[Pairs]) -> dict[str, float]:
    pairs = Pairs(*(list(chain(*lists)) for lists in zip(*parts, strict=True)))
    if not pairs.image_ids:
        return {"num_samples": 0}
    return retrieval_metrics(
        torch.cat(pairs.image_features), torch.cat(pairs.text_features),
        model.logit_scale.detach().exp().float().cpu(),
        image_ids=pairs.image_ids, text_ids=pairs.text_ids,
    )  # fmt: skip


def _named(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - MAX_NAMED} more" if len(classes) > MAX_NAMED else ""
    return ", ".join(map(repr, classes[:MAX_NAMED])) + more
