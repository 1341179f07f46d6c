"""How messages show names and texts that others have written: no more than a line of them."""

LONGEST = 512  # characters


def cut(text: str) -> str:
    """Return the text, of a long one the beginning and dots."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def quoted(text: str) -> str:
    """Return the text in quotes, with escapes for what cannot be printed, likewise cut."""
    return cut(repr(cut(text)))
