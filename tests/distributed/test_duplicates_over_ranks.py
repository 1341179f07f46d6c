"""What is twice in a batch of several ranks: every rank finds what one process would."""

import torch

from fastclip.distributed.processes import Processes
from fastclip.train.run.duplicates import find_duplicates

SIZES = (20, 7, 33, 12)


def facts():
    generator = torch.Generator().manual_seed(4)
    return {
        name: torch.randint(0, 45, (sum(SIZES),), generator=generator) - 2**62
        for name in ("caption_ids", "image_ids")
    }


def of_a_rank(group):
    processes = Processes("cpu")
    own = {name: fact.split(SIZES)[group.rank()] for name, fact in facts().items()}
    return find_duplicates(own, processes)


def test_ranks_find_what_one_process_finds(ranks):
    ids, counts = find_duplicates(facts(), Processes("cpu"))
    results = ranks.run(4, of_a_rank)
    assert torch.equal(torch.cat([found.ids for found in results]), ids)
    assert [found.counts for found in results] == [counts] * 4
    assert counts["masked_beyond"] > 0
