"""SupCon: every other sample with the same label is a positive."""

from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.losses.family.inputs import check_labels, checked_features, chosen_scale
from fastclip.losses.family.module import FamilyLoss
from fastclip.losses.family.prepare import scores_of
from fastclip.losses.family.scores import log_sum_exp


def sup_con_loss(
    features: Tensor,
    labels: Tensor,
    temperature: float | Tensor | None = None,
    *,
    logit_scale: float | Tensor | None = None,
    normalize: bool = True,
    reduction: str = "mean",
    backend: str = "auto",
    workspace: int | None = None,
    process_group: ProcessGroup | None = None,
    schedule: str = "gather",
) -> Tensor:
    """Return the mean cross-entropy of each sample's positives among all other samples.

        score(x, y) = cos(x, y) / temperature
        P(i)        = the other rows with i's label
        loss_i      = log(sum over j != i of exp(score_ij)) - mean over p in P(i) of score_ip

    This is the form whose mean is outside of the logarithm ("out", L_out). A row whose label no
    other row has has no positive: its loss is 0, with no gradient of its own, and it is left out of
    the mean, but remains a negative of other rows. The mean over no row is 0. Positives are summed
    per class: neither scores nor a mask is held, and extra memory is O(B D).

    Args:
        features: (B, D), float32, bfloat16, float16 or float64, any strides. Several views of a
            sample are several rows with one label.
        labels: (B,) int64, same device, any values.
        temperature: number or one-element tensor, > 0, learned if it requires a gradient; None is
            0.07 unless there is a `logit_scale`.
        logit_scale, normalize, backend, workspace, process_group, schedule: see
            `fastclip.info_nce_loss`.
        reduction: "mean" over the rows that have a positive, "sum", or "none".

    Returns:
        float32 tensor (float64 for float64 features) of shape (), or (B,) for "none".

    Raises:
        As `fastclip.info_nce_loss`; and TypeError or ValueError if `labels` is not a tensor, or has
        a wrong length, dtype or device.

    Source:
        Khosla et al. 2020, arXiv:2004.11362, Equation 2. The authors' code multiplies by
        temperature / base_temperature, which is 1 by default.

    Example:
        >>> views = torch.cat([projected, projected_of_other_crop])
        >>> loss = fastclip.sup_con_loss(views, torch.cat([labels, labels]), temperature=0.1)
    """
    (features,) = checked_features({"features": features})
    check_labels("labels", labels, features)
    scale = chosen_scale(temperature, logit_scale, 0.07, features)
    scores = scores_of(
        "sup_con_loss", features, features, scale, normalize, backend, workspace, reduction,
        process_group, schedule=schedule,
    )  # fmt: skip
    prepared = scores.prepared(features)
    count, sums = scores.of_classes(labels, prepared)
    # The row itself belongs to its class.
    num_positives, of_positives = count - 1, sums - prepared
    has_positive = num_positives > 0
    mean_score = (prepared * of_positives).sum(1) / num_positives.clamp(min=1)
    losses = log_sum_exp([scores.of_itself(features)]) - scores.logit_scale * mean_score
    # Not multiplied by 0: a row that is alone has a log-sum-exp of -inf.
    losses = losses.where(has_positive, losses.new_zeros(()))
    return scores.reduce(losses, reduction, has_positive)


class SupConLoss(FamilyLoss):
    """`fastclip.sup_con_loss` as a module, called with (features, labels).

    Args:
        temperature: number or one-element tensor; None is 0.07, unless a call has a logit_scale.
        normalize, reduction, backend, workspace, schedule: see `fastclip.sup_con_loss`.
        process_group: None is torch.distributed's default group, if it is initialised.
        world_size: 1 computes the loss of this process alone, even if torch.distributed is
            initialised.

    Example:
        >>> loss = fastclip.SupConLoss(temperature=0.1)(projected, labels)
    """

    def forward(
        self, features: Tensor, labels: Tensor, logit_scale: float | Tensor | None = None
    ) -> Tensor:
        """Return the loss; see `fastclip.sup_con_loss`."""
        return sup_con_loss(features, labels, **self.settings(logit_scale))
