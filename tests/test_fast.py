"""What `make test-fast` runs: something of each file, and nothing that takes long."""

from pathlib import Path
from types import SimpleNamespace

from tests.support.fast import one_of_each_file


def item(path: str, name: str, *marks: str) -> SimpleNamespace:
    closest = {mark: mark for mark in marks}
    return SimpleNamespace(path=Path(path), name=name, get_closest_marker=closest.get)


def test_the_first_that_is_neither_slow_nor_alone_stands_for_its_file():
    items = [
        item("a.py", "a1", "slow"), item("a.py", "a2"), item("a.py", "a3"),
        item("b.py", "b1", "alone"), item("c.py", "c1"), item("b.py", "b2"),
    ]  # fmt: skip
    assert [x.name for x in one_of_each_file(items)] == ["a2", "c1", "b2"]


def test_what_is_marked_fast_runs_too():
    items = [item("a.py", "a1"), item("a.py", "a2"), item("a.py", "a3", "fast")]
    assert [x.name for x in one_of_each_file(items)] == ["a1", "a3"]
