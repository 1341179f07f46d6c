from collections import Counter

import pytest

from fastclip.data.loading.order import Share, deal


@pytest.mark.parametrize("num_parts", [1, 2, 5, 6, 7, 30])
@pytest.mark.parametrize("num_readers", [1, 2, 3, 6])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_entry_has_exactly_one_reader(num_parts, num_readers, shuffle):
    readers = Counter(
        (share.part, number)
        for reader in range(num_readers)
        for share in deal(num_parts, reader, num_readers, 0, 4, shuffle)
        for number in range(13)
        if number % share.step == share.first
    )
    assert len(readers) == num_parts * 13 and set(readers.values()) == {1}


@pytest.mark.parametrize("num_parts", [1, 5, 7, 30])
def test_no_reader_has_more_than_one_entry_of_each_shared_part_more(num_parts):
    loads = [
        sum(len(range(share.first, 20, share.step)) for share in deal(num_parts, reader, 6, 0, 0))
        for reader in range(6)
    ]
    assert max(loads) - min(loads) <= num_parts % 6


def test_order_is_that_of_seed_and_epoch():
    orders = [deal(50, 0, 1, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert deal(50, 0, 1, 1, 1) == orders[3]
    assert deal(3, 0, 1, 1, 1, shuffle=False) == [Share(0), Share(1), Share(2)]
