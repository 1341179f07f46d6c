"""Split a query that people type in one line into words; double quotes keep words together.

    cat + dog - "black cat"    2:cat + 0.5:dog    1:"3:10 to Yuma"    "+" - "-40 degrees"

Unlike in a shell, an apostrophe is a letter. A quoted + or - is text. `query.py` explains what the
words mean.
"""

import re

from fastclip.data.quoting import quoted_text
from fastclip.search.query import SIGNS, QueryError

WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')
QUOTED_SIGN = re.compile(r'"+[+-]')  # at the beginning of a word


def split_words(line: str) -> list[str]:
    """Return the words of a line; the words + and - are signs unless they were quoted.

    A word that begins with a quoted sign gets the weight 1 written before it, as `query.py`
    requires, if it begins a part; otherwise it is joined with the word before it.

    Raises:
        QueryError: a quote is not closed.

    Example:
        >>> split_words('a dog\\'s ball - "red ball"')
        ['a', "dog's", 'ball', '-', 'red ball']
        >>> split_words('"+" - a "-" b')
        ['1:+', '-', 'a -', 'b']
    """
    if line.count('"') % 2:
        raise QueryError(f"{quoted_text(line)} has a double quote that is not closed")
    words: list[str] = []
    for written in WORD.findall(line):
        word = written.replace('"', "")
        if not QUOTED_SIGN.match(written):
            words.append(word)
        elif not words or words[-1] in SIGNS:
            words.append(f"1:{word}")
        else:
            words[-1] += f" {word}"
    return words
