"""A number with its noun."""


def counted(num: int, noun: str, plural: str | None = None) -> str:
    """Return "1 noun" or "2 nouns".

    Args:
        plural: the noun of several, if it is not formed with an "s".

    Example:
        >>> counted(1, "rank"), counted(2048, "rank"), counted(3, "batch", "batches")
        ('1 rank', '2,048 ranks', '3 batches')
    """
    return f"{num:,} {noun if num == 1 else plural or noun + 's'}"
