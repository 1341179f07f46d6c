"""The losses of in-batch negatives of sentence-transformers, without their matrices of scores.

    -from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    +from fastclip.integrations.sentence_transformers import MultipleNegativesRankingLoss

Both classes derive from the host's classes of the same name, take their arguments and report their
configuration. Values and gradients equal the host's, in every direction and partition and with
hardness; B queries with k documents each take O(k B D) memory and not B x k B per direction.

With `gather_across_devices` every rank reports the loss of the queries of all ranks, while the host
reports the loss of the rank's own queries; gradients after DistributedDataParallel's mean are the
same. Ranks may have different numbers of queries. Without `gather_across_devices`, each rank's loss
is over its own queries.

Scores other than `cos_sim` and `dot_score` are computed by the host's class, with a warning.
"""

import warnings
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from fastclip.distributed.groups import find_group
from fastclip.integrations.host import import_host, joined
from fastclip.losses.multiple_negatives import multiple_negatives_loss

EXTRA = "sentence-transformers"
SETTINGS = (
    "scale", "similarity_fct", "gather_across_devices", "directions", "partition_mode",
    "hardness_mode", "hardness_strength",
)  # fmt: skip


class RankingMixin:
    """`MultipleNegativesRankingLoss` of sentence-transformers 6.2, computed by fastclip.

    Args:
        model: a SentenceTransformer. Further arguments have the names and the defaults of the
            host's class.

    Raises:
        TypeError: at a call: `scale` is a tensor. A learned scale would have no gradient here, and
            the trainer would not average it over ranks.
        ValueError: at a call: there is no column of documents; otherwise as the host's class.

    Example:
        >>> loss = MultipleNegativesRankingLoss(
        ...     model, scale=20.0, directions=("query_to_doc", "doc_to_query"),
        ...     partition_mode="per_direction")
        >>> SentenceTransformerTrainer(model=model, train_dataset=pairs, loss=loss).train()
    """

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Return the loss, (), of queries, their documents and hard negatives, (B, D) each."""
        if len(embeddings) < 2:
            raise ValueError(f"embeddings must have at least 2 columns, got {len(embeddings)}")
        normalize = _normalizes(self.similarity_fct)
        if normalize is None:
            warnings.warn(_of_host(self.similarity_fct), stacklevel=2)
            return super().compute_loss_from_embeddings(embeddings, labels)
        if not isinstance(self.scale, Real):
            raise TypeError(f"scale must be a number, got {type(self.scale).__name__}")
        queries, documents, *hard_negatives = embeddings
        return multiple_negatives_loss(
            queries, documents, hard_negatives, logit_scale=float(self.scale),
            directions=tuple(dict.fromkeys(self.directions)), partition_mode=self.partition_mode,
            normalize=normalize, **self._hardness(bool(hard_negatives)),
            process_group=find_group(None, None if self.gather_across_devices else 1, None),
        )  # fmt: skip

    def _hardness(self, has_hard_negatives: bool) -> dict[str, Any]:
        """Return no hardness where the host adds none: without strength, or scores to add it to."""
        is_empty = self.hardness_mode == "hard_negatives" and not has_hard_negatives
        if is_empty or self.hardness_strength == 0:
            return {"hardness_mode": None, "hardness_strength": 0.0}
        strength = float(self.hardness_strength)
        return {
            "hardness_mode": self.hardness_mode,
            "hardness_strength": 0.0 if self.hardness_mode is None else strength,
        }


class CachedRankingMixin:
    """`CachedMultipleNegativesRankingLoss` of sentence-transformers 6.2, computed by fastclip.

    The host's own code encodes texts in mini-batches. The loss of the whole batch is then one call,
    not a loop over mini-batches of rows.

    Args:
        model: a SentenceTransformer. Further arguments have the names and the defaults of the
            host's class. `mini_batch_size` and `mini_batch_num_tokens` limit the mini-batches that
            are encoded, and `show_progress_bar` shows their progress.

    Raises:
        TypeError, ValueError: as `MultipleNegativesRankingLoss`.

    Example:
        >>> loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=64)
        >>> SentenceTransformerTrainer(model=model, train_dataset=pairs, loss=loss).train()
    """

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        settings = {name: getattr(self.loss, name) for name in SETTINGS}
        self.loss = __getattr__("MultipleNegativesRankingLoss")(model, **settings)

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """Return the loss, (), detached if `with_backward`.

        Args:
            reps: for each column the embeddings of its mini-batches, (b, D) each, as leaves.
            with_backward: whether to compute their gradients at once.
        """
        if _normalizes(self.loss.similarity_fct) is None:
            warnings.warn(_of_host(self.loss.similarity_fct), stacklevel=2)
            return super().calculate_loss(reps, labels, with_backward=with_backward)
        columns = [torch.cat(mini_batches) for mini_batches in reps]
        loss = self.loss.compute_loss_from_embeddings(columns, labels)
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss


MIXINS = {
    "MultipleNegativesRankingLoss": RankingMixin,
    "CachedMultipleNegativesRankingLoss": CachedRankingMixin,
}


def __getattr__(name: str) -> type:
    if name not in MIXINS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    losses = import_host("sentence_transformers.sentence_transformer.losses", EXTRA)
    return joined(globals(), name, MIXINS[name], getattr(losses, name))


def _normalizes(similarity: Any) -> bool | None:
    """Return whether scores are cosines (True) or products (False); None if they are neither."""
    util = import_host("sentence_transformers.util", EXTRA)
    if similarity is util.cos_sim:
        return True
    return False if similarity is util.dot_score else None


def _of_host(similarity: Any) -> str:
    name = getattr(similarity, "__name__", type(similarity).__name__)
    return (
        f"similarity_fct={name} is neither cos_sim nor dot_score: sentence-transformers itself "
        "computes this loss, and holds its matrices of scores"
    )
