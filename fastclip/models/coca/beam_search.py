"""Writing captions by beam search: several texts are continued in parallel, and the best is kept.

The score of a text is the sum of its tokens' logits divided by its length. As in open_clip, these
are logits and not logarithms of probabilities. A text that ends is put aside; the best `width` of
the other texts are continued. A search ends when it has put aside `width` texts, and no unfinished
text scores more than the worst of them.

open_clip splits its beams into groups. Because it has no term for their diversity, all groups find
the same, so fastclip follows a single group of the same width.

Source: the BeamSearchScorer of transformers 4, with a length penalty of 1, which open_clip calls.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.models.coca.next_token import Rules
from fastclip.models.coca.sampling import IsDone, Logits

NEVER = -1e9  # the first score of all beams but one: they begin with the same token


class Ended(NamedTuple):
    """A text without its end token, and its score."""

    score: float
    tokens: Tensor


class Search:
    """The finished texts for one image, at most `width`."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.ended: list[Ended] = []
        self.is_done = False

    def put_aside(self, tokens: Tensor, total: float, length: int) -> None:
        """Keep a text whose tokens' logits add up to `total`, if it is among the best."""
        score = total / length
        if len(self.ended) == self.width:
            worst = min(range(self.width), key=lambda i: self.ended[i].score)
            if score <= self.ended[worst].score:
                return
            del self.ended[worst]
        self.ended.append(Ended(score, tokens))

    def look_at(self, best_total: float, length: int) -> None:
        """End the search if no unfinished text of `length` tokens can beat a kept one."""
        is_full = len(self.ended) >= self.width
        if is_full and min(text.score for text in self.ended) >= best_total / length:
            self.is_done = True

    @property
    def best(self) -> Tensor:
        return max(reversed(self.ended), key=lambda text: text.score).tokens


def beam_search(
    logits_of: Logits,
    text: Tensor,
    rules: Rules,
    width: int,
    seq_len: int,
    pad_id: int,
    is_done: IsDone,
) -> Tensor:
    """Return (B, T) tokens that begin with `text`, T at most `seq_len`.

    Args:
        logits_of: returns the logits of the next token of some texts, given their rows and tokens.
        text: (B, S) int64, S >= 1.
        width: how many texts are continued for each image.
        is_done: called with (B * width, T) tokens; returns whether to stop before `seq_len`.
    """
    B, device = len(text), text.device
    rows = torch.arange(B, device=device).repeat_interleave(width)
    tokens = text[rows]
    totals = torch.full((B, width), NEVER, device=device)
    totals[:, 0] = 0
    totals = totals.flatten()
    searches = [Search(width) for _ in range(B)]
    eos = set(rules.eos.tolist())
    # Among this many candidates, at least `width` do not end their text.
    num_candidates = (1 + len(eos)) * width
    while tokens.shape[1] < seq_len:
        scores = rules(tokens, logits_of(rows, tokens)) + totals[:, None]
        V = scores.shape[1]
        found, places = scores.view(B, width * V).topk(min(num_candidates, width * V), dim=1)
        beams, following = places // V, places % V
        parents, chosen, totals = _step(searches, tokens, found, beams, following, eos, pad_id)
        tokens = torch.cat([tokens[parents], chosen[:, None]], dim=1)
        if all(search.is_done for search in searches) or is_done(tokens):
            break
    for i, search in enumerate(searches):
        if not search.is_done:
            for row in range(i * width, (i + 1) * width):
                search.put_aside(tokens[row], totals[row].item(), tokens.shape[1])
    return _side_by_side([search.best for search in searches], seq_len, rules.eos, pad_id)


def _step(
    searches: list[Search],
    tokens: Tensor,
    found: Tensor,
    beams: Tensor,
    following: Tensor,
    eos: set[int],
    pad_id: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return, for every search, the rows to continue, their next tokens, and their scores."""
    length = tokens.shape[1] + 1
    parents, chosen, totals = [], [], []
    candidates = zip(found.tolist(), beams.tolist(), following.tolist(), strict=True)
    for i, (search, lists) in enumerate(zip(searches, candidates, strict=True)):
        width, first = search.width, i * search.width
        going_on: list[tuple[int, int, float]] = []
        if search.is_done:
            going_on = [(first, pad_id, 0.0)] * width
        for rank, (total, beam, token) in enumerate(zip(*lists, strict=True)):
            if len(going_on) == width:
                break
            if token not in eos:
                going_on.append((first + beam, token, total))
            elif rank < width:
                search.put_aside(tokens[first + beam], total, length)
        if not search.is_done:
            search.look_at(lists[0][0], length)
        # A vocabulary may be too small for all beams.
        going_on += [(first, pad_id, NEVER)] * (width - len(going_on))
        for row, token, total in going_on:
            parents.append(row), chosen.append(token), totals.append(total)
    device = tokens.device
    return (
        torch.tensor(parents, device=device), torch.tensor(chosen, device=device),
        torch.tensor(totals, device=device, dtype=found.dtype),
    )  # fmt: skip


def _side_by_side(texts: list[Tensor], seq_len: int, eos: Tensor, pad_id: int) -> Tensor:
    """Put texts of several lengths into (B, T) tokens, each with an end token if there is room."""
    T = min(max(map(len, texts)) + 1, seq_len)
    out = torch.full((len(texts), T), pad_id, dtype=torch.int64, device=eos.device)
    for row, text in zip(out, texts, strict=True):
        row[: len(text)] = text
        if len(text) < T:
            row[len(text)] = eos[0]
    return out
