"""A query as people type it into a line: words, of which double quotes keep some together.

    cat + dog - "black cat"    2:cat + 0.5:dog    1:"3:10 to Yuma"    "+" - "-40 degrees"

An apostrophe is a letter, other than in a shell, and a quoted + or - is text. `query.py` says what
the words mean.
"""

import re

from fastclip.data.quoting import quoted_text
from fastclip.search.query import SIGNS, QueryError

WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')
QUOTED_SIGN = re.compile(r'"+[+-]')  # at the beginning of a word


def split_words(line: str) -> list[str]:
    """Return the words of a line, of which + and - are signs; those that are text are none of them.

    A text that begins with a quoted sign has its weight written before it, as `query.py` asks for;
    behind other words of its part it is one word with them.

    Raises:
        QueryError: a quote has no end.

    Example:
        >>> split_words('a dog\\'s ball - "red ball"')
        ['a', "dog's", 'ball', '-', 'red ball']
        >>> split_words('"+" - a "-" b')
        ['1:+', '-', 'a -', 'b']
    """
    if line.count('"') % 2:
        raise QueryError(f"{quoted_text(line)} has a quote without an end")
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
