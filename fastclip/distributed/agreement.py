"""Check that all ranks make the same call of a loss before they communicate.

A rank that expects other shapes than it is sent, or a gradient that nobody computes, hangs or reads
garbage. Therefore each rank tells all others what it is about to compute, in about twenty integers;
if these differ, all ranks raise the same error. On a GPU this exchange is the only wait of the loss
for the device, except that a sigmoid loss with positives="ids" also reads ids.

Numbers from the caller, such as logit_scale, are compared too. The values of tensors are not:
training keeps parameters equal on all ranks by other means.

"auto" may choose another backend on a rank with another GPU or installation. Then all ranks take a
backend that each of them has.
"""

import functools
import math
import struct
import warnings
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed.groups import LOSS_SCHEDULES
from fastclip.distributed.waiting import Exchange
from fastclip.ops.choice import ORDER
from fastclip.ops.clip_options import NO_OPTIONS, ClipOptions
from fastclip.ops.differentiation import needs_grad
from fastclip.ops.pair_ids import POSITIVES, PairIds
from fastclip.ops.validation import FEATURE_DTYPES
from fastclip.rectangle import Rectangle

_YES_NO = (False, True)
_GIVEN = ("None", "tensors")
_EVERYWHERE = ORDER.index("chunked")  # this backend and those after it run on any machine
_NAMED = -1


def _bits(number: float | Tensor) -> int:
    """Return a float64 as an integer; nan, which no valid number is, stands for a tensor."""
    value = math.nan if isinstance(number, Tensor) else float(number) + 0.0  # -0.0 is 0.0
    return struct.unpack("<q", struct.pack("<d", value))[0]


def _number(bits: int) -> str:
    (value,) = struct.unpack("<d", struct.pack("<q", bits))
    return "a tensor" if math.isnan(value) else str(value)


_LOSSES = (
    "clip_loss",
    "siglip_loss",
    "info_nce_loss",
    "info_nce_loss with negative_keys",
    "nt_xent_loss",
    "sup_con_loss",
    "uni_cl_loss",
    "dcl_loss",
    "info_loob_loss",
    "multiple_negatives_loss",
    "QueueLoss",
    "SogCLRLoss",
    "matryoshka_clip_loss",
    "distill_clip_loss",
    "modalities_loss",
    "modalities_loss with wrong modalities",
    "CoCaLoss without clip_loss",
)
# What each rank sends: a name, with its possible values or the function that reads its code.
_FIELDS = {
    "the loss": _LOSSES,
    "schedule": LOSS_SCHEDULES,
    "normalize": _YES_NO,
    "return_stats": _YES_NO,
    "the dtype of features": FEATURE_DTYPES,
    "D": str,
    "requires_grad of image_features": _YES_NO,
    "requires_grad of text_features": _YES_NO,
    "requires_grad of logit_scale or logit_bias": _YES_NO,
    "logit_scale": _number,
    "logit_bias": _number,
    "label_smoothing": _number,
    "margin": _number,
    "the weight of image_to_text": _number,
    "the weight of text_to_image": _number,
    "weights": _GIVEN,
    "extra_text_features": _GIVEN,
    "requires_grad of extra_text_features": _YES_NO,
    "ids": _GIVEN,
    "positives": POSITIVES,
}


@dataclass(frozen=True)
class Ranks:
    """The processes of one loss, and how many pairs each of them has.

    backend: the backend that "auto" takes on all ranks; None if this rank's caller named one.
    extra_sizes: how many extra texts each rank has.
    """

    group: ProcessGroup
    rank: int
    sizes: tuple[int, ...]  # B_r
    backend: str | None = None
    extra_sizes: tuple[int, ...] = ()  # H_r

    @property
    def world_size(self) -> int:
        return len(self.sizes)

    @property
    def own_size(self) -> int:
        return self.sizes[self.rank]

    @property
    def start(self) -> int:
        """Where this rank's pairs begin among all N."""
        return sum(self.sizes[: self.rank])

    @property
    def num_pairs(self) -> int:
        return sum(self.sizes)


def agree(
    group: ProcessGroup,
    loss: str,
    schedule: str,
    own: Rectangle,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
    return_stats: bool = False,
    chosen: str | None = None,
    options: ClipOptions = NO_OPTIONS,
    ids: PairIds | None = None,
) -> Ranks:
    """Tell all ranks what this rank is about to compute, and return all ranks' sizes.

    Args:
        own: the square of this rank's pairs, images as rows.
        logit_scale, logit_bias: as the caller gave them, number or tensor.
        chosen: the backend that "auto" chose on this rank; None if the caller named one.
        options: the options of the CLIP loss.
        ids: the ids of this rank's pairs.

    Raises:
        ValueError: on every rank, if ranks differ in anything but their numbers of pairs and of
            extra texts.
    """
    image_features, text_features = own[:2]
    size, D = image_features.shape
    learned = [x for x in (logit_scale, logit_bias) if isinstance(x, Tensor)]
    extra = options.extra_text_features
    values = (
        loss, schedule, bool(own.normalize), bool(return_stats), image_features.dtype, D,
        needs_grad(image_features), needs_grad(text_features), needs_grad(*learned),
        _bits(logit_scale), _bits(logit_bias),
        *map(_bits, (options.label_smoothing, options.margin, *options.direction_weights)),
        _GIVEN[options.weights is not None], _GIVEN[extra is not None],
        extra is not None and needs_grad(extra),
        _GIVEN[ids is not None], POSITIVES[ids is not None and ids.are_positives],
    )  # fmt: skip
    codes = [
        field.index(value) if isinstance(field, tuple) else value
        for value, field in zip(values, _FIELDS.values(), strict=True)
    ]
    choice = _NAMED if chosen is None else ORDER.index(chosen)
    said = torch.tensor([size, options.num_extra, choice, *codes], device=image_features.device)
    everyone = [torch.empty_like(said) for _ in range(group.size())]
    with Exchange(group):
        dist.all_gather(everyone, said, group)
    sizes, extra_sizes, choices, *columns = zip(
        *(codes.tolist() for codes in everyone), strict=True
    )
    for (name, field), column in zip(_FIELDS.items(), columns, strict=True):
        if len(set(column)) > 1:
            told = (field[code] if isinstance(field, tuple) else field(code) for code in column)
            raise ValueError(
                f"{name} must be the same on ranks 0 to {len(column) - 1}, "
                f"got {', '.join(map(str, told))}; every rank must make the same calls of the loss"
            )
    backend = None if chosen is None else _common(choices, chosen)
    return Ranks(group, group.rank(), sizes, backend, extra_sizes)


def _common(choices: tuple[int, ...], own: str) -> str:
    automatic = {choice for choice in choices if choice != _NAMED}
    if len(automatic) == 1:
        return own
    common = ORDER[max(*automatic, _EVERYWHERE)]
    if own != common:
        said = ", ".join("a named one" if i == _NAMED else ORDER[i] for i in choices)
        _tell(
            f"backend=\"auto\" takes '{common}' on all ranks of the group, because alone, ranks 0 "
            f"to {len(choices) - 1} would take {said}. `fastclip doctor` says why on each machine, "
            "and `fastclip verify` checks its kernels"
        )
    return common


@functools.cache  # once
def _tell(text: str) -> None:
    warnings.warn(text, stacklevel=2)
