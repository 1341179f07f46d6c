"""Settings are fields of a frozen dataclass, each with a type, a default and its help.

A flag of `fastclip train`, a line of a YAML or JSON file and a field are the same setting, so that
everything about a setting is written once, next to its field:

    @dataclass(frozen=True)
    class BatchConfig(Settings):
        batch_size: int = setting(64, "The number of pairs that a rank encodes.", least=1)
"""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, get_type_hints

from fastclip.train.settings.types import typed

ABOUT = "about"  # where the metadata of a field has its `About`


@dataclass(frozen=True)
class About:
    """What is known about a setting beyond its type and its default.

    Attributes:
        help: one or more sentences, without the default.
        choices: the values that it may have; if there are none, it may have any value.
        least: the least value that it may have, or None.
        of_number, of_text: convert a number, or a text, that was given in place of the setting's
            own type.
        aliases: further flags besides the flag of its name.
        metavar: what stands for a value in the help; by default it names the type.
    """

    help: str
    choices: Sequence[str] = ()
    least: int | None = None
    of_number: Callable[[float], Any] | None = None
    of_text: Callable[[str], Any] | None = None
    aliases: Sequence[str] = ()
    metavar: str | None = None


def setting(default: Any, help: str, **further: Any) -> Any:
    """Return a field of a class of settings.

    Args:
        further: fields of `About`.
    """
    return field(default=default, metadata={ABOUT: About(help, **further)})


def about(of: Field) -> About:
    return of.metadata[ABOUT]


@dataclass(frozen=True)
class Settings:
    """The settings that one part of a run reads. `RunConfig` composes all parts by inheritance.

    Raises:
        ValueError: a value is of another type than its field, or out of its range.
    """

    def __post_init__(self) -> None:
        for of in fields(self):
            value = typed_setting(type(self), of.name, getattr(self, of.name))
            object.__setattr__(self, of.name, value)
            self._check(of, value)

    @classmethod
    def own_fields(cls) -> list[Field]:
        """Return the fields of this part, without the fields that it inherits from other parts."""
        return [of for of in fields(cls) if of.name in cls.__annotations__]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def _check(self, of: Field, value: Any) -> None:
        if value is None:
            return
        known = about(of)
        if known.choices:
            self._require(value in known.choices, of.name, f"one of {tuple(known.choices)}")
        if known.least is not None:
            self._require(value >= known.least, of.name, f"at least {known.least}")

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")


def typed_setting(cls: type[Settings], name: str, value: Any) -> Any:
    """Return the value of a setting in the type that its field keeps.

    Raises:
        ValueError: the value is of another type.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    known = about(cls.__dataclass_fields__[name])
    if is_number and known.of_number is not None:
        value = known.of_number(value)
    if isinstance(value, str | os.PathLike) and known.of_text is not None:
        value = known.of_text(os.fspath(value))
    return typed(name, value, hints_of(cls)[name])


@functools.cache
def hints_of(cls: type[Settings]) -> dict[str, Any]:
    """Return the types of the settings of a class, by name."""
    return get_type_hints(cls)


def default_of(of: Field) -> Any:
    assert of.default is not MISSING, f"{of.name} has no default"
    return of.default
