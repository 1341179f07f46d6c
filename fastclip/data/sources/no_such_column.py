"""The error of a table that lacks a column."""

from collections.abc import Sequence

from fastclip.data.quoting import cut


class NoSuchColumn(ValueError):
    """A table has no column of the name that an argument gives.

    Args:
        argument: the argument, such as "image_key"; also an attribute.
        path, name, columns: the table, the name that was given, and the names that there are.
        hint: the end of the message.
    """

    def __init__(
        self, argument: str, path: str, name: str, columns: Sequence[str], hint: str = ""
    ) -> None:
        self.argument, self._given = argument, (path, name, columns, hint)
        super().__init__(
            f"{argument} must be a column of {path!r}, got {name!r}; "
            f"the columns are {cut(str(columns))}{hint}"
        )

    def under(self, argument: str) -> "NoSuchColumn":
        """Return the error with another name of the argument, such as a flag."""
        return NoSuchColumn(argument, *self._given)
