"""A query as people type it into a line: words, of which double quotes keep some together.

    cat + dog - "black cat"    2:cat + 0.5:dog    1:"3:10 to Yuma"

An apostrophe is a letter, other than in a shell. `query.py` says what the words mean.
"""

import re

from fastclip.data.quoting import quoted_text
from fastclip.search.query import QueryError

WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')


def split_words(line: str) -> list[str]:
    """Return the words of a line.

    Raises:
        QueryError: a quote has no end.

    Example:
        >>> split_words('a dog\\'s ball - "red ball"')
        ['a', "dog's", 'ball', '-', 'red ball']
    """
    if line.count('"') % 2:
        raise QueryError(f"{quoted_text(line)} has a quote without an end")
    return [word.replace('"', "") for word in WORD.findall(line)]
