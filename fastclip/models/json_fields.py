"""Reading JSON objects whose every field is obeyed, or checked, or known to have no effect.

A reader of a format lists the fields that it knows in these three groups. It refuses any other
field with an error that names the field, so that nothing in a file is ignored silently.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastclip.data.quoting import quoted, some_of

SHOWN = 8  # unknown fields that an error lists


class JsonFields(NamedTuple):
    """The fields of one kind of JSON object.

    Attributes:
        obeyed: fields whose values the reader uses.
        only: fields that must have one of the listed values, which all mean the same.
        without_effect: fields that cannot change a result, each with the reason why.
        advice: by field, the end of the error message for a value that is not supported.

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
            where: the name of the object in an error.
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
            raise ValueError(f"{where} has fields that are not supported: {names}")
        return {name: value for name, value in values.items() if name in self.obeyed}


def _either(values: tuple) -> str:
    return " or ".join(repr(value) for value in values)
