"""Work that is done for many at once, and then for fewer where it fails: faults are kept apart."""

from collections.abc import Callable, Sequence
from typing import Any

from fastclip.embeddings.same_file import FileChanged
from fastclip.search.query import QueryError

MOST_CALLS = 32  # for the sake of errors that no question is known to be at fault for


def apart(
    work: Callable[[Sequence[Any]], Sequence[Any]], items: Sequence[Any]
) -> list[Any | Exception]:
    """Do work for all items in one call; if that fails, for each half of them, and so on.

    One item at fault among n costs about 2 log2(n) further calls, of which most are for few items.

    Args:
        work: returns what it finds for each item.

    Returns:
        Of each item what was found, or the error of the least call that failed. Errors other than
        `QueryError` are shared by those who are still together after `MOST_CALLS` calls: a disk
        that is gone is not asked again for each of them; nor is, at all, a file that has changed.

    Example:
        >>> apart(lambda texts: [int(text) for text in texts], ["1", "x", "3"])
        [1, ValueError("invalid literal for int() with base 10: 'x'"), 3]
    """
    found: list[Any | Exception | None] = [None] * len(items)
    waiting, num_calls = [range(len(items))] if items else [], 0
    while waiting:
        own = waiting.pop()
        num_calls += 1
        try:
            answers = work([items[number] for number in own])
        except Exception as error:
            is_shared = num_calls >= MOST_CALLS and not isinstance(error, QueryError)
            is_shared |= isinstance(error, FileChanged)
            if len(own) > 1 and not is_shared:
                middle = len(own) // 2
                waiting += [own[middle:], own[:middle]]
                continue
            answers = [error] * len(own)
        for number, answer in zip(own, answers, strict=True):
            found[number] = answer
    return found
