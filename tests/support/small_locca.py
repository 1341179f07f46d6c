"""A small SigLIP with a decoder of boxes beside it, in float64, and a batch of its three tasks."""

import torch
from torch import Tensor

from fastclip.models.locca.head import LocCaHead
from fastclip.models.locca.model import LocCa
from fastclip.models.locca.vocabulary import LocCaVocabulary
from tests.support.small_models import SIGLIP, build, inputs, shake

START, END, BINS = 5, 63, 10  # of the small model's tokens; texts have others between 6 and 62


def locca_and_batch(num: int) -> tuple[LocCa, Tensor, dict[str, Tensor]]:
    """The model in evaluation mode, `num` images, and what it takes of their texts.

    Captions and texts of regions are of several lengths; some captions are in parallel.
    """
    text = SIGLIP.text_cfg
    vocabulary = LocCaVocabulary(text.vocab_size, end_id=END, start_id=START, bins=BINS)
    pair = build(SIGLIP)
    torch.manual_seed(4)
    head = LocCaHead(vocabulary, 128, text.context_length, width=32, heads=2, layers=2)
    shake(head)
    images, tokens = inputs(SIGLIP, num)
    tokens[:, 0] = START
    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(num, 2, 2, generator=generator, dtype=torch.float64)
    texts = {
        "tokens": tokens,
        "region_tokens": tokens.flip(0),
        "boxes": corners.sort(1).values.flatten(1),
        "parallel": torch.arange(num) % 3 == 0,
    }
    return LocCa(pair, head).double().eval(), images.double(), texts
