"""NT-Xent, SimCLR's loss: two views of each sample, and all other views as negatives."""

from torch import Tensor, cat
from torch.distributed import ProcessGroup

from fastclip.losses.family.inputs import checked_features, chosen_scale
from fastclip.losses.family.module import FamilyLoss
from fastclip.losses.family.prepare import scores_of
from fastclip.losses.family.scores import cross_entropy_of
from fastclip.ops.side_ids import side_ids


def nt_xent_loss(
    z0: Tensor,
    z1: Tensor,
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
) -> Tensor:
    """Return the cross-entropy of each view's other view among all other views of the batch.

        score(x, y) = cos(x, y) / temperature,    z = z0 and z1 as 2 B views
        loss_i      = log(1 + sum_j exp(score(z_i, z_j) - score(z_i, other view of z_i)))
                      over the 2 B - 2 views j that are not views of i's sample

    The 2 B x 2 B scores are three rectangles, z0 with z1, z0 with z0 and z1 with z1, of which none
    is held: extra memory is O(B D). Cost: 20 B^2 D FLOPs forward and backward.

    Args:
        z0: (B, D), float32, bfloat16, float16 or float64, any strides: one view of each sample.
        z1: (B, D), same dtype and device: the other view.
        temperature: number or one-element tensor, > 0, learned if it requires a gradient; None is
            0.5 unless there is a `logit_scale`.
        logit_scale, normalize, backend, workspace, process_group, schedule: see
            `fastclip.info_nce_loss`.
        reduction: "mean" over the 2 B views, "sum", or "none".
        ids: (B,) int64, any values, on the features' device or on the CPU: the id of each sample,
            shared by its two views. Views of other samples with the same id are not negatives:
            their scores are left out. A view without any negative has a loss of 0.

    Returns:
        float32 tensor (float64 for float64 features) of shape (), or (2 B,) for "none": first
        the rows of z0, then the rows of z1.

    Raises:
        As `fastclip.info_nce_loss`.

    Source:
        Chen et al. 2020, arXiv:2002.05709, Equation 1.

    Example:
        >>> loss = fastclip.nt_xent_loss(projected, projected_of_other_crop, temperature=0.1)
    """
    z0, z1 = checked_features({"z0": z0, "z1": z1})
    same = side_ids(z0, ids)
    scale = chosen_scale(temperature, logit_scale, 0.5, z0)
    scores = scores_of(
        "nt_xent_loss", z0, z1, scale, normalize, backend, workspace, reduction, process_group,
        same, schedule,
    )  # fmt: skip
    positive, of_rows, of_cols = scores.of_both(z0, z1, same)
    of_z0 = cross_entropy_of(positive, [of_rows, scores.of_itself(z0, ids)])
    of_z1 = cross_entropy_of(positive, [of_cols, scores.of_itself(z1, ids)])
    return scores.reduce(cat([of_z0, of_z1]), reduction)


class NTXentLoss(FamilyLoss):
    """`fastclip.nt_xent_loss` as a module, called like lightly's class of the same name.

    Args:
        temperature: number or one-element tensor; None is 0.5, unless a call has a logit_scale.
        normalize, reduction, backend, workspace, schedule: see `fastclip.nt_xent_loss`.
        process_group: None is torch.distributed's default group, if it is initialised.
        world_size: 1 computes the loss of this process alone, even if torch.distributed is
            initialised.

    Example:
        >>> loss = fastclip.NTXentLoss(temperature=0.1)(projected, projected_of_other_crop)
    """

    def forward(
        self,
        z0: Tensor,
        z1: Tensor,
        logit_scale: float | Tensor | None = None,
        *,
        ids: Tensor | None = None,
    ) -> Tensor:
        """Return the loss; see `fastclip.nt_xent_loss`."""
        return nt_xent_loss(z0, z1, ids=ids, **self.settings(logit_scale))
