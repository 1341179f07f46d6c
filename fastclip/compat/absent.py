"""Names of another package that fastclip lacks: importing one works, using it raises the reason.

So `from open_clip import CLIP, CLIPTextCfg` works in code that uses only the first.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn


class Absent:
    """Base of the classes that stand for such names; an instance raises NotImplementedError."""

    reason: str

    def __init__(self, *args: Any, **settings: Any) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} is not in fastclip: {self.reason}")


def absent(names: Mapping[str, Iterable[str]]) -> dict[str, type[Absent]]:
    """Return a class for each name, by name.

    Args:
        names: maps each reason why names are absent, or what replaces them, to these names.
    """
    return {
        name: type(name, (Absent,), {"reason": reason, "__doc__": f"Not in fastclip: {reason}."})
        for reason, group in names.items()
        for name in group
    }
