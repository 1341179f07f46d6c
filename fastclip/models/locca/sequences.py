"""The inputs and labels of LocCa's decoder in each of its three tasks.

    Cap    caption of the image    CAP  w1 ... wn END
    AREF   referring expression    AREF w1 ... wn END x0 y0 x1 y1
    GCAP   grounded captioning     GCAP x0 y0 x1 y1 w1 ... wn END

Each token is predicted at the position of the token before it. In AREF the words are given, and
only the box is predicted. The input of a caption that is predicted in parallel is
`CAP MASK ... MASK`, as long as the longest text of its batch, so that nothing reveals its length;
its labels stay at their positions.

Source: Wan et al. 2024 (LocCa), arXiv:2403.19596, section 3; Tschannen et al. 2023 (CapPa),
arXiv:2306.07915, section 3, for prediction in parallel.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.models.locca.boxes import COORDINATES, quantize_boxes
from fastclip.models.locca.vocabulary import LocCaVocabulary


class Words(NamedTuple):
    """Texts without their start tokens.

    Attributes:
        tokens: (B, W) int64, the words and one end token, followed by the decoder's padding.
        lengths: (B,) int64, the number of tokens of each text, including the end token.
    """

    tokens: Tensor
    lengths: Tensor


class Sequences(NamedTuple):
    """The inputs and labels of some rows.

    Attributes:
        inputs: (R, L) int64, the tokens that the decoder reads.
        labels: (R, L) int64, the token to predict at each position; padding is not predicted.
        parallel: (R,) bool, rows in which every token attends to all others; None for no rows.
    """

    inputs: Tensor
    labels: Tensor
    parallel: Tensor | None = None


def words_of(vocabulary: LocCaVocabulary, name: str, tokens: Tensor) -> Words:
    """Remove the start tokens of (B, T) texts, and everything behind their end tokens.

    Args:
        name: the name of the texts in messages.

    Raises:
        TypeError: `tokens` are not integers.
        ValueError: `tokens` are not (B, T), or a text does not begin with the `start_id` of the
            vocabulary, has no `end_id`, or has an id that the tokenizer does not have.
    """
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got {tokens.dtype}")
    starts = vocabulary.start_id is not None
    if tokens.ndim != 2 or tokens.shape[1] < 1 + starts:
        raise ValueError(f"{name} must be (B, T), T >= {1 + starts}, got {tuple(tokens.shape)}")
    tokens = tokens.long()
    is_known = (tokens >= 0) & (tokens < vocabulary.num_words)
    if not is_known.all():
        raise ValueError(
            f"{name} must be in [0, {vocabulary.num_words}), got {tokens[~is_known][0].item()}"
        )
    if starts:
        if not (tokens[:, 0] == vocabulary.start_id).all():
            row = (tokens[:, 0] != vocabulary.start_id).nonzero()[0].item()
            raise ValueError(
                f"{name} must begin with start_id {vocabulary.start_id}; row {row} begins with "
                f"{tokens[row, 0].item()}"
            )
        tokens = tokens[:, 1:]
    is_end = tokens == vocabulary.end_id
    if not is_end.any(1).all():
        row = (~is_end.any(1)).nonzero()[0].item()
        raise ValueError(f"{name} must have end_id {vocabulary.end_id}; row {row} has none")
    lengths = is_end.int().argmax(1) + 1  # argmax returns the first end token
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    is_behind = positions >= lengths[:, None]
    return Words(tokens.masked_fill(is_behind, vocabulary.pad), lengths)


def caption_sequences(
    vocabulary: LocCaVocabulary, words: Words, parallel: Tensor | None = None
) -> Sequences:
    """Return the sequences of the task Cap.

    Args:
        parallel: (B,) bool on any device, which captions are predicted in parallel; None for none.

    Returns:
        (B, W) inputs and labels.
    """
    tokens = words.tokens
    inputs = torch.cat([_prefix(vocabulary.cap, tokens), tokens[:, :-1]], dim=1)
    if parallel is not None:
        parallel = parallel.to(tokens.device)
        hidden = parallel[:, None].expand(-1, tokens.shape[1] - 1)
        inputs[:, 1:] = inputs[:, 1:].masked_fill(hidden, vocabulary.mask)
    return Sequences(inputs, tokens, parallel)


def referring_sequences(vocabulary: LocCaVocabulary, words: Words, boxes: Tensor) -> Sequences:
    """Return the (B, W + 4) sequences of the task AREF for (B, 4) boxes."""
    whole = referred(vocabulary, words, quantize_boxes(boxes, vocabulary.bins))
    labels = torch.where(whole >= vocabulary.first_bin, whole, vocabulary.pad)
    return Sequences(whole[:, :-1], labels[:, 1:])


def grounded_sequences(vocabulary: LocCaVocabulary, words: Words, boxes: Tensor) -> Sequences:
    """Return the (B, W + 4) sequences of the task GCAP for (B, 4) boxes."""
    bins = quantize_boxes(boxes, vocabulary.bins) + vocabulary.first_bin
    labels = torch.cat([bins, words.tokens], dim=1)
    return Sequences(torch.cat([_prefix(vocabulary.gcap, bins), labels[:, :-1]], dim=1), labels)


def referred(vocabulary: LocCaVocabulary, words: Words, bins: Tensor) -> Tensor:
    """Return (B, 1 + W + 4) tokens: AREF, the words with their end token, the bins of the box.

    Args:
        bins: (B, k) int64, the first k <= 4 coordinates; the others are padding.
    """
    tokens = words.tokens
    room = tokens.new_full((len(tokens), COORDINATES), vocabulary.pad)
    whole = torch.cat([_prefix(vocabulary.aref, tokens), tokens, room], dim=1)
    places = words.lengths[:, None] + 1 + torch.arange(bins.shape[1], device=tokens.device)
    return whole.scatter(1, places, bins + vocabulary.first_bin)


def together(one: Sequences, other: Sequences) -> Sequences:
    """Return the rows of both sequences, which have equal lengths and are not parallel."""
    return Sequences(torch.cat([one.inputs, other.inputs]), torch.cat([one.labels, other.labels]))


def _prefix(token: int, like: Tensor) -> Tensor:
    return like.new_full((len(like), 1), token)
