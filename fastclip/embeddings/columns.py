"""Decides which columns a file of metadata has, whatever columns its samples have.

Every sample may have columns of its own, so that a file of many samples could have any number of
columns. Besides the columns of every file, a file has the first `MOST_COLUMNS` of its rows. The
values of further columns, and of columns whose name is long or not valid UTF-8, are gathered in one
more column: a JSON object, by name.
"""

from collections.abc import Sequence
from typing import NamedTuple

from fastclip.embeddings.metadata import COLUMNS, Row

MOST_COLUMNS = 512
LONGEST_NAME = 256  # characters
OTHER_COLUMNS = "other_columns"


class Arranged(NamedTuple):
    rows: list[Row]
    num_gathered: int  # values in the column OTHER_COLUMNS


def arranged(rows: Sequence[Row]) -> Arranged:
    """Return the rows of a file with a bounded number of columns.

    Example:
        >>> arranged([{"key": "a", "x" * 300: 1}]).rows
        [{'key': 'a', 'other_columns': {'xxx...xxx': 1}}]
    """
    names = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    own = {*COLUMNS, *[name for name in names if _may_be_a_column(name)][:MOST_COLUMNS]}
    num_gathered = 0
    found = []
    for row in rows:
        others = {
            name: value for name, value in row.items() if name not in own and value is not None
        }
        num_gathered += len(others)
        kept = {name: value for name, value in row.items() if name in own}
        found.append(kept | ({OTHER_COLUMNS: others} if others else {}))
    return Arranged(found, num_gathered)


def _may_be_a_column(name: str) -> bool:
    if name == OTHER_COLUMNS or len(name) > LONGEST_NAME:
        return False
    try:
        name.encode()
    except UnicodeError:
        return False
    return True
