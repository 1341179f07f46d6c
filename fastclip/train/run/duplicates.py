"""Finds duplicates in a batch of all ranks for --mask-duplicates: their ids and their number."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastclip.data.loading.sample_facts import CAPTION_IDS, IMAGE_IDS
from fastclip.distributed.processes import Processes
from fastclip.losses.family.key_queue import KeyQueue
from fastclip.ops.pair_ids import PairIds, same_pairs
from fastclip.ops.side_ids import interval_of
from fastclip.train.settings.loss_config import BOTH, CAPTION, IMAGE

FACTS_OF = {CAPTION: (CAPTION_IDS,), IMAGE: (IMAGE_IDS,), BOTH: (CAPTION_IDS, IMAGE_IDS)}


class Duplicates(NamedTuple):
    """Attributes:
    ids: (B,) int64, on the host, of this rank's pairs, for the loss.
    counts: how many (image, text) of the batch of all ranks, by name. "masked_pairs" counts all
        that the loss leaves out; "masked_beyond" counts those among them that share neither
        caption nor image, and which only other pairs connect. "masked_keys" counts an image or a
        text of the batch with a key of an earlier step, which the loss leaves out too.
    """

    ids: Tensor
    counts: dict[str, int]


def kept_ids(loss: nn.Module) -> list[Tensor]:
    """Return the ids of the keys in each queue of a loss, (K,) per queue."""
    queues = [part for part in loss.modules() if isinstance(part, KeyQueue)]
    return [queue.kept_ids() for queue in queues if queue.ids is not None]


def find_duplicates(
    facts: dict[str, Tensor], processes: Processes, kept: Sequence[Tensor] = ()
) -> Duplicates:
    """Find the duplicates in a batch from the facts of all ranks; all ranks call this together.

    Args:
        facts: the facts of `FACTS_OF`, (B,) each, of this rank's pairs.
        kept: see `kept_ids`.
    """
    own = torch.stack(list(facts.values()))  # (1 or 2, B)
    everyone = processes.gather_columns(own)
    columns, start = torch.cat(everyone, 1), sum(x.shape[1] for x in everyone[: processes.rank])
    ids = columns[0] if len(columns) == 1 else connected(columns)
    counts = {"masked_pairs": _num_same(ids)}
    if len(columns) == 2:
        # Pairs with the same caption plus pairs with the same image; those with both count once.
        twice = connected_by_both(columns)
        direct = sum(_num_same(column) for column in columns) - _num_same(twice)
        counts["masked_beyond"] = counts["masked_pairs"] - direct
    if kept:
        counts["masked_keys"] = sum(_num_same_keys(ids, of_keys) for of_keys in kept)
    return Duplicates(ids[start : start + own.shape[1]], counts)


def connected(columns: Tensor) -> Tensor:
    """Return the number of each pair's component, (N,) int64; equal ids in a column connect pairs.

    The number of a component is the smallest number of its pairs, so that all ranks find the same.

    Args:
        columns: (K, N) int64, ids of N pairs.
    """
    classes = [torch.unique(column, return_inverse=True)[1] for column in columns]
    found = torch.arange(columns.shape[1])
    while True:
        before = found
        for of_pairs in classes:
            least = torch.full((len(found),), len(found)).scatter_reduce(0, of_pairs, found, "amin")
            found = least[of_pairs]
        if torch.equal(found, before):
            return found


def connected_by_both(columns: Tensor) -> Tensor:
    """Return (N,) int64 ids that are equal where both ids of two pairs are; `columns` is (2, N)."""
    one, other = (torch.unique(column, return_inverse=True)[1] for column in columns)
    return one * columns.shape[1] + other


def _num_same(ids: Tensor) -> int:
    return int(same_pairs(PairIds(ids, ids)))


def _num_same_keys(ids: Tensor, of_keys: Tensor) -> int:
    begin, end = interval_of(ids.to(of_keys.device), of_keys.sort().values)
    return int((end - begin).sum())
