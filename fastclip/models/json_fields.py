"""What happens to every field of a JSON object: it is obeyed, or checked, or without effect.

A reader of a format lists the fields that it knows in these three groups. A field in none of them
is refused by name, so that nothing that a file says is lost without a word.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastclip.data.quoting import quoted, some_of

SHOWN = 8  # unknown fields in an error


class JsonFields(NamedTuple):
    """The fields of one kind of JSON object.

    Attributes:
        obeyed: fields whose values a reader makes use of.
        only: fields that have one meaning here, with the values that stand for it.
        without_effect: fields that cannot change a result, each with the reason why.
        advice: what to do about a value that is not supported, by field.

    Example:
        fields = JsonFields({"width"}, only={"qk_norm": (False,)},
                            without_effect={"name": "It is a label."})
        fields.read("vision_cfg", {"width": 64, "qk_norm": False, "name": "x"})  # {"width": 64}
    """

    obeyed: frozenset[str] | set[str]
    only: Mapping[str, tuple] = {}
    without_effect: Mapping[str, str] = {}
    advice: Mapping[str, str] = {}

    def read(self, where: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the fields that are obeyed.

        Args:
            where: what the object is called in an error.
            values: the object.

        Raises:
            ValueError: a field is unknown, or has a value that is not supported; the message names
                the field.
        """
        for name, value in values.items():
            if name in self.only and value not in self.only[name]:
                advice = self.advice.get(name, f"fastclip reads {_either(self.only[name])}")
                raise ValueError(f"{where}: {name} {quoted(value)} is not supported: {advice}")
        known = {*self.obeyed, *self.only, *self.without_effect}
        if unknown := sorted(set(values) - known):
            names = some_of(unknown, SHOWN)
            raise ValueError(f"{where}: {names} not supported: no such field is known")
        return {name: value for name, value in values.items() if name in self.obeyed}


def _either(values: tuple) -> str:
    return " or ".join(repr(value) for value in values)
