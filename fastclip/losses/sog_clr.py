"""SogCLR and FastCLIP: each sample's mean over all negatives, remembered across batches."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.losses.family.inputs import check_labels, checked_features, chosen_scale
from fastclip.losses.family.module import FamilyLoss
from fastclip.losses.family.prepare import scores_of
from fastclip.losses.family.sample_averages import averaged, log_means
from fastclip.losses.family.sample_shard import SampleShard
from fastclip.losses.family.scores import Scores, log_sum_exp
from fastclip.ops.side_ids import SideIds, num_same, side_ids


class SogCLRLoss(FamilyLoss):
    """The global contrastive loss, whose denominators are averages over many batches.

    With t = temperature = 1 / logit_scale, for image i of a batch of B pairs (texts alike),

        g_i = mean over j != i of exp((cos(image_i, text_j) - cos(image_i, text_i)) / t)
        u_i = (1 - gamma) (u_i of the sample's last batch) + gamma g_i;  g_i at its first
        loss = t (rho + mean over i, and over images and texts, of log u_i)

    A sample that is in the batch several times counts as often in the loss, and its u takes in the
    mean of its g. The value is this estimate of the loss of the whole data set. For the gradient,
    g_i / u_i with a constant u_i replaces log u_i, which needs no large batch; the gradient in t is
    the formula's. The module keeps log u_i, which cannot overflow: 8 bytes per sample in float32.
    The scores of a batch are never held: extra memory is O(B D).

    With ids, g_i is the mean over the negatives of i alone: the other texts (or images) of the
    batch, without those that have i's id. So g_i estimates the mean over all negatives of the data
    set, however many of them a batch has. An image or text without a negative in a batch has no g_i
    there: its u_i does not change, and it is left out of the mean, without a gradient; the mean
    over none is 0.

    A module in evaluation mode (`loss.eval()`) computes the same loss and keeps no averages. The
    state dict has `log_u` (2, num_samples), of images and of texts, -inf for a sample that has not
    occurred yet: a loaded loss continues with the same bits. `loss.gamma` may be set between steps,
    as FastCLIP's schedule does.

    Each of W processes keeps the averages of a W-th of the samples, a range of their indices, and a
    call sends only the averages of its batch. The value is what one process would compute, with the
    same bits on all processes. The buffer `log_u` has the process's range; the state dict has all
    samples, on the CPU, and any number of processes can load it. All processes of the group must
    call `state_dict()` together: one that calls it alone waits for the others.

    Args:
        num_samples: how many samples the data set has.
        temperature: number or one-element tensor, > 0; None is 0.07, unless a call has a
            logit_scale.
        gamma: share of the new batch in u, 0 < gamma <= 1; FastCLIP's is 0.8.
        rho: margin that keeps a learned temperature from its lower end, 8.0 in FastCLIP. For a
            fixed temperature use 0: there it only changes the loss by a constant.
        options: `normalize`, `reduction` ("mean" only), `backend` and `workspace`, see
            `fastclip.info_nce_loss`; `process_group`, `world_size` and `schedule`, see
            `fastclip.NTXentLoss`.

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
        self.num_samples = num_samples
        self.register_buffer("log_u", torch.full((2, num_samples), float("-inf")))
        self._shard = SampleShard.of(num_samples, None)

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
        """Return the loss (), float32 (float64 for float64 features); then update the averages.

        Args:
            image_features: (B, D), B >= 2, float32, bfloat16, float16 or float64, any strides.
            text_features: (B, D), same dtype and device.
            indices: (B,) int64, the sample of each pair: 0 <= index < num_samples. They are
                checked, which waits for a GPU unless they are on the CPU.
            logit_scale: number or one-element tensor, > 0, instead of 1 / temperature.
            ids, image_ids, text_ids: (B,) int64, which say what is not a negative; see
                `fastclip.clip_loss`.

        Raises:
            TypeError, ValueError: as `fastclip.info_nce_loss`; `indices` have a wrong length or
                dtype, or are out of range; there is only one pair; `gamma` was set out of range;
                the averages are distributed over another group.
        """
        group = self._group
        self._check_gamma()
        image_features, text_features = checked_features(
            {"image_features": image_features, "text_features": text_features}
        )
        self._check_indices(indices, image_features)
        same = side_ids(image_features, ids, image_ids=image_ids, text_ids=text_ids)
        scale = chosen_scale(self.temperature, logit_scale, 0.07, image_features)
        scores = scores_of(
            "SogCLRLoss", image_features, text_features, scale, self.normalize, self.backend,
            self.workspace, process_group=group, ids=same, schedule=self.schedule,
        )  # fmt: skip
        num_others = scores.check_negatives(image_features) - 1
        scores.check_same({"num_samples": self.num_samples, "gamma": self.gamma, "rho": self.rho})
        self.shard()
        positive, *of_sides = scores.of_both(image_features, text_features, same)
        log_sums = torch.stack([log_sum_exp([part]) for part in of_sides])  # (2, B)
        num_negatives = torch.full_like(log_sums, num_others, dtype=torch.int64)
        if same is not None:
            num_negatives -= _num_same(scores, same, log_sums.device)
        has_g = num_negatives > 0
        log_g = log_sums - positive - num_negatives.clamp(min=1).to(log_sums.dtype).log()
        known = log_g.detach().masked_fill(~has_g, float("-inf"))
        log_u, kept = self._averaged(known, indices.to(image_features.device), scores)
        # g / u is at most 1 / gamma for a sample that is not repeated. Without a g it is 1, unused.
        log_g, used = (x.where(has_g, x.new_zeros(())) for x in (log_g, log_u))
        ratio = (log_g - used).exp()
        estimates = used + (ratio - ratio.detach())
        if same is None:
            mean = scores.reduce(estimates.mean(0), "mean")
        else:
            estimates = estimates.where(has_g, estimates.new_zeros(()))
            mean = scores.reduce(estimates.flatten(), "mean", has_g.flatten())
        loss = (self.rho + mean) / scores.logit_scale
        if self.training:
            self.log_u[:, kept.places] = kept.log_u.to(self.log_u)
        return loss

    def shard(self) -> None:
        """Keep only the averages of this process's samples, as the first call does.

        If it is called before the module moves to a device, the device need not hold the averages
        of all samples.

        Raises:
            ValueError: they are distributed over a group in which this process has another rank.
        """
        wanted = SampleShard.of(self.num_samples, self._group)
        if not self._is_sharded:
            if wanted.world_size > 1:
                self.log_u = self.log_u[:, wanted.samples].clone()
            self._shard = wanted
        elif wanted != self._shard:
            raise ValueError(
                f"this SogCLRLoss holds the averages of rank {self._shard.rank} of "
                f"{self._shard.world_size}, and its process group now makes it rank {wanted.rank} "
                f"of {wanted.world_size}: load the state dict, which has all samples, into a new "
                "loss"
            )

    @property
    def _is_sharded(self) -> bool:  # there are at least two samples, so a shard lacks one
        return self.log_u.shape[1] < self.num_samples

    @property
    def _group(self) -> ProcessGroup | None:
        return self.settings(None)["process_group"]

    def _averaged(self, log_g: Tensor, indices: Tensor, scores: Scores) -> tuple[Tensor, "_Kept"]:
        """Return the new log u of each pair, (2, B), computed by the process that has its sample,
        and the new averages of this process's samples."""
        everyone = scores.of_everyone(indices)
        own = (self._shard.owners(everyone) == self._shard.rank).nonzero()[:, 0]
        all_log_g = scores.of_everyone(log_g.T.contiguous())
        samples, means, of_pairs = log_means(all_log_g[own].T, everyone[own])
        places = (samples - self._shard.samples.start).to(self.log_u.device)
        log_u = averaged(self.log_u[:, places].to(means), means, self.gamma)
        of_all = torch.zeros_like(all_log_g).index_copy_(0, own, log_u[:, of_pairs].T)
        return scores.told(of_all, self._shard.owners(indices)).T, _Kept(places, log_u)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._is_sharded:
            destination[f"{prefix}log_u"] = self._shard.whole(self.log_u, self._group)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        name = f"{prefix}log_u"
        stored = state_dict.get(name)
        if self._is_sharded and stored is not None:
            if tuple(stored.shape) != (2, self.num_samples):
                raise RuntimeError(
                    f"{name} must have shape (2, {self.num_samples}), of all samples, got "
                    f"{tuple(stored.shape)}"
                )
            state_dict[name] = stored[:, self._shard.samples].clone()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check_gamma(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be above 0 and at most 1, got {self.gamma}")

    def _check_indices(self, indices: Tensor, features: Tensor) -> None:
        is_on_cpu = isinstance(indices, Tensor) and indices.device.type == "cpu"
        check_labels("indices", indices, torch.empty(len(features), 0) if is_on_cpu else features)
        least, largest = (int(x) for x in indices.aminmax())
        if least < 0 or largest >= self.num_samples:
            raise ValueError(
                f"indices must be at least 0 and below num_samples {self.num_samples}, "
                f"got {least} to {largest}"
            )

    def extra_repr(self) -> str:
        own = f"num_samples={self.num_samples}, gamma={self.gamma}, rho={self.rho}"
        return f"{own}, {super().extra_repr()}"


class _Kept(NamedTuple):
    """Averages that a call has updated."""

    places: Tensor  # (U,) int64, in the buffer
    log_u: Tensor  # (2, U)


def _num_same(scores: Scores, ids: SideIds, device: torch.device) -> Tensor:
    """Return how many negatives ids take from each image and from each text, (2, B)."""
    images, texts = (x.to(device) for x in ids)
    all_images, all_texts = (scores.of_everyone(x) for x in (images, texts))
    return torch.stack((
        num_same(SideIds(images, texts), all_texts), num_same(SideIds(texts, images), all_images)
    ))  # fmt: skip
