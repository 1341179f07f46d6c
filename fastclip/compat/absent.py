"""Names that another package has and fastclip has not: they can be imported, and say why when used.

So that `from open_clip import ClipLoss, CoCaLoss` works in code that needs the first alone.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn


class Absent:
    """Base of the classes that stand for such names; making one raises NotImplementedError."""

    reason: str

    def __init__(self, *args: Any, **settings: Any) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} is not in fastclip: {self.reason}")


def absent(names: Mapping[str, Iterable[str]]) -> dict[str, type[Absent]]:
    """Return a class for each name.

    Args:
        names: by the reason why they are not here, or what takes their place.
    """
    return {
        name: type(name, (Absent,), {"reason": reason, "__doc__": f"Not in fastclip: {reason}."})
        for reason, group in names.items()
        for name in group
    }
