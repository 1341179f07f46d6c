"""Writing texts and boxes with LocCa's decoder, token by token, always the most probable one.

For a coordinate only bins may be chosen, and for the right and the lower edge only bins that are
not left of or above the opposite edge, so every box is valid. For a word only words and the end
token may be chosen.
"""

import torch
from torch import Tensor

from fastclip.models.coca.next_token import Rules
from fastclip.models.coca.sampling import sample
from fastclip.models.locca.boxes import COORDINATES
from fastclip.models.locca.head import LocCaHead
from fastclip.models.locca.sequences import Words, referred
from fastclip.models.locca.vocabulary import LocCaVocabulary


def only_bins(vocabulary: LocCaVocabulary, logits: Tensor, before: Tensor) -> Tensor:
    """Return (B, size) logits with -inf for tokens that the next coordinate cannot be.

    Args:
        before: (B, k) int64, the bins of the k < 4 coordinates that are known.
    """
    bins = torch.arange(vocabulary.size, device=logits.device) - vocabulary.first_bin
    k = before.shape[1]
    least = before[:, k - 2, None] if k >= 2 else 0
    return logits.masked_fill(bins < least, float("-inf"))


def only_words(vocabulary: LocCaVocabulary, logits: Tensor) -> Tensor:
    """Return (B, size) logits with -inf for tokens that are neither words nor the end token."""
    return logits.masked_fill(~vocabulary.can_be_written(logits.device), float("-inf"))


def referred_boxes(head: LocCaHead, image_tokens: Tensor, words: Words) -> Tensor:
    """Locate what texts name, and return (B, 4) int64 bins of boxes: the task AREF."""
    vocabulary = head.vocabulary
    bins = words.tokens.new_empty((len(words.tokens), 0))
    for k in range(COORDINATES):
        tokens = referred(vocabulary, words, bins)[:, : words.tokens.shape[1] + 1 + k]
        logits = head.next_logits(image_tokens, tokens, read_at=words.lengths + k)
        chosen = only_bins(vocabulary, logits, bins).argmax(1) - vocabulary.first_bin
        bins = torch.cat([bins, chosen[:, None]], dim=1)
    return bins


def written(
    head: LocCaHead, image_tokens: Tensor, prefix: int, num_coordinates: int
) -> tuple[Tensor, Tensor]:
    """Write the texts of the task GCAP (`num_coordinates` is 4) or Cap (`num_coordinates` is 0).

    Returns:
        (B, num_coordinates) int64 bins, and (B, T) int64 texts as the tokenizer makes them: a start
        token, if it has one, words, an end token and padding.
    """
    vocabulary = head.vocabulary
    starts = vocabulary.start_id is not None

    def logits_of(rows: Tensor, tokens: Tensor) -> Tensor:
        logits = head.next_logits(image_tokens[rows], tokens)
        if tokens.shape[1] <= num_coordinates:
            return only_bins(vocabulary, logits, tokens[:, 1:] - vocabulary.first_bin)
        return only_words(vocabulary, logits)

    device = image_tokens.device
    begun = torch.full((len(image_tokens), 1), prefix, device=device)
    ends = torch.tensor([vocabulary.end_id], device=device)
    longest = 1 + num_coordinates + head.context_length - starts
    tokens = sample(
        logits_of, begun, Rules(0, ends, 1.0), lambda logits: logits.argmax(1), longest,
        vocabulary.pad, is_done=lambda _: False, fixed_output_length=False,
    )  # fmt: skip
    bins, texts = tokens[:, 1:].split(
        [num_coordinates, tokens.shape[1] - 1 - num_coordinates], dim=1
    )
    texts = texts.masked_fill(texts == vocabulary.pad, vocabulary.pad_id)
    if starts:
        texts = torch.cat([torch.full_like(begun, vocabulary.start_id), texts], dim=1)
    return bins - vocabulary.first_bin, texts
