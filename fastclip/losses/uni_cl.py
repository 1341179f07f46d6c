"""UniCL: images and texts with labels; every text of an image's label is a positive."""

from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.losses.family.inputs import check_labels, checked_features, chosen_scale
from fastclip.losses.family.module import FamilyLoss
from fastclip.losses.family.prepare import scores_of
from fastclip.losses.family.scores import log_sum_exp, single


def uni_cl_loss(
    image_features: Tensor,
    text_features: Tensor,
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
    """Return the mean cross-entropy of the pairs that share a label, in both directions.

        score_ij = cos(image_i, text_j) / temperature
        P(i)     = the rows with i's label, i among them
        loss_i   = (log(sum over j of exp(score_ij)) - mean over p in P(i) of score_ip
                  + log(sum over j of exp(score_ji)) - mean over p in P(i) of score_pi) / 2

    Every row has a positive, its own pair. If all labels are different, this is CLIP's loss.
    Positives are summed per class: neither scores nor a mask is held, and extra memory is O(B D).

    Args:
        image_features: (B, D), float32, bfloat16, float16 or float64, any strides.
        text_features: (B, D), same dtype and device.
        labels: (B,) int64, same device, any values: the label of each pair's image and text. Give
            a pair of unknown class a label of its own.
        temperature: number or one-element tensor, > 0, learned if it requires a gradient; None is
            0.07 unless there is a `logit_scale`.
        logit_scale, normalize, backend, workspace, process_group, schedule: see
            `fastclip.info_nce_loss`.
        reduction: "mean" over the pairs, "sum", or "none".

    Returns:
        float32 tensor (float64 for float64 features) of shape (), or (B,) for "none".

    Raises:
        As `fastclip.sup_con_loss`.

    Source:
        Yang et al. 2022, arXiv:2204.03610, which adds both directions; this is their mean.

    Example:
        >>> loss = fastclip.uni_cl_loss(images, texts, labels, logit_scale=model.logit_scale.exp())
    """
    image_features, text_features = checked_features(
        {"image_features": image_features, "text_features": text_features}
    )
    check_labels("labels", labels, image_features)
    scale = chosen_scale(temperature, logit_scale, 0.07, image_features)
    scores = scores_of(
        "uni_cl_loss", image_features, text_features, scale, normalize, backend, workspace,
        reduction, process_group, schedule=schedule,
    )  # fmt: skip
    own, of_images, of_texts = scores.of_both(image_features, text_features)
    pair = single(own)
    log_sums = log_sum_exp([of_images, pair]) + log_sum_exp([of_texts, pair])

    images, texts = scores.prepared(image_features), scores.prepared(text_features)
    count, image_sums, text_sums = scores.of_classes(labels, images, texts)
    of_positives = (images * text_sums).sum(1) + (texts * image_sums).sum(1)
    mean_scores = scores.logit_scale * of_positives / count
    return scores.reduce((log_sums - mean_scores) / 2, reduction)


class UniCLLoss(FamilyLoss):
    """`fastclip.uni_cl_loss` as a module, called with (image_features, text_features, labels).

    Args:
        temperature: number or one-element tensor; None is 0.07, unless a call has a logit_scale.
        normalize, reduction, backend, workspace, schedule: see `fastclip.uni_cl_loss`.
        process_group: None is torch.distributed's default group, if it is initialised.
        world_size: 1 computes the loss of this process alone, even if torch.distributed is
            initialised.

    Example:
        >>> loss = fastclip.UniCLLoss()(images, texts, labels, model.logit_scale.exp())
    """

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        labels: Tensor,
        logit_scale: float | Tensor | None = None,
    ) -> Tensor:
        """Return the loss; see `fastclip.uni_cl_loss`."""
        return uni_cl_loss(image_features, text_features, labels, **self.settings(logit_scale))
