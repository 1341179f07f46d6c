"""`QueueLoss`: a loss against a queue of older keys, as in MoCo and memories across batches."""

from torch import Tensor

from fastclip.backends.normalization import prepared_rows
from fastclip.losses.family.inputs import checked_features, chosen_scale
from fastclip.losses.family.key_queue import KeyQueue
from fastclip.losses.family.module import FamilyLoss
from fastclip.losses.family.prepare import scores_of
from fastclip.losses.family.scores import Scores, both_sides, cross_entropy_of, nothing
from fastclip.ops import validation
from fastclip.ops.side_ids import SideIds, check_ids


class QueueLoss(FamilyLoss):
    """InfoNCE of queries against their own keys, with the keys of the last batches as negatives.

        score(x, y) = cos(x, y) / temperature
        loss_i      = log(1 + sum_j exp(score(query_i, k_j) - score(query_i, key_i)))

    where the k_j are the keys in the queue and, with `in_batch`, the keys of the other rows. After
    the loss the batch's keys enter the queue, as constants, and the oldest leave it. With
    `symmetric` there are two queues: a call has queries and keys of the other direction too, and
    the loss is the mean of both directions. The scores are never held: extra memory is O(K D), one
    copy of the queue for the backward.

        MoCo                  QueueLoss(dim, 65536), keys from a momentum encoder under no_grad
        memory across batches QueueLoss(dim, size, in_batch=True), keys from the encoder itself
        ALBEF, BLIP           QueueLoss(dim, size, in_batch=True, symmetric=True), called with
                              (images, momentum texts, texts, momentum images)

    The queue begins empty. A row without any negative has a loss of 0 and no gradient; without
    `in_batch` all rows of the first call are such rows, unless `enqueue` has filled the queue. A
    module in evaluation mode (`loss.eval()`) leaves the queue as it is. The state dict has the
    keys, the place of the next key and the number of keys: a loaded loss continues with the same
    bits. With `with_ids` it has the ids of the keys too, and only a loss with `with_ids` loads it.

    Args:
        dim: D of the keys.
        size: K, how many keys are kept.
        temperature: number or one-element tensor, > 0; None is 0.07, unless a call has a
            logit_scale.
        symmetric: whether there are two directions, and two queues.
        in_batch: whether the keys of the batch's other rows are negatives too.
        with_ids: whether each call has `ids`, one for each pair, which are kept with the keys: a
            key of the queue, or of another row, that has a query's id is not a negative of that
            query, and its score is left out.
        options: `normalize`, `reduction`, `backend` and `workspace`, see
            `fastclip.info_nce_loss`; `process_group`, `world_size` and `schedule`, see
            `fastclip.NTXentLoss`.
            Every process of a group puts the keys of all processes into its queue, so that all
            queues stay the same. For that, every process holds all new keys once, also with
            `schedule="ring"`: O(N D) besides the queue's O(K D).

    Keys are kept in the dtype of the module, float32 unless it is moved (`loss.double()`), as unit
    rows if `normalize`.

    Source:
        He et al. 2020, arXiv:1911.05722, Equation 1; Wang et al. 2020, arXiv:1912.06798 (memories
        across batches); Li et al. 2021, arXiv:2107.07651 (both directions).

    Example:
        >>> loss = fastclip.QueueLoss(dim=128, size=65536, temperature=0.07)
        >>> loss(encoder(crop), momentum_encoder(other_crop)).backward()
    """

    def __init__(
        self,
        dim: int,
        size: int,
        temperature: float | Tensor | None = None,
        *,
        symmetric: bool = False,
        in_batch: bool = False,
        with_ids: bool = False,
        **options,
    ) -> None:
        super().__init__(temperature, **options)
        self.in_batch = in_batch
        self.with_ids = with_ids
        self.queue = KeyQueue(dim, size, with_ids)
        self.reverse_queue = KeyQueue(dim, size, with_ids) if symmetric else None

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        reverse_query: Tensor | None = None,
        reverse_key: Tensor | None = None,
        logit_scale: float | Tensor | None = None,
        *,
        ids: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, float32 (float64 for float64 features), () or (B,); then enqueue.

        Args:
            query: (B, D), float32, bfloat16, float16 or float64, any strides.
            key: (B, D), same dtype and device; row i is the key of query i. It gets a gradient if
                it requires one.
            reverse_query, reverse_key: (B, D), for the other direction; only with `symmetric`.
            logit_scale: number or one-element tensor, > 0, instead of 1 / temperature.
            ids: (B,) int64, any values, on the features' device or on the CPU: the id of each query
                and its key, in both directions; only with `with_ids`.

        Raises:
            TypeError, ValueError: as `fastclip.info_nce_loss`; D is not the queue's; features of
                the other direction are given without `symmetric`, or are missing with it; ids are
                given without `with_ids`, or are missing with it; the queues of a group's processes
                are not equally full.
        """
        settings = self.settings(logit_scale)
        named = {"query": query, "key": key}
        reverse = {"reverse_query": reverse_query, "reverse_key": reverse_key}
        queues = [self.queue]
        if self.reverse_queue is not None:
            named |= reverse
            queues.append(self.reverse_queue)
        elif reverse_query is not None or reverse_key is not None:
            raise ValueError("reverse_query and reverse_key need a QueueLoss with symmetric=True")
        features = checked_features(named)
        validation.check_alike(
            ("query", features[0]), ("the queue", self.queue.kept(features[0])), same_length=False
        )
        self._check_ids(ids, features[0])
        same = both_sides(ids)
        scale = chosen_scale(self.temperature, logit_scale, 0.07, features[0])
        scores = scores_of(
            "QueueLoss", features[0], features[1], scale, self.normalize, self.backend,
            self.workspace, self.reduction, settings["process_group"], same, self.schedule,
        )  # fmt: skip
        of_queue = {"size": len(self.queue.keys), "num_kept": self.queue.num_kept}
        scores.check_same({**of_queue, "cursor": self.queue.cursor, "in_batch": self.in_batch,
                           "symmetric": len(queues) == 2})  # fmt: skip
        pairs = list(zip(features[::2], features[1::2], queues, strict=True))
        losses = sum(self._losses(scores, *pair, same) for pair in pairs) / len(pairs)
        loss = scores.reduce(losses, self.reduction)
        if self.training:
            of_everyone = None if ids is None else scores.of_everyone(ids.to(features[0].device))
            for _, keys, queue in pairs:
                queue.put(scores.of_everyone(scores.prepared(keys.detach())), of_everyone)
        return loss

    def enqueue(
        self, key: Tensor, reverse_key: Tensor | None = None, ids: Tensor | None = None
    ) -> None:
        """Put keys (B, D) into the queue without a loss; with `symmetric`, into both queues.

        With `with_ids`, give their `ids` (B,). Nothing is sent to other processes: every process
        must be given the same keys.

        Raises:
            TypeError, ValueError: as a call of the loss.
        """
        if (reverse_key is None) != (self.reverse_queue is None):
            raise ValueError("enqueue needs a reverse_key with symmetric=True, and only then")
        named = {"key": key} if reverse_key is None else {"key": key, "reverse_key": reverse_key}
        features = checked_features(named)
        queues = [self.queue, self.reverse_queue][: len(features)]
        for keys, queue in zip(features, queues, strict=True):
            validation.check_alike(("key", keys), ("the queue", queue.kept(keys)), False)
        self._check_ids(ids, features[0])
        for keys, queue in zip(features, queues, strict=True):
            queue.put(prepared_rows(keys.detach(), self.normalize), ids)

    def _check_ids(self, ids: Tensor | None, features: Tensor) -> None:
        if ids is None:
            if self.with_ids:
                raise ValueError("ids must be given to a QueueLoss with with_ids=True, got None")
            return
        if not self.with_ids:
            raise ValueError(
                "ids need a QueueLoss with with_ids=True, whose queue holds the ids of keys"
            )
        check_ids("ids", ids, features)

    def _losses(
        self, scores: Scores, query: Tensor, key: Tensor, queue: KeyQueue, ids: SideIds | None
    ) -> Tensor:
        if self.in_batch:
            positive, of_batch = scores.of_rows(query, key, ids=ids)
        else:
            positive = scores.of_pairs(query, key)
            of_batch = nothing(positive)
        parts = [of_batch]
        if queue.num_kept > 0:
            if ids is not None:
                ids = SideIds(ids.rows.to(query.device), queue.kept_ids())
            parts.append(scores.of_shared(query, queue.kept(query), ids))
        return cross_entropy_of(positive, parts)

    def extra_repr(self) -> str:
        with_ids = "with_ids=True, " if self.with_ids else ""
        return f"in_batch={self.in_batch}, {with_ids}{super().extra_repr()}"
