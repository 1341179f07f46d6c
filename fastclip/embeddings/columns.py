"""Which columns a file of metadata has, whatever keys its samples bring.

Every sample may have columns of its own, so that a file of many samples would have any number. It
has `MOST_COLUMNS`, the first that its rows bring, beside those that every file has. Further ones,
and those with a name that is long or no text in UTF-8, stand in one more: a JSON object, by name.
"""

from collections.abc import Sequence
from typing import NamedTuple

from fastclip.embeddings.metadata import COLUMNS, Row

MOST_COLUMNS = 512
LONGEST_NAME = 256  # characters
OTHER_COLUMNS = "other_columns"


class Arranged(NamedTuple):
    rows: list[Row]
    num_gathered: int  # values that are in the column OTHER_COLUMNS


def arranged(rows: Sequence[Row]) -> Arranged:
    """Return the rows of a file with not too many columns together.

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
