"""InfoLOOB, "leave one out bound": CLIP's loss without the positives in its denominators."""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.losses.family.inputs import checked_features, chosen_scale
from fastclip.losses.family.module import FamilyLoss
from fastclip.losses.family.prepare import scores_of
from fastclip.losses.family.scores import log_sum_exp, with_negatives
from fastclip.ops.side_ids import side_ids


def info_loob_loss(
    image_features: Tensor,
    text_features: Tensor,
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
    image_ids: Tensor | None = None,
    text_ids: Tensor | None = None,
) -> Tensor:
    """Return the log-sum-exp of each pair's negatives minus its score, in both directions.

        score_ij = cos(image_i, text_j) / temperature
        loss_i   = (log(sum over j != i of exp(score_ij)) - score_ii
                  + log(sum over j != i of exp(score_ji)) - score_ii) / 2

    The loss can be below 0. Its scores are never held: extra memory is O(B), or
    O(B D) with ids.

    Args:
        image_features: (B, D), float32, bfloat16, float16 or float64, any strides.
        text_features: (B, D), same dtype and device.
        temperature: number or one-element tensor, > 0, learned if it requires a gradient; None is
            1 / 30 unless there is a `logit_scale`.
        logit_scale, normalize, backend, workspace, process_group, schedule: see
            `fastclip.info_nce_loss`.
        reduction: "mean" over the pairs, "sum", or "none".
        ids, image_ids, text_ids: see `fastclip.clip_loss`: image i and text j that share an id, but
            are not a pair, are not negatives, and their score is left out. An image or a text
            without any negative left counts 0 in its pair's loss, with no gradient of its own. The
            mean is then over images and texts, without these; the mean over none is 0.

    Returns:
        float32 tensor (float64 for float64 features) of shape (), or (B,) for "none".

    Raises:
        As `fastclip.info_nce_loss`; and ValueError for a single pair, which has no negatives.

    Source:
        Fürst et al. 2022, arXiv:2110.11316. CLOOB computes it from retrieved features, and
        multiplies it by the temperature.

    Example:
        >>> loss = fastclip.info_loob_loss(images, texts, logit_scale=30.0)
    """
    image_features, text_features = checked_features(
        {"image_features": image_features, "text_features": text_features}
    )
    same = side_ids(image_features, ids, image_ids=image_ids, text_ids=text_ids)
    scale = chosen_scale(temperature, logit_scale, 1 / 30, image_features)
    scores = scores_of(
        "info_loob_loss", image_features, text_features, scale, normalize, backend, workspace,
        reduction, process_group, same, schedule,
    )  # fmt: skip
    scores.check_negatives(image_features)
    positive, of_images, of_texts = scores.of_both(image_features, text_features, same)
    log_sums = log_sum_exp([of_images]), log_sum_exp([of_texts])
    if same is None:
        return scores.reduce(sum(log_sums) / 2 - positive, reduction)
    losses, have_negatives = with_negatives(torch.stack(log_sums) - positive)  # (2, B)
    if reduction == "mean":
        return scores.reduce(losses.flatten(), reduction, have_negatives.flatten())
    return scores.reduce(losses.mean(0), reduction)


class InfoLOOBLoss(FamilyLoss):
    """`fastclip.info_loob_loss` as a module, called with (image_features, text_features).

    Args:
        temperature: number or one-element tensor; None is 1 / 30, unless a call has a logit_scale.
        normalize, reduction, backend, workspace, schedule: see `fastclip.info_loob_loss`.
        process_group: None is torch.distributed's default group, if it is initialised.
        world_size: 1 computes the loss of this process alone, even if torch.distributed is
            initialised.

    Example:
        >>> loss = fastclip.InfoLOOBLoss()(images, texts, model.logit_scale.exp())
    """

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor | None = None,
        *,
        ids: Tensor | None = None,
        image_ids: Tensor | None = None,
        text_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the loss; see `fastclip.info_loob_loss`."""
        return info_loob_loss(
            image_features, text_features, ids=ids, image_ids=image_ids, text_ids=text_ids,
            **self.settings(logit_scale),
        )  # fmt: skip
