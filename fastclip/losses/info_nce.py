"""InfoNCE in one direction: each query finds its own key among others."""

from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.losses.family.inputs import checked_features, chosen_scale
from fastclip.losses.family.module import FamilyLoss
from fastclip.losses.family.prepare import scores_of
from fastclip.losses.family.scores import cross_entropy_of
from fastclip.ops.differentiation import needs_grad
from fastclip.ops.side_ids import SideIds, check_all_ids, side_ids


def info_nce_loss(
    query: Tensor,
    positive_key: Tensor,
    negative_keys: Tensor | None = None,
    temperature: float | Tensor | None = None,
    *,
    logit_scale: float | Tensor | None = None,
    normalize: bool = True,
    reduction: str = "mean",
    backend: str = "auto",
    workspace: int | None = None,
    process_group: ProcessGroup | None = None,
    schedule: str = "gather",
    ids: Tensor | None = None,
    query_ids: Tensor | None = None,
    key_ids: Tensor | None = None,
    negative_ids: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of each query's own key among the keys of other queries.

        score(x, y) = cos(x, y) / temperature
        loss_i      = log(1 + sum_j exp(score(query_i, negative_j) - score(query_i, positive_i)))

    The negatives of query i are the positive keys of all other queries or, if `negative_keys` are
    given, only these. The scores are never held: extra memory is O(B), or O(B D) if features are
    normalised outside of a backend.

    Args:
        query: (B, D), float32, bfloat16, float16 or float64, any strides.
        positive_key: (B, D), same dtype and device; row i is the key of query i.
        negative_keys: (K, D), same dtype and device, shared by all queries; or None.
        temperature: number or one-element tensor, > 0, learned if it requires a gradient; None is
            0.07 unless there is a `logit_scale`.
        logit_scale: number or one-element tensor, > 0: 1 / temperature, as CLIP learns it.
        normalize: divide rows by max(norm, 1e-12) first, as `F.normalize` does.
        reduction: "mean", "sum" or "none".
        backend, workspace: see `fastclip.clip_loss`.
        process_group: None is this process alone. With a group the queries of all its processes
            are one batch, as in `fastclip.clip_loss`: the keys of all processes are negatives of
            each other's queries. All processes' `negative_keys` are shared, and their number may
            differ between processes.
        schedule: how the rows of each process meet the columns (here the keys) of all processes of
            a group: "gather" holds all columns at once, O(N D) memory; "ring" holds the columns of
            one process at a time, O(max B_r D), and keeps no scores, whatever the workspace is.
        ids: (B,) int64, any values, on the features' device or on the CPU: the id of each query and
            its key. A key with query i's id is not a negative of query i: its score is left out of
            the sum. A query's own key is its positive, whatever its id. A query whose negatives are
            all left out has a loss of 0 and no gradient. Over a group ids are compared across all
            processes.
        query_ids, key_ids: both instead of `ids`: query i and key j count as the same where
            query_ids[i] == key_ids[j].
        negative_ids: (K,) int64, the ids of `negative_keys`, which are compared with `ids` or
            `query_ids`. With `negative_keys`, give both `negative_ids` and the ids of the queries,
            or neither; `key_ids` must then be None.

    Returns:
        float32 tensor (float64 for float64 features) of shape (), or (B,) for "none".

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: shapes, dtypes or devices disagree, an input is empty, `temperature` and
            `logit_scale` are both given or not positive, a name is unknown, the reduction over a
            group is not "mean", or the processes of a group disagree; ids have a wrong length,
            dtype or device, or nothing to be compared with.
        RuntimeError: as `fastclip.clip_loss`.

    Source:
        van den Oord et al. 2018, arXiv:1807.03748, Equation 4; He et al. 2020, arXiv:1911.05722,
        Equation 1. The signature is taken from PyTorch's pull request 195380.

    Example:
        >>> loss = fastclip.info_nce_loss(queries, documents, temperature=0.05)
    """
    query, positive_key, negative_keys = checked_features(
        {"query": query, "positive_key": positive_key}, negative_keys=negative_keys
    )
    same = _checked_ids(query, negative_keys, ids, query_ids, key_ids, negative_ids)
    scale = chosen_scale(temperature, logit_scale, 0.07, query)
    name = "info_nce_loss" if negative_keys is None else "info_nce_loss with negative_keys"
    scores = scores_of(
        name, query, positive_key, scale, normalize, backend, workspace, reduction, process_group,
        same, schedule,
    )  # fmt: skip
    if negative_keys is None:
        positive, negatives = scores.of_rows(query, positive_key, ids=same)
    else:
        scores.check_same({"requires_grad of negative_keys": needs_grad(negative_keys)})
        positive = scores.of_pairs(query, positive_key)
        _, negatives = scores.of_rows(query, negative_keys, paired=False, ids=same)
    return scores.reduce(cross_entropy_of(positive, [negatives]), reduction)


def _checked_ids(
    query: Tensor,
    negative_keys: Tensor | None,
    ids: Tensor | None,
    query_ids: Tensor | None,
    key_ids: Tensor | None,
    negative_ids: Tensor | None,
) -> SideIds | None:
    """Return the ids of queries and of their negative keys, or None; raise if they are wrong."""
    if negative_keys is None:
        if negative_ids is not None:
            raise ValueError("negative_ids are the ids of negative_keys, but negative_keys is None")
        return side_ids(query, ids, query_ids=query_ids, key_ids=key_ids)
    if key_ids is not None:
        raise ValueError("key_ids cannot be given with negative_keys: give negative_ids")
    if ids is not None and query_ids is not None:
        raise ValueError("ids are the ids of the queries: query_ids must be None if ids are given")
    name, of_queries = ("query_ids", query_ids) if ids is None else ("ids", ids)
    if of_queries is None and negative_ids is None:
        return None
    if of_queries is None or negative_ids is None:
        missing = "negative_ids" if negative_ids is None else "ids"
        raise ValueError(
            "with negative_keys, ids or query_ids are compared with negative_ids: "
            f"{missing} is None"
        )
    check_all_ids({name: (of_queries, query), "negative_ids": (negative_ids, negative_keys)})
    return SideIds(of_queries, negative_ids)


class InfoNCELoss(FamilyLoss):
    """`fastclip.info_nce_loss` as a module, with the call of PyTorch's pull request 195380.

    Args:
        temperature: number or one-element tensor; None is 0.07, unless a call has a logit_scale.
        normalize, reduction, backend, workspace, schedule: see `fastclip.info_nce_loss`.
        process_group: None is torch.distributed's default group, if it is initialised.
        world_size: 1 computes the loss of this process alone, even if torch.distributed is
            initialised.

    Example:
        >>> loss = fastclip.InfoNCELoss(temperature=0.07)(queries, documents)
    """

    def forward(
        self,
        query: Tensor,
        positive_key: Tensor,
        negative_keys: Tensor | None = None,
        logit_scale: float | Tensor | None = None,
        *,
        ids: Tensor | None = None,
        query_ids: Tensor | None = None,
        key_ids: Tensor | None = None,
        negative_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the loss; see `fastclip.info_nce_loss`."""
        return info_nce_loss(
            query, positive_key, negative_keys, ids=ids, query_ids=query_ids, key_ids=key_ids,
            negative_ids=negative_ids, **self.settings(logit_scale),
        )  # fmt: skip
