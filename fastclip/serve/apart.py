"""Run work for many items at once, and for fewer if it fails, to isolate the items at fault."""

from collections.abc import Callable, Sequence
from typing import Any

from fastclip.embeddings.same_file import FileChanged
from fastclip.search.query import QueryError

MOST_CALLS = 32  # after which an error that may be nobody's fault is given to all remaining items


def apart(
    work: Callable[[Sequence[Any]], Sequence[Any]], items: Sequence[Any]
) -> list[Any | Exception]:
    """Run work for all items in one call; if the call fails, run it for each half, and so on.

    One failing item among n costs about 2 log2(n) further calls, most of them for few items.

    Args:
        work: returns a result for each item.
        items: the items.

    Returns:
        For each item its result, or the error of the smallest call that failed. After `MOST_CALLS`
        calls, items that are still together share an error other than `QueryError`, so that a
        missing disk is not read again for each item. Items always share the error that a file has
        changed.

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
