"""Writing captions token by token: each text gets one token at a time until it ends."""

from collections.abc import Callable

import torch
from torch import Tensor

from fastclip.models.coca.next_token import Choice, Rules

Logits = Callable[[Tensor, Tensor], Tensor]  # from rows (R,) and their tokens (R, T) to (R, V)
IsDone = Callable[[Tensor], bool]  # called with all tokens so far


def sample(
    logits_of: Logits,
    text: Tensor,
    rules: Rules,
    choose: Choice,
    seq_len: int,
    pad_id: int,
    is_done: IsDone,
    fixed_output_length: bool,
) -> Tensor:
    """Return (B, T) tokens that begin with `text`; tokens behind the end of a text are `pad_id`.

    Args:
        logits_of: returns the logits of the next token of some texts, given their rows and tokens.
        text: (B, S) int64, S >= 1.
        rules: change the logits before a token is chosen.
        choose: chooses a token from logits.
        seq_len: the largest number of tokens; at this length a text is ended by an end token.
        is_done: called with all tokens so far; returns whether to stop before `seq_len`.
        fixed_output_length: continue with padding until there are `seq_len` tokens, or `is_done`.
    """
    out = text
    while not (out.shape[1] >= seq_len or is_done(out)):
        has_ended = torch.isin(out[:, -1], rules.eos) | (out[:, -1] == pad_id)
        if has_ended.all() and not fixed_output_length:
            break
        following = torch.full_like(out[:, -1], pad_id)
        rows = (~has_ended).nonzero()[:, 0]
        if len(rows) and out.shape[1] + 1 == seq_len:
            following[rows] = rules.eos[0]
        elif len(rows):
            tokens = out[rows]
            following[rows] = choose(rules(tokens, logits_of(rows, tokens)))
        out = torch.cat([out, following[:, None]], dim=1)
    return out
