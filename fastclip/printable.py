"""Text from elsewhere, as it may be printed: what is no visible character is written as an escape.

A key, a caption or a path of somebody's data may hold newlines, which forge a line of a log, and
escape sequences, which a terminal obeys.
"""


def printable(text: str, longest: int | None = None) -> str:
    """Return the text in one line, with escapes as Python's for what is not printable, nor a tab.

    Args:
        longest: of longer texts, the beginning of so many characters.

    Example:
        >>> printable("a key" + chr(10) + "of two lines", longest=10)
        'a key\\nof t...'
    """
    if longest is not None and len(text) > longest:
        return f"{printable(text[:longest])}..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """Return the text with its lines, each as `printable` has it: a message of several lines."""
    return "\n".join(printable(line) for line in text.split("\n"))
