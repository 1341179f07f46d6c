"""`pytest --fast`, for the working loop: of each file one test, and what is marked `fast`.

The one is the first without a mark of what takes long, with the first of its parameters. No list of
them is kept, which would lack what is new and name what is gone.
"""

from collections.abc import Sequence

import pytest

SLOW = ("slow", "alone", "compilers", "rehearsal")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="run one test of each file")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--fast"):
        chosen = one_of_each_file(items)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def one_of_each_file(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """In their order."""
    chosen, seen = [], set()
    for item in items:
        if any(map(item.get_closest_marker, SLOW)):
            continue
        if item.path not in seen or item.get_closest_marker("fast"):
            chosen.append(item)
            seen.add(item.path)
    return chosen
