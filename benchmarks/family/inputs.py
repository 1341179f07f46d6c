"""Make the inputs of the family's losses: features of a case, labels, indices and the like.

A step computes the gradients of the inputs that require one. If one of the compared
implementations takes its temperature as a number, logit_scale is a constant for all of them.
"""

import torch
from torch import Tensor

from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.benchmarks.step import leaves

ROWS_PER_CLASS = 8
TEACHER_SCALE = 50.0
NUM_PREFIXES = 5


def learned_pairs(case: Case) -> tuple[Tensor, ...]:
    """(images, texts, logit_scale), all of them with gradients."""
    return leaves("clip", case)


def learned_pairs_with_bias(case: Case) -> tuple[Tensor, ...]:
    """(images, texts, logit_scale, logit_bias), all of them with gradients."""
    return leaves("siglip", case)


def pairs(case: Case) -> tuple[Tensor, ...]:
    """(x, y, logit_scale): two views, images and texts, or queries and documents."""
    x, y, scale = make_inputs(case)
    return x.requires_grad_(), y.requires_grad_(), scale


def labelled_rows(case: Case) -> tuple[Tensor, ...]:
    """(features, labels, logit_scale), ROWS_PER_CLASS rows of each label."""
    features, _, scale = pairs(case)
    return features, _labels(case), scale


def labelled_pairs(case: Case) -> tuple[Tensor, ...]:
    """(images, texts, labels, logit_scale), ROWS_PER_CLASS pairs of each label."""
    images, texts, scale = pairs(case)
    return images, texts, _labels(case), scale


def indexed_pairs(case: Case) -> tuple[Tensor, ...]:
    """(images, texts, indices, logit_scale) of all samples of a data set."""
    images, texts, scale = pairs(case)
    return images, texts, torch.arange(case.N, device=case.device), scale


def queued(case: Case) -> tuple[Tensor, ...]:
    """(queries, keys, old keys, logit_scale): keys are constants; there are as many old keys."""
    queries, keys, scale = make_inputs(case)
    old, *_ = make_inputs(case, seed=1)
    return queries.requires_grad_(), keys, old, scale


def taught(case: Case) -> tuple[Tensor, ...]:
    """(images, texts, logit_scale, teacher's images, teacher's texts, teacher's logit_scale)."""
    teacher_images, teacher_texts, scale = make_inputs(case, seed=1)
    teacher_scale = torch.full_like(scale, TEACHER_SCALE)
    return *learned_pairs(case), teacher_images, teacher_texts, teacher_scale


def three_modalities(case: Case) -> tuple[Tensor, ...]:
    """(images, texts, sounds, has_sound, logit_scale): every other sample has a sound."""
    images, texts, scale = pairs(case)
    sounds, *_ = make_inputs(case, seed=1)
    has_sound = torch.arange(case.N, device=case.device) % 2 == 0
    return images, texts, sounds.requires_grad_(), has_sound, scale


def prefixes_of(D: int) -> list[int]:
    """Return D and the powers of two below it, the largest first, at most NUM_PREFIXES in all."""
    powers = (2**k for k in range(D.bit_length() - 1, -1, -1))
    return [D, *(dim for dim in powers if dim < D)][:NUM_PREFIXES]


def _labels(case: Case) -> Tensor:
    return torch.arange(case.N, device=case.device) // ROWS_PER_CLASS
