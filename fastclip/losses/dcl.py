"""DCL, decoupled contrastive learning: NT-Xent without the positive in the denominator."""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.losses.family.inputs import checked_features, chosen_scale, positive_number
from fastclip.losses.family.module import FamilyLoss
from fastclip.losses.family.prepare import scores_of
from fastclip.losses.family.scores import Scores, log_sum_exp, with_negatives
from fastclip.ops.side_ids import side_ids


def dcl_loss(
    z0: Tensor,
    z1: Tensor,
    temperature: float | Tensor | None = None,
    *,
    sigma: float | None = None,
    logit_scale: float | Tensor | None = None,
    normalize: bool = True,
    reduction: str = "mean",
    backend: str = "auto",
    workspace: int | None = None,
    process_group: ProcessGroup | None = None,
    schedule: str = "gather",
    ids: Tensor | None = None,
) -> Tensor:
    """Return the log-sum-exp of each view's negatives minus the score of its positive.

        score(x, y) = cos(x, y) / temperature,    z = z0 and z1 as 2 B views
        loss_i      = log(sum_j exp(score(z_i, z_j))) - w_i score(z_i, other view of z_i)
                      over the 2 B - 2 views j that are not views of i's sample
        w_i         = 1, or with `sigma` 2 - exp(c_i / sigma) / mean_k(exp(c_k / sigma)),
                      c_k the cosine of sample k's two views, a constant (DCLW)

    The loss can be below 0. Its scores are never held: extra memory is O(B D).

    Args:
        z0: (B, D), float32, bfloat16, float16 or float64, any strides: one view of each sample.
        z1: (B, D), same dtype and device: the other view.
        temperature: number or one-element tensor, > 0, learned if it requires a gradient; None is
            0.1 unless there is a `logit_scale`.
        sigma: number > 0 for the weighted form; None is the plain form.
        logit_scale, normalize, backend, workspace, process_group, schedule: see
            `fastclip.info_nce_loss`.
        reduction: "mean" over the 2 B views, "sum", or "none".
        ids: (B,) int64, any values, on the features' device or on the CPU: the id of each sample,
            shared by its two views. Views of other samples with the same id are not negatives:
            their scores are left out. If all samples have one id, there are no negatives, and all
            losses are 0 without a gradient. The mean in w_i is over all samples.

    Returns:
        float32 tensor (float64 for float64 features) of shape (), or (2 B,) for "none": first
        the rows of z0, then the rows of z1.

    Raises:
        As `fastclip.info_nce_loss`; and ValueError for a single sample, which has no negatives.

    Source:
        Yeh et al. 2021, arXiv:2110.06848 (DCL and DCLW).

    Example:
        >>> loss = fastclip.dcl_loss(projected, projected_of_other_crop, temperature=0.1)
    """
    z0, z1 = checked_features({"z0": z0, "z1": z1})
    same = side_ids(z0, ids)
    scale = chosen_scale(temperature, logit_scale, 0.1, z0)
    if sigma is not None:
        positive_number("sigma", sigma)
    scores = scores_of(
        "dcl_loss", z0, z1, scale, normalize, backend, workspace, reduction, process_group, same,
        schedule,
    )  # fmt: skip
    scores.check_negatives(z0)
    scores.check_same({"sigma": sigma or 0.0})
    positive, of_rows, of_cols = scores.of_both(z0, z1, same)
    of_z0 = log_sum_exp([of_rows, scores.of_itself(z0, ids)])
    of_z1 = log_sum_exp([of_cols, scores.of_itself(z1, ids)])
    if sigma is not None:
        positive = _weights(scores, z0.detach(), z1.detach(), sigma) * positive
    losses = torch.cat([of_z0 - positive, of_z1 - positive])
    if same is not None:
        losses, _ = with_negatives(losses)
    return scores.reduce(losses, reduction)


def _weights(scores: Scores, z0: Tensor, z1: Tensor, sigma: float) -> Tensor:  # (B,)
    x = (scores.prepared(z0) * scores.prepared(z1)).sum(1) / sigma
    all_x = scores.of_everyone(x)
    return 2 - (x - all_x.logsumexp(0)).exp() * len(all_x)


class DCLLoss(FamilyLoss):
    """`fastclip.dcl_loss` as a module, called with two views.

    Args:
        temperature: number or one-element tensor; None is 0.1, unless a call has a logit_scale.
        sigma: number > 0 for the weighted form (its authors use 0.5); None is the plain form.
        options: `normalize`, `reduction`, `backend` and `workspace`, see `fastclip.dcl_loss`;
            `process_group`, `world_size` and `schedule`, see
            `fastclip.NTXentLoss`.

    Example:
        >>> loss = fastclip.DCLLoss(temperature=0.1)(projected, projected_of_other_crop)
    """

    def __init__(
        self,
        temperature: float | Tensor | None = None,
        *,
        sigma: float | None = None,
        **options,
    ) -> None:
        super().__init__(temperature, **options)
        if sigma is not None:
            positive_number("sigma", sigma)
        self.sigma = sigma

    def forward(
        self,
        z0: Tensor,
        z1: Tensor,
        logit_scale: float | Tensor | None = None,
        *,
        ids: Tensor | None = None,
    ) -> Tensor:
        """Return the loss; see `fastclip.dcl_loss`."""
        return dcl_loss(z0, z1, sigma=self.sigma, ids=ids, **self.settings(logit_scale))

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}, {super().extra_repr()}"
