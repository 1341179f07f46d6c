"""Make text from outside safe to print: characters that are not printable become escapes.

A key, a caption or a path of somebody's data may contain newlines, which forge a line of a log, and
escape sequences, which a terminal obeys.
"""


def printable(text: str, longest: int | None = None) -> str:
    """Return the text in one line, with Python's escapes for unprintable characters except tabs.

    Args:
        longest: cut longer texts after so many characters and append "...".

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
    """Apply `printable` to each line of a message, and keep its line breaks."""
    return "\n".join(printable(line) for line in text.split("\n"))
