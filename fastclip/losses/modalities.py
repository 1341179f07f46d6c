"""A loss over pairs of modalities, where samples may lack some modalities: ImageBind."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from fastclip.backends.normalization import compute_dtype
from fastclip.distributed.groups import check_schedule, several_processes
from fastclip.functional import clip_loss
from fastclip.losses.family.common_rows import Pair, PairSamples, checked_pairs
from fastclip.losses.family.modality_inputs import Scale, modality_inputs, scales_of
from fastclip.losses.family.module import FamilyLoss


class PairLoss(NamedTuple):
    """The loss of one pair of modalities, (), and its number of samples, over all processes."""

    loss: Tensor
    num_samples: int


def modalities_loss(
    features: Mapping[str, Tensor],
    pairs: Sequence[Pair],
    temperature: Scale | None = None,
    *,
    logit_scale: Scale | Mapping[Pair, Scale] | None = None,
    masks: Mapping[str, Tensor] | None = None,
    indices: Mapping[str, Tensor] | None = None,
    normalize: bool = True,
    backend: str = "auto",
    workspace: int | None = None,
    return_pairs: bool = False,
    process_group: ProcessGroup | None = None,
    schedule: str = "gather",
    ids: Tensor | Mapping[str, Tensor] | None = None,
) -> Tensor | tuple[Tensor, dict[Pair, PairLoss]]:
    """Return the mean, over pairs of modalities, of CLIP's loss of the samples that have both.

        loss = mean over the pairs with samples of clip_loss(a, b, logit_scale of (a, b))

    If no sample has both modalities of a pair, or one of them is not in `features`, the pair is
    left out of the mean; the mean over no pair is 0, with gradients of 0. No scores are held: extra
    memory is O(B D) per pair. If a modality has a mask or indices, the device computes which
    samples each pair has, and the call waits for that.

    Args:
        features: maps the name of each modality to its features (B, D), which share one D, dtype
            and device; float32, bfloat16, float16 or float64.
        pairs: pairs of names. ImageBind's are ("image", other) for each other modality.
        temperature: number or one-element tensor, > 0, for all pairs; None is 0.07 unless there is
            a `logit_scale`.
        logit_scale: number or one-element tensor, > 0: 1 / temperature; or a dict with one for each
            pair.
        masks: maps names to (B,) bool: False marks rows whose sample does not have that modality;
            such rows are ignored.
        indices: maps names to (B,) int64: the sample of each row, all different. The rows of a
            modality without indices belong to the samples 0, 1, ... of the batch.
        normalize, backend, workspace: see `fastclip.clip_loss`.
        return_pairs: also return the loss and the number of samples of each pair.
        process_group: None is this process alone. With a group each pair's loss is over the samples
            of all its ranks, with exact gradients under DDP's mean: see `fastclip.clip_loss`.
            Samples of different ranks are different samples: masks and indices concern the rank's
            own. A rank may have no sample of a pair, and other modalities than other ranks; the
            mean is over the pairs that have samples on any rank. All ranks must have the same
            pairs, in one order, and at least one modality.
        schedule: "gather" or "ring", for each pair; see `fastclip.clip_loss`.
        ids: (B,) int64, any values, on the features' device or on the CPU: the id of row i of every
            modality; or a dict that maps the name of every modality to the ids of its rows, (B,).
            In a pair (a, b), row i of a and row j of b that share an id, but are not one sample,
            are not negatives of each other: see `fastclip.clip_loss`.

    Returns:
        float32 tensor (float64 for float64 features) of shape (); with `return_pairs` a tuple of
        this loss and a dict that maps each pair to its `PairLoss`.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: no pair is given, a pair is given twice or has a modality with itself; a
            modality is in no pair; modalities without indices have different B; shapes, dtypes or
            devices disagree; a mask or indices name a modality without features, or both are given
            for one modality; indices are not all different; `temperature` and `logit_scale` are
            both given; a pair has no scale; ids name a modality without features, or leave one out;
            or the ranks of a group disagree. If one rank raises, all ranks raise.

    Source:
        Girdhar et al. 2023, arXiv:2305.05665, Equation 1; here the mean of both directions.

    Example:
        >>> pairs = [("image", "text"), ("image", "audio")]
        >>> loss = fastclip.modalities_loss(
        ...     {"image": images, "text": texts, "audio": sounds}, pairs,
        ...     logit_scale={pairs[0]: model.logit_scale.exp(), pairs[1]: 20.0},
        ...     masks={"audio": has_sound})
    """
    check_schedule(schedule)
    group = several_processes(process_group)
    given = features, pairs, temperature, logit_scale, masks, indices, ids
    if group is None:
        inputs = modality_inputs(*given)
        losses = {
            pair: _pair_loss(of_pair, inputs.scales[pair], normalize, backend, workspace)
            for pair, of_pair in inputs.samples.items()
        }
    else:
        # Imported here, because it brings the compiler with it: 0.9 s.
        from fastclip.losses.family import modalities_over_ranks as over_ranks

        inputs = over_ranks.inputs_of_all(*given, group=group, schedule=schedule)
        found = over_ranks.pair_losses(inputs, normalize, backend, workspace, group, schedule)
        losses = {pair: PairLoss(*of_pair) for pair, of_pair in found.items()}
    # Empty sums, so that features and scales that no pair needs have gradients too, of zeros.
    present = inputs.features.values()
    learned = [x for x in inputs.scales.values() if isinstance(x, Tensor)]
    unused = [x[:0].sum() for x in present] + [x.reshape(-1)[:0].sum() for x in learned]
    zero = sum(unused).to(compute_dtype(next(iter(present)).dtype))
    with_samples = [x.loss for x in losses.values() if x.num_samples > 0]
    loss = zero + sum(with_samples) / max(1, len(with_samples))
    if not return_pairs:
        return loss
    absent = PairLoss(zero.detach(), 0)
    return loss, {pair: losses.get(pair, absent) for pair in inputs.pairs}


class ModalitiesLoss(FamilyLoss):
    """`fastclip.modalities_loss` as a module, whose scales may be learned.

    Args:
        pairs: pairs of names of modalities.
        temperature: number, > 0, for all pairs; None is 0.07 unless there is a `logit_scale`.
        logit_scale: number, > 0: 1 / temperature; or a dict of a number for each pair.
        learned: the pairs whose scales are learned. The parameters, in `log_scales`, are logarithms
            that start at the scales given here. Like CLIP's, they are not limited.
        options: `normalize`, `backend` and `workspace`, see `fastclip.clip_loss`; `reduction` is
            "mean" only. `process_group`, `world_size` and `schedule`, see `fastclip.NTXentLoss`;
            the function says what the processes of a group share.

    Raises:
        TypeError, ValueError: as the function; a learned pair is not one of `pairs`, or the name of
            one of its modalities has a "." or "-".

    Example:
        ImageBind's loss, with the fixed scales of its paper and a learned one for text:
        >>> scales = {("image", "text"): 14.3, ("image", "audio"): 20.0, ("image", "depth"): 5.0}
        >>> loss = fastclip.ModalitiesLoss(list(scales), logit_scale=scales,
        ...                                learned=[("image", "text")])
        >>> loss({"image": images, "text": texts, "depth": depths}, masks={"depth": has_depth})
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        temperature: float | None = None,
        *,
        logit_scale: float | Mapping[Pair, float] | None = None,
        learned: Iterable[Pair] = (),
        **options,
    ) -> None:
        super().__init__(temperature, **options)
        if self.reduction != "mean":
            raise ValueError(f"reduction must be 'mean', got {self.reduction!r}")
        self.pairs = checked_pairs(pairs)
        scales = scales_of(self.pairs, temperature, logit_scale, torch.empty(0))
        if any(isinstance(scale, Tensor) for scale in scales.values()):
            raise TypeError(
                "scales of a ModalitiesLoss must be numbers; name learned ones in `learned`"
            )
        self.log_scales = nn.ParameterDict()
        self.fixed_scales = dict(scales)
        for pair in learned:
            if tuple(pair) not in self.fixed_scales:
                raise ValueError(f"learned must be some of the pairs {self.pairs}, got {pair}")
            if any(sign in name for name in pair for sign in ".-"):
                raise ValueError(
                    f"names of modalities of a learned pair must have no . or -, got {pair}"
                )
            scale = self.fixed_scales.pop(tuple(pair))
            self.log_scales["-".join(pair)] = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        indices: Mapping[str, Tensor] | None = None,
        return_pairs: bool = False,
        ids: Tensor | Mapping[str, Tensor] | None = None,
    ) -> Tensor | tuple[Tensor, dict[Pair, PairLoss]]:
        """Return the loss; see `fastclip.modalities_loss`."""
        scales = dict(self.fixed_scales)
        scales |= {tuple(name.split("-")): x.exp() for name, x in self.log_scales.items()}
        return modalities_loss(
            features, self.pairs, logit_scale=scales, masks=masks, indices=indices,
            normalize=self.normalize, backend=self.backend, workspace=self.workspace,
            return_pairs=return_pairs, process_group=self.settings(None)["process_group"],
            schedule=self.schedule, ids=ids,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"pairs={self.pairs}, fixed_scales={self.fixed_scales}, {super().extra_repr()}"


def _pair_loss(
    samples: PairSamples, scale: Scale, normalize: bool, backend: str, workspace: int | None
) -> PairLoss:
    x, y, x_ids, y_ids = samples
    if len(x) == 0:
        return PairLoss(x.new_zeros((), dtype=compute_dtype(x.dtype)), 0)
    loss = clip_loss(
        x, y, scale, normalize=normalize, backend=backend, workspace=workspace,
        image_ids=x_ids, text_ids=y_ids,
    )  # fmt: skip
    return PairLoss(loss, len(x))
