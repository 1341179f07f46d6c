"""Near duplicates as groups, against a walk from row to row."""

import numpy as np
import pytest

from fastclip.embeddings.storage import to_stored
from fastclip.search.components import Components
from fastclip.search.duplicates import duplicates

pytestmark = pytest.mark.fast


def walked(cosines, threshold):
    """Groups of at least two, from a matrix of cosines, one row after the other."""
    left, groups = set(range(len(cosines))), []
    while left:
        queue = [min(left)]
        group = set(queue)
        while queue:
            near = set(np.flatnonzero(cosines[queue.pop()] >= threshold).tolist()) - group
            group |= near
            queue += near
        left -= group
        groups += [sorted(group)] if len(group) > 1 else []
    return groups


@pytest.mark.parametrize("block_rows", [1, 9, None])
@pytest.mark.parametrize("threshold", [0.7, 0.9])
def test_groups_are_those_of_a_walk_over_all_pairs(threshold, block_rows):
    rows = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    unit = rows.astype(np.float64) / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = walked(unit @ unit.T, threshold)
    assert len(expected) >= 1
    found = duplicates(rows, threshold, block_rows=block_rows)
    assert [group.tolist() for group in found.groups] == expected


@pytest.mark.parametrize("store", ["f32", "f16", "int8"])
def test_copies_in_several_files_are_found_at_cosine_1(store):
    rows = np.random.default_rng(0).normal(size=(30, 33)).astype(np.float32)
    rows[[5, 29]], rows[20] = rows[2], 7 * rows[11]
    files = [to_stored(part, store) for part in np.split(rows, [8, 8, 21])]
    found = duplicates(files, 1.0, block_rows=4)
    assert [2, 5, 29] in [group.tolist() for group in found.groups]
    assert store == "f16" or [11, 20] in [group.tolist() for group in found.groups]
    assert len(found.groups) <= 2


def test_what_has_no_cosine_is_counted_and_in_no_group():
    rows = np.ones((6, 3), np.float32)
    rows[1], rows[2], rows[4] = 0, np.nan, np.inf
    found = duplicates(rows, block_rows=2)
    assert found.num_unusable == 3 and [group.tolist() for group in found.groups] == [[0, 3, 5]]
    assert duplicates(rows[:0]).groups == []


@pytest.mark.parametrize("threshold", [0, 1.1, float("nan")])
def test_a_threshold_that_no_cosine_means_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        duplicates(np.ones((2, 3), np.float32), threshold)


def test_a_long_chain_is_one_component_in_any_order():
    order = np.random.default_rng(0).permutation(499)
    groups = Components(501)
    groups.join(order, order + 1)
    assert groups.names().tolist() == [0] * 500 + [500]
