"""Multiple negatives ranking: queries and documents, in up to four directions."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.losses.family.inputs import checked_features, chosen_scale
from fastclip.losses.family.module import FamilyLoss
from fastclip.losses.family.prepare import scores_of
from fastclip.losses.family.ranking_ids import RankingIds, between, ranking_ids
from fastclip.losses.family.ranking_options import RankingOptions, check_ranking, codes_of
from fastclip.losses.family.scores import Scores, cross_entropy_of, single
from fastclip.ops.differentiation import needs_grad


def multiple_negatives_loss(
    queries: Tensor,
    documents: Tensor,
    hard_negatives: Sequence[Tensor] = (),
    temperature: float | Tensor | None = None,
    *,
    directions: Sequence[str] = ("query_to_doc",),
    partition_mode: str = "joint",
    hardness_mode: str | None = None,
    hardness_strength: float = 0.0,
    logit_scale: float | Tensor | None = None,
    normalize: bool = True,
    reduction: str = "mean",
    backend: str = "auto",
    workspace: int | None = None,
    process_group: ProcessGroup | None = None,
    schedule: str = "gather",
    ids: Tensor | None = None,
    query_ids: Tensor | None = None,
    document_ids: Tensor | None = None,
    hard_negative_ids: Sequence[Tensor] | None = None,
) -> Tensor:
    """Return the cross-entropy of each query's document among all documents, and optionally more.

        score(x, y)     = cos(x, y) / temperature,    p_i = score(query_i, document_i)
        query_to_doc    the scores of query i with all documents and all hard negatives
        doc_to_query    the scores of document i with all queries
        query_to_query  the scores of query i with the other queries
        doc_to_doc      the scores of document i with the documents and hard negatives of others

        "joint":          loss_i = log(sum of exp over the scores of all directions) - p_i
        "per_direction":  loss_i = mean over directions of log(sum of exp over its scores) - p_i

    With both query_to_doc and doc_to_query a joint sum has p_i twice, as in sentence-transformers;
    the loss is at least log 2. No scores are held: extra memory is O(B D).

    Args:
        queries: (B, D), float32, bfloat16, float16 or float64, any strides.
        documents: (B, D), same dtype and device; row i belongs to query i.
        hard_negatives: any number of (B, D), same dtype and device; row i of each is a document
            that is wrong for query i, and a negative of all other queries too.
        temperature: number or one-element tensor, > 0, learned if it requires a gradient; None is
            0.05, sentence-transformers' scale of 20, unless there is a `logit_scale`.
        directions: some of the four, "query_to_doc" among them.
        partition_mode: "joint" or "per_direction"; the latter takes the first two directions only,
            as the others have no positive among their scores.
        hardness_mode: adds hardness_strength * cos(x, y), without a gradient, to scores of
            query_to_doc: of other queries' documents and hard negatives ("in_batch_negatives"), of
            a query's own hard negatives ("hard_negatives"), or of both ("all_negatives").
        hardness_strength: >= 0; above 0 if and only if there is a `hardness_mode`.
        logit_scale, normalize, backend, workspace, process_group, schedule: see
            `fastclip.info_nce_loss`.
        reduction: "mean" over the queries, "sum", or "none".
        ids: (B,) int64, any values, on the features' device or on the CPU: the id of each query and
            its document. Different rows with one id are not negatives of each other: the scores of
            their queries and documents, of the two queries and of the two documents are left out. A
            query's own document is right, whatever its id. Over a group ids are compared across all
            processes.
        query_ids, document_ids: both instead of `ids`, if a query and its document may have
            different ids.
        hard_negative_ids: one (B,) for each of `hard_negatives`, compared with the ids of queries
            and, in doc_to_doc, of documents. A query's own hard negative is left out too if it has
            the query's id. With None no hard negative is left out.

    Returns:
        float32 tensor (float64 for float64 features) of shape (), or (B,) for "none".

    Raises:
        As `fastclip.info_nce_loss`; and ValueError if directions or modes are unknown or exclude
        each other, the mode "hard_negatives" is given without any, or `hard_negative_ids` are not
        as many as `hard_negatives` or are given without other ids.

    Source:
        Henderson et al. 2017, arXiv:1705.00652; Li et al. 2023, arXiv:2308.03281 (the joint sum of
        four directions); Lan et al. 2025, arXiv:2503.04812, Equation 5 (hardness). Names and
        values equal sentence-transformers 6.2.0's MultipleNegativesRankingLoss.

    Example:
        >>> loss = fastclip.multiple_negatives_loss(
        ...     queries, documents, [wrong], directions=("query_to_doc", "doc_to_query"),
        ...     partition_mode="per_direction")
    """
    options = RankingOptions(tuple(directions), partition_mode, hardness_mode, hardness_strength)
    check_ranking(options)
    named = {"queries": queries, "documents": documents}
    named |= {f"hard_negatives[{i}]": x for i, x in enumerate(_listed(hard_negatives))}
    queries, *documents = checked_features(named)
    if hardness_mode == "hard_negatives" and len(documents) == 1:
        raise ValueError("hardness_mode 'hard_negatives' needs hard_negatives, got none")
    same = ranking_ids(queries, documents[1:], ids, query_ids, document_ids, hard_negative_ids)
    scale = chosen_scale(temperature, logit_scale, 0.05, queries)
    scores = scores_of(
        "multiple_negatives_loss", queries, documents[0], scale, normalize, backend, workspace,
        reduction, process_group, same.of_pairs, schedule,
    )  # fmt: skip
    numbers = {"the number of hard_negatives": len(documents) - 1,
               "whether there are hard_negative_ids": hard_negative_ids is not None}  # fmt: skip
    scores.check_same(numbers | codes_of(options))
    if len(documents) > 1:  # the number is the same on every rank: just checked
        of_negatives = enumerate(map(needs_grad, documents[1:]))
        scores.check_same({f"requires_grad of hard_negatives[{i}]": x for i, x in of_negatives})
    return scores.reduce(_losses(scores, queries, documents, options, same), reduction)


def _losses(
    scores: Scores,
    queries: Tensor,
    documents: list[Tensor],
    options: RankingOptions,
    ids: RankingIds,
) -> Tensor:  # (B,)
    """Return the losses; `documents` are (B, D) each, the right ones, then hard negatives."""
    harder, hard_queries, hard_documents = _harder(scores, queries, documents, options)
    of_others_is_hard = options.hardness_mode in ("in_batch_negatives", "all_negatives")
    of_own_is_hard = options.hardness_mode in ("hard_negatives", "all_negatives")
    right, *wrong = documents
    parts = dict.fromkeys(options.directions, ())
    of_cols = None
    if of_others_is_hard:
        positive = scores.of_pairs(queries, right)
        _, of_rows = harder.of_rows(hard_queries, hard_documents[0], ids=ids.of_pairs)
    elif "doc_to_query" in parts:
        positive, of_rows, of_cols = scores.of_both(queries, right, ids.of_pairs)
    else:
        positive, of_rows = scores.of_rows(queries, right, ids=ids.of_pairs)
    to_doc = [of_rows]
    for i, (document, hard_document) in enumerate(zip(wrong, hard_documents[1:], strict=True)):
        same = between(ids.of_queries, ids.hard_negatives[i])
        own, others = (
            harder.of_rows(hard_queries, hard_document, ids=same)
            if of_others_is_hard
            else scores.of_rows(queries, document, ids=same)
        )
        if of_own_is_hard != of_others_is_hard:
            own = (
                harder.of_pairs(hard_queries, hard_document)
                if of_own_is_hard
                else scores.of_pairs(queries, document)
            )
        to_doc += [others, single(own, ids.own_are_same(i))]
    parts["query_to_doc"] = to_doc
    if "doc_to_query" in parts:
        parts["doc_to_query"] = [of_cols or scores.of_rows(right, queries, ids=ids.swapped)[1]]
    if "query_to_query" in parts:
        parts["query_to_query"] = [scores.of_itself(queries, ids.of_queries)]
    if "doc_to_doc" in parts:
        others = [
            scores.of_rows(right, document, ids=between(ids.of_documents, of_document))[1]
            for document, of_document in zip(wrong, ids.hard_negatives, strict=True)
        ]
        parts["doc_to_doc"] = [scores.of_itself(right, ids.of_documents), *others]
    if options.partition_mode == "joint":
        times = 2.0 if "doc_to_query" in parts else 1.0
        return cross_entropy_of(positive, [x for part in parts.values() for x in part], times)
    return sum(cross_entropy_of(positive, part) for part in parts.values()) / len(parts)


def _harder(
    scores: Scores, queries: Tensor, documents: list[Tensor], options: RankingOptions
) -> tuple[Scores, Tensor, list[Tensor]]:
    """Return scores, queries and documents that add hardness to values, but not to gradients.

    (scale + strength) <x, y> has gradients for x and y that are 1 + strength / scale times too
    large; the returned features divide them by that. The gradient of the scale is <x, y> as it is.
    """
    if options.hardness_mode is None:
        return scores, queries, documents
    harder = replace(scores, logit_scale=scores.logit_scale + options.hardness_strength)
    share = (scores.logit_scale / harder.logit_scale).detach()
    passed_on = [x.detach() + share.to(x.dtype) * (x - x.detach()) for x in (queries, *documents)]
    return harder, passed_on[0], passed_on[1:]


def _listed(hard_negatives: Sequence[Tensor]) -> Sequence[Tensor]:
    if isinstance(hard_negatives, Tensor):
        raise TypeError("hard_negatives must be a sequence of tensors (B, D), got one torch.Tensor")
    return hard_negatives


class MultipleNegativesLoss(FamilyLoss):
    """`fastclip.multiple_negatives_loss` as a module, called with features.

    Args:
        temperature: number or one-element tensor; None is 0.05, unless a call has a logit_scale.
        directions, partition_mode, hardness_mode, hardness_strength: see the function.
        options: `normalize`, `reduction`, `backend` and `workspace`, see the function;
            `process_group`, `world_size` and `schedule`, see
            `fastclip.NTXentLoss`.

    Example:
        >>> loss = fastclip.MultipleNegativesLoss(hardness_mode="all_negatives",
        ...                                       hardness_strength=5.0)
        >>> loss(queries, documents, [wrong_documents])
    """

    def __init__(
        self,
        temperature: float | Tensor | None = None,
        *,
        directions: Sequence[str] = ("query_to_doc",),
        partition_mode: str = "joint",
        hardness_mode: str | None = None,
        hardness_strength: float = 0.0,
        **options,
    ) -> None:
        super().__init__(temperature, **options)
        self.options = RankingOptions(
            tuple(directions), partition_mode, hardness_mode, hardness_strength
        )
        check_ranking(self.options)

    def forward(
        self,
        queries: Tensor,
        documents: Tensor,
        hard_negatives: Sequence[Tensor] = (),
        logit_scale: float | Tensor | None = None,
        *,
        ids: Tensor | None = None,
        query_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        hard_negative_ids: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Return the loss; see `fastclip.multiple_negatives_loss`."""
        settings = self.options._asdict() | self.settings(logit_scale)
        return multiple_negatives_loss(
            queries, documents, hard_negatives, ids=ids, query_ids=query_ids,
            document_ids=document_ids, hard_negative_ids=hard_negative_ids, **settings,
        )  # fmt: skip

    def extra_repr(self) -> str:
        options = (f"{name}={value!r}" for name, value in self.options._asdict().items())
        return ", ".join([*options, super().extra_repr()])
