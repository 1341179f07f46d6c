"""Match class names that a user gives with the classes of the data.

The classes of the data have numbers and often names, such as the names of folders. If the user's
names are the same as the data's, names decide, and their order does not matter. If they are not,
the user's names are taken in the order of the data's classes, which a message says. An order that
contradicts a name is an error: the user's `dog` cannot be the second class of data whose third
class is `dog`.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Order(NamedTuple):
    """Which given name belongs to each class of the data.

    Attributes:
        places: for each class of the data, the index of its name among the given names.
        said: a sentence saying that the names were matched by order alone; None if they were
            matched by name.
    """

    places: tuple[int, ...]
    said: str | None = None


def order_of(own: Sequence[str], given: Sequence[str], dataset: str) -> Order:
    """Match given class names with the classes of the data, by name or else by order.

    Names are compared without regard to case, and an underscore counts as a space, as in names of
    folders.

    Args:
        own: the data's own names of its classes, in the order of their numbers.
        given: the names that the user gives; their number may differ from that of `own`.
        dataset: the name of the data, for messages.

    Raises:
        ValueError: the names are not the same, and their order contradicts a name.

    Example:
        >>> order_of(["cat", "great_white_shark"], ["great white shark", "cat"], "animals").places
        (1, 0)
    """
    ours, theirs = [_key(name) for name in own], [_key(name) for name in given]
    if len(set(ours)) == len(ours) and sorted(ours) == sorted(theirs):
        place_of = {key: place for place, key in enumerate(theirs)}
        return Order(tuple(place_of[key] for key in ours))
    both = list(zip(ours, theirs, strict=False))
    for number, (mine, key) in enumerate(both):
        # A name that several classes have contradicts nothing if one of them is the data's own.
        if key != mine and key in ours and (key, key) not in both:
            raise ValueError(
                f"{dataset}: the class names differ from the names in the data, so they are taken "
                f"in the order of the data's classes; but {given[number]!r} would then name the "
                f"class {own[number]!r}, while another class of the data has that name. Give the "
                "names in the order of the classes, or exactly the data's own names"
            )
    renamed = [number for number, (mine, key) in enumerate(both) if key != mine]
    places = tuple(range(len(ours)))
    if not renamed:
        return Order(places)
    first = renamed[0]
    return Order(
        places,
        f"{dataset}: the {len(given):,} class names are taken in the order of the data's classes; "
        f"{len(renamed):,} of them differ from the data's own names, such as {given[first]!r} for "
        f"{own[first]!r}",
    )


def _key(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
