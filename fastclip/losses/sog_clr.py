"""SogCLR and FastCLIP: each sample's mean over all negatives, remembered across batches."""

import math

import torch
from torch import Tensor

from fastclip.losses.family.inputs import check_labels, checked_features, chosen_scale
from fastclip.losses.family.module import FamilyLoss
from fastclip.losses.family.prepare import scores_of
from fastclip.losses.family.scores import Scores, log_sum_exp
from fastclip.ops.side_ids import SideIds, num_same, side_ids


class SogCLRLoss(FamilyLoss):
    """The global contrastive loss, whose denominators are averages over many batches.

    With t = temperature = 1 / logit_scale, for image i of a batch of B pairs (texts alike),

        g_i = mean over j != i of exp((cos(image_i, text_j) - cos(image_i, text_i)) / t)
        u_i = (1 - gamma) (u_i of the sample's last batch) + gamma g_i;  g_i at its first
        loss = t (rho + mean over i, and over images and texts, of log u_i)

    The value is that estimate of the loss of the whole data set. Its gradient takes g_i / u_i for
    log u_i, u_i a constant, which needs no large batch; in t it is that of the formula. What is
    kept is log u_i, which cannot overflow: 8 bytes per sample in float32. The scores of a batch are
    never held: extra memory is O(B D).

    With ids, g_i is the mean over the negatives of i alone, that is over the other texts (or
    images) of the batch whose id is not i's: B - 1 less the number of those. So it estimates the
    mean over all negatives of the data set, however many of them a batch has. An image or text
    that has no negative in a batch has no g_i there: its u_i stays as it was, and it is left out of
    the mean, without a gradient; the mean over none is 0.

    A module in evaluation mode (`loss.eval()`) computes the same and keeps nothing of it. The state
    dict has `log_u` (2, num_samples), of images and of texts, -inf for a sample that was not met: a
    loss that is loaded goes on to the bit. `loss.gamma` may be set between steps, as FastCLIP's
    schedule does.

    Args:
        num_samples: how many samples the data set has.
        temperature: number or one-element tensor, > 0; None is 0.07, unless a call has a
            logit_scale.
        gamma: share of the new batch in u, 0 < gamma <= 1; FastCLIP's is 0.8.
        rho: margin that keeps a learned temperature from its lower end; 8.0 in FastCLIP, 0 is for
            a fixed temperature, whose loss it changes by a constant.
        options: `normalize`, `reduction` ("mean" only), `backend` and `workspace`, see
            `fastclip.info_nce_loss`; `process_group` and `world_size`, see `fastclip.NTXentLoss`.
            All processes of a group keep the averages of all samples, which stay the same.

    Source:
        Yuan et al. 2022, arXiv:2202.12387, Algorithm 1; Wei et al. 2024, arXiv:2407.01445 (FastCLIP
        v1, and v3 with a learned temperature).

    Example:
        >>> loss = fastclip.SogCLRLoss(num_samples=len(data), rho=8.0)
        >>> loss(images, texts, indices, model.logit_scale.exp()).backward()
    """

    log_u: Tensor

    def __init__(
        self,
        num_samples: int,
        temperature: float | Tensor | None = None,
        *,
        gamma: float = 0.8,
        rho: float = 0.0,
        **options,
    ) -> None:
        super().__init__(temperature, **options)
        if isinstance(num_samples, bool) or not isinstance(num_samples, int):
            raise TypeError(f"num_samples must be an int, got {type(num_samples).__name__}")
        if num_samples < 2:
            raise ValueError(f"num_samples must be >= 2, got {num_samples}")
        if self.reduction != "mean":
            raise ValueError(f"reduction must be 'mean', got {self.reduction!r}")
        if not math.isfinite(rho):
            raise ValueError(f"rho must be finite, got {rho}")
        self.gamma = gamma
        self._check_gamma()
        self.rho = rho
        self.register_buffer("log_u", torch.full((2, num_samples), float("-inf")))

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        indices: Tensor,
        logit_scale: float | Tensor | None = None,
        *,
        ids: Tensor | None = None,
        image_ids: Tensor | None = None,
        text_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the loss (), float32 (float64 for float64 features); then keep the averages.

        Args:
            image_features: (B, D), B >= 2, float32, bfloat16, float16 or float64, any strides.
            text_features: (B, D), same dtype and device.
            indices: (B,) int64, which sample each pair is: 0 <= index < num_samples, different ones
                in the batch of all processes. They are checked: on a GPU that waits for the device,
                unless they are on the CPU.
            logit_scale: number or one-element tensor, > 0, in the place of 1 / temperature.
            ids, image_ids, text_ids: (B,) int64, of what is the same and no negative; see
                `fastclip.clip_loss`.

        Raises:
            TypeError, ValueError: as `fastclip.info_nce_loss`; `indices` are of another length or
                dtype, out of range or not different; one pair alone; `gamma` was set out of range.
        """
        group = self.settings(logit_scale)["process_group"]
        self._check_gamma()
        image_features, text_features = checked_features(
            {"image_features": image_features, "text_features": text_features}
        )
        self._check_indices(indices, image_features)
        same = side_ids(image_features, ids, image_ids=image_ids, text_ids=text_ids)
        scale = chosen_scale(self.temperature, logit_scale, 0.07, image_features)
        scores = scores_of(
            "SogCLRLoss", image_features, text_features, scale, self.normalize, self.backend,
            self.workspace, process_group=group, ids=same,
        )  # fmt: skip
        num_others = scores.check_negatives(image_features) - 1
        num_samples = self.log_u.shape[1]
        scores.check_same({"num_samples": num_samples, "gamma": self.gamma, "rho": self.rho})
        all_indices = scores.of_everyone(indices.to(image_features.device))
        _check_different(all_indices if group is not None else indices)
        positive, *of_sides = scores.of_both(image_features, text_features, same)
        log_sums = torch.stack([log_sum_exp([part]) for part in of_sides])  # (2, B)
        log_g = log_sums - positive
        last = self.log_u[:, indices.to(self.log_u.device)].to(log_g.dtype)
        if same is None:
            log_u, of_sides = self._estimates(log_g - math.log(num_others), last)
            mean = scores.reduce(of_sides.mean(0), "mean")
        else:
            num_negatives = num_others - _num_same(scores, same, log_g.device)
            have_negatives = num_negatives > 0
            log_g = log_g - num_negatives.clamp(min=1).to(log_g.dtype).log()
            # Without negatives g is 0 until here, and what comes of it is not used.
            log_g = log_g.where(have_negatives, log_g.new_zeros(()))
            log_u, of_sides = self._estimates(log_g, last)
            log_u = log_u.where(have_negatives, last)
            of_sides = of_sides.where(have_negatives, log_g.new_zeros(()))
            mean = scores.reduce(of_sides.flatten(), "mean", have_negatives.flatten())
        loss = (self.rho + mean) / scores.logit_scale
        if self.training:
            everyone = scores.of_everyone(log_u.T.contiguous()).T.to(self.log_u)
            self.log_u[:, all_indices.to(self.log_u.device)] = everyone
        return loss

    def _estimates(self, log_g: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """log u, a constant, and the same with the gradient of the loss; all are (2, B)."""
        log_u = self._averaged(log_g.detach(), last)
        # g / u is 1 / gamma at most.
        ratio = (log_g - log_u).exp()
        return log_u, log_u + (ratio - ratio.detach())

    def _averaged(self, log_g: Tensor, last: Tensor) -> Tensor:
        log_share = math.log(self.gamma)
        log_rest = math.log1p(-self.gamma) if self.gamma < 1 else float("-inf")
        averaged = torch.logaddexp(log_rest + last, log_share + log_g)
        return torch.where(last == float("-inf"), log_g, averaged)

    def _check_gamma(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be above 0 and at most 1, got {self.gamma}")

    def _check_indices(self, indices: Tensor, features: Tensor) -> None:
        is_on_cpu = isinstance(indices, Tensor) and indices.device.type == "cpu"
        check_labels("indices", indices, torch.empty(len(features), 0) if is_on_cpu else features)
        num_samples = self.log_u.shape[1]
        least, largest = (int(x) for x in indices.aminmax())
        if least < 0 or largest >= num_samples:
            raise ValueError(
                f"indices must be at least 0 and below num_samples {num_samples}, "
                f"got {least} to {largest}"
            )

    def extra_repr(self) -> str:
        num_samples = self.log_u.shape[1]
        return f"num_samples={num_samples}, gamma={self.gamma}, rho={self.rho}, " + (
            super().extra_repr()
        )


def _num_same(scores: Scores, ids: SideIds, device: torch.device) -> Tensor:
    """How many negatives each image, and each text, has lost, (2, B)."""
    images, texts = (x.to(device) for x in ids)
    all_images, all_texts = (scores.of_everyone(x) for x in (images, texts))
    return torch.stack((
        num_same(SideIds(images, texts), all_texts), num_same(SideIds(texts, images), all_images)
    ))  # fmt: skip


def _check_different(indices: Tensor) -> None:
    ordered = indices.sort().values
    if (ordered[1:] == ordered[:-1]).any():
        raise ValueError("indices must be different, but a sample is in the batch twice")
