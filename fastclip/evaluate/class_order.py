"""Which of the classes that are given by name each class of the data is.

Data number their classes, and call them something: folders do, and so do lists of names. Where both
call all classes alike, a name says which class is meant, in whatever order names are given. Where
they do not, only the order is left, which is said, and refused where it contradicts a name: what is
called `dog` here must not be the second class of data whose third is `dog`.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Order(NamedTuple):
    """Attributes:
    places: of each class of the data among those that are given.
    said: what that rests on, where it is on the order alone, as a sentence; else None.
    """

    places: tuple[int, ...]
    said: str | None = None


def order_of(own: Sequence[str], given: Sequence[str], dataset: str) -> Order:
    """Find the classes of the data among those that are given.

    Upper case does not count, and an underscore is a space, as in names of folders.

    Args:
        own: what the data call their classes, by number.
        given: what they are called here: as many, or more or fewer where no other names fit.
        dataset: the name of the data, for messages.

    Raises:
        ValueError: the names are not the same, and their order contradicts one.

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
                f"{dataset}: the class names differ from the names in the data, and are taken "
                f"in the order of its classes; but {given[number]!r} would be the name of its "
                f"class {own[number]!r}, and it has another one of that name: give the names in "
                "the order of the classes, or exactly the data's own"
            )
    renamed = [number for number, (mine, key) in enumerate(both) if key != mine]
    places = tuple(range(len(ours)))
    if not renamed:
        return Order(places)
    first = renamed[0]
    return Order(
        places,
        f"{dataset}: {len(given):,} class names are taken in the order of its classes, "
        f"{len(renamed):,} of which it calls otherwise, such as {own[first]!r}, here "
        f"{given[first]!r}",
    )


def _key(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
